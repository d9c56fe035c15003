"""`regioncap dashboard deliver`: what a study could not hand over."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.tracking import StudyTracker
from regioncap.experiments.tracking.late_delivery import deliver, undelivered
from regioncap.experiments.tracking.outbox import Outbox
from regioncap.experiments.unreachable import UnreachableError


@dataclass(frozen=True)
class Config:
    k: int = 5


@pytest.fixture
def left(new_home: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a study that went on without its store and ended."""
    folder = new_home() / "study"
    with StudyTracker(folder, "regioncap-test") as tracker:
        tracker.run("arm", Config())
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with StudyTracker(folder, "regioncap-test") as tracker:
            tracker.curve("arm", 1, {"lr": 0.1})
            tracker.end("arm")
            tracker.close(patience_s=0.0)
    return folder


def test_what_is_left_is_delivered_by_a_command(left: Path, command: Callable[..., Any]) -> None:
    assert undelivered(left.parent) == [(left, 2)]
    done = command("dashboard", "deliver", left)
    assert (done.status, done.err) == (0, "")
    assert f"{left}: 2 of 2 entries delivered to sqlite:///{left.parent / 'mlflow.db'}" in done.out
    assert undelivered(left.parent) == []
    tracker = StudyTracker(left, "regioncap-test")
    run = tracker.client.get_run(tracker.run_id("arm"))
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"optimizer/lr": 0.1})
    tracker.close()


def test_server_that_is_remembered_is_asked_and_missed(left: Path) -> None:
    outbox = Outbox(left / "outbox")
    outbox.remember(store="http://127.0.0.1:9")
    outbox.close()
    with pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:9 cannot be opened"):
        deliver(left)


def test_entries_of_a_run_that_was_deleted_are_told_of(left: Path, command: Callable[..., Any]) -> None:
    tracker = StudyTracker(left.parent / "other", "regioncap-test")
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    tracker.client.delete_run(run.info.run_id)
    done = command("dashboard", "deliver", left)
    assert done.status == 1
    assert "MLflow refuses what is to be logged of 'arm': " in done.err
    assert "'active' state" in done.err
    tracker.client.restore_run(run.info.run_id)
    assert command("dashboard", "deliver", left).status == 0
    tracker.close()


def test_folder_without_an_outbox_is_named(command: Callable[..., Any], tmp_path: Path) -> None:
    for arguments, told in (((tmp_path,), f"{tmp_path} holds no study with an outbox"), ((), "got none")):
        done = command("dashboard", "deliver", *arguments)
        assert done.status == 1
        assert told in done.err


def test_database_whose_password_is_not_kept_has_to_be_named(left: Path) -> None:
    outbox = Outbox(left / "outbox")
    outbox.remember(store="postgresql://me:***@db/runs")
    outbox.close()
    with pytest.raises(
        UnreachableError, match=r"was logged to postgresql://me:\*\*\*@db/runs: set MLFLOW_TRACKING_URI"
    ):
        deliver(left)
