"""What dense and listed attention share of eq. 7: its constants, and the graph's part of the logits."""

import torch
from jaxtyping import Float
from torch import Tensor

SLOPE = 0.2
"""Of LeakyReLU below zero, as in GAT (Velickovic et al. 2018)."""
FORBIDDEN = -1e30
"""Logit of what is no edge. Finite: a region without any edge then has shares that are cleared, never NaN."""


def edge_logits(weights: Float[Tensor, "*S"], prior: bool) -> Float[Tensor, "*S"]:
    """log e_ij, or 0 without `prior`; `FORBIDDEN` where the weight is 0, which says that there is no edge."""
    real = weights > 0
    if not prior:
        return torch.zeros_like(weights).masked_fill_(~real, FORBIDDEN)
    # A zero's logarithm would be cleared as well, but its gradient would not: 0 times infinity.
    return weights.where(real, 1.0).log().masked_fill(~real, FORBIDDEN)
