"""`regioncap distil`, from a teacher's checkpoint to a student's."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from regioncap.experiments.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from regioncap.experiments.commands.distil import DistilCommand
from regioncap.experiments.distillation.distil import DistilConfig, DistilOptions, distil
from regioncap.experiments.distillation.objective import divergence_from
from regioncap.experiments.distillation.targets import make_targets
from regioncap.experiments.distillation.teacher_table import make_table
from regioncap.experiments.metrics import MetricsConfig
from regioncap.experiments.prepare import Prepared

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def teacher(trained: tuple[Any, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of `regioncap train scenes`, its decoder sure of what it says."""
    folder = tmp_path_factory.mktemp("teacher") / "checkpoint"
    checkpoint = load_checkpoint(trained[1] / "checkpoint")
    with torch.no_grad():
        for parameter in checkpoint.captioner.decoder.parameters():
            parameter.mul_(3 if parameter.dim() == 2 else 1)
    save_checkpoint(checkpoint, folder)
    return folder


@pytest.fixture(scope="module")
def flags_of_student(cache: Path) -> tuple[object, ...]:
    small = ("--decoder.layers", 1, "--decoder.heads", 2, "--decoder.width", 16, "--decoder.positions", 96)
    short = ("--train.steps", 40, "--train.images-per-step", 4, "--train.evaluations", 1, "--train.lr", 1e-2)
    return (*small, *short, "--train.evaluation-images", 4, "--timed-images", 2, "--cache", cache)


@pytest.fixture(scope="module")
def outcome(
    command: Command, teacher: Path, flags_of_student: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path]:
    out = tmp_path_factory.mktemp("students") / "words"
    return command("distil", teacher, "--out", out, "--objective.weight", 1.0, *flags_of_student), out


def test_student_is_smaller_and_its_checkpoint_is_one_like_any_other(
    outcome: tuple[Any, Path], teacher: Path, command: Command, cache: Path, scenes_root: Path, tmp_path: Path
) -> None:
    done, out = outcome
    assert (done.status, done.err) == (0, "")
    loaded, master = load_checkpoint(out / "checkpoint"), load_checkpoint(teacher)
    assert loaded.captioner.decoder.width == 16
    assert loaded.tokenizer.words == master.tokenizer.words
    scores = tmp_path / "scores.json"
    evaluated = command(
        "evaluate", out / "checkpoint", "--split", "val", "--out", scores, "--cache", cache, "--data.root", scenes_root
    )
    assert (evaluated.status, evaluated.err) == (0, "")
    stored = json.loads((out / "scores.json").read_text())
    assert json.loads(scores.read_text())["per_image"] == stored["per_image"]
    picture = next((scenes_root / "images" / "test").iterdir())
    captioned = command("caption", out / "checkpoint", picture)
    assert (captioned.status, captioned.err) == (0, "")


def test_result_says_what_was_lost_and_gained(outcome: tuple[Any, Path], teacher: Path) -> None:
    done, out = outcome
    result = json.loads((out / "result.json").read_text())
    assert result["teacher"] == str(teacher)
    assert result["config"]["objective"]["weight"] == 1.0
    assert result["scores"] == json.loads((out / "scores.json").read_text())["corpus"]
    assert result["parameters"]["student"]["decoder"] < result["parameters"]["teacher"]["decoder"]
    assert set(result["ms_per_caption"]) == {"batch 1", "batch 16"}
    for times in result["ms_per_caption"].values():
        for who in ("teacher", "student"):
            assert 0 < times[who]["decoder"] < times[who]["captioner"]
    assert [point["step"] for point in result["history"] if "dev.cider" in point] == [40]
    assert f"CIDEr {result['scores']['CIDEr']:.1f}" in done.out


