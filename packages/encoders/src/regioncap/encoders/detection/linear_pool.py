"""RoIAlign as matrix products: what is left of it once one asks only for the sums it makes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_AT_ONCE = 4
"""Rows and columns in one product may multiply this many times as often: nothing is written in between."""


def linear_pool(
    maps: Float[Tensor, "B h w C"],
    boxes: Sequence[Float[Tensor, "_p 4"]],
    *,
    scale: float,
    cells: int,
    samples: int,
    step: int = 1,
) -> Float[Tensor, "P C s s"]:
    """Return every box's pooled cells, as torchvision's `roi_align` does: same scale, cells and samples.

        out[p] = Y_p maps X_p^T,   Y_p: s x h,   X_p: s x w
    RoIAlign averages bilinear samples on a regular grid, so rows and columns separate: a row of Y_p holds the mean
    weights of a cell's sample points. `step` keeps every so many-th cell in both directions, and computes no other.
    Few cells are pooled by one product with Y_p x X_p (Kronecker), which takes half of the time for 4 cells a side.
    B images, C channels, boxes x0 y0 x1 y1 in pixels, all images' P boxes in a row. Maps and result are channels-last.
    """
    height, width, channels = maps.shape[1:]
    pooled = []
    for image, own in zip(maps, boxes, strict=True):  # h w C
        x0, y0, x1, y1 = (own.to(maps.dtype) * scale).unbind(-1)
        rows = _weights(y0, y1, height, cells, samples)[:, ::step]  # p s h
        columns = _weights(x0, x1, width, cells, samples)[:, ::step]  # p s w
        count, kept = rows.shape[:2]
        if kept * height <= _AT_ONCE * (kept + height):
            both = torch.einsum("psh,ptw->psthw", rows, columns).reshape(count * kept**2, height * width)
            pooled.append((both @ image.flatten(0, 1)).view(count, kept, kept, channels))
            continue
        strips = (rows.flatten(0, 1) @ image.flatten(1)).unflatten(1, (width, channels))  # p*s w C
        pooled.append((columns.repeat_interleave(kept, dim=0) @ strips).view(count, kept, kept, channels))
    return torch.cat(pooled).permute(0, 3, 1, 2)


def _weights(
    start: Float[Tensor, "p"], end: Float[Tensor, "p"], size: int, cells: int, samples: int
) -> Float[Tensor, "p s h"]:
    """How much each of `size` rows counts in each cell of the interval, by linear interpolation at its samples.

    As in torchvision: an interval is at least one row long; a sample beyond the map's edge counts for nothing, one
    within half a row of it for the outermost row.
    """
    length = (end - start).clamp(min=1.0)
    points = (torch.arange(cells * samples, device=start.device, dtype=start.dtype) + 0.5) / (cells * samples)
    at = start[:, None] + points * length[:, None]  # p s*samples
    inside = (at >= -1.0) & (at <= size)
    at = at.clamp(0.0, size - 1.0)
    rows = torch.arange(size, device=start.device, dtype=start.dtype)
    tent = (1.0 - (at[..., None] - rows).abs()).clamp(min=0.0) * inside[..., None]
    means: Tensor = tent.unflatten(1, (cells, samples)).mean(2)
    return means
