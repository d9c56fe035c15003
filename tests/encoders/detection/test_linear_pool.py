import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align

from regioncap.encoders.detection.linear_pool import linear_pool


def plain(maps: torch.Tensor, boxes: list[torch.Tensor], scale: float, cells: int, samples: int) -> torch.Tensor:
    return roi_align(maps.permute(0, 3, 1, 2).contiguous(), boxes, cells, scale, samples)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    height=st.sampled_from([1, 2, 5, 9, 24]),
    width=st.integers(1, 9),
    cells=st.integers(1, 7),
    samples=st.integers(1, 3),
)
def test_it_is_roi_align(seed: int, height: int, width: int, cells: int, samples: int) -> None:
    """Boxes of any size, also far below a cell and hard at the edges."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, height, width, 3, generator=generator)
    limit = torch.tensor([width, height]) * 16.0
    boxes = []
    for count in (4, 1):
        corners = torch.rand(count, 2, 2, generator=generator)
        corners[0] = torch.where(corners[0] > 0.5, 1.0, corners[0])
        boxes.append((corners.sort(dim=1).values * limit).flatten(1))
    ours = linear_pool(maps, boxes, scale=1 / 16, cells=cells, samples=samples)
    torch.testing.assert_close(ours, plain(maps, boxes, 1 / 16, cells, samples), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("step", [2, 3])
def test_a_step_keeps_every_so_many_th_cell(step: int) -> None:
    maps = torch.randn(1, 6, 8, 4)
    boxes = [torch.tensor([[3.0, 10.0, 90.0, 77.0], [0.0, 0.0, 128.0, 96.0]])]
    every = linear_pool(maps, boxes, scale=1 / 16, cells=7, samples=2)
    kept = linear_pool(maps, boxes, scale=1 / 16, cells=7, samples=2, step=step)
    torch.testing.assert_close(kept, every[:, :, ::step, ::step])


def test_maps_take_the_same_gradient() -> None:
    maps = torch.randn(1, 6, 8, 4, dtype=torch.float64)
    boxes = [torch.tensor([[3.0, 10.0, 90.0, 77.0]], dtype=torch.float64)]
    pools = (
        lambda x: linear_pool(x, boxes, scale=1 / 16, cells=5, samples=2),
        lambda x: plain(x, boxes, 1 / 16, 5, 2),
    )
    gradients = []
    for pool in pools:
        x = maps.clone().requires_grad_()
        (pool(x) ** 2).sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)


def test_a_picture_without_boxes_gives_no_rows() -> None:
    maps = torch.randn(2, 4, 4, 3)
    boxes = [torch.zeros(0, 4), torch.tensor([[0.0, 0.0, 30.0, 30.0]])]
    assert linear_pool(maps, boxes, scale=1 / 16, cells=3, samples=1).shape == (1, 3, 3, 3)
