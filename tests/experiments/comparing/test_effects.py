"""Differences and their intervals, against the scorer's own comparison and against slow loops."""

import numpy as np
import pytest

from regioncap.experiments.comparing.effects import compare_runs, most_changed
from regioncap.experiments.comparing.page import as_systems
from regioncap.experiments.metrics import Scores, bleu
from regioncap.experiments.scoring.compare import System, compare
from regioncap.experiments.statistics import paired_bootstrap

SAMPLES = 400


def test_one_seed_each_agrees_with_regioncap_score(make_run):
    """Values, intervals of the sides and p are those that `scoring.compare` finds for the same captions."""
    (base, old), (run, new) = make_run("base"), make_run("run", gain=0.03)
    comparison = compare_runs(base, run, bleu_counts=[*old, *new], samples=SAMPLES)
    systems = [
        System(
            name=own.name,
            file=own.place,
            captions=own.seeds[0].captions,
            scores=Scores(
                corpus=own.seeds[0].scores.corpus,
                per_image=own.seeds[0].scores.per_image,
                missing={},
                bleu_counts=counts[0],
            ),
        )
        for own, counts in ((base, old), (run, new))
    ]
    expected = compare(dict.fromkeys(base.names, ()), systems, samples=SAMPLES)
    for metric, effect in comparison.effects.items():
        before, after = expected.measured[metric]
        assert (effect.base.mean, effect.run.mean) == (before.value, after.value)
        assert comparison.spans[metric] == (
            pytest.approx((before.low, before.high)),
            pytest.approx((after.low, after.high)),
        )
        assert effect.p == after.p
        assert effect.difference == pytest.approx(after.value - before.value)
        assert effect.interval[0] <= effect.difference <= effect.interval[1]
        assert effect.over_seeds is None
    again = as_systems(comparison, {})
    assert again.measured["CIDEr"][1].p == expected.measured["CIDEr"][1].p


def slow_differences(base, run, metric, counts, samples, seed):
    """Differences of resampled corpus scores, drawn image by image from names in order."""
    names = sorted(base.names)
    place = [base.names.index(name) for name in names]
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(samples):
        chosen = generator.integers(len(names), size=len(names))
        sides = []
        for runs, own in ((base.seeds, counts[: len(base.seeds)]), (run.seeds, counts[len(base.seeds) :])):
            scores = []
            for seed_run, counted in zip(runs, own, strict=True):
                if metric == "BLEU-4":
                    scores.append(bleu(sum(counted[:, place[at]] for at in chosen))[3])
                else:
                    drawn = np.mean([seed_run.scores.per_image[names[at]][metric] for at in chosen])
                    whole = np.mean([row[metric] for row in seed_run.scores.per_image.values()])
                    scores.append(drawn + seed_run.scores.corpus[metric] - whole)
            sides.append(np.mean(scores))
        found.append(sides[1] - sides[0])
    return np.array(found)


@pytest.mark.parametrize("metric", ["BLEU-4", "METEOR", "CIDEr"])
def test_interval_and_p_over_images_equal_a_slow_loop(make_run, metric):
    (base, old), (run, new) = make_run("base", seeds=(0, 1, 2)), make_run("run", seeds=(0, 1, 2), gain=0.04)
    comparison = compare_runs(base, run, bleu_counts=[*old, *new], samples=SAMPLES, seed=3)
    slow = slow_differences(base, run, metric, [*old, *new], SAMPLES, 3)
    effect = comparison.effects[metric]
    assert effect.interval == pytest.approx(np.quantile(slow, [0.025, 0.975]))
    far = np.abs(slow - effect.difference) >= abs(effect.difference) - 1e-9
    assert effect.p == pytest.approx((1 + far.sum()) / (1 + SAMPLES))


def test_seeds_are_means_and_p_is_the_paired_bootstrap(make_run):
    (base, old), (run, new) = make_run("base", seeds=(0, 1)), make_run("run", seeds=(0, 1), gain=0.02)
    comparison = compare_runs(base, run, bleu_counts=[*old, *new], samples=SAMPLES)
    effect = comparison.effects["CIDEr"]
    values = [[own.scores.corpus["CIDEr"] for own in side.seeds] for side in (base, run)]
    assert effect.difference == pytest.approx(np.mean(values[1]) - np.mean(values[0]))
    assert effect.by_seed == pytest.approx(np.subtract(values[1], values[0]))
    assert (effect.base.std, effect.run.std) == pytest.approx(tuple(np.std(side, ddof=1) for side in values))
    sides = [[own.scores.of("CIDEr") for own in side.seeds] for side in (run, base)]
    assert effect.p == paired_bootstrap(*sides, samples=SAMPLES)
    gains = comparison.gains["CIDEr"]
    assert effect.per_image.better == int((gains > 0).sum())
    assert effect.per_image.size == pytest.approx(gains.mean() / gains.std(ddof=1))


