"""The KNN graph of the regions of each image (eqs. 3-5)."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regioncap.graph.geometry import spatial_distance

Metric = Literal["semantic", "spatial", "mixed", "random", "self"]

_TICK = 2.0**-18
"""Distances are multiples of this: a smaller difference is rounding, and rounding must not choose neighbours."""
_INDEX_STEP = 2.0**-50
"""Added per index to order ties; exact in float64 beside distances that are multiples of 2^-32, for N < 2^17."""
_FAINTEST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, slots=True, kw_only=True)
class KnnGraph:
    """An undirected weighted graph over the regions of each image. B images, N region slots."""

    weights: Float[Tensor, "B N N"]
    """e_ij of eq. 5, in (0, 1] on edges and 0 elsewhere: `weights > 0` says where the edges are."""
    distances: Float[Tensor, "B N N"]
    """d_ij of the chosen metric between all valid regions; 0 on padding."""
    valid: Bool[Tensor, "B N"]


def check_metric(*, k: int, metric: str, sigma: float | None, mix: float, self_loops: bool) -> None:
    """Raise ValueError for settings that `knn_graph` cannot follow; for configs that fail before any data is read."""
    if k < 1:
        raise ValueError(f"graph.k must be at least 1, got {k}; for a graph without neighbours use metric='self'")
    if metric not in get_args(Metric):
        raise ValueError(f"graph.metric must be one of {', '.join(get_args(Metric))}, got {metric!r}")
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
    self_loops: bool = True,
) -> KnnGraph:
    """Join every region with its k nearest ones (eqs. 3-5).

        d_ij = 1 - cos(f_i, f_j),   e_ij = exp(-d_ij^2 / sigma^2),   i ~ j if either is among the other's k nearest

    Metrics: `semantic` is eq. 4 on the raw region features; `spatial` is `geometry.spatial_distance` of the boxes (the
    paper says "spatially nearest", then measures features); `mixed` is (1 - mix) semantic + mix spatial. Two controls:
    `random` draws symmetric distances uniform in [0, 1) from a hash of the bits of both regions' features and boxes,
    hence without a seed, independent of the batch, and permuted with the regions; with sigma=None its edge weights have
    about the mean (0.4 to 0.5) and the spread of the other metrics'. `self` has no edge but self-loops, with d = 0.

    sigma None is each image's mean distance over its edges, self-loops apart, so that the kernel fits any features.
    Self-loops have e_ii = 1. Edge weights are kept at 1e-38 or above, so that log e_ij is finite for any sigma.
    Only valid regions have edges; where fewer than k others exist, all of them are neighbours. Ties go to the lower
    index: distances are computed in float64 and rounded to 2^-18, so that they tie in any batch and on any device.
    A zero feature vector has distance 1 to everything. The graph is a constant: no gradient flows through it.

    B images, N region slots, R channels. `boxes` are x0 y0 x1 y1 in fractions of the image.
    Raises ValueError for settings out of range, shapes that disagree, and valid regions with NaN or infinite values
    (the last only for tensors on the CPU outside torch.compile: elsewhere the check would wait for the device).
    """
    check_metric(k=k, metric=metric, sigma=sigma, mix=mix, self_loops=self_loops)
    _check_inputs(features, boxes, valid)
    match metric:
        case "semantic":
            distances = _snap(_cosine_distance(features))
        case "spatial":
            distances = _snap(spatial_distance(boxes.double()))
        case "mixed":
            distances = _snap((1 - mix) * _cosine_distance(features) + mix * spatial_distance(boxes.double()))
        case "random":
            distances = _hash_distance(features, boxes)
        case "self":
            distances = features.new_zeros((*valid.shape, valid.shape[1]), dtype=torch.float64)

    diagonal = torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
    pairs = valid[:, :, None] & valid[:, None, :]  # B N N
    distances = distances.masked_fill(diagonal | ~pairs, 0.0)  # whatever padding held, NaN too, ends here
    others = pairs & ~diagonal
    edges = torch.zeros_like(others) if metric == "self" else _nearest(distances, others, k)
    scale = _mean_distance(distances, edges) if sigma is None else sigma
    weights = (-(distances / scale).square()).exp().to(torch.float32).clamp_min(_FAINTEST)
    kept = edges | (diagonal & pairs) if self_loops else edges
    return KnnGraph(weights=weights * kept, distances=distances.to(torch.float32), valid=valid)


def _check_inputs(features: Tensor, boxes: Tensor, valid: Tensor) -> None:
    if features.shape[:2] != valid.shape or boxes.shape != (*valid.shape, 4):
        raise ValueError(
            f"regions disagree: features {tuple(features.shape)}, boxes {tuple(boxes.shape)}, valid "
            f"{tuple(valid.shape)}; wanted (B, N, R), (B, N, 4) and (B, N)"
        )
    if features.device.type != "cpu" or torch.compiler.is_compiling():
        return
    if (features.sum() + boxes.sum()).isfinite():  # one pass settles the usual case
        return
    broken = valid & ~(features.isfinite().all(-1) & boxes.isfinite().all(-1))
    if broken.any():
        image, region = broken.nonzero()[0].tolist()
        raise ValueError(
            f"region {region} of image {image} has NaN or infinite features or box values; "
            "mark it as padding (valid=False) or extract it again"
        )


def _cosine_distance(features: Float[Tensor, "B N R"]) -> Float[Tensor, "B N N"]:
    # float64: bmm rounds equal regions differently by position, and float32 would let that choose the neighbours.
    x = features.double()
    products = x @ x.mT  # B N N
    norms = products.diagonal(dim1=1, dim2=2).sqrt()  # B N
    scale = (norms[:, :, None] * norms[:, None, :]).clamp_min(torch.finfo(torch.float64).tiny)
    return 1 - products / scale


def _snap(distances: Float[Tensor, "B N N"]) -> Float[Tensor, "B N N"]:
    symmetric = (distances + distances.mT) / 2
    return (symmetric / _TICK).round() * _TICK


def _hash_distance(features: Float[Tensor, "B N R"], boxes: Float[Tensor, "B N 4"]) -> Float[Tensor, "B N N"]:
    channels = features.shape[2]
    factors = _scramble(torch.arange(1, channels + 5, device=features.device)) | 1
    region = (_bits(features) * factors[:channels]).sum(-1) + (_bits(boxes) * factors[channels:]).sum(-1)  # B N
    region = _scramble(region)
    pair = _scramble(region[:, :, None] + region[:, None, :])  # B N N
    return (pair & (2**32 - 1)).double() * 2.0**-32


def _bits(values: Float[Tensor, "B N C"]) -> Int[Tensor, "B N C"]:
    # Adding zero turns -0.0 into 0.0: equal values must have equal bits.
    return (values.to(torch.float32) + 0.0).view(torch.int32).to(torch.int64)


def _scramble(x: Int[Tensor, "*S"]) -> Int[Tensor, "*S"]:
    """Finaliser of SplitMix64 (Steele et al. 2014) on wrapping int64; the masks make the shifts logical ones."""
    x = (x ^ ((x >> 30) & (2**34 - 1))) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ ((x >> 27) & (2**37 - 1))) * (0x94D049BB133111EB - 2**64)
    return x ^ ((x >> 31) & (2**33 - 1))


def _nearest(distances: Float[Tensor, "B N N"], others: Bool[Tensor, "B N N"], k: int) -> Bool[Tensor, "B N N"]:
    """Undirected union of the k nearest of every region; ties go to the lower index."""
    slots = others.shape[2]
    order = distances + torch.arange(slots, device=distances.device) * _INDEX_STEP
    order = order.masked_fill(~others, torch.inf)
    chosen = order.topk(min(k, slots), dim=-1, largest=False, sorted=False).indices  # B N k
    near = torch.zeros_like(others).scatter_(2, chosen, True) & others
    return near | near.mT


def _mean_distance(distances: Float[Tensor, "B N N"], edges: Bool[Tensor, "B N N"]) -> Float[Tensor, "B 1 1"]:
    total = (distances * edges).sum((1, 2), keepdim=True)
    # An image without edges, or of equal regions, has mean 0: the floor makes its kernel exp(-0) = 1, not NaN.
    return (total / edges.sum((1, 2), keepdim=True).clamp_min(1)).clamp_min(_TICK)
