"""The percentile interval."""

import numpy as np
import pytest

from regioncap.experiments.scoring.measured import interval


def test_interval_leaves_out_two_and_a_half_percent_on_each_side():
    assert interval(np.arange(1001.0)[::-1]) == pytest.approx((25.0, 975.0))


def test_draws_without_anything_to_measure_do_not_count():
    assert interval(np.array([np.nan, 2.0, 2.0, np.nan])) == (2.0, 2.0)
