"""How two boxes lie to each other: descriptors for attention, and a distance for the graph."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

GEOMETRY = (
    "dx", "dy", "|dx|", "|dy|", "gap_x", "gap_y", "log_width_ratio", "log_height_ratio",
    "iou", "share_of_i", "share_of_j", "direction_x", "direction_y",
)  # fmt: skip
"""Names of the channels of `pair_geometry`, in order."""

_THINNEST = 1e-3  # fraction of the image; keeps the ratios of degenerate boxes finite, below a pixel at 224


def pair_geometry(boxes: Float[Tensor, "B N 4"], valid: Bool[Tensor, "B N"]) -> Float[Tensor, "B N N F"]:
    """Describe, for every ordered pair (i, j), where box j lies as seen from box i.

    Per pair, in the order of `GEOMETRY`: signed and absolute offset of the centres (j - i); signed gap between the
    boxes along x and y (negative: they overlap along that axis); log of the width and height ratio (j over i);
    intersection over union; share of i, and of j, that the intersection covers; unit vector from centre i to centre j
    (zero for a common centre). All in fractions of the image or ratios, so of order one.

    The paper promises position and "relative orientation" (sec. 2.1) but has no equation for them: this is ours. The
    absolute values are there because a linear map of dx cannot tell "far on either side" from "near".
    Boxes are x0 y0 x1 y1 in fractions of the image. B images, N regions, F = len(GEOMETRY). Padding gives zeros.
    """
    boxes = boxes.masked_fill(~valid[..., None], 0.0)
    low, high = boxes[..., :2], boxes[..., 2:]  # B N 2
    centre, size = (low + high) / 2, (high - low).clamp_min(_THINNEST)
    offset = centre[:, None, :] - centre[:, :, None]  # B N N 2
    gap = _signed_gap(low, high)
    log_size = size.log()
    log_ratio = log_size[:, None, :] - log_size[:, :, None]
    area = size.prod(-1)  # B N
    shared = (-gap).clamp_min(0.0).prod(-1)  # B N N
    own, other = area[:, :, None], area[:, None, :]
    overlap = torch.stack([shared / (own + other - shared), shared / own, shared / other], dim=-1).clamp(max=1.0)
    distance = offset.square().sum(-1, keepdim=True).sqrt()
    direction = offset / distance.clamp_min(_THINNEST)
    geometry = torch.cat([offset, offset.abs(), gap, log_ratio, overlap, direction], dim=-1)  # B N N F
    return geometry * (valid[:, :, None] & valid[:, None, :])[..., None]


def spatial_distance(boxes: Float[Tensor, "B N 4"]) -> Float[Tensor, "B N N"]:
    """Distance of two boxes in [0, 1]: the mean of centre distance and gap, over the diagonal of the image.

    Centres alone call two large touching boxes far apart; gaps alone call everything that overlaps equally near.
    The gap is the Euclidean distance of the nearest points of the two boxes: zero where they touch or overlap.
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    centre = (low + high) / 2
    offset = centre[:, None, :] - centre[:, :, None]  # B N N 2
    gap = _signed_gap(low, high).clamp_min(0.0)
    lengths = offset.square().sum(-1).sqrt() + gap.square().sum(-1).sqrt()
    return lengths / (2 * math.sqrt(2))


def _signed_gap(low: Float[Tensor, "B N 2"], high: Float[Tensor, "B N 2"]) -> Float[Tensor, "B N N 2"]:
    return torch.maximum(low[:, None, :], low[:, :, None]) - torch.minimum(high[:, None, :], high[:, :, None])
