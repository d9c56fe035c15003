"""Delivery when MLflow breaks down in every way: said once, tried again, nothing twice."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    BAD_REQUEST,
    INVALID_PARAMETER_VALUE,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)

from regioncap.experiments.tracking import StudyTracker, delivery
from regioncap.experiments.tracking.mlflow_writer import MARK


@dataclass(frozen=True)
class Config:
    k: int = 5


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """No long waits between tries."""
    monkeypatch.setattr(delivery, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(delivery, "_LONGEST_WAIT_S", 0.02)


@pytest.fixture
def tracker(new_home: Callable[[], Path]) -> Iterator[StudyTracker]:
    with StudyTracker(new_home() / "study", "regioncap-test") as tracker:
        yield tracker
        tracker.close(patience_s=1.0)


class Broken:
    """A method of MLflow's client that breaks `times` times, before or after it has done its work."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, times: int, error: Exception, *, after: bool) -> None:
        self.left, self.calls = times, 0
        real = getattr(MlflowClient, name)

        def broken(client: MlflowClient, *arguments: Any, **named: Any) -> Any:
            self.calls += 1
            if self.left <= 0:
                return real(client, *arguments, **named)
            self.left -= 1
            if after:
                real(client, *arguments, **named)
            raise error

        patch.setattr(MlflowClient, name, broken)


LOST = MlflowException("API request failed with exception: Read timed out.")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    "method", ["create_run", "log_batch", "set_tag", "log_artifacts", "set_terminated", "log_dict"]
)
def test_call_whose_answer_is_lost_is_made_again_and_counts_once(
    method: str, after: bool, tracker: StudyTracker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "table.md").write_text("|")
    broken = Broken(monkeypatch, method, 3, LOST, after=after)
    run = tracker.run("arm", Config())
    for step in range(20):
        tracker.curve(run, step, {"lr": float(step)})
    tracker.file(run, tmp_path / "table.md")
    tracker.describe(run, "An arm.")
    tracker.end(run)
    assert tracker.wait()
    # A run that was made is found again, not made again.
    assert broken.left == (2 if (method, after) == ("create_run", True) else 0)
    (found,) = tracker.client.search_runs([tracker.experiment_id])
    run_id = found.info.run_id
    assert run_id == tracker.run_id(run)
    assert (found.info.status, found.data.params) == ("FINISHED", {"k": "5"})
    assert [p.step for p in tracker.client.get_metric_history(run_id, "optimizer/lr")] == list(range(20))
    assert {item.path for item in tracker.client.list_artifacts(run_id)} == {"config.json", "table.md"}
    assert tracker.outbox.refused() == []


