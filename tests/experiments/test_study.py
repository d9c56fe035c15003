"""One small study, run as a user runs it: an arm is killed on the way, then `--resume` ends it."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from regioncap.experiments.arms import ARMS, RETRIEVAL
from regioncap.experiments.checkpoint import load_checkpoint
from regioncap.experiments.config_io import flatten
from regioncap.experiments.data.dataset import CaptionData
from regioncap.experiments.metrics.score import METRICS
from regioncap.experiments.study_options import StudyOptions
from regioncap.experiments.worker import ArmJob, Message
from regioncap.experiments.workers import ArmWorkers
from regioncap.graph import GraphSummary

ARMS_RUN = ("+graph", "+graph+guidance")
VICTIM = "+graph seed 1"


class OneKilled(ArmWorkers):
    """The study's own workers, in processes; one of them is killed."""

    def _start(self, job: ArmJob) -> None:
        super()._start(job)
        if job.name == VICTIM:
            (process,) = [process for own, process in self._running.values() if own is job]
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class Study:
    out: Path
    arguments: tuple[object, ...]
    killed: Any
    """The outcome of the call in which an arm was killed."""
    after_kill: dict[str, Any]
    """File -> what a study that lost an arm leaves."""
    resumed: Any
    ran: list[str]
    """The jobs that `--resume` ran."""

    def table(self) -> list[dict[str, Any]]:
        rows = json.loads((self.out / "table.json").read_text())
        assert isinstance(rows, list)
        return rows


