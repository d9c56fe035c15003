"""Workers as processes: a trial that speaks, one that is killed, one that is ended with its command."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from regioncap.experiments.config import Experiment
from regioncap.experiments.metrics import MetricsConfig
from regioncap.experiments.tuning.trial_job import Died, End, Inputs, Point, SeedCurves, TrialJob
from regioncap.experiments.tuning.trial_workers import TrialWorkers


@pytest.fixture(scope="module")
def workers() -> Iterator[TrialWorkers]:
    with TrialWorkers(1, MetricsConfig()) as workers:
        yield workers


def job_of(experiment: Experiment, prepared: Path, number: int) -> TrialJob:
    return TrialJob(number=number, experiment=experiment, inputs=Inputs(prepared=prepared, language=None), latency=True)


def heard(workers: TrialWorkers, go_on: bool = True) -> list[Point | End | Died]:
    """Everything that the running trial says, with the same answer to each of its questions."""
    said: list[Point | End | Died] = []
    until = time.monotonic() + 120
    while not said or isinstance(said[-1], Point):
        assert time.monotonic() < until
        for job, message in workers.messages(1.0):
            said.append(message)
            if isinstance(message, Point) and message.evaluation is not None:
                workers.answer(job.number, go_on)
    return said


def test_a_worker_serves_trials_one_after_the_other_and_is_replaced_when_killed(
    workers: TrialWorkers, tiny: Experiment, prepared: object
) -> None:
    folder = prepared.folder  # type: ignore[attr-defined]
    workers.start(job_of(tiny, folder, 0))
    assert workers.free == 0
    *points, end = heard(workers)
    assert workers.free == 1
    assert isinstance(end, End)
    assert end.result is not None
    assert end.result.ms_per_caption is not None
    assert end.result.ms_per_caption > 0
    assert [point.evaluation for point in points if isinstance(point, Point) and point.evaluation] == [1]
    (pid,) = [process.pid for process in workers._processes.values()]

    workers.start(job_of(tiny, folder, 1))  # the same process, and the same result
    *_, second = heard(workers)
    assert [process.pid for process in workers._processes.values()] == [pid]
    assert isinstance(second, End)
    assert second.result is not None
    assert second.result.captions == end.result.captions
    assert second.result.cider == end.result.cider

    workers.start(job_of(tiny, folder, 2))
    *_, pruned = heard(workers, go_on=False)
    assert pruned == End()

    workers.start(job_of(tiny, folder.with_name("gone"), 3))
    *_, failed = heard(workers)
    assert isinstance(failed, End)
    assert failed.error is not None
    assert failed.error.startswith("FileNotFoundError")
    assert "Traceback" in failed.traceback

    assert pid is not None
    workers.start(job_of(tiny, folder, 4))
    os.kill(pid, signal.SIGKILL)
    *_, died = heard(workers)
    assert isinstance(died, Died)
    assert died.how == "its process ended with signal 9 (out of memory, or killed)"
    assert workers.free == 1
    assert workers._processes == {}


def test_the_mean_of_a_curve_is_over_the_seeds_so_far() -> None:
    curves = SeedCurves()
    assert [curves.add(1, 0.2), curves.add(2, 0.4)] == [0.2, 0.4]
    assert [curves.add(1, 0.4), curves.add(2, 0.8)] == pytest.approx([0.3, 0.6])
