"""The store of runs: made once by however many processes come first, and one line when it cannot be reached."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from regioncap.experiments.tracking import open_store, store_uri
from regioncap.experiments.unreachable import UnreachableError

PROCESSES = 4
WRITER = """
import sys
from dataclasses import dataclass
from pathlib import Path
from regioncap.experiments.tracking import StudyTracker

@dataclass(frozen=True)
class Config:
    k: int = 5

tracker = StudyTracker(Path(sys.argv[1]) / "study", "regioncap-race")
run = tracker.run(f"run {sys.argv[2]}", Config())
for step in range(20):
    tracker.curve(run, step, {"dev.cider": float(step)})
tracker.end(run)
tracker.close()
"""


def test_processes_that_come_first_together_make_one_store(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(i)], stderr=subprocess.PIPE, text=True)
        for i in range(PROCESSES)
    ]
    errors = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES, errors
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [found for found in client.search_experiments() if found.name != "Default"]
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} == {f"run {i}" for i in range(PROCESSES)}
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        assert [point.step for point in client.get_metric_history(run.info.run_id, "dev/CIDEr")] == list(range(20))


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("carrier-pigeon://loft", "carrier-pigeon://loft"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9"),
        ("sqlite:////nowhere/at/all/mlflow.db", "No such file or directory"),
        ("./mlruns", "Please migrate to a database backend"),
    ],
)
@pytest.mark.timeout(60)
def test_store_that_does_not_answer_is_one_error_soon(
    uri: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UnreachableError, match="cannot be opened") as raised:
        open_store(tmp_path)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "MLFLOW_TRACKING_URI" in str(raised.value)


@pytest.mark.timeout(60)
def test_database_that_does_not_answer_is_told_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg", reason="a PostgreSQL store needs psycopg")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg://me:hush@127.0.0.1:9/runs")
    with pytest.raises(UnreachableError, match="cannot be opened") as raised:
        open_store(tmp_path)
    assert "hush" not in str(raised.value)


def test_file_that_is_no_store_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("a letter to my aunt")
    with pytest.raises(UnreachableError, match="not a database"):
        open_store(tmp_path)


def test_home_that_is_a_file_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(UnreachableError, match="cannot be opened"):
        open_store(tmp_path / "runs")


def test_patience_is_the_users_again_after_opening(
    new_home: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    open_store(new_home())
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_store_lies_beside_the_studies_unless_the_environment_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://runs.example")
    assert store_uri(tmp_path) == "http://runs.example"


def test_experiment_is_made_once_and_told_of_when_deleted(new_home: Callable[[], Path]) -> None:
    store = open_store(new_home())
    first = store.experiment("regioncap-x", "What this is.")
    assert store.experiment("regioncap-x") == first
    assert store.client.get_experiment(first).tags["mlflow.note.content"] == "What this is."
    store.client.delete_experiment(first)
    with pytest.raises(UnreachableError, match="was deleted: restore it"):
        store.experiment("regioncap-x")
