import math

import pytest

from regioncap.experiments.training.schedule import learning_rate_factor


def cosine(step: int, total: int = 100, warmup: int = 10) -> float:
    return learning_rate_factor(step, total, warmup=warmup, schedule="cosine", steps_per_epoch=7)


def test_warm_up_is_linear_and_reaches_the_peak() -> None:
    assert [cosine(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])


def test_cosine_falls_from_the_peak_through_a_half_to_almost_zero() -> None:
    assert cosine(10) == pytest.approx(1.0)
    assert cosine(55) == pytest.approx(0.5)
    assert cosine(99) == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert cosine(99) < 0.001


def test_warm_up_takes_a_tenth_of_a_run_at_most() -> None:
    assert cosine(19, total=200, warmup=100) == pytest.approx(1.0)
    assert cosine(0, total=5, warmup=100) == pytest.approx(1.0)


def test_step_schedule_multiplies_by_nine_tenths_after_every_epoch() -> None:
    factors = [
        learning_rate_factor(step, 100, warmup=0, schedule="step", steps_per_epoch=5) for step in (0, 4, 5, 9, 10, 50)
    ]
    assert factors == pytest.approx([1.0, 1.0, 0.9, 0.9, 0.81, 0.9**10])


@pytest.mark.parametrize("total", [1, 2, 9, 10, 11, 1300])
def test_factor_stays_in_the_unit_interval(total: int) -> None:
    assert all(0 < cosine(step, total, warmup=100) <= 1 for step in range(total))
