"""What a study leaves in MLflow, by real stores in SQLite files."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from regioncap.experiments.data.dataset import CaptionData
from regioncap.experiments.tracking import StudyTracker
from regioncap.experiments.tracking.notes import NOTE, note, picture_address
from regioncap.experiments.unreachable import UnreachableError


@dataclass(frozen=True, kw_only=True)
class Graph:
    k: int = 5


@dataclass(frozen=True, kw_only=True)
class Config:
    graph: Graph = field(default_factory=Graph)
    name: str = "x"


@pytest.fixture
def tracker(new_home: Callable[[], Path]) -> Iterator[StudyTracker]:
    with StudyTracker(new_home() / "study", "regioncap-test", "Runs of the tests.") as tracker:
        yield tracker


def delivered(tracker: StudyTracker, run: str) -> Run:
    """The run, when MLflow has everything."""
    assert tracker.wait()
    assert tracker.outbox.refused() == []
    return tracker.client.get_run(tracker.run_id(run))


def steps(tracker: StudyTracker, run: str, key: str) -> list[int]:
    return [point.step for point in tracker.client.get_metric_history(tracker.run_id(run), key)]


def test_run_says_what_it_is(tracker: StudyTracker) -> None:
    parent = tracker.run("study", Config(), title="my study", kind="study")
    child = tracker.run("arm seed 0", Config(), parent, arm="arm")
    run = delivered(tracker, child)
    assert run.info.run_name == "arm seed 0"
    assert run.data.params == {"graph": "Graph", "graph.k": "5", "name": "x"}
    assert run.data.tags["mlflow.parentRunId"] == tracker.run_id(parent)
    assert run.data.tags["arm"] == "arm"
    assert run.data.tags["mlflow.source.name"].startswith("regioncap")
    assert tracker.client.get_run(tracker.run_id(parent)).info.run_name == "my study"
    stored = json.loads(Path(tracker.client.download_artifacts(run.info.run_id, "config.json")).read_text())
    assert stored == {"type": "Config", "graph": {"type": "Graph", "k": 5}, "name": "x"}


def test_config_of_more_fields_than_one_call_takes(tracker: StudyTracker) -> None:
    many = make_dataclass("Many", [(f"f{i}", int, i) for i in range(230)], frozen=True)
    assert len(delivered(tracker, tracker.run("many", many())).data.params) == 230


def test_run_is_taken_up_again_by_another_process(tracker: StudyTracker) -> None:
    run = tracker.run("arm seed 0", Config())
    tracker.end(run, "FAILED")
    first = delivered(tracker, run)
    assert first.info.status == "FAILED"
    tracker.close()
    with StudyTracker(tracker.folder, "regioncap-test") as again:
        same, other = again.run("arm seed 0", Config()), again.run("arm seed 1", Config())
        taken_up = delivered(again, same)
        assert taken_up.info.run_id == first.info.run_id
        assert taken_up.info.status == "RUNNING"
        assert again.run_id(other) != first.info.run_id


def test_arm_of_another_config_is_another_run(tracker: StudyTracker) -> None:
    parent = tracker.run("study", Config())
    child = tracker.run("arm", Config(), parent)
    tracker.curve(child, 1, {"lr": 1.0})
    first = delivered(tracker, child).info.run_id
    tracker.run("study", Config(name="y"))
    tracker.run("arm", Config(name="y"), parent)
    tracker.curve("arm", 1, {"lr": 2.0})
    second = delivered(tracker, "arm")
    assert second.info.run_id != first
    assert second.data.params["name"] == "y"
    assert second.data.metrics == {"optimizer/lr": 2.0}
    assert tracker.client.get_run(first).data.metrics == {"optimizer/lr": 1.0}
    assert len(tracker.client.search_runs([tracker.experiment_id])) == 3  # the study's run goes on


def test_processes_in_one_folder_keep_each_others_runs(tracker: StudyTracker) -> None:
    other = StudyTracker(tracker.folder, "regioncap-test")
    mine, theirs = tracker.run("a", Config()), other.run("b", Config())
    ids = {name: tracker.run_id(name) for name in (mine, theirs)}
    assert other.run_id("a") == ids["a"] != ids["b"]
    assert json.loads((tracker.folder / "mlflow_runs.json").read_text()) == ids
    other.close()


def test_run_that_is_adopted_is_taken_up(tracker: StudyTracker) -> None:
    run_id = tracker.run_id(tracker.run("study", Config()))
    with StudyTracker(tracker.folder.parent / "other", "regioncap-test") as other:
        other.adopt("study", run_id)
        assert delivered(other, other.run("study", Config())).info.run_id == run_id


def test_runs_of_a_study_without_an_outbox_are_taken_up(tracker: StudyTracker) -> None:
    run_id = tracker.run_id(tracker.run("arm seed 0", Config()))
    tracker.close()
    shutil.rmtree(tracker.folder / "outbox")
    with StudyTracker(tracker.folder, "regioncap-test") as again:
        assert delivered(again, again.run("arm seed 0", Config())).info.run_id == run_id


def test_run_of_a_store_that_is_gone_is_made_anew(tracker: StudyTracker, made_store: Path) -> None:
    run = tracker.run("arm seed 0", Config())
    tracker.curve(run, 1, {"lr": 1.0})
    before = delivered(tracker, run).info.run_id
    tracker.close()
    shutil.copy(made_store, tracker.folder.parent / "mlflow.db")
    with StudyTracker(tracker.folder, "regioncap-test") as again:
        again.run("arm seed 0", Config())
        anew = delivered(again, run)
        assert anew.info.run_id != before
        assert anew.data.params["graph.k"] == "5"
        again.curve(run, 1, {"lr": 1.0})  # new there
        assert delivered(again, run).data.metrics == {"optimizer/lr": 1.0}


def test_more_points_than_one_call_takes(tracker: StudyTracker) -> None:
    run = tracker.run("arm seed 0", Config())
    tracker.curve(run, 3, {f"loss.part{i}": float(i) for i in range(1100)})
    metrics = delivered(tracker, run).data.metrics
    assert (len(metrics), metrics["loss/part1099"]) == (1100, 1099.0)


def test_points_that_a_resumed_training_reports_again_are_dropped(tracker: StudyTracker) -> None:
    run = tracker.run("arm seed 0", Config())
    for step in range(10):
        tracker.curve(run, step, {"loss.total": float(step)})
    assert tracker.wait()
    tracker.close()
    with StudyTracker(tracker.folder, "regioncap-test") as again:
        again.run("arm seed 0", Config())
        for step in range(6, 15):
            again.curve(run, step, {"loss.total": float(step), "lr": 0.1})
        assert again.wait()
        assert steps(again, run, "loss/total") == list(range(15))
        assert steps(again, run, "optimizer/lr") == list(range(6, 15))


def test_figures_are_logged_again_only_if_they_changed(tracker: StudyTracker) -> None:
    run = tracker.run("study", Config())
    for cider in (40.0, 40.0, 41.0):
        tracker.scores(run, {"CIDEr/baseline": cider, "CIDEr/+graph": 50.0})
    metrics = delivered(tracker, run).data.metrics
    assert metrics == {"CIDEr/baseline": 41.0, "CIDEr/plus graph": 50.0}
    values = [p.value for p in tracker.client.get_metric_history(tracker.run_id(run), "CIDEr/baseline")]
    assert sorted(values) == [40.0, 41.0]


def test_values_that_are_no_numbers_arrive(tracker: StudyTracker) -> None:
    run = tracker.run("arm", Config())
    tracker.curve(run, 1, {"loss.a": float("nan"), "loss.b": float("inf")})
    metrics = delivered(tracker, run).data.metrics
    assert metrics["loss/a"] != metrics["loss/a"]
    assert metrics["loss/b"] > 1e300


def test_scores_files_and_captions(tracker: StudyTracker, tmp_path: Path) -> None:
    run = tracker.run("arm seed 0", Config())
    tracker.scores(run, {"CIDEr": 45.0}, {"parameters": 12.0})
    for caption in ("a cat", "a dog"):  # by a study that was killed before it knew that it had finished the arm
        tracker.captions(run, {"image": ["a.jpg"], "caption": (caption,), "CIDEr": [3.0]})
    (tmp_path / "table.md").write_text("|")
    tracker.file(run, tmp_path / "table.md")
    tracker.file(run, tmp_path / "table.md", "plots")
    (tmp_path / "table.md").write_text("changed later")
    tracker.describe(run, "**What** it is.")
    found = delivered(tracker, run)
    run_id = found.info.run_id
    assert found.data.metrics == {"score/CIDEr": 45.0, "cost/parameters": 12}
    assert found.data.tags[NOTE] == "**What** it is."
    names = {item.path for item in tracker.client.list_artifacts(run_id)}
    assert names == {"captions.json", "config.json", "plots", "table.md"}
    assert Path(tracker.client.download_artifacts(run_id, "table.md")).read_text() == "|"
    table = json.loads(Path(tracker.client.download_artifacts(run_id, "captions.json")).read_text())
    assert table == {"columns": ["image", "caption", "CIDEr"], "data": [["a.jpg", "a dog", 3.0]]}


def test_table_is_what_mlflow_itself_would_write(tracker: StudyTracker) -> None:
    table = {"image": ["a.jpg", "b.jpg"], "caption": ["\u00e9t\u00e9 | x", ""], "CIDEr": [3.0, 0.5]}
    ours, theirs = tracker.run("ours", Config()), tracker.run("theirs", Config())
    tracker.captions(ours, table)
    assert tracker.wait()
    tracker.client.log_table(tracker.run_id(theirs), table, "captions.json")
    for run in (ours, theirs):
        path = Path(tracker.client.download_artifacts(tracker.run_id(run), "captions.json"))
        (tracker.folder / run).write_bytes(path.read_bytes())
    assert (tracker.folder / ours).read_bytes() == (tracker.folder / theirs).read_bytes()
    tags = [tracker.client.get_run(tracker.run_id(run)).data.tags["mlflow.loggedArtifacts"] for run in (ours, theirs)]
    assert json.loads(tags[0]) == json.loads(tags[1])


def test_pictures_of_one_key_have_a_file_a_step(tracker: StudyTracker, tmp_path: Path) -> None:
    run = tracker.run("arm seed 0", Config())
    Image.effect_noise((120, 80), 90).convert("RGB").save(tmp_path / "a.png")
    for step in (10, 20, 20):
        tracker.image(run, "beach", step, tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    run_id = delivered(tracker, run).info.run_id
    names = [item.path for item in tracker.client.list_artifacts(run_id, "images")]
    whole = [name for name in names if name.endswith(".png")]
    assert sorted(name.split("+step+")[1].split("+")[0] for name in whole) == ["10", "20"]
    assert all("beach" in name for name in names)
    with Image.open(tracker.client.download_artifacts(run_id, whole[0])) as picture:
        assert picture.size == (120, 80)


def test_picture_is_named_as_mlflow_itself_would_name_it(tracker: StudyTracker, tmp_path: Path) -> None:
    Image.effect_noise((120, 80), 90).convert("RGB").save(tmp_path / "a.png")
    ours, theirs = tracker.run("ours", Config()), tracker.run("theirs", Config())
    tracker.image(ours, "a b/c", 3, tmp_path / "a.png")
    assert tracker.wait()
    with Image.open(tmp_path / "a.png") as picture:
        tracker.client.log_image(tracker.run_id(theirs), picture, key="a b/c", step=3, synchronous=True)

    def shapes(run: str) -> list[str]:
        paths = [item.path for item in tracker.client.list_artifacts(tracker.run_id(run), "images")]
        return sorted("".join("0" if sign in "0123456789abcdef" else sign for sign in path) for path in paths)

    assert shapes(ours) == shapes(theirs)
    both = [tracker.client.get_run(tracker.run_id(run)).data.tags["mlflow.loggedImages"] for run in (ours, theirs)]
    assert both[0] == both[1]


def test_description_knows_its_run(tracker: StudyTracker) -> None:
    run = tracker.run("arm", Config())
    tracker.describe(run, note("An arm.", picture=picture_address("a b.png")))
    found = delivered(tracker, run)
    assert f"get-artifact?path=a%20b.png&run_uuid={found.info.run_id})" in found.data.tags[NOTE]


def test_data_is_said_once(tracker: StudyTracker, data: CaptionData) -> None:
    run = tracker.run("study", Config())
    for _ in range(2):
        tracker.data(run, data, {"train": "training", "val": "validation"}, "0123456789")
    inputs = delivered(tracker, run).inputs.dataset_inputs
    assert sorted((each.dataset.name, each.dataset.digest, each.tags[0].value) for each in inputs) == [
        ("scenes train", "01234567", "training"),
        ("scenes val", "01234567", "validation"),
    ]


def test_children_of_others_are_ended_by_a_tag(tracker: StudyTracker) -> None:
    parent = tracker.run("study", Config())
    for number in range(4):
        tracker.run(f"trial {number}", Config(), parent, trial=str(number))
    tracker.end("trial 0")
    tracker.end_children(parent, "trial", ["0", "1", "2"], "KILLED", {"state": "lost"})
    assert tracker.wait()
    runs = [tracker.client.get_run(tracker.run_id(f"trial {number}")) for number in range(4)]
    assert [run.info.status for run in runs] == ["FINISHED", "KILLED", "KILLED", "RUNNING"]
    assert [run.data.tags.get("state") for run in runs] == [None, "lost", "lost", None]


def test_process_is_measured_while_its_run_goes_on(tracker: StudyTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker._system, "_interval_s", 0.05)
    run = tracker.run("arm", Config())
    for _ in range(2):
        tracker.watch(run, os.getpid())
        before = tracker.outbox.next_step(run, "system/process_memory_megabytes")
        while tracker.outbox.next_step(run, "system/process_memory_megabytes") < before + 3:
            pass
        tracker.end(run)
        tracker.run("arm", Config())
    tracker.close()
    metrics = tracker.client.get_run(tracker.run_id(run)).data.metrics
    assert metrics["system/process_memory_megabytes"] > 50
    assert {name.split("/")[0] for name in metrics} == {"system"}
    counted = steps(tracker, run, "system/process_memory_megabytes")
    assert counted == list(range(len(counted)))  # those of the second time behind those of the first


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "carrier-pigeon://loft"])
def test_new_study_without_a_store_is_one_error_and_leaves_nothing(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UnreachableError, match="cannot be opened"):
        StudyTracker(tmp_path / "study", "regioncap-test")
    assert not (tmp_path / "study").exists()


def test_study_that_goes_on_does_without_a_store(
    tracker: StudyTracker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = tracker.run_id(tracker.run("arm", Config()))
    tracker.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with StudyTracker(tracker.folder, "regioncap-test") as again:
        again.run("arm", Config())
        for step in range(100):
            again.curve("arm", step, {"lr": 0.1})
        again.close(patience_s=0.5)
    told, kept = capsys.readouterr().out.splitlines()[:2]
    assert told.startswith("MLflow's store http://127.0.0.1:9 takes nothing now ([Errno 111] Connection refused)")
    assert str(tracker.folder / "outbox") in told
    assert kept.startswith("101 entries for MLflow are kept in ")
    assert f"`regioncap dashboard deliver {tracker.folder}`" in kept
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with StudyTracker(tracker.folder, "regioncap-test") as later:
        later.run("arm", Config())
        assert delivered(later, "arm").info.run_id == run_id
        assert steps(later, "arm", "optimizer/lr") == list(range(100))


def test_client_is_for_the_store_itself(tracker: StudyTracker) -> None:
    assert isinstance(tracker.client, MlflowClient)
    assert tracker.uri == f"sqlite:///{tracker.folder.parent / 'mlflow.db'}"
    assert tracker.dashboard == f"mlflow ui --backend-store-uri {tracker.uri}"
