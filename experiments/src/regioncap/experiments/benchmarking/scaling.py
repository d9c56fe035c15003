"""How cost grows with size: points of a curve, and the exponent of the power law through them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from regioncap.experiments.benchmarking.case import Case
from regioncap.experiments.benchmarking.memory import Plain
from regioncap.experiments.benchmarking.record import Point, StageRecord

Quantity = Literal["time", "memory"]
_LAST = 3
"""Points that say how a curve ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponent:
    """b of y = a x^b, by least squares of log y on log x, with its standard error."""

    slope: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line of a figure."""

    stage: str
    name: str
    axis: str
    quantity: Quantity
    points: tuple[tuple[float, float], ...]
    """Size, and median seconds of a call or peak MiB; by size."""
    exponent: Exponent | None
    """Over all points; None for fewer than three."""
    last: Exponent | None
    """Over the last three, where what does not depend on the size weighs least."""


def exponent(points: Sequence[tuple[float, float]]) -> Exponent:
    """The exponent of the power law through points (x, y).

    Raises ValueError for fewer than three points, for one x alone, or for numbers that have no logarithm.
    """
    if len(points) < 3 or len({x for x, _ in points}) < 2 or not all(x > 0 and y > 0 for x, y in points):
        raise ValueError(f"an exponent wants three points at different places, all above zero; got {list(points)}")
    xs, ys = [math.log(x) for x, _ in points], [math.log(y) for _, y in points]
    x_mean, y_mean = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    spread = math.fsum((x - x_mean) ** 2 for x in xs)
    slope = math.fsum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
    left = math.fsum((y - y_mean - slope * (x - x_mean)) ** 2 for x, y in zip(xs, ys, strict=True))
    return Exponent(slope=slope, error=math.sqrt(left / (len(xs) - 2) / spread))


def curves(records: Sequence[StageRecord]) -> tuple[Curve, ...]:
    """The curves that records lie on, in the records' order; of memory where it was measured and is above zero."""
    lines: dict[tuple[str, str, str], list[StageRecord]] = {}
    for record in records:
        if record.point is not None:
            lines.setdefault((record.stage, record.point.curve, record.point.axis), []).append(record)
    found = []
    for (stage, name, axis), own in lines.items():
        times = [(_size(record), record.p50_s) for record in own]
        memory = [(_size(record), record.peak_mib) for record in own if record.peak_mib]
        for quantity, points in (("time", times), ("memory", memory)):
            if points:
                found.append(_curve(stage, name, axis, quantity, sorted(points)))  # type: ignore[arg-type]
    return tuple(found)


def along(
    case: Case,
    axis: str,
    values: Sequence[int],
    short: Sequence[int],
    arguments: Callable[[int], tuple[Plain, ...]],
) -> tuple[Case, ...]:
    """The case at each of `values`, named by itself; those that are not in `short` belong to the full set."""
    assert set(short) <= set(values), f"{short} are not among {values}"
    return tuple(
        replace(
            case,
            arguments=arguments(value),
            point=Point(curve=case.name, axis=axis, value=float(value)),
            full=case.full or value not in short,
        )
        for value in values
    )


def _size(record: StageRecord) -> float:
    assert record.point is not None
    return record.point.value


def _curve(stage: str, name: str, axis: str, quantity: Quantity, points: Sequence[tuple[float, float]]) -> Curve:
    return Curve(
        stage=stage,
        name=name,
        axis=axis,
        quantity=quantity,
        points=tuple(points),
        exponent=_fitted(points),
        last=_fitted(points[-_LAST:]),
    )


def _fitted(points: Sequence[tuple[float, float]]) -> Exponent | None:
    return exponent(points) if len({x for x, _ in points}) >= _LAST else None
