"""What a study leaves in MLflow, and what happens when MLflow goes away."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from regioncap.experiments.tracking import StudyTracker
from regioncap.experiments.tracking.notes import NOTE
from regioncap.experiments.unreachable import UnreachableError


@dataclass(frozen=True, kw_only=True)
class Graph:
    k: int = 5


@dataclass(frozen=True, kw_only=True)
class Config:
    graph: Graph = field(default_factory=Graph)
    name: str = "x"


@pytest.fixture
def tracker(new_home: Callable[[], Path]) -> StudyTracker:
    return StudyTracker(new_home() / "study", "regioncap-test", "Runs of the tests.")


def test_run_says_what_it_is(tracker: StudyTracker) -> None:
    parent = tracker.run("study", Config(), title="my study", kind="study")
    child = tracker.run("arm seed 0", Config(), parent, arm="arm")
    run = tracker.client.get_run(child)
    assert run.info.run_name == "arm seed 0"
    assert run.data.params == {"graph": "Graph", "graph.k": "5", "name": "x"}
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.tags["arm"] == "arm"
    assert run.data.tags["mlflow.source.name"].startswith("regioncap")
    assert tracker.client.get_run(parent).info.run_name == "my study"
    stored = json.loads(Path(tracker.client.download_artifacts(child, "config.json")).read_text())
    assert stored == {"type": "Config", "graph": {"type": "Graph", "k": 5}, "name": "x"}


def test_config_of_more_fields_than_one_call_takes(tracker: StudyTracker) -> None:
    many = make_dataclass("Many", [(f"f{i}", int, i) for i in range(230)], frozen=True)
    run = tracker.run("many", many())
    assert len(tracker.client.get_run(run).data.params) == 230


def test_run_is_taken_up_again_by_another_process(tracker: StudyTracker) -> None:
    run = tracker.run("arm seed 0", Config())
    tracker.end(run, "FAILED")
    again = StudyTracker(tracker.folder, "regioncap-test")
    assert again.run("arm seed 0", Config()) == run
    assert again.client.get_run(run).info.status == "RUNNING"
    assert again.run("arm seed 1", Config()) != run
    assert set(again.runs) == {"arm seed 0", "arm seed 1"}


def test_processes_in_one_folder_keep_each_others_runs(tracker: StudyTracker) -> None:
    other = StudyTracker(tracker.folder, "regioncap-test")
    mine, theirs = tracker.run("a", Config()), other.run("b", Config())
    assert tracker.run("b", Config()) == theirs
    assert json.loads((tracker.folder / "mlflow_runs.json").read_text()) == {"a": mine, "b": theirs}


def test_run_that_is_put_in_is_taken_up(tracker: StudyTracker, tmp_path: Path) -> None:
    run = tracker.run("study", Config())
    other = StudyTracker(tracker.folder.parent / "other", "regioncap-test")
    other.runs["study"] = run
    assert other.run("study", Config()) == run


def test_run_of_a_store_that_is_gone_is_made_anew(tracker: StudyTracker, made_store: Path) -> None:
    run = tracker.run("arm seed 0", Config())
    shutil.copy(made_store, tracker.folder.parent / "mlflow.db")
    again = StudyTracker(tracker.folder, "regioncap-test")
    anew = again.run("arm seed 0", Config())
    assert anew != run
    assert again.runs == {"arm seed 0": anew}


def test_more_points_than_one_call_takes(tracker: StudyTracker) -> None:
    run = tracker.run("arm seed 0", Config())
    tracker.curve(run, 3, {f"loss.part{i}": float(i) for i in range(1100)})
    metrics = tracker.client.get_run(run).data.metrics
    assert (len(metrics), metrics["loss/part1099"]) == (1100, 1099.0)


def test_scores_files_and_captions(tracker: StudyTracker, tmp_path: Path) -> None:
    run = tracker.run("arm seed 0", Config())
    tracker.scores(run, {"CIDEr": 45.0}, {"parameters": 12.0})
    tracker.captions(run, {"image": ["a.jpg"], "caption": ("a dog",), "CIDEr": [3.0]})
    (tmp_path / "table.md").write_text("|")
    tracker.file(run, tmp_path / "table.md")
    tracker.file(run, tmp_path / "table.md", "plots")
    tracker.describe(run, "**What** it is.")
    found = tracker.client.get_run(run)
    assert found.data.metrics == {"score/CIDEr": 45.0, "cost/parameters": 12}
    assert found.data.tags[NOTE] == "**What** it is."
    assert {item.path for item in tracker.client.list_artifacts(run)} == {
        "captions.json",
        "config.json",
        "plots",
        "table.md",
    }


def test_pictures_of_one_key_have_a_file_a_step(tracker: StudyTracker, tmp_path: Path) -> None:
    run = tracker.run("arm seed 0", Config())
    Image.effect_noise((120, 80), 90).convert("RGB").save(tmp_path / "a.png")
    for step in (10, 20):
        tracker.image(run, "beach", step, tmp_path / "a.png")
    names = [item.path for item in tracker.client.list_artifacts(run, "images")]
    whole = [name for name in names if name.endswith(".png")]
    assert sorted(name.split("+step+")[1].split("+")[0] for name in whole) == ["10", "20"]
    assert all("beach" in name for name in names)
    with Image.open(tracker.client.download_artifacts(run, whole[0])) as picture:
        assert picture.size == (120, 80)


def test_store_that_goes_away_is_one_error(tracker: StudyTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    def gone(*_: Any, **__: Any) -> None:
        raise MlflowException("connection refused")

    run = tracker.run("arm seed 0", Config())
    monkeypatch.setattr(tracker.client, "log_batch", gone)
    with pytest.raises(UnreachableError, match=r"no longer takes what it is given \(connection refused\).*--resume"):
        tracker.curve(run, 0, {"lr": 1.0})
