"""Regions without a detector: the cells of a grid."""

import torch
from jaxtyping import Float
from torch import Tensor

from regioncap.encoders.regions import Regions


def grid_boxes(rows: int, columns: int) -> Float[Tensor, "N 4"]:
    """Boxes of the cells of a grid over the whole image, in reading order; N = rows * columns."""
    down, across = torch.arange(rows + 1) / rows, torch.arange(columns + 1) / columns
    top, left = torch.meshgrid(down[:-1], across[:-1], indexing="ij")
    bottom, right = torch.meshgrid(down[1:], across[1:], indexing="ij")
    return torch.stack([left, top, right, bottom], dim=-1).flatten(0, 1)


def cell_regions(features: Float[Tensor, "B N R"], boxes: Float[Tensor, "B N 4"]) -> Regions:
    """Regions of an encoder that does not detect: all valid, all at score 1, none with a word."""
    batch, slots = features.shape[:2]
    return Regions(
        features=features,
        boxes=boxes,
        scores=features.new_ones(batch, slots),
        valid=torch.ones(batch, slots, dtype=torch.bool, device=features.device),
        words=torch.zeros(batch, slots, 0, dtype=torch.long, device=features.device),
        word_scores=features.new_zeros(batch, slots, 0),
    )
