"""The command that goes on from a checkpoint, on scenes of almost no size."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from regioncap.experiments.checkpoint import experiment_to_go_on, load_experiment
from regioncap.experiments.cli import main
from regioncap.experiments.commands.self_critical import going_on
from regioncap.experiments.config_io import to_dict
from regioncap.experiments.entity_regions import EntityRegionsConfig
from regioncap.experiments.presets import photos
from regioncap.experiments.reporting.content import gather
from regioncap.experiments.training.objectives.self_critical import SelfCriticalConfig


@pytest.fixture(scope="module")
def went_on(command: Callable[..., Any], trained: tuple[Any, Path], runs: Path, cache: Path) -> tuple[Any, Path]:
    """`regioncap self-critical CHECKPOINT`: what it said, and its folder."""
    _, folder = trained
    out = runs / "self-critical"
    flags = ["--cache", cache, "--train.steps", 4, "--train.evaluations", 2, "--objective.samples", 3]
    return command("self-critical", folder / "checkpoint", "--out", out, *flags), out


def test_the_checkpoint_is_a_row_of_the_table_and_the_run_is_compared_with_it(went_on: tuple[Any, Path]) -> None:
    outcome, out = went_on
    assert outcome.status == 0, outcome.err
    rows = {row["arm"]: row for row in json.loads((out / "table.json").read_text())}
    assert list(rows) == ["retrieval floor", "before", "self-critical"]
    assert rows["self-critical"]["against"] == "before"
    assert rows["self-critical"]["p"] is not None
    assert rows["before"]["p"] is None


def test_before_is_what_the_checkpoint_said(went_on: tuple[Any, Path], trained: tuple[Any, Path]) -> None:
    captions = json.loads((trained[1] / "result.json").read_text())["captions"]
    before = json.loads((went_on[1] / "before" / "scores.json").read_text())["per_image"]
    assert {image: row["caption"] for image, row in before.items()} == captions


def test_curves_show_rewards_and_what_is_drawn(went_on: tuple[Any, Path]) -> None:
    result = json.loads((went_on[1] / "result.json").read_text())
    shown = {name for point in result["history"] for name in point}
    assert {"loss.policy", "reward.mean", "reward.baseline", "reward.best", "drawn.length", "drawn.distinct"} <= shown
    assert {"dev.cider", "gradient_norm"} <= shown


def test_the_checkpoint_it_leaves_is_one_to_go_on_from(went_on: tuple[Any, Path]) -> None:
    experiment = load_experiment(went_on[1] / "checkpoint")
    assert experiment.objective == SelfCriticalConfig(samples=3)
    assert going_on(experiment, went_on[1]).init_from == went_on[1]


def test_a_report_shows_all_three_rows(went_on: tuple[Any, Path]) -> None:
    report = gather(went_on[1])
    assert [row.arm for row in report.rows] == ["retrieval floor", "before", "self-critical"]
    assert "before: the checkpoint that training went on from" in report.notes
    curves = json.dumps(report.curves)
    assert "self-critical" in curves
    assert "before" not in curves


def test_a_checkpoint_of_other_heads_is_refused(
    command: Callable[..., Any], trained: tuple[Any, Path], runs: Path, cache: Path, tmp_path: Path
) -> None:
    """Its training images would come with the cross-fit offsets of heads that it does not have."""
    folder = shutil.copytree(trained[1] / "checkpoint", tmp_path / "checkpoint")
    weights = load_file(folder / "model.safetensors")
    weights["clip_head.text_projection.weight"] += 0.1
    save_file(weights, folder / "model.safetensors")
    outcome = command("self-critical", folder, "--out", runs / "other-heads", "--cache", cache, "--train.steps", 2)
    assert outcome.status == 1
    assert "was trained beside other heads than those prepared here" in outcome.err


def test_a_detector_is_taken_from_where_it_was_if_it_is_there_yet(trained: tuple[Any, Path], tmp_path: Path) -> None:
    """Its place is part of what prepared inputs are found by."""
    folder = shutil.copytree(trained[1] / "checkpoint", tmp_path / "checkpoint")
    (folder / "detector").mkdir()
    config = json.loads((folder / "config.json").read_text())
    there = tmp_path / "there"
    encoders = replace(photos().encoders, image=EntityRegionsConfig(weights=there))
    config["experiment"]["encoders"] = to_dict(encoders)
    (folder / "config.json").write_text(json.dumps(config))
    assert experiment_to_go_on(folder).encoders.image.weights == folder / "detector"
    there.mkdir()
    assert experiment_to_go_on(folder).encoders.image.weights == there
    assert load_experiment(folder).encoders.image.weights == folder / "detector"


def test_what_starts_is_the_checkpoints_experiment_but_for_objective_and_training(trained: tuple[Any, Path]) -> None:
    folder = trained[1] / "checkpoint"
    stored = load_experiment(folder)
    changed = {"init_from", "objective", "phase1", "phase2", "train"}
    begun = going_on(stored, folder)
    for name in stored.__dataclass_fields__:
        assert (getattr(begun, name) == getattr(stored, name)) != (name in changed), name
    assert begun.phase1.clip_layers == stored.phase2.clip_layers
    assert (begun.phase1.share, begun.phase2.share) == (1.0, 0.0)
    assert begun.train.keep == "best"
    assert begun.train.warmup <= begun.train.steps // 10  # more would be cut
    assert begun.train.lr < stored.train.lr / 5


def test_without_a_checkpoint_it_says_what_it_wants(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["self-critical"]) == 1
    assert "wants a checkpoint first, a folder that `regioncap train` wrote, got nothing" in capsys.readouterr().err
    assert main(["self-critical", str(tmp_path)]) == 1
    assert "is no checkpoint" in capsys.readouterr().err