@pytest.fixture(scope="module")
def study(
    command: Callable[..., Any],
    flags: list[str],
    scenes_root: Path,
    runs: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Study:
    """Every test picture is unreadable: a study has no business with them."""
    root = Path(shutil.copytree(scenes_root, tmp_path_factory.mktemp("blind") / "scenes"))
    for picture in (root / "images" / "test").iterdir():
        picture.write_bytes(b"")
    out = runs / "study"
    arguments = ("ablate", "scenes", "--seeds", 2, "--out", out, "--jobs", 2, "--arms", *ARMS_RUN, *flags)
    arguments += ("--data.root", root)
    killed = command(*arguments, workers=OneKilled)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/seed*/result.json")}
    after = {"results": kept, "table": json.loads((out / "table.json").read_text()), "runs": runs_of(out)}
    ran: list[str] = []
    in_process: type[ArmWorkers] = command.__kwdefaults__["workers"]

    class Recorded(in_process):  # type: ignore[misc, valid-type]
        def __iter__(self) -> Iterator[tuple[ArmJob, Message | None]]:
            ran.extend(job.name for job in self._waiting)
            yield from super().__iter__()

    resumed = command(*arguments, "--resume", workers=Recorded)
    return Study(out=out, arguments=arguments, killed=killed, after_kill=after, resumed=resumed, ran=ran)


def client_of(out: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{out.parent / 'mlflow.db'}")


def runs_of(out: Path) -> dict[str, Run]:
    """The MLflow runs of a study: its parent as `study` and that one's children by name, no more and no less."""
    client = client_of(out)
    experiment = client.get_experiment_by_name("regioncap-scenes")
    assert experiment is not None
    parent = client.get_run(json.loads((out / "mlflow_runs.json").read_text())["study"])
    children = client.search_runs(
        [experiment.experiment_id], filter_string=f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    assert len({run.info.run_name for run in children}) == len(children)
    return {"study": parent} | {run.info.run_name: run for run in children}


def test_killed_arm_is_one_line_and_a_status(study: Study) -> None:
    assert study.killed.status == 1
    (line,) = study.killed.err.splitlines()
    assert line.startswith(f"regioncap: {VICTIM}: its process ended with signal 9")
    assert f"--resume --out {study.out}" in line


def test_other_arms_finish_and_are_reported_though_one_was_killed(study: Study) -> None:
    assert len(study.after_kill["results"]) == 3
    seeds = {row["arm"]: row["seeds"] for row in study.after_kill["table"]}
    assert seeds == {RETRIEVAL: 1, "+graph": 1, "+graph+guidance": 2}
    statuses = {name: run.info.status for name, run in study.after_kill["runs"].items()}
    assert statuses == {
        "study": "FAILED",
        "+graph seed 0": "FINISHED",
        VICTIM: "FAILED",
        "+graph+guidance seed 0": "FINISHED",
        "+graph+guidance seed 1": "FINISHED",
    }


def test_resume_runs_the_killed_arm_alone(study: Study) -> None:
    assert (study.resumed.status, study.resumed.err) == (0, "")
    assert study.ran == [VICTIM]
    for path, stamp in study.after_kill["results"].items():
        assert path.stat().st_mtime_ns == stamp
    assert "3 of 4 arms were finished before and are kept; 1 to go" in study.resumed.out


def test_table_has_a_row_for_the_floor_and_every_arm_with_all_metrics(study: Study) -> None:
    rows = study.table()
    assert [row["arm"] for row in rows] == [RETRIEVAL, *ARMS_RUN]
    assert [row["seeds"] for row in rows] == [1, 2, 2]
    for row in rows:
        assert {"arm", "seeds", "p", "parameters", "train_cpu_s", *METRICS} <= set(row)
        for metric in set(METRICS) - {"SPICE"}:
            assert set(row[metric]) == {"mean", "std"}
            assert 0 <= row[metric]["mean"] <= 1000
        assert "SPICE" in row["missing"] or row["SPICE"]["mean"] is not None
    floor, graph, guidance = rows
    assert (floor["p"], graph["p"], floor["parameters"], floor["train_cpu_s"]) == (None, None, 0, 0)
    assert 0 < guidance["p"] <= 1
    assert guidance["parameters"] > graph["parameters"] > 0
    assert graph["train_cpu_s"] > 0


def test_mean_and_spread_are_over_the_seeds(study: Study) -> None:
    (row,) = [row for row in study.table() if row["arm"] == "+graph"]
    for metric in ("BLEU-1", "METEOR", "CIDEr"):
        scores = [
            json.loads((study.out / "+graph" / f"seed{k}" / "scores.json").read_text())["corpus"][metric]
            for k in (0, 1)
        ]
        assert row[metric]["mean"] == pytest.approx(sum(scores) / 2, abs=0.01)
        assert row[metric]["std"] == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5, abs=0.01)


def test_the_table_has_the_measures_beside_the_metrics(study: Study) -> None:
    for row in json.loads((study.out / "table.json").read_text()):
        if row["arm"] == RETRIEVAL:  # it says training captions
            assert row["measures"]["novelty"]["mean"] == 0
            continue
        for measure, summary in row["measures"].items():
            files = [study.out / row["arm"] / f"seed{seed}" / "scores.json" for seed in (0, 1)]
            values = [json.loads(file.read_text())["measures"][measure]["value"] for file in files]
            assert summary["mean"] == pytest.approx(sum(values) / 2, abs=1e-3)
    assert "## Beside the metrics" in (study.out / "table.md").read_text()


def test_every_arm_and_seed_leaves_a_checkpoint_of_its_own_experiment(study: Study) -> None:
    for arm in ARMS_RUN:
        for seed in (0, 1):
            experiment = load_checkpoint(study.out / arm / f"seed{seed}" / "checkpoint").experiment
            assert experiment.seed == seed
            assert experiment == ARMS[arm].make(experiment)
    assert {path.suffix for path in study.out.glob("table.*")} == {".json", ".md", ".png"}


def test_retrieval_floor_speaks_in_training_captions_alone(study: Study, data: CaptionData) -> None:
    scores = json.loads((study.out / RETRIEVAL / "scores.json").read_text())
    said = {row["caption"] for row in scores["per_image"].values()}
    assert said <= {image.captions[0] for image in data.split("train")}
    assert set(scores["per_image"]) == {image.name for image in data.split("val")}


def test_mlflow_has_one_parent_and_a_child_for_every_arm_and_seed(study: Study) -> None:
    runs = runs_of(study.out)
    parent = runs.pop("study")
    assert set(runs) == {f"{arm} seed {seed}" for arm in ARMS_RUN for seed in (0, 1)}
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert {run.info.status for run in (parent, *runs.values())} == {"FINISHED"}
    inputs = [(item.dataset.name, item.tags[0].value) for item in parent.inputs.dataset_inputs]
    assert sorted(set(inputs)) == [("scenes train", "training"), ("scenes val", "validation")]


def test_mlflow_child_holds_config_curves_scores_captions_and_pictures(study: Study) -> None:
    client = client_of(study.out)
    for name, run in runs_of(study.out).items():
        if name == "study":
            continue
        arm, seed = name.split(" seed ")
        folder = study.out / arm / f"seed{seed}"
        experiment = load_checkpoint(folder / "checkpoint").experiment
        assert run.data.params == {key: str(value) for key, value in flatten(experiment).items()}
        assert run.data.tags["arm"] == arm
        evaluated = [metric.step for metric in client.get_metric_history(run.info.run_id, "dev/CIDEr")]
        assert evaluated == [4, 8]
        curves = {"loss/total", "loss/generation", "loss/alignment", "loss/gate", "optimizer/lr.stages", "dev/distinct"}
        assert curves | {"optimizer/gradient_norm", "cost/images_per_cpu_s"} <= set(run.data.metrics)
        assert all("/" in key for key in run.data.metrics)  # each in a section of MLflow's charts
        scores = json.loads((folder / "scores.json").read_text())
        for metric, value in scores["corpus"].items():
            assert run.data.metrics[f"score/{metric}"] == pytest.approx(value)
        assert set(scores["measures"]) >= {"distinct-1", "distinct-2", "vocabulary", "length", "novelty", "repetition"}
        for measure, own in scores["measures"].items():
            assert run.data.metrics[f"measure/{measure}"] == pytest.approx(own["value"])
            assert set(own["per_image"]) == set(scores["per_image"])
        assert {"cost/parameters", "cost/train_cpu_s"} <= set(run.data.metrics)
        summary = {name.removeprefix("graph/"): value for name, value in run.data.metrics.items() if "graph/" in name}
        assert set(summary) == {field.name for field in fields(GraphSummary)}
        assert summary["regions"] > 0
        assert summary["degree_mean"] > 0
        files = {item.path for item in client.list_artifacts(run.info.run_id)}
        watched = {"images"} if seed == "0" else set()  # pictures at every evaluation, of one seed
        assert files == {"captions.json", "config.json", "pictures", "thumbnail.png"} | watched
        assert len(client.list_artifacts(run.info.run_id, "pictures")) == 8
        table = json.loads(Path(client.download_artifacts(run.info.run_id, "captions.json")).read_text())
        assert table["columns"] == ["image", "caption", "references", "CIDEr"]
        assert len(table["data"]) == 8


def test_finished_study_is_not_run_again(study: Study, command: Callable[..., Any]) -> None:
    before = study.table()

    class Never(ArmWorkers):
        def __init__(self, *arguments: object) -> None:
            raise AssertionError("trained again")

    again = command(*study.arguments, "--resume", workers=Never)
    assert (again.status, again.err) == (0, "")
    assert study.table() == before
    assert len(runs_of(study.out)) == 5


def test_folder_of_a_study_is_not_overwritten(study: Study, command: Callable[..., Any], flags: list[str]) -> None:
    refused = command("ablate", "scenes", "--out", study.out, *flags)
    assert refused.status == 1
    assert (
        refused.err == f"regioncap: {study.out} is not empty: add --resume to go on with it, or choose another --out\n"
    )


def test_dev_scored_by_evaluate_is_dev_scored_by_the_study(
    study: Study, command: Callable[..., Any], cache: Path, tmp_path: Path
) -> None:
    folder, out = study.out / "+graph+guidance" / "seed1", tmp_path / "scores" / "val.json"
    done = command("evaluate", folder / "checkpoint", "--split", "val", "--out", out, "--cache", cache)
    assert (done.status, done.err) == (0, "")
    found, wanted = json.loads(out.read_text()), json.loads((folder / "scores.json").read_text())
    assert found["corpus"] == pytest.approx(wanted["corpus"])
    assert {name: row["caption"] for name, row in found["per_image"].items()} == {
        name: row["caption"] for name, row in wanted["per_image"].items()
    }


def test_test_split_is_scored_by_evaluate_alone(
    study: Study, command: Callable[..., Any], cache: Path, scenes_root: Path, data: CaptionData, tmp_path: Path
) -> None:
    checkpoint, out = study.out / "+graph" / "seed0" / "checkpoint", tmp_path / "test.json"
    arguments = ("evaluate", checkpoint, "--split", "test", "--out", out, "--cache", cache)
    blind = command(*arguments)
    assert blind.status == 1
    assert "test_000000.jpg is empty" in blind.err
    assert not out.exists()
    done = command(*arguments, "--data.root", scenes_root)
    assert (done.status, done.err) == (0, "")
    scores = json.loads(out.read_text())
    assert set(scores["per_image"]) == {image.name for image in data.split("test")}
    assert set(scores["corpus"]) >= set(METRICS) - {"SPICE"}


def test_failing_arm_leaves_its_traceback_and_the_others_go_on(
    command: Callable[..., Any], flags: list[str], runs: Path
) -> None:
    out = runs / "broken"
    broken = command(
        "ablate",
        "scenes",
        "--out",
        out,
        *flags,
        "--arms",
        "baseline",
        "clipcap",
        "--prefix.tokens",
        200,
        "--train.steps",
        2,
    )  # 200 tokens do not fit the decoder; ClipCap's prefix has its own 10
    assert broken.status == 1
    (line,) = broken.err.splitlines()
    assert "baseline seed 0: ValueError: " in line
    assert "decoder.positions" in line
    assert "Traceback" in (out / "baseline" / "seed0" / "error.txt").read_text()
    assert (out / "clipcap" / "seed0" / "checkpoint").is_dir()
    assert [row["arm"] for row in json.loads((out / "table.json").read_text())] == [RETRIEVAL, "clipcap"]
    assert runs_of(out)["baseline seed 0"].info.status == "FAILED"


def test_interrupted_study_keeps_what_is_finished(command: Callable[..., Any], flags: list[str], runs: Path) -> None:
    in_process: type[ArmWorkers] = command.__kwdefaults__["workers"]

    class Interrupted(in_process):  # type: ignore[misc, valid-type]
        def __iter__(self) -> Iterator[tuple[ArmJob, Message | None]]:
            for job, message in super().__iter__():
                if job.arm == "baseline" and message is not None:
                    raise KeyboardInterrupt
                yield job, message

    out = runs / "interrupted"
    arguments = ("ablate", "scenes", "--out", out, *flags, "--train.steps", 2, "--arms", "clipcap", "baseline")
    stopped = command(*arguments, workers=Interrupted)
    assert stopped.status == 1
    assert stopped.err == "regioncap: interrupted; what is finished is kept, --resume goes on from it\n"
    assert runs_of(out)["study"].info.status == "KILLED"
    assert runs_of(out)["clipcap seed 0"].info.status == "FINISHED"
    assert (out / "clipcap" / "seed0" / "checkpoint").is_dir()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": 0}, "--seeds must be at least 1, got 0"),
        ({"arms": ("+wings",)}, r"--arms: no arm '\+wings'; there are"),
    ],
)
def test_options_out_of_range_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudyOptions(out=Path("x"), **fields)
