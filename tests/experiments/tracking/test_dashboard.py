"""What `regioncap dashboard` says before it becomes MLflow's server."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.tracking import StudyTracker, open_store
from regioncap.experiments.tracking.dashboard import guide


@dataclass(frozen=True)
class Config:
    k: int = 5


def test_guide_of_an_empty_store_says_how_to_begin(new_home: Callable[[], Path]) -> None:
    told = guide(open_store(new_home()), "http://127.0.0.1:5000")
    assert "regioncap ablate scenes" in told


def test_guide_names_the_latest_studies_with_their_best_arm(new_home: Callable[[], Path]) -> None:
    tracker = StudyTracker(new_home() / "one", "regioncap-scenes")
    for number in range(7):
        run = tracker.run(f"study {number}", Config(), kind="study")
        tracker.scores(run, {"CIDEr/retrieval floor": 90.0, "CIDEr/baseline": 40.0, "CIDEr/+graph": 40.0 + number})
        tracker.run(f"arm {number}", Config(), run)
        tracker.end(run)
    tracker.close()
    told = guide(open_store(tracker.folder.parent), "http://127.0.0.1:5000")
    assert "study 6 (finished, best CIDEr 46.0 (plus graph))" in told
    assert "study 1" not in told  # five are enough
    assert "arm 6" not in told
    assert f"http://127.0.0.1:5000/#/experiments/{tracker.experiment_id}/runs/{tracker.run_id(run)}?" in told


def test_command_becomes_the_server_of_the_store(
    new_home: Callable[[], Path], command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, started = new_home(), []
    monkeypatch.setattr(os, "execv", lambda program, words: started.append((program, words)))
    with pytest.raises(TypeError):  # a real execv does not return
        command("dashboard", "--home", home, "--port", 5123)
    ((program, words),) = started
    assert program == sys.executable
    assert words[1:4] == ["-m", "mlflow", "server"]
    assert {f"sqlite:///{home}/mlflow.db", "5123", "127.0.0.1"} <= set(words)


def test_server_that_cannot_be_reached_is_one_line_and_status_2(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done = command("dashboard", "--home", tmp_path)
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert "http://127.0.0.1:9 cannot be opened" in line