def test_other_seeds_widen_the_interval_where_seeds_differ(make_run):
    base, old = make_run("base", seeds=(0, 1, 2), noise=0.0)
    run, new = make_run("run", seeds=(0, 1, 2), noise=0.0)
    shifted = [_moved(own, by) for own, by in zip(run.seeds, (-0.2, 0.0, 0.3), strict=True)]
    run = type(run)(name=run.name, place=run.place, seeds=tuple(shifted), images=run.images)
    effect = compare_runs(base, run, bleu_counts=[*old, *new], samples=2000).effects["CIDEr"]
    assert effect.interval == pytest.approx((0.1 / 3, 0.1 / 3), abs=1e-9)  # every image moves alike
    low, high = effect.over_seeds
    assert low == pytest.approx(-0.2, abs=0.07)
    assert high == pytest.approx(0.3, abs=0.11)


def _moved(own, by):
    rows = {image: row | {"CIDEr": row["CIDEr"] + by} for image, row in own.scores.per_image.items()}
    corpus = dict(own.scores.corpus) | {"CIDEr": own.scores.corpus["CIDEr"] + by}
    scores = Scores(corpus=corpus, per_image=rows, missing=own.scores.missing)
    return type(own)(seed=own.seed, file=own.file, scores=scores, captions=own.captions)


def test_pairs_of_seeds_cancel_what_they_share(make_run):
    """A seed that is good for both sides is no doubt about their difference."""
    base, old = make_run("base", seeds=(0, 1, 2), noise=0.0)
    run, new = make_run("run", seeds=(0, 1, 2), noise=0.0, gain=0.1)
    by = (-0.2, 0.0, 0.2)
    sides = [
        type(side)(
            name=side.name,
            place=side.place,
            images=side.images,
            seeds=tuple(_moved(own, move) for own, move in zip(side.seeds, by, strict=True)),
        )
        for side in (base, run)
    ]
    paired = compare_runs(*sides, bleu_counts=[*old, *new], samples=SAMPLES).effects["CIDEr"]
    assert paired.over_seeds == pytest.approx(paired.interval)
    renamed = [
        type(own)(seed=own.seed + 5, file=own.file, scores=own.scores, captions=own.captions) for own in sides[1].seeds
    ]
    apart = type(run)(name="run", place=run.place, seeds=tuple(renamed), images=run.images)
    effect = compare_runs(sides[0], apart, bleu_counts=[*old, *new], samples=SAMPLES).effects["CIDEr"]
    assert effect.by_seed == ()
    assert effect.over_seeds[1] - effect.over_seeds[0] > 0.2


def test_without_references_bleu_and_sum_have_no_interval(make_run):
    (base, _), (run, _) = make_run("base"), make_run("run")
    effects = compare_runs(base, run, samples=50).effects
    assert {metric for metric, effect in effects.items() if effect.interval is None} == {"BLEU-1", "BLEU-4", "SUM"}
    assert all(0 < effect.p <= 1 for effect in effects.values())


def test_order_of_images_changes_nothing(make_run):
    (base, _), (run, _) = make_run("base"), make_run("run", gain=0.1)
    turned = {image: run.seeds[0].scores.per_image[image] for image in reversed(list(run.seeds[0].scores.per_image))}
    scores = Scores(corpus=run.seeds[0].scores.corpus, per_image=turned, missing=run.seeds[0].scores.missing)
    own = type(run.seeds[0])(seed=0, file=run.seeds[0].file, scores=scores, captions=run.seeds[0].captions)
    other = type(run)(name="run", place=run.place, seeds=(own,), images=run.images)
    first, second = (compare_runs(base, side, samples=60) for side in (run, other))
    assert first.effects == second.effects
    assert np.array_equal(first.gains["CIDEr"], second.gains["CIDEr"])


def test_images_that_changed_most(make_run):
    (base, _), (run, _) = make_run("base"), make_run("run", gain=0.02)
    comparison = compare_runs(base, run, samples=10)
    up, down = most_changed(comparison, "CIDEr", 5)
    gains = comparison.gains["CIDEr"].tolist()
    assert [gains[at] for at in up] == sorted(gains, reverse=True)[:5]
    assert [gains[at] for at in down] == sorted(gains)[:5]
    same = compare_runs(base, type(base)(name="x", place=base.place, seeds=base.seeds, images={}), samples=10)
    assert most_changed(same, "CIDEr", 5) == ([], [])
    assert same.effects["CIDEr"].p == 1.0


def test_sum_of_different_metrics_is_not_compared(make_run):
    base, _ = make_run("base")
    run, _ = make_run("run", metrics=("ROUGE-L", "CIDEr", "SUM"))
    comparison = compare_runs(base, run, samples=10)
    assert list(comparison.effects) == ["ROUGE-L", "CIDEr"]
    assert comparison.missing["SUM"] == "the two are sums of different metrics"
    assert comparison.missing["SPICE"] == "no jars"
    assert comparison.missing["METEOR"] == "scored without it: run"


def test_what_cannot_be_compared_is_refused(make_run):
    base, _ = make_run("base")
    with pytest.raises(ValueError, match=r"are of different images, such as '40\.jpg' \(of 1\)"):
        compare_runs(base, make_run("run", images=41)[0])
    with pytest.raises(ValueError, match=r"different references of '0\.jpg': they are of different data sets"):
        compare_runs(base, make_run("run", references=("another",))[0])
    with pytest.raises(ValueError, match="no metric in common"):
        compare_runs(make_run("base", metrics=("METEOR",))[0], make_run("run", metrics=("CIDEr",))[0])
