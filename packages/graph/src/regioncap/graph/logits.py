"""What dense and listed attention share of eq. 7: the constants of the logits, and the parts that make them up."""

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
    logs = weights.where(real, 1.0).log() if prior else torch.zeros_like(weights)
    return logs.where(real, FORBIDDEN)


def score_matrix(listener: Float[Tensor, "H C"], speaker: Float[Tensor, "H C"]) -> Float[Tensor, "H*C 2*H"]:
    """a of eq. 7 for all heads as one matrix, so that both halves of every score are one product.

    Column h holds `listener[h]` in the rows of head h, column H + h `speaker[h]`.
    """
    if len(listener) == 1:
        return torch.cat([listener, speaker]).mT
    heads, width = listener.shape
    matrix = listener.new_zeros((heads, width, 2, heads))
    matrix.diagonal(dim1=0, dim2=3).copy_(torch.stack([listener, speaker]).permute(2, 0, 1))  # C 2 H
    return matrix.view(heads * width, 2 * heads)


def unpack_scores(
    grad: Float[Tensor, "H*C 2*H"], like: Float[Tensor, "H C"]
) -> tuple[Float[Tensor, "H C"], Float[Tensor, "H C"]]:
    """The gradients of `listener` and `speaker` from that of `score_matrix`."""
    heads, width = like.shape
    halves = grad.view(heads, width, 2, heads).diagonal(dim1=0, dim2=3).to(like.dtype).unbind(1)  # C H each
    return halves[0].mT, halves[1].mT