def test_word_distillation_brings_the_student_nearer_to_the_teacher(
    command: Command,
    teacher: Path,
    outcome: tuple[Any, Path],
    flags_of_student: tuple[object, ...],
    prepared: Prepared,
    tmp_path: Path,
) -> None:
    """Than the captions alone do, in as many steps."""
    alone = tmp_path / "alone"
    assert command("distil", teacher, "--out", alone, "--objective.weight", 0, *flags_of_student).status == 0
    master = load_checkpoint(teacher)
    targets = make_targets("captions", master.captioner, prepared, master.experiment.search, tmp_path)
    table = make_table(master.captioner, prepared, targets, temperature=1.0, top=32, folder=tmp_path / "table")
    rows = torch.arange(len(prepared.train))
    columns = torch.arange(targets.tokens.shape[1]).expand(len(rows), -1)
    real = targets.mask[..., 1:]
    words, shares = table.at(rows, columns, real)

    def distance(folder: Path) -> float:
        student = load_checkpoint(folder / "checkpoint").captioner
        with torch.no_grad():
            prefix = student.condition(*prepared.seen(rows)).prefix
            logits = student.decoder(prefix.embeddings, prefix.valid, targets.tokens[..., :-1], real, prefix.added)
        return divergence_from(logits[real], words[real], shares[real]).mean().item()

    assert distance(outcome[1]) < 0.8 * distance(alone)


@pytest.mark.parametrize("targets", ["teacher", "both"])
def test_student_learns_the_teachers_own_captions(
    command: Command, teacher: Path, flags_of_student: tuple[object, ...], tmp_path: Path, targets: str
) -> None:
    out = tmp_path / targets
    done = command("distil", teacher, "--out", out, "--targets", targets, *flags_of_student)
    assert (done.status, done.err) == (0, "")
    assert json.loads((out / "result.json").read_text())["config"]["targets"] == targets


def test_seed_decides_the_outcome(
    command: Command, teacher: Path, outcome: tuple[Any, Path], flags_of_student: tuple[object, ...], tmp_path: Path
) -> None:
    first = load_checkpoint(outcome[1] / "checkpoint").captioner.state_dict()
    for seed, same in ((0, True), (1, False)):
        out = tmp_path / str(seed)
        command("distil", teacher, "--out", out, "--objective.weight", 1.0, "--seed", seed, *flags_of_student)
        again = load_checkpoint(out / "checkpoint").captioner.state_dict()
        assert all(torch.equal(tensor, again[name]) for name, tensor in first.items()) == same


def test_defaults_on_the_command_line_are_the_teachers(command: Command, teacher: Path) -> None:
    shown = command("distil", teacher, "--help")
    assert shown.status == 0
    steps = load_checkpoint(teacher).experiment.train.steps
    assert f"(default: {steps})" in shown.out
    assert DistilCommand(checkpoint=teacher).student.decoder.width < 256


def test_wrong_use_is_one_line(command: Command, teacher: Path, outcome: tuple[Any, Path], tmp_path: Path) -> None:
    for arguments, part in (
        ((teacher, "--out", outcome[1]), "is not empty: choose another --out, or remove it"),
        ((tmp_path / "nothing",), "is no checkpoint"),
        ((teacher, "--timed-images", -1), "--timed-images must not be negative, got -1"),
    ):
        done = command("distil", *arguments)
        assert done.status == 1
        assert part in done.err
        assert len(done.err.splitlines()) == 1


def test_data_of_another_vocabulary_are_refused(teacher: Path, cache: Path, tmp_path: Path) -> None:
    stored = load_checkpoint(teacher)
    fewer = replace(stored.experiment, vocabulary=replace(stored.experiment.vocabulary, min_count=5))
    changed: Checkpoint = replace(stored, experiment=fewer)
    save_checkpoint(changed, tmp_path / "other")
    options = DistilOptions(out=tmp_path / "out", cache=cache, metrics=MetricsConfig())
    with pytest.raises(ValueError, match="a student says its teacher's words"):
        distil(tmp_path / "other", DistilConfig(), options)
    shutil.rmtree(tmp_path / "other")


def test_teacher_of_other_heads_is_refused(teacher: Path, cache: Path, tmp_path: Path) -> None:
    """What it would say of the training images rests on cross-fit offsets of heads that it does not have."""
    stored = load_checkpoint(teacher)
    with torch.no_grad():
        next(stored.captioner.clip_head.text_projection.parameters()).add_(0.1)
    save_checkpoint(stored, tmp_path / "other")
    options = DistilOptions(out=tmp_path / "out", cache=cache, metrics=MetricsConfig())
    with pytest.raises(ValueError, match="was trained beside other heads than those prepared here"):
        distil(tmp_path / "other", DistilConfig(), options)
