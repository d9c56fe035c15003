from collections.abc import Callable
from pathlib import Path

import pytest

from regioncap.experiments.comparing.runs import Run, read_run
from regioncap.experiments.qualitative.choose import choose, gain


@pytest.fixture(scope="module")
def runs(invent_runs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    study = invent_runs(tmp_path_factory.mktemp("runs") / "study", {"old": 0.0, "new": 0.0}, images=30)
    return read_run(study / "old"), read_run(study / "new")


def test_random_choice_is_its_seed_s(runs: tuple[Run, Run]) -> None:
    choices = [choose(runs, order="random", metric="CIDEr", count=6, seed=seed) for seed in (0, 0, 1)]
    assert choices[0] == choices[1]
    assert choices[0].images != choices[2].images
    assert len(set(choices[0].images)) == 6
    assert choices[2].says == "6 of 30 images drawn at random (seed 1)"
    whole = choose(runs, order="random", metric="CIDEr", count=99, seed=0)
    assert set(whole.images) == set(runs[0].names)


@pytest.mark.parametrize("metric", ["CIDEr", "METEOR"])
def test_extremes_are_those_of_the_captions_shown(runs: tuple[Run, Run], metric: str) -> None:
    old, new = (run.seeds[0].scores.of(metric) for run in runs)
    ranked = sorted(runs[0].names, key=lambda name: new[name] - old[name])
    assert choose(runs, order="gain", metric=metric, count=4, seed=0).images == tuple(ranked[::-1][:4])
    assert choose(runs, order="loss", metric=metric, count=4, seed=0).images == tuple(ranked[:4])
    change = choose(runs, order="change", metric=metric, count=5, seed=0)
    assert change.images == (*ranked[::-1][:3], *ranked[:2])
    assert "extremes, not typical ones" in change.says
    assert gain(runs, ranked[0], metric) == new[ranked[0]] - old[ranked[0]]


def test_best_and_worst_are_the_last_run_s(runs: tuple[Run, Run]) -> None:
    scores = runs[1].seeds[0].scores.of("CIDEr")
    ranked = sorted(runs[1].names, key=lambda name: scores[name])
    for asked in (runs, runs[1:]):
        assert choose(asked, order="worst", metric="CIDEr", count=4, seed=0).images == tuple(ranked[:4])
        best = choose(asked, order="best", metric="CIDEr", count=4, seed=0)
        assert best.images == tuple(ranked[::-1][:4])
        assert best.says.startswith("Best CIDEr of new among 30 images")


def test_what_cannot_be_chosen_is_refused(
    runs: tuple[Run, Run], invent_runs: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="--order loss compares two runs"):
        choose(runs[:1], order="loss", metric="CIDEr", count=2, seed=0)
    other = read_run(invent_runs(tmp_path / "study", {"other": 0.0}, images=5) / "other")
    with pytest.raises(ValueError, match="are of different images"):
        choose((runs[0], other), order="random", metric="CIDEr", count=2, seed=0)
