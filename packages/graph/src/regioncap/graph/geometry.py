"""How two boxes lie to each other: descriptors for attention, and a distance for the graph."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

GEOMETRY = (
    "dx", "dy", "|dx|", "|dy|", "gap_x", "gap_y", "log_width_ratio", "log_height_ratio",
    "iou", "share_of_i", "share_of_j", "direction_x", "direction_y",
)  # fmt: skip
"""Names of the channels of `relative_geometry`, in order."""

_THINNEST = 1e-3  # fraction of the image; keeps the ratios of degenerate boxes finite, below a pixel at 224


def relative_geometry(i: Float[Tensor, "*#S 4"], j: Float[Tensor, "*#S 4"]) -> Float[Tensor, "*S F"]:
    """Describe where box j lies as seen from box i, for any shapes that broadcast.

    In the order of `GEOMETRY`: signed and absolute offset of the centres (j - i); signed gap between the boxes along x
    and y (negative: they overlap along that axis); log of the width and height ratio (j over i); intersection over
    union; share of i, and of j, that the intersection covers; unit vector from centre i to centre j (zero for a common
    centre). All in fractions of the image or ratios, so of order one.

    The paper promises position and "relative orientation" (sec. 2.1) but has no equation for them: this is ours. The
    absolute values are there because a linear map of dx cannot tell "far on either side" from "near".
    Boxes are x0 y0 x1 y1 in fractions of the image. F = len(GEOMETRY).
    """
    offset = _centre(j) - _centre(i)  # S 2
    gap = _signed_gap(i, j)
    size_i, size_j = _size(i), _size(j)
    log_ratio = size_j.log() - size_i.log()
    area_i, area_j = size_i.prod(-1), size_j.prod(-1)  # S
    shared = (-gap).clamp_min(0.0).prod(-1)
    overlap = torch.stack([shared / (area_i + area_j - shared), shared / area_i, shared / area_j], dim=-1)
    distance = offset.square().sum(-1, keepdim=True).sqrt()
    direction = offset / distance.clamp_min(_THINNEST)
    return torch.cat([offset, offset.abs(), gap, log_ratio, overlap.clamp(max=1.0), direction], dim=-1)


def pair_geometry(boxes: Float[Tensor, "B N 4"], valid: Bool[Tensor, "B N"]) -> Float[Tensor, "B N N F"]:
    """`relative_geometry` of every ordered pair (i, j) of an image's regions; zeros where one of them is padding.

    B images, N regions, F = len(GEOMETRY).
    """
    boxes = boxes.masked_fill(~valid[..., None], 0.0)
    geometry = relative_geometry(boxes[:, :, None], boxes[:, None, :])
    return geometry * (valid[:, :, None] & valid[:, None, :])[..., None]


def spatial_distance(i: Float[Tensor, "*#S 4"], j: Float[Tensor, "*#S 4"]) -> Float[Tensor, "*S"]:
    """Distance of two boxes in [0, 1]: the mean of centre distance and gap, over the diagonal of the image.

    Centres alone call two large touching boxes far apart; gaps alone call everything that overlaps equally near.
    The gap is the Euclidean distance of the nearest points of the two boxes: zero where they touch or overlap.
    Boxes are x0 y0 x1 y1 in fractions of the image, of any shapes that broadcast.
    """
    offset = _centre(j) - _centre(i)  # S 2
    gap = _signed_gap(i, j).clamp_min(0.0)
    lengths = offset.square().sum(-1).sqrt() + gap.square().sum(-1).sqrt()
    return lengths / (2 * math.sqrt(2))


def _centre(box: Float[Tensor, "*S 4"]) -> Float[Tensor, "*S 2"]:
    return (box[..., :2] + box[..., 2:]) / 2


def _size(box: Float[Tensor, "*S 4"]) -> Float[Tensor, "*S 2"]:
    return (box[..., 2:] - box[..., :2]).clamp_min(_THINNEST)


def _signed_gap(i: Float[Tensor, "*#S 4"], j: Float[Tensor, "*#S 4"]) -> Float[Tensor, "*S 2"]:
    return torch.maximum(i[..., :2], j[..., :2]) - torch.minimum(i[..., 2:], j[..., 2:])
