"""Scaling curves of a run: time and memory over what they grow with, and the exponents of their growth."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from regioncap.experiments.benchmarking.record import StageRecord

Quantity = Literal["time", "memory"]
_LEAST_MIB = 1.0
"""Below, a process's peak tells nothing that is proportional to sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line of a figure."""

    name: str
    axis: str
    quantity: Quantity
    points: tuple[tuple[float, float], ...]
    """Value of the axis and milliseconds or MiB of a call, by value."""
    exponent: float | None
    """p where the quantity grows as value^p: the slope of logarithms over all points; None with fewer than three."""


def curves_of(records: Sequence[StageRecord]) -> list[Curve]:
    """Every curve of time, then of memory where it was measured, in the order of the records."""
    found: dict[tuple[Quantity, str, str], list[tuple[float, float]]] = {}
    quantities: tuple[Quantity, ...] = ("time", "memory")
    for quantity in quantities:
        for record in records:
            size = 1000 * record.p50_s if quantity == "time" else record.peak_mib
            if record.point is not None and size is not None and (quantity == "time" or size >= _LEAST_MIB):
                key = quantity, record.point.axis, record.point.curve
                found.setdefault(key, []).append((record.point.value, size))
    return [
        Curve(name=curve, axis=axis, quantity=quantity, points=tuple(sorted(points)), exponent=_exponent(points))
        for (quantity, axis, curve), points in found.items()
    ]


def _exponent(points: Sequence[tuple[float, float]]) -> float | None:
    if len({value for value, _ in points}) < 3:
        return None
    values, sizes = ([math.log(number) for number in column] for column in zip(*points, strict=True))
    return statistics.linear_regression(values, sizes).slope
