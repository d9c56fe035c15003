"""A real `mlflow server` that is killed, hangs and comes back, and a study that is killed: each point is there once."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from regioncap.experiments.tracking import StudyTracker
from regioncap.experiments.tracking.late_delivery import deliver, undelivered

STEPS = 300
STUDY = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from regioncap.experiments.tracking import StudyTracker

@dataclass(frozen=True)
class Config:
    k: int = 5

out, steps = Path(sys.argv[1]), int(sys.argv[2])
tracker = StudyTracker(out, "regioncap-outage")
parent = tracker.run("study", Config())
run = tracker.run("arm", Config(), parent)
(out / "table.md").write_text("|")
tracker.file(run, out / "table.md")
saved = out / "saved"
first = int(saved.read_text()) if saved.exists() else 0
print("goes on from", first, flush=True)
for step in range(first, steps):
    tracker.curve(run, step, {f"loss.x{i}": step + i / 8 for i in range(6)})
    time.sleep(0.005)
    if step % 50 == 0:
        saved.write_text(str(step))
tracker.scores(run, {"CIDEr": 45.0})
tracker.end(run)
tracker.end(parent)
tracker.close()
"""


@dataclass(frozen=True)
class Config:
    k: int = 5


@pytest.fixture
def up(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server that answers, and this process' studies log to it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    server.start()
    server.wait_until_up()
    return server


def runs_of(uri: str, name: str) -> dict[str, Run]:
    """All runs of an experiment, none of which is there twice."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {run.info.run_name: run for run in runs}


def assert_once(uri: str, run: Run, keys: list[str], steps: int) -> None:
    client = MlflowClient(tracking_uri=uri)
    for key in keys:
        history = client.get_metric_history(run.info.run_id, key)
        assert sorted(point.step for point in history) == list(range(steps)), key


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_server_that_is_killed_and_started_again_has_everything(
    up: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waited = 0.0

    def log(tracker: StudyTracker, steps: range) -> None:
        nonlocal waited
        for step in steps:
            before = time.thread_time()
            tracker.curve("arm", step, {"loss.total": float(step), "lr": 0.1})
            waited = max(waited, time.thread_time() - before)
            time.sleep(0.005)

    with StudyTracker(tmp_path / "study", "regioncap-outage") as tracker:
        parent = tracker.run("study", Config())
        tracker.run("arm", Config(), parent)
        log(tracker, range(100))
        up.kill()
        tracker.run("late arm", Config(), parent)  # begun while nobody is there to make it
        tracker.curve("late arm", 0, {"lr": 0.1})
        (tmp_path / "table.md").write_text("|")
        tracker.file("late arm", tmp_path / "table.md")
        (tmp_path / "table.md").unlink()
        log(tracker, range(100, 200))
        while not tracker.away:
            time.sleep(0.05)
        up.start()
        log(tracker, range(200, 300))
        up.wait_until_up()
        tracker.end("late arm")
        tracker.end("arm")
        tracker.end(parent)
    told = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0].split(":")[0] for line in told] == ["MLflow's store http", "MLflow's store http"]
    assert ["takes nothing now" in line for line in told] == [True, False]
    assert ["is back" in line for line in told] == [False, True]
    assert waited < 0.1
    runs = runs_of(up.uri, "regioncap-outage")
    assert {name: run.info.status for name, run in runs.items()} == dict.fromkeys(
        ("study", "arm", "late arm"), "FINISHED"
    )
    assert runs["late arm"].data.tags["mlflow.parentRunId"] == runs["study"].info.run_id
    assert_once(up.uri, runs["arm"], ["loss/total", "optimizer/lr"], 300)
    files = MlflowClient(tracking_uri=up.uri).list_artifacts(runs["late arm"].info.run_id)
    assert {item.path for item in files} == {"config.json", "table.md"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_server_that_hangs_and_goes_on_has_everything_once(up: Any, tmp_path: Path) -> None:
    with StudyTracker(tmp_path / "study", "regioncap-outage") as tracker:
        parent = tracker.run("study", Config())
        tracker.run("arm", Config(), parent)
        assert tracker.wait()
        step = 0
        for begun in ("b", "c"):  # a creation and points are under way when it stops, and are heard later
            up.stop()
            tracker.run(begun, Config(), parent)
            until = time.monotonic() + 8
            while time.monotonic() < until or not tracker.away:
                tracker.curve("arm", step, {"lr": 0.1})
                tracker.curve(begun, step, {"lr": 0.1})
                step += 1
                time.sleep(0.02)
            up.go_on()
            assert tracker.wait()
    runs = runs_of(up.uri, "regioncap-outage")
    assert set(runs) == {"study", "arm", "b", "c"}
    assert_once(up.uri, runs["arm"], ["optimizer/lr"], step)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_study_that_is_killed_at_random_moments_goes_on_in_the_same_runs(up: Any, tmp_path: Path) -> None:
    """Each life repeats the steps since it last saved; in some of them the server is gone as well."""
    chance = random.Random(7)
    out = tmp_path / "study"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ids = set()
    for life in range(10):
        command = [sys.executable, "-c", STUDY, str(out), str(10**6)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        assert "goes on from" in process.stdout.readline() or life  # it is at its steps
        time.sleep(chance.uniform(0.05, 2.0))
        if life % 4 == 2:
            up.kill()
            time.sleep(chance.uniform(0.05, 0.5))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        if life % 4 == 3:
            up.start()
            up.wait_until_up()
        if (out / "mlflow_runs.json").exists():
            ids.add((out / "mlflow_runs.json").read_text())
    up.kill()
    up.start()
    up.wait_until_up()
    steps = int((out / "saved").read_text()) + 60
    last = subprocess.run(
        [sys.executable, "-c", STUDY, str(out), str(steps)], capture_output=True, text=True, env=environment
    )
    assert last.returncode == 0, last.stderr
    runs = runs_of(up.uri, "regioncap-outage")
    assert {name: run.info.status for name, run in runs.items()} == {"study": "FINISHED", "arm": "FINISHED"}
    reached = len(MlflowClient(tracking_uri=up.uri).get_metric_history(runs["arm"].info.run_id, "loss/x0"))
    assert reached >= steps
    assert_once(up.uri, runs["arm"], [f"loss/x{i}" for i in range(6)], reached)
    assert undelivered(tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_study_that_ends_without_a_server_is_delivered_later(
    up: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = StudyTracker(tmp_path / "study", "regioncap-outage")
    tracker.run("study", Config())
    assert tracker.wait()
    up.kill()
    for step in range(STEPS):
        tracker.curve("study", step, {"lr": 0.1})
    tracker.end("study")
    tracker.close(patience_s=1.0)
    assert f"regioncap dashboard deliver {tmp_path / 'study'}" in capsys.readouterr().out
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # the folder knows its server
    ((folder, left),) = undelivered(tmp_path)
    assert folder == tmp_path / "study"
    assert left == STEPS + 1
    up.start()
    up.wait_until_up()
    assert deliver(folder) == []
    assert f"{left} of {left} entries delivered to {up.uri}" in capsys.readouterr().out
    runs = runs_of(up.uri, "regioncap-outage")
    assert runs["study"].info.status == "FINISHED"
    assert_once(up.uri, runs["study"], ["optimizer/lr"], STEPS)
