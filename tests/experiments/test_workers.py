import json
import multiprocessing
import os
import pickle
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from regioncap.experiments import worker, workers
from regioncap.experiments.config import Experiment
from regioncap.experiments.config_io import to_dict
from regioncap.experiments.worker import ArmJob, Message, finished, run_arm
from regioncap.experiments.workers import ArmWorkers


@pytest.fixture
def job(tiny: Experiment, tmp_path: Path) -> ArmJob:
    """A job that fails as soon as it looks for what it is to train on."""
    return ArmJob(arm="baseline", experiment=tiny, prepared=tmp_path / "gone", language=None, out=tmp_path / "out")


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[ArmJob, Connection], None]], None]:
    """Workers that run another body, forked: a fresh interpreter could not import it from a test."""

    def replaced(body: Callable[[ArmJob, Connection], None]) -> None:
        monkeypatch.setattr(workers, "run_arm", body)
        monkeypatch.setattr(multiprocessing, "get_context", lambda method: fork)

    fork = multiprocessing.get_context("fork")
    return replaced


def named(job: ArmJob, name: str) -> ArmJob:
    return ArmJob(arm=name, experiment=job.experiment, prepared=job.prepared, language=None, out=job.out)


def talk(job: ArmJob, messages: Connection) -> None:
    """Sends two points; then ends as its name says."""
    for step in (1, 2):
        messages.send(Message(job=job.name, step=step, values={"loss": 1.0 / step}))
    if job.arm == "killed":
        os.kill(os.getpid(), 9)
    if job.arm == "silent":
        os._exit(3)
    if job.arm == "torn":  # killed while it writes: the length of a message, and only some of it
        whole = pickle.dumps(Message(job=job.name, done=True))
        os.write(messages.fileno(), struct.pack("!i", len(whole)) + whole[:9])
        os._exit(0)
    messages.send(Message(job=job.name, done=True))


@pytest.mark.parametrize("at_once", [1, 2, 9])
def test_every_job_starts_speaks_and_ends_whatever_becomes_of_the_others(
    processes: Callable[..., None], job: ArmJob, at_once: int
) -> None:
    processes(talk)
    names = ("one", "killed", "silent", "torn", "two")
    heard: dict[str, list[Message | None]] = {name: [] for name in names}
    events: list[Message | None] = []
    alive = 0
    with ArmWorkers([named(job, name) for name in names], at_once) as pool:
        for own, message in pool:
            heard[own.arm].append(message)
            events.append(message)
            alive = max(alive, len(multiprocessing.active_children()))
    together = min(at_once, len(names))
    assert events[:together] == [None] * together  # as many as may start do so before any is heard
    assert events[together] is not None
    assert alive <= together
    for name, (start, first, second, last) in heard.items():
        assert start is None
        assert first is not None
        assert second is not None
        assert last is not None
        assert (first.step, second.step) == (1, 2)
        assert last.done == (name in ("one", "two"))
    errors = {name: messages[-1].error for name, messages in heard.items() if messages[-1] is not None}
    assert errors["killed"] == "its process ended with signal 9 (out of memory, or killed)"
    assert errors["silent"] == "its process ended with status 3 (out of memory, or killed)"
    assert errors["torn"] == "its process ended with status 0 (out of memory, or killed)"


def wait_for_ever(job: ArmJob, messages: Connection) -> None:
    messages.send(Message(job=job.name, step=1))
    time.sleep(600)


def test_leaving_ends_what_still_runs(processes: Callable[..., None], job: ArmJob) -> None:
    processes(wait_for_ever)
    with ArmWorkers([job], 1) as pool:
        for _, message in pool:
            if message is not None:
                break
        (process,) = [process for _, process in pool._running.values()]
        assert process.is_alive()
    assert not process.is_alive()


def test_error_in_a_worker_is_its_last_line_and_a_traceback_on_disk(
    job: ArmJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.signal, "signal", lambda *arguments: None)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    run_arm(job, theirs)
    assert ours.recv().pid == os.getpid()
    message = ours.recv()
    assert message.job == "baseline seed 0"
    assert message.error.startswith("FileNotFoundError: ")
    assert "gone" in message.error
    assert "Traceback" in (job.out / "error.txt").read_text()
    assert finished(job) is None


def test_result_counts_for_the_very_same_experiment_only(job: ArmJob, tiny: Experiment) -> None:
    job.out.mkdir()
    (job.out / "result.json").write_text('{"experiment": ')
    assert finished(job) is None
    (job.out / "result.json").write_text(json.dumps({"experiment": to_dict(tiny), "captions": {}}))
    assert finished(job) is not None
    other = ArmJob(
        arm=job.arm,
        experiment=replace(tiny, train=replace(tiny.train, lr=0.5)),
        prepared=job.prepared,
        language=None,
        out=job.out,
    )
    assert finished(other) is None
