import math

import pytest
import torch

from regioncap.graph import GEOMETRY, pair_geometry, relative_geometry, spatial_distance

Box = tuple[float, float, float, float]


def overlap_along(low_i: float, high_i: float, low_j: float, high_j: float) -> float:
    return min(high_i, high_j) - max(low_i, low_j)


def loop_pair(i: Box, j: Box) -> dict[str, float]:
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = i, j
    dx, dy = (bx0 + bx1) / 2 - (ax0 + ax1) / 2, (by0 + by1) / 2 - (ay0 + ay1) / 2
    across, down = overlap_along(ax0, ax1, bx0, bx1), overlap_along(ay0, ay1, by0, by1)
    shared = max(across, 0) * max(down, 0)
    own, other = (ax1 - ax0) * (ay1 - ay0), (bx1 - bx0) * (by1 - by0)
    length = math.hypot(dx, dy)
    return {
        "dx": dx, "dy": dy, "|dx|": abs(dx), "|dy|": abs(dy), "gap_x": -across, "gap_y": -down,
        "log_width_ratio": math.log((bx1 - bx0) / (ax1 - ax0)), "log_height_ratio": math.log((by1 - by0) / (ay1 - ay0)),
        "iou": shared / (own + other - shared), "share_of_i": shared / own, "share_of_j": shared / other,
        "direction_x": dx / length if length else 0.0, "direction_y": dy / length if length else 0.0,
    }  # fmt: skip


BOXES: list[Box] = [(0.1, 0.1, 0.4, 0.5), (0.3, 0.2, 0.9, 0.6), (0.7, 0.7, 0.95, 1.0), (0.0, 0.0, 1.0, 1.0)]


def test_pair_geometry_equals_a_loop() -> None:
    described = pair_geometry(torch.tensor([BOXES]), torch.ones(1, 4, dtype=torch.bool))
    for i in range(4):
        for j in range(4):
            wanted = loop_pair(BOXES[i], BOXES[j])
            got = dict(zip(GEOMETRY, described[0, i, j].tolist(), strict=True))
            assert got == pytest.approx(wanted, abs=1e-6)


def test_relative_geometry_takes_any_shapes_that_broadcast() -> None:
    boxes = torch.tensor(BOXES)
    pairs = pair_geometry(boxes[None], torch.ones(1, 4, dtype=torch.bool))[0]
    i, j = torch.tensor([0, 2, 3]), torch.tensor([1, 1, 0])
    assert torch.equal(relative_geometry(boxes[i], boxes[j]), pairs[i, j])
    assert torch.equal(relative_geometry(boxes[0], boxes), pairs[0])


def test_degenerate_boxes_and_padding_stay_finite() -> None:
    boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.2, 0.2, 0.2, 0.9], [math.nan, math.inf, 0.0, 0.0]]])
    valid = torch.tensor([[True, True, False]])
    described = pair_geometry(boxes, valid)
    assert described.isfinite().all()
    assert described[0, 0, 1].any()
    assert described[0, 1, 0].any()
    assert not described[0, 2].any()
    assert not described[0, :, 2].any()
    shares = described[..., [GEOMETRY.index(name) for name in ("iou", "share_of_i", "share_of_j")]]
    assert ((shares >= 0) & (shares <= 1)).all()


def test_spatial_distance_is_centres_and_gap() -> None:
    left, right, corner = (0.0, 0.0, 0.2, 0.2), (0.6, 0.0, 0.8, 0.2), (0.2, 0.2, 0.4, 0.4)
    boxes = torch.tensor([left, right, corner, (0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0, 1.0)])
    distance = spatial_distance(boxes[:, None], boxes)
    assert distance[0, 1].item() == pytest.approx((0.6 + 0.4) / 2 / math.sqrt(2))
    assert distance[0, 2].item() == pytest.approx(math.hypot(0.2, 0.2) / 2 / math.sqrt(2))  # touching: no gap
    assert distance[3, 4].item() == pytest.approx(1.0)
    assert torch.equal(distance, distance.T)
    assert not distance.diagonal().any()
