"""Objects as a detector is taught them, and as it finds them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxTargets:
    """The objects of one picture, to train on. m objects, none allowed; A attribute words."""

    boxes: Float[Tensor, "m 4"]
    """x0 y0 x1 y1 as fractions of the image, in [0, 1]."""
    labels: Int[Tensor, "m"]
    """Indices into `DetectorConfig.classes`."""
    attributes: Bool[Tensor, "m A"]
    """What is said of each object, in the order of the attribute head's words. A group of words (the colours) of which
    none is True is unknown, not absent. A = 0 for a detector without attributes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """What a detector found, best first. B images, N slots, R channels; padded rows are zero."""

    boxes: Float[Tensor, "B N 4"]
    """x0 y0 x1 y1 as fractions of the image, in [0, 1]."""
    scores: Float[Tensor, "B N"]
    labels: Int[Tensor, "B N"]
    """Indices into `DetectorConfig.classes`."""
    valid: Bool[Tensor, "B N"]
    features: Float[Tensor, "B N R"]
    """The box head's output for the proposal that each box was refined from."""


def mirror(target: BoxTargets) -> BoxTargets:
    """Return the objects of the picture mirrored left to right."""
    x0, y0, x1, y1 = target.boxes.unbind(-1)
    return BoxTargets(
        boxes=torch.stack([1.0 - x1, y0, 1.0 - x0, y1], dim=-1), labels=target.labels, attributes=target.attributes
    )
