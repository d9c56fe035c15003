"""The k nearest regions of every region."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regioncap.graph.distance import TICK, Rows

_BLOCK = 2**16
"""Distances held at a time: half a MiB of float64, which stays in a core's cache, for any number of regions."""
_LEAST_ROWS = 64
"""Rows held at a time for very many regions; a product of fewer is slow."""
_FINEST = 2.0**-14
"""Distances in ticks are multiples of this, so that distance / _FINEST * N + slot is an integer, exact in float64 for N
up to 2^20, and orders regions by distance with ties to the lower slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """The nearest regions of each region, nearest first. B images, N region slots, K neighbours."""

    near: Int[Tensor, "B N K"]
    """Slots; K different ones."""
    distance: Float[Tensor, "B N K"]
    """In float64; 0 where there is no such neighbour."""
    exists: Bool[Tensor, "B N K"]
    """False where a region has fewer than K neighbours, or is padding."""
    returned: Bool[Tensor, "B N K"]
    """Whether the region is in turn among the nearest of its neighbour."""


def nearest(distances: Callable[[slice], Rows], valid: Bool[Tensor, "B N"], k: int) -> Neighbours:
    """Find the min(k, N - 1) nearest valid others of every valid region; equal distances go to the lower slot.

    `distances` gives the distances of a range of the images.
    """
    images, slots = valid.shape
    k = min(k, max(slots - 1, 0))
    slot = torch.arange(slots, device=valid.device)
    if k == 0 or images == 0:
        none = slot.new_zeros((images, slots, k))
        return Neighbours(near=none, distance=none.double(), exists=none.bool(), returned=none.bool())
    together = max(1, _BLOCK // slots**2)
    height = max(_LEAST_ROWS, _BLOCK // slots)
    groups = []
    for first in range(0, images, together):
        part = slice(first, first + together)
        rows, padding = distances(part), ~valid[part, None, :]
        blocks = []
        for start in range(0, slots, height):
            stop = min(start + height, slots)
            order = rows(start, stop).mul_(slots / _FINEST).add_(slot)  # B R N
            order.masked_fill_(padding, torch.inf).diagonal(start, dim1=1, dim2=2).fill_(torch.inf)
            blocks.append(order.topk(k, dim=-1, largest=False))
        groups.append(_join(blocks, dim=1))
    order, near = _join(groups, dim=0)
    exists = (order < torch.inf) & valid[..., None]
    distance = (order - near).mul_(_FINEST * TICK / slots).masked_fill_(~exists, 0.0)
    lists = near.gather(1, near.view(images, -1, 1).expand(-1, -1, k)).view(images, slots, k, k)
    returned = (lists == slot[:, None, None]).any(-1)
    return Neighbours(near=near, distance=distance, exists=exists, returned=returned)


def _join(parts: Sequence[tuple[Tensor, Tensor]], dim: int) -> tuple[Tensor, Tensor]:
    if len(parts) == 1:
        return parts[0]
    first, second = (torch.cat(found, dim=dim) for found in zip(*parts, strict=True))
    return first, second
