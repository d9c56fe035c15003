"""Learning rate over a run, as a factor of the peak."""

import math
from typing import Literal


def learning_rate_factor(
    step: int, total: int, *, warmup: int, schedule: Literal["cosine", "step"], steps_per_epoch: int
) -> float:
    """Factor in [0, 1] at optimiser step `step` (from 0) of `total`: linear warm-up, then the schedule.

    `cosine` falls to zero at the end; `step` multiplies by 0.9 after every epoch (StepLR(1, 0.9) of Table 2). A warm-up
    longer than a tenth of the run is cut to it, so that short runs reach their peak.
    """
    warmup = min(warmup, total // 10)
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "step":
        return float(0.9 ** (step // steps_per_epoch))
    done = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * done))
