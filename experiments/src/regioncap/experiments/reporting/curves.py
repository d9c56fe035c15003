"""Learning curves: every value of training, each arm's mean over seeds and the range that the seeds span."""

from collections.abc import Mapping, Sequence
from typing import Any

from regioncap.experiments.reporting.finished import FinishedRun

_PERCENT = frozenset({"dev.cider"})
_FIRST = ("dev.cider", "loss.total", "loss.generation", "loss.alignment", "loss.gate")
"""In this order; what else there is comes behind."""


def learning_curves(arms: Mapping[str, Sequence[FinishedRun]]) -> dict[str, dict[str, Any]]:
    """Name of a value -> arm -> `steps`, `mean`, `low` and `high` over the seeds that have the step.

    dev CIDEr is in percent, as the table prints it.
    """
    points: dict[str, dict[str, dict[int, list[float]]]] = {}
    for arm, runs in arms.items():
        for run in runs:
            for point in run.history:
                step = int(point["step"])
                for name, value in point.items():
                    if name != "step":
                        scale = 100 if name in _PERCENT else 1
                        points.setdefault(name, {}).setdefault(arm, {}).setdefault(step, []).append(scale * value)
    names = [name for name in _FIRST if name in points]
    names += [name for name in points if name not in names]
    return {name: {arm: _summary(by_step) for arm, by_step in points[name].items()} for name in names}


def _summary(by_step: Mapping[int, Sequence[float]]) -> dict[str, list[int] | list[float]]:
    steps = sorted(by_step)
    return {
        "steps": steps,
        "mean": [_short(sum(by_step[step]) / len(by_step[step])) for step in steps],
        "low": [_short(min(by_step[step])) for step in steps],
        "high": [_short(max(by_step[step])) for step in steps],
    }


def _short(value: float) -> float:
    """Five digits: a page holds thousands of these."""
    return float(f"{value:.5g}")
