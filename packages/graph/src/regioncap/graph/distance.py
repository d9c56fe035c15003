"""Distances between the regions of an image (eqs. 3-4), a block of rows at a time."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regioncap.graph.geometry import spatial_distance

Distance = Literal["semantic", "spatial", "mixed", "random"]

TICK = 2.0**-18
"""Distances are measured in this: a smaller difference is rounding, and rounding must not choose neighbours."""

Rows = Callable[[int, int], Float[Tensor, "B R N"]]
"""Distances of the regions `start` to `stop` of each image to all of its regions.

In float64, in ticks, as multiples of 2^-14 from 0 to 2^19. A block at a time, because all N^2 at once are what a graph
over thousands of regions has no memory for. What it says of padding is not read."""


def distance_rows(
    features: Float[Tensor, "B N R"], boxes: Float[Tensor, "B N 4"], distance: Distance, mix: float
) -> Rows:
    """The rows of a distance; `knn_graph` says what each one is. `mix` is read by `mixed` alone."""
    match distance:
        case "semantic":
            cosine = _cosine_rows(features)
            return lambda start, stop: cosine(start, stop).round_()
        case "spatial":
            spatial = _spatial_rows(boxes)
            return lambda start, stop: spatial(start, stop).round_()
        case "mixed":
            cosine, spatial = _cosine_rows(features), _spatial_rows(boxes)
            return lambda start, stop: torch.lerp(cosine(start, stop), spatial(start, stop), mix).round_()
        case "random":
            return _hash_rows(features, boxes)


def _cosine_rows(features: Float[Tensor, "B N R"]) -> Rows:
    # float64: a product of matrices rounds equal regions differently by position, and float32 would let that choose
    # the neighbours. In float64 the rounding is a billionth of a tick.
    unit = features.to(torch.float64, copy=True)
    norm = torch.linalg.vector_norm(unit, dim=-1, keepdim=True)
    unit /= norm.clamp_min_(torch.finfo(torch.float64).tiny)  # a zero vector stays zero, at distance 1 of all
    one = unit.new_full((), 1 / TICK)
    return lambda start, stop: torch.baddbmm(one, unit[:, start:stop], unit.mT, alpha=-1 / TICK)


def _spatial_rows(boxes: Float[Tensor, "B N 4"]) -> Rows:
    exact = boxes.double()
    return lambda start, stop: spatial_distance(exact[:, start:stop, None], exact[:, None, :]).mul_(1 / TICK)


def _hash_rows(features: Float[Tensor, "B N R"], boxes: Float[Tensor, "B N 4"]) -> Rows:
    channels = features.shape[2]
    factors = _scramble(torch.arange(1, channels + 5, device=features.device)) | 1
    region = (_bits(features) * factors[:channels]).sum(-1) + (_bits(boxes) * factors[channels:]).sum(-1)  # B N
    region = _scramble(region)

    def rows(start: int, stop: int) -> Float[Tensor, "B R N"]:
        pair = _scramble(region[:, start:stop, None] + region[:, None, :])
        return (pair & (2**32 - 1)).double() * (2.0**-32 / TICK)

    return rows


def _bits(values: Float[Tensor, "B N C"]) -> Int[Tensor, "B N C"]:
    # Adding zero turns -0.0 into 0.0: equal values must have equal bits.
    return (values.to(torch.float32) + 0.0).view(torch.int32).to(torch.int64)


def _scramble(x: Int[Tensor, "*S"]) -> Int[Tensor, "*S"]:
    """Finaliser of SplitMix64 (Steele et al. 2014) on wrapping int64; the masks make the shifts logical ones."""
    x = (x ^ ((x >> 30) & (2**34 - 1))) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ ((x >> 27) & (2**37 - 1))) * (0x94D049BB133111EB - 2**64)
    return x ^ ((x >> 31) & (2**33 - 1))