def test_run_that_a_late_call_makes_as_well_is_deleted(tracker: StudyTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server heard the first call only after it had answered the second: nothing was to be found between."""
    real, late = MlflowClient.create_run, []

    def create(client: MlflowClient, *arguments: Any, **named: Any) -> Any:
        if not late:
            late.append(lambda: real(client, *arguments, **named))
            raise LOST
        made = real(client, *arguments, **named)
        late[0]()
        return made

    monkeypatch.setattr(MlflowClient, "create_run", create)
    run = tracker.run("arm", Config())
    assert tracker.wait()
    (found,) = tracker.client.search_runs([tracker.experiment_id])
    assert found.info.run_id == tracker.run_id(run)
    assert found.data.tags[MARK] == tracker.outbox.runs[tracker.outbox.runs.number(run)].mark
    assert tracker.outbox.runs.doubtful() == []


def test_absence_and_return_are_said_once(
    tracker: StudyTracker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tracker.run("arm", Config())
    assert tracker.wait()
    broken = Broken(monkeypatch, "log_batch", 6, LOST, after=False)
    for step in range(40):
        tracker.curve(run, step, {"lr": 1.0})
        time.sleep(0.01)
    assert tracker.wait()
    assert broken.left == 0
    away, back = capsys.readouterr().out.splitlines()
    assert "takes nothing now (API request failed with exception: Read timed out.): work goes on" in away
    assert str(tracker.outbox.folder) in away
    assert back.endswith("is back: what was kept is delivered (40 entries)")


def test_callers_never_wait(tracker: StudyTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    monkeypatch.setattr(MlflowClient, "log_batch", lambda *_, **__: free.wait())
    run = tracker.run("arm", Config())
    tracker.curve(run, 0, {"lr": 1.0})
    tracker._delivery._urgent.set()
    while tracker.outbox.head()[0].kind != "run":
        pass
    begun = time.monotonic()
    for step in range(1, 20):
        tracker.curve(run, step, {"lr": 1.0})
        tracker.scores(run, {"CIDEr": float(step)})
        tracker.describe(run, "x")
    assert time.monotonic() - begun < 20  # for ever, if one of them waited
    assert not free.is_set()
    free.set()
    monkeypatch.undo()


@pytest.mark.parametrize("code", [INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST])
def test_what_is_refused_is_kept_said_once_and_holds_up_nothing(
    code: int, tracker: StudyTracker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = tracker.run("bad", Config()), tracker.run("good", Config())
    assert tracker.wait()
    bad_id = tracker.run_id(bad)
    real = MlflowClient.log_batch

    def refusing(client: MlflowClient, run_id: str, *arguments: Any, **named: Any) -> Any:
        if run_id == bad_id:
            raise MlflowException("must be in the 'active' state", code)
        return real(client, run_id, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", refusing)
        for step in range(5):
            tracker.curve(bad, step, {"lr": 1.0})
            tracker.curve(good, step, {"lr": 1.0})
        assert tracker.wait()
        assert len(tracker.client.get_metric_history(tracker.run_id(good), "optimizer/lr")) == 5
        assert tracker.outbox.refused() == [("bad", "must be in the 'active' state")] * 5
    (line,) = capsys.readouterr().out.splitlines()
    assert "refuses what is to be logged of 'bad' (must be in the 'active' state): it is kept in" in line
    assert tracker.wait()  # what was refused once is offered again
    assert len(tracker.client.get_metric_history(bad_id, "optimizer/lr")) == 5
    assert tracker.outbox.refused() == []


def test_one_bad_point_does_not_take_its_neighbours_along(
    tracker: StudyTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tracker.run("arm", Config())
    assert tracker.wait()
    real = MlflowClient.log_batch

    def breaking(client: MlflowClient, run_id: str, metrics: Any = (), **named: Any) -> Any:
        if any(metric.step == 7 for metric in metrics):
            raise MlflowException("the server breaks down on this one", TEMPORARILY_UNAVAILABLE)
        return real(client, run_id, metrics=metrics, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", breaking)
    for step in range(20):
        tracker.curve(run, step, {"lr": 1.0})
    assert tracker.wait()
    history = tracker.client.get_metric_history(tracker.run_id(run), "optimizer/lr")
    assert sorted(point.step for point in history) == [step for step in range(20) if step != 7]
    assert [name for name, _ in tracker.outbox.refused()] == ["arm"]


def test_only_one_delivers_at_a_time(tracker: StudyTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tracker.run("arm", Config())
    assert tracker.wait()
    carriers = set()
    real = MlflowClient.log_batch

    def noted(*arguments: Any, **named: Any) -> Any:
        carriers.add(threading.current_thread())
        return real(*arguments, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", noted)
    with StudyTracker(tracker.folder, "regioncap-test") as other:
        for step in range(0, 10, 2):
            other.curve(run, step, {"lr": 1.0})
            tracker.curve(run, step + 1, {"lr": 1.0})
            assert other.wait(60.0)
    history = tracker.client.get_metric_history(tracker.run_id(run), "optimizer/lr")
    assert [point.step for point in history] == list(range(10))
    assert len(carriers) == 1


@pytest.mark.parametrize(
    ("trouble", "final"),
    [
        (MlflowException("x", INVALID_PARAMETER_VALUE), True),
        (MlflowException("x", RESOURCE_DOES_NOT_EXIST), True),
        (MlflowException("x", TEMPORARILY_UNAVAILABLE), False),
        (MlflowException("x"), False),
        (MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.digest", BAD_REQUEST), False),
        (MlflowException("(psycopg2.errors.UniqueViolation) duplicate key", BAD_REQUEST), False),
        (ConnectionResetError(), False),
        (OSError(28, "No space left on device"), False),
        (requests.ConnectionError(), False),
        (TypeError("a bug"), True),
    ],
)
def test_refusals_are_told_from_troubles_that_pass(trouble: Exception, final: bool) -> None:
    assert delivery._is_final(trouble) is final


@pytest.mark.parametrize(("status", "final"), [(400, True), (404, True), (401, False), (429, False), (503, False)])
def test_answers_of_artifact_servers_are_told_apart(status: int, final: bool) -> None:
    response = requests.Response()
    response.status_code = status
    assert delivery._is_final(requests.HTTPError(response=response)) is final
