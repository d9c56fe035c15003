import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regioncap.experiments.benchmarking.record import Point, Ratio, StageRecord

TIMES = st.floats(1e-6, 1e3)


@given(TIMES, TIMES, st.integers(1, 64), st.one_of(st.none(), st.integers(1, 1000)))
def test_a_record_survives_json(first: float, second: float, images: int, regions: int | None) -> None:
    record = StageRecord(
        stage="graph",
        case="KNN",
        device="cpu",
        images=images,
        sizes={"regions": 36, "metric": "semantic"},
        p50_s=min(first, second),
        p95_s=max(first, second),
        point=None if regions is None else Point(curve="KNN", axis="regions", value=float(regions)),
        ratios=(Ratio(peer="PyG", median=2.0, low=1.5, high=2.5),),
    )
    assert StageRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    assert record.images_per_s == pytest.approx(images / min(first, second))


def test_a_record_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="no benchmark record of this version"):
        StageRecord.from_dict({"stage": "graph"})


@pytest.mark.parametrize(("p50", "p95", "images"), [(0.0, 1.0, 1), (2.0, 1.0, 1), (1.0, 1.0, 0)])
def test_impossible_times_are_refused(p50: float, p95: float, images: int) -> None:
    with pytest.raises(ValueError, match="want images >= 1 and 0 < p50_s <= p95_s"):
        StageRecord(stage="graph", case="KNN", device="cpu", images=images, sizes={}, p50_s=p50, p95_s=p95)


def test_impossible_ratios_and_points_are_refused() -> None:
    with pytest.raises(ValueError, match="0 < low <= median <= high"):
        Ratio(peer="PyG", median=1.0, low=1.5, high=2.0)
    with pytest.raises(ValueError, match="positive value of regions"):
        Point(curve="KNN", axis="regions", value=0.0)
