from collections.abc import Callable
from pathlib import Path

import pytest

from regioncap.experiments.arms import RETRIEVAL
from regioncap.experiments.reporting.finished import is_study, read_runs


def test_runs_come_back_as_fractions_with_everything_of_the_first_seed(
    invent: Callable[..., Path], tmp_path: Path
) -> None:
    runs = read_runs(invent(tmp_path / "study", seeds=12))
    assert [(run.arm, run.seed) for run in runs if run.arm != RETRIEVAL] == [
        (arm, seed) for arm in ("+graph", "+graph+guidance", "baseline") for seed in range(12)
    ]
    first, second = (run for run in runs if run.arm == "+graph" and run.seed in (0, 1))
    assert 0.1 < first.corpus["CIDEr"] < 0.8
    assert first.cider == {image: scores["CIDEr"] for image, scores in first.per_image.items()}
    assert len(first.captions) == len(second.cider) == 12
    assert not second.captions
    assert not second.per_image
    assert {name for point in first.history for name in point} >= {"step", "dev.cider", "loss.total"}
    floor = next(run for run in runs if run.arm == RETRIEVAL)
    assert (floor.parameters, floor.train_cpu_s, floor.history) == (0, 0.0, ())


def test_run_that_is_being_written_is_left_out(invent: Callable[..., Path], tmp_path: Path) -> None:
    study = invent(tmp_path / "study")
    (study / "+graph" / "seed0" / "result.json").write_text('{"arm": "+gra')
    (study / "+graph" / "seed1" / "scores.json").unlink()
    assert {run.arm for run in read_runs(study)} == {RETRIEVAL, "baseline", "+graph+guidance"}


def test_single_run_is_a_study_of_one(invent: Callable[..., Path], tmp_path: Path) -> None:
    study = invent(tmp_path / "study")
    assert is_study(study)
    assert is_study(study / "+graph" / "seed0")
    (run,) = read_runs(study / "+graph" / "seed0")
    assert (run.arm, run.seed) == ("+graph", 0)


def test_folder_without_runs_names_those_below(invent: Callable[..., Path], tmp_path: Path) -> None:
    invent(tmp_path / "runs" / "one")
    assert not is_study(tmp_path / "runs")
    with pytest.raises(ValueError, match=r"holds no finished run; .* below it there are one"):
        read_runs(tmp_path / "runs")


def test_run_of_another_version_is_named(invent: Callable[..., Path], tmp_path: Path) -> None:
    study = invent(tmp_path / "study")
    (study / "baseline" / "seed0" / "result.json").write_text('{"arm": "baseline"}')
    with pytest.raises(ValueError, match=r"baseline/seed0 was written by another version"):
        read_runs(study)
