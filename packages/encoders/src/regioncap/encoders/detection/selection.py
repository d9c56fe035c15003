"""Which of the scored boxes of a picture become its regions."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import nms

from regioncap.encoders.detection.boxes import Detections


def select(
    boxes: Float[Tensor, "P 4"],
    scores: Float[Tensor, "P"],
    labels: Int[Tensor, "P"],
    features: Float[Tensor, "P R"],
    *,
    per_image: Sequence[int],
    size: tuple[int, int],
    slots: int,
    score_threshold: float,
    nms_threshold: float,
) -> Detections:
    """Return the best boxes of every picture, at most `slots`, that score enough and that no better one covers.

    P boxes in pixels, all pictures' in a row, of which the first `per_image[0]` are the first picture's, and so on;
    `size` is the pictures' height and width.
    """
    images = len(per_image)
    found = Detections(
        boxes=boxes.new_zeros(images, slots, 4),
        scores=scores.new_zeros(images, slots),
        labels=labels.new_zeros(images, slots),
        valid=torch.zeros(images, slots, dtype=torch.bool, device=boxes.device),
        features=features.new_zeros(images, slots, features.shape[1]),
    )
    height, width = size
    scale = boxes.new_tensor([width, height, width, height])
    start = 0
    for image, count in enumerate(per_image):
        own = slice(start, start + count)
        start += count
        chosen = start - count + _distinct(boxes[own], scores[own], score_threshold, nms_threshold)[:slots]
        n = len(chosen)
        found.boxes[image, :n] = boxes[chosen] / scale
        found.scores[image, :n] = scores[chosen]
        found.labels[image, :n] = labels[chosen]
        found.features[image, :n] = features[chosen]
        found.valid[image, :n] = True
    return found


def _distinct(
    boxes: Float[Tensor, "p 4"], scores: Float[Tensor, "p"], score_threshold: float, nms_threshold: float
) -> Int[Tensor, "q"]:
    """Return the rows of one picture's confident boxes that no better box covers, best first."""
    wide = (boxes[:, 2:] - boxes[:, :2] >= 1.0).all(dim=-1)  # a box under a pixel has no features
    candidates = torch.where(wide & (scores > score_threshold))[0]
    return candidates[nms(boxes[candidates], scores[candidates], nms_threshold)]
