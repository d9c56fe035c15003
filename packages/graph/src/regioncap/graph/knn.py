"""The KNN graph of the regions of each image (eqs. 3-5)."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regioncap.graph.distance import TICK, Distance, distance_rows
from regioncap.graph.neighbours import Neighbours, nearest

Metric = Literal["semantic", "spatial", "mixed", "random", "self"]
Join = Literal["union", "mutual"]

_FAINTEST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """The edges of a batch of graphs as one list, both directions of each. Region `slot` of `image` has the number
    image * N + slot, as in PyG's batches. E entries."""

    target: Int[Tensor, " E"]
    """i of e_ij: the region that listens; ascending."""
    source: Int[Tensor, " E"]
    """j of e_ij: the region that it listens to."""
    weight: Float[Tensor, " E"]
    """e_ij. An entry of weight 0 is no edge: there are such on a GPU and under torch.compile alone, where the length of
    the list must not depend on the data."""
    distance: Float[Tensor, " E"]
    """d_ij; 0 for self-loops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnnGraph:
    """An undirected weighted graph over the regions of each image. B images, N region slots, K neighbours.

    Held as each region's neighbours; `weights` and `edges` are the whole graph as matrices and as a list. `exports`
    hands it to torch.sparse, PyG and networkx.
    """

    near: Int[Tensor, "B N K"]
    """Slots of the nearest regions of each region, nearest first."""
    weight: Float[Tensor, "B N K"]
    """e_ij of eq. 5, in (0, 1]; 0 where there is no such edge."""
    distance: Float[Tensor, "B N K"]
    """d_ij of the chosen metric."""
    returned: Bool[Tensor, "B N K"]
    """Whether the neighbour in turn has the region among its nearest."""
    loops: Bool[Tensor, "B N"]
    """Which regions have a self-loop, of weight 1."""
    valid: Bool[Tensor, "B N"]

    @property
    def weights(self) -> Float[Tensor, "B N N"]:
        """The weighted adjacency matrix of each image: e_ij, 0 where no edge."""
        directed = self.weight.new_zeros((*self.valid.shape, self.valid.shape[1])).scatter(2, self.near, self.weight)
        weights = torch.maximum(directed, directed.mT)
        weights.diagonal(dim1=1, dim2=2).copy_(self.loops)
        return weights

    def edges(self) -> Edges:
        """The graph as a list.

        On the CPU in eager mode exactly the edges are listed. Elsewhere a list as long as its data would have to be
        waited for, or break a compiled graph: there it has 2 K + 1 entries a region, and those of weight 0 are none.
        """
        images, slots = self.valid.shape
        number = torch.arange(images * slots, device=self.valid.device).view(images, slots)
        here = number[..., None].expand_as(self.near)
        there = number[:, :1, None] + self.near
        # The other direction of an edge that its neighbour lists itself is there already.
        back = self.weight.masked_fill(self.returned, 0.0)
        loops, none = self.loops.to(self.weight.dtype), self.distance.new_zeros(self.loops.shape)
        target = torch.cat([here.flatten(), there.flatten(), number.flatten()])
        source = torch.cat([there.flatten(), here.flatten(), number.flatten()])
        weight = torch.cat([self.weight.flatten(), back.flatten(), loops.flatten()])
        distance = torch.cat([self.distance.flatten(), self.distance.flatten(), none.flatten()])
        if self.valid.device.type == "cpu" and not torch.compiler.is_compiling():
            listed = weight.nonzero().flatten()
            target, order = target.index_select(0, listed).sort(stable=True)
            order = listed.index_select(0, order)
        else:
            target, order = target.sort(stable=True)
        source, weight, distance = (values.index_select(0, order) for values in (source, weight, distance))
        return Edges(target=target, source=source, weight=weight, distance=distance)


def check_graph(*, k: int, metric: str, sigma: float | None, mix: float, join: str, self_loops: bool) -> None:
    """Raise ValueError for settings that no graph can have; for configs that fail before any data is read."""
    if k < 1:
        raise ValueError(f"graph.k must be at least 1, got {k}; for a graph without neighbours use metric='self'")
    if join not in get_args(Join):
        raise ValueError(f"graph.join must be one of {', '.join(get_args(Join))}, got {join!r}")
    if sigma is not None and not sigma > 0:
        raise ValueError(f"graph.sigma must be above 0, got {sigma}; None takes each image's mean neighbour distance")
    if not 0 <= mix <= 1:
        raise ValueError(f"graph.mix must lie in [0, 1] (the share of the spatial distance), got {mix}")
    if metric == "self" and not self_loops:
        raise ValueError("graph.metric 'self' has self-loops only: it needs graph.self_loops=True")


@torch.no_grad()
def knn_graph(
    features: Float[Tensor, "B N R"],
    boxes: Float[Tensor, "B N 4"],
    valid: Bool[Tensor, "B N"],
    *,
    k: int = 5,
    metric: Metric = "semantic",
    sigma: float | None = None,
    mix: float = 0.5,
    join: Join = "union",
    self_loops: bool = True,
) -> KnnGraph:
    """Join every region with its k nearest ones (eqs. 3-5).

        d_ij = 1 - cos(f_i, f_j),   e_ij = exp(-d_ij^2 / sigma^2),   i ~ j if either is among the other's k nearest

    Metrics: `semantic` is eq. 4 on the raw region features; `spatial` is `geometry.spatial_distance` of the boxes (the
    paper says "spatially nearest", then measures features); `mixed` is (1 - mix) semantic + mix spatial. Two controls:
    `random` draws symmetric distances uniform in [0, 1) from a hash of the bits of both regions' features and boxes,
    hence without a seed, independent of the batch, and permuted with the regions; with sigma=None its edge weights have
    about the mean (0.4 to 0.5) and the spread of the other metrics'. `self` has no edge but self-loops.

    `join="mutual"` joins only pairs of which each is among the other's k nearest.
    sigma None is each image's mean distance over its edges, self-loops apart, so that the kernel fits any features.
    Self-loops have e_ii = 1. Edge weights are kept at 1e-38 or above, so that log e_ij is finite for any sigma.
    Only valid regions have edges; where fewer than k others exist, all of them are neighbours. Ties go to the lower
    index: distances are computed in float64 and rounded to 2^-18, so that they tie in any batch and on any device.
    A zero feature vector has distance 1 to everything. The graph is a constant: no gradient flows through it.
    All N^2 distances are never held at once: memory grows with N K.

    B images, N region slots, R channels. `boxes` are x0 y0 x1 y1 in fractions of the image.
    Raises ValueError for settings out of range, shapes that disagree, and valid regions with NaN or infinite values.
    On a GPU and under torch.compile the last is an assertion on the device (RuntimeError), which nothing waits for.
    """
    if metric not in get_args(Metric):
        raise ValueError(f"graph.metric must be one of {', '.join(get_args(Metric))}, got {metric!r}")
    check_graph(k=k, metric=metric, sigma=sigma, mix=mix, join=join, self_loops=self_loops)
    check_regions(features, boxes, valid)
    distance: Distance = "spatial" if metric == "self" else metric  # `self` seeks no neighbour and reads no distance
    found = nearest(
        lambda part: distance_rows(features[part], boxes[part], distance, mix), valid, 0 if metric == "self" else k
    )
    joined = found.exists & found.returned if join == "mutual" else found.exists
    scale = _mean_distance(found, joined) if sigma is None else sigma
    weight = (found.distance / scale).square_().neg_().exp_().clamp_min_(_FAINTEST).mul_(joined)
    return KnnGraph(
        near=found.near,
        weight=weight.float(),
        distance=found.distance.float(),
        returned=found.returned,
        loops=valid if self_loops else torch.zeros_like(valid),
        valid=valid,
    )


def check_regions(features: Tensor, boxes: Tensor, valid: Tensor) -> None:
    """Refuse regions of unlike shapes, and valid ones with NaN or infinite values; `knn_graph` says how."""
    if features.shape[:2] != valid.shape or boxes.shape != (*valid.shape, 4):
        raise ValueError(
            f"regions disagree: features {tuple(features.shape)}, boxes {tuple(boxes.shape)}, valid "
            f"{tuple(valid.shape)}; wanted (B, N, R), (B, N, 4) and (B, N)"
        )
    waits = features.device.type != "cpu" or torch.compiler.is_compiling()
    if not waits and math.isfinite((features.sum() + boxes.sum()).item()):  # one pass settles the usual case
        return
    broken = valid & ~(features.isfinite().all(-1) & boxes.isfinite().all(-1))
    advice = "has NaN or infinite features or box values; mark it as padding (valid=False) or extract it again"
    if waits:
        torch._assert_async(~broken.any(), f"a valid region {advice}")
    elif broken.any():
        image, region = broken.nonzero()[0].tolist()
        raise ValueError(f"region {region} of image {image} {advice}")


def _mean_distance(found: Neighbours, joined: Bool[Tensor, "B N K"]) -> Float[Tensor, "B 1 1"]:
    """Over the edges of each image, both directions of each: one that is listed from one side alone counts twice."""
    times = (2.0 - found.returned.double()) * joined
    total, count = (times * found.distance).sum((1, 2), keepdim=True), times.sum((1, 2), keepdim=True)
    # An image without edges, or of equal regions, has mean 0: the floor makes its kernel exp(-0) = 1, not NaN.
    return (total / count.clamp_min_(1)).clamp_min_(TICK)
