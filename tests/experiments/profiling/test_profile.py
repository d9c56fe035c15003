"""Whole profiles of scenes of almost no size: by the real engine, the real search, the real extraction."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.captioner import Captioner
from regioncap.experiments.checkpoint import Checkpoint, save_checkpoint
from regioncap.experiments.config import Experiment
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.presets import paper
from regioncap.experiments.profiling.profile import ProfileOptions, profile_subject

CONDITION = {"global encoder", "adapter", "graph", "fusion", "guidance", "prefix", "decoder"}
ENCODING = {"preprocessing", "region encoder"}
TRAINING = CONDITION | {"loading", "objective", "backward", "optimizer", "rest of the step"}


def spans_of(out: Path) -> set[str]:
    """The stages that a trace has."""
    with gzip.open(out / "trace.json.gz", "rt") as stored:
        events = json.load(stored)["traceEvents"]
    names = {event["name"] for event in events if event.get("cat") == "user_annotation"}
    return {name.removeprefix("stage: ") for name in names if name.startswith("stage: ")}


def rows_of(out: Path) -> dict[str, list[str]]:
    """The table of stages."""
    lines = (out / "profile.md").read_text().split("## Stages")[1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows[2:]}


@pytest.fixture
def checkpoint(
    tiny: Experiment, prepared: Prepared, make_captioner: Callable[[str], Captioner], tmp_path: Path
) -> Path:
    folder = tmp_path / "checkpoint"
    stored = Checkpoint.of(tiny, make_captioner("+graph+guidance"), prepared)
    save_checkpoint(stored, folder)
    return folder


def assert_whole(out: Path, said: str, stages: Sequence[str] | set[str]) -> None:
    """Every file is there, the trace has every span and the table every stage."""
    assert "\n" not in said
    assert said in (out / "profile.md").read_text()
    assert spans_of(out) >= set(stages)
    rows = rows_of(out)
    assert set(rows) >= set(stages)
    assert sum(float(row[1].rstrip("%")) for row in rows.values()) == pytest.approx(100, abs=1)
    operators = (out / "operators.md").read_text()
    assert all(f"## {stage}, " in operators for stage in set(stages) & CONDITION)
    assert (out / "memory.png").stat().st_size > 5000


def test_training_is_the_engines_own(tiny: Experiment, prepared: Prepared, cache: Path, tmp_path: Path) -> None:
    options = ProfileOptions(out=tmp_path, units=3, traced=2)
    said = profile_subject("the preset scenes", tiny, options, cache)
    assert_whole(tmp_path, said, TRAINING)
    text = (tmp_path / "profile.md").read_text()
    assert "3 x step" in text
    assert "a step waits" in text
    assert "graph, backward" in (tmp_path / "operators.md").read_text()


def test_captioning_by_a_checkpoint(command: Callable[..., Any], checkpoint: Path, cache: Path, tmp_path: Path) -> None:
    sizes = ["--units", 2, "--traced", 1, "--batch", 3, "--search.beams", 3]
    done = command("profile", checkpoint, "--out", tmp_path / "out", "--cache", cache, *sizes)
    assert done.status == 0
    said = done.out.splitlines()[-2]
    assert_whole(tmp_path / "out", said, CONDITION | ENCODING)
    text = (tmp_path / "out" / "profile.md").read_text()
    assert f"# Profile: caption, the checkpoint {checkpoint}" in text
    assert "6 images on cpu" in text


def test_encoding_by_threads(tiny: Experiment, cache: Path, tmp_path: Path) -> None:
    options = ProfileOptions(what="encode", out=tmp_path, units=3, traced=2, batch=2, threads=2)
    said = profile_subject("the preset scenes", tiny, options, cache)
    assert_whole(tmp_path, said, ENCODING)
    assert "6 images on cpu" in (tmp_path / "profile.md").read_text()


def test_sizes_alone_cannot_be_trained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--what train wants data"):
        profile_subject("the preset paper", paper(), ProfileOptions(what="train", out=tmp_path), tmp_path)
    with pytest.raises(ValueError, match="--units must be at least 1, got 0"):
        ProfileOptions(units=0)


@pytest.mark.slow
def test_table_2_with_random_weights(command: Callable[..., Any], tmp_path: Path) -> None:
    done = command("profile", "paper", "--out", tmp_path, "--units", 1, "--traced", 1, "--batch", 1)
    assert (done.status, done.err) == (0, "")
    assert_whole(tmp_path, done.out.splitlines()[-2], CONDITION | ENCODING)


def test_command_says_what_it_wants(command: Callable[..., Any]) -> None:
    done = command("profile", "nowhere")
    assert done.status == 1
    assert "regioncap profile wants a preset first" in done.err
    assert "--traced" in command("profile", "scenes", "--help").out
