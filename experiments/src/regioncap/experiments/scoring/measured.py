"""A score with its interval and its p."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""Share of the resamples between the ends of an interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One metric of one system, in fractions."""

    value: float
    low: float
    """Lower end of the interval."""
    high: float
    p: float | None
    """Paired bootstrap against the baseline; None for the baseline itself."""


def interval(replicates: NDArray[np.float64]) -> tuple[float, float]:
    """Ends of the percentile interval; draws that are NaN, of which there was nothing to measure, do not count."""
    low, high = np.nanquantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
