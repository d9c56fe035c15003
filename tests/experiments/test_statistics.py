"""Mean, spread and the paired bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regioncap.experiments.statistics import PerImage, Spread, paired_bootstrap, resampled_seeds


def scores(values) -> dict[str, float]:
    return {f"{index}.jpg": float(value) for index, value in enumerate(values)}


def slow_bootstrap(difference: np.ndarray, samples: int, seed: int) -> float:
    """The shifted bootstrap written as a loop, with its own random numbers."""
    generator = np.random.RandomState(seed)
    shifted = difference - difference.mean()
    extreme = 0
    for _ in range(samples):
        chosen = [generator.randint(len(difference)) for _ in difference]
        extreme += abs(np.mean([shifted[index] for index in chosen])) >= abs(difference.mean())
    return (1 + extreme) / (1 + samples)


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.12, 0.2])
def test_p_equals_a_slow_loop(shift):
    generator = np.random.default_rng(3)
    a, b = generator.normal(shift, 0.5, 60), generator.normal(0, 0.5, 60)
    p = paired_bootstrap([scores(a)], [scores(b)], samples=4000)
    assert p == pytest.approx(slow_bootstrap(a - b, 4000, 5), abs=0.03)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30))
def test_p_is_two_sided_and_a_probability(pairs):
    a, b = scores(pair[0] for pair in pairs), scores(pair[1] for pair in pairs)
    p = paired_bootstrap([a], [b], samples=200)
    assert 0 < p <= 1
    assert p == paired_bootstrap([b], [a], samples=200)


def test_p_is_uniform_where_there_is_no_difference():
    generator = np.random.default_rng(0)
    ps = [
        paired_bootstrap([scores(generator.normal(size=80))], [scores(generator.normal(size=80))], samples=300)
        for _ in range(200)
    ]
    assert 0.02 <= np.mean(np.array(ps) < 0.1) <= 0.2
    assert 0.4 <= np.mean(ps) <= 0.6


def test_pairing_finds_a_small_steady_gain():
    b = np.random.default_rng(1).normal(1, 1, 200)
    gain = b + np.random.default_rng(2).normal(0.05, 0.1, 200)
    assert paired_bootstrap([scores(gain)], [scores(b)], samples=1000) == pytest.approx(1 / 1001)
    shuffled = np.random.default_rng(4).permutation(gain)
    assert paired_bootstrap([scores(shuffled)], [scores(b)], samples=1000) > 0.2


def test_equal_scores_give_one():
    same = scores([0.1, 0.7, 0.3])
    assert paired_bootstrap([same], [same], samples=100) == 1.0


def test_seeds_are_averaged_before_images_are_drawn():
    generator = np.random.default_rng(6)
    runs = generator.normal(0.1, 1, (3, 40))
    other = scores(np.zeros(40))
    averaged = scores(runs.mean(axis=0))
    assert paired_bootstrap([scores(run) for run in runs], [other, other], samples=500) == pytest.approx(
        paired_bootstrap([averaged], [other], samples=500)
    )


def test_order_of_images_in_other_runs_is_nothing():
    generator = np.random.default_rng(7)
    a, b = scores(generator.normal(size=30)), scores(generator.normal(size=30))
    turned = dict(reversed(list(b.items())))
    assert paired_bootstrap([a], [b], samples=300) == paired_bootstrap([a], [turned], samples=300)


def test_seed_and_samples_are_used():
    generator = np.random.default_rng(8)
    a, b = scores(generator.normal(0.1, 1, 30)), scores(generator.normal(size=30))
    ps = {paired_bootstrap([a], [b], samples=997, seed=seed) for seed in range(5)}
    assert len(ps) > 1
    assert paired_bootstrap([a], [b], samples=1) in (0.5, 1.0)


@pytest.mark.parametrize(
    ("a", "b", "samples", "message"),
    [
        ([], [{"x": 1.0}], 10, "at least one seed"),
        ([{}], [{}], 10, "at least one image"),
        ([{"x": 1.0}], [{"y": 1.0}], 10, "same images"),
        ([{"x": 1.0}, {"x": 1.0, "y": 2.0}], [{"x": 1.0}], 10, "'y'"),
        ([{"x": float("nan")}], [{"x": 1.0}], 10, "'x' are not finite"),
        ([{"x": 1.0}], [{"x": 1.0}], 0, "samples must be at least 1, got 0"),
    ],
)
def test_bad_input(a, b, samples, message):
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(a, b, samples=samples)


def test_order_of_a_file_changes_nothing():
    generator = np.random.default_rng(9)
    a, b = scores(generator.normal(0.2, 1, 30)), scores(generator.normal(size=30))
    turned = [dict(reversed(list(side.items()))) for side in (a, b)]
    assert paired_bootstrap([a], [b], samples=300) == paired_bootstrap([turned[0]], [turned[1]], samples=300)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 2), min_size=1, max_size=6))
def test_spread_is_mean_and_sample_deviation(values):
    spread = Spread(values=tuple(values))
    assert spread.mean == pytest.approx(np.mean(values))
    assert spread.std == pytest.approx(np.std(values, ddof=1) if len(values) > 1 else 0.0, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40))
def test_effect_per_image_equals_a_slow_count(values):
    effect = PerImage.of(np.array(values, dtype=float) / 10)
    assert effect.better == sum(value > 0 for value in values)
    assert effect.worse == sum(value < 0 for value in values)
    assert effect.better + effect.worse + effect.equal == len(values)
    if len(set(values)) > 1:
        mean = sum(values) / len(values)
        deviation = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
        assert effect.size == pytest.approx(mean / deviation)
    else:
        assert effect.size == 0.0


def test_rounding_is_no_gain():
    assert PerImage.of(np.array([1e-15, -1e-15, 0.3 - 0.1 - 0.2])).equal == 3


def test_seeds_are_drawn_apart_from_images():
    """Variance of the draws: that of a mean of S seeds drawn with replacement, (S-1)/S of the unbiased one over S."""
    seeds = np.array([0.1, 0.4, 0.2, 0.9])
    replicates = np.tile(seeds, (20_000, 1))
    drawn = resampled_seeds(replicates, seed=1)
    assert drawn.mean() == pytest.approx(seeds.mean(), abs=0.005)
    assert drawn.var() == pytest.approx(seeds.var() / 4, rel=0.05)
    assert np.array_equal(drawn, resampled_seeds(replicates, seed=1))
    assert not np.array_equal(drawn, resampled_seeds(replicates, seed=2))


def test_one_seed_stays_as_it_is():
    replicates = np.random.default_rng(0).normal(size=(50, 1))
    assert np.array_equal(resampled_seeds(replicates), replicates[:, 0])


def test_every_draw_is_a_mean_of_its_own_row():
    replicates = np.arange(12.0).reshape(4, 3)
    for row, value in zip(replicates, resampled_seeds(replicates), strict=True):
        assert row.min() <= value <= row.max()
