import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regioncap.experiments.benchmarking.case import Case, Work
from regioncap.experiments.benchmarking.record import Point, StageRecord
from regioncap.experiments.benchmarking.scaling import along, curves, exponent


@given(st.floats(-3, 3), st.floats(1e-6, 1e3), st.integers(3, 9))
def test_a_power_law_is_found(power: float, factor: float, count: int) -> None:
    found = exponent([(float(x), factor * float(x) ** power) for x in range(1, count + 1)])
    assert found.slope == pytest.approx(power, abs=1e-6)
    assert found.error == pytest.approx(0.0, abs=1e-6)


def test_slope_and_error_are_those_of_an_ordinary_fit() -> None:
    points = [(10.0, 1.1), (30.0, 2.9), (100.0, 12.0), (300.0, 25.0), (1000.0, 90.0)]
    found = exponent(points)
    logs = np.log(points)
    (slope, _), covariance = np.polyfit(logs[:, 0], logs[:, 1], 1, cov="unscaled")
    left = logs[:, 1] - np.polyval(np.polyfit(logs[:, 0], logs[:, 1], 1), logs[:, 0])
    error = math.sqrt(covariance[0, 0] * (left @ left) / 3)
    assert found.slope == pytest.approx(slope)
    assert found.error == pytest.approx(error)


@pytest.mark.parametrize(
    "points", [[], [(1.0, 1.0), (2.0, 2.0)], [(1.0, 1.0)] * 3, [(1.0, 0.0), (2.0, 1.0), (3.0, 1.0)]]
)
def test_what_has_no_exponent_is_refused(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="an exponent wants three points"):
        exponent(points)


def record(name: str, axis: str, value: float, seconds: float, mib: float | None = None) -> StageRecord:
    return StageRecord(
        stage="graph",
        case=name,
        device="cpu",
        images=1,
        sizes={},
        p50_s=seconds,
        p95_s=seconds,
        peak_mib=mib,
        point=Point(curve=name, axis=axis, value=value),
    )


def test_records_become_curves_by_name_and_axis() -> None:
    own = [record("KNN", "regions", float(n), 1e-5 * n**2, n / 10) for n in (100, 10, 1000)]
    other = [record("KNN", "K", 5.0, 1.0), record("KNN", "K", 10.0, 1.0)]
    plain = StageRecord(stage="graph", case="KNN", device="cpu", images=1, sizes={}, p50_s=1.0, p95_s=1.0)
    time, memory, k = curves([*own, plain, *other])
    assert (time.stage, time.name, time.axis, time.quantity) == ("graph", "KNN", "regions", "time")
    assert [x for x, _ in time.points] == [10.0, 100.0, 1000.0]
    assert time.exponent is not None
    assert time.exponent.slope == pytest.approx(2.0)
    assert memory.quantity == "memory"
    assert memory.exponent is not None
    assert memory.exponent.slope == pytest.approx(1.0)
    assert (k.axis, k.exponent, k.last) == ("K", None, None)


def test_the_end_of_a_curve_has_an_exponent_of_its_own() -> None:
    (curve,) = curves([record("KNN", "regions", float(n), 1.0 + 0.001 * n**2) for n in (1, 2, 4, 100, 1000, 10_000)])
    assert curve.exponent is not None
    assert curve.last is not None
    assert curve.exponent.slope < curve.last.slope == pytest.approx(2.0, abs=0.05)


def test_a_case_along_an_axis() -> None:
    case = Case(stage="graph", name="KNN", make=Work)
    points = along(case, "regions", (10, 20, 100), (10, 100), lambda n: (1, n))
    assert [point.arguments for point in points] == [(1, 10), (1, 20), (1, 100)]
    assert [point.full for point in points] == [False, True, False]
    assert [point.point for point in points] == [
        Point(curve="KNN", axis="regions", value=value) for value in (10.0, 20.0, 100.0)
    ]
    assert len({point.id for point in points}) == 3
