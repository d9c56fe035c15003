"""Boxes of a data set as a detector takes them."""

import torch
from jaxtyping import UInt8
from torch import Tensor

from regioncap.encoders import BoxTargets, load_image
from regioncap.experiments.data.boxes import BoxData


def load_pixels(data: BoxData, size: int) -> UInt8[Tensor, "n 3 S S"]:
    """All pictures in memory, `size` pixels a side. Raises ValueError naming a file that does not decode."""
    pixels = torch.empty(len(data.images), 3, size, size, dtype=torch.uint8)
    for row, image in enumerate(data.images):
        pixels[row] = (load_image(image.path, size) * 255.0).round().byte()
    return pixels


def box_targets(data: BoxData) -> list[BoxTargets]:
    """Per picture its objects, boxes as fractions of it, attributes in the order of the data's."""
    targets = []
    for image in data.images:
        scale = torch.tensor([image.width, image.height] * 2, dtype=torch.float32)
        said = torch.zeros(len(image.boxes), len(data.attributes), dtype=torch.bool)
        for row, own in enumerate(image.attributes):
            said[row, list(own)] = True
        targets.append(
            BoxTargets(
                boxes=torch.tensor(image.boxes, dtype=torch.float32).view(-1, 4) / scale,
                labels=torch.tensor(image.labels, dtype=torch.long),
                attributes=said,
            )
        )
    return targets
