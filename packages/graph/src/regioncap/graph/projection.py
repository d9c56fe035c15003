"""The products of a layer of graph attention, W v_i and both halves of a.[W v_i ; W v_j], with their gradient.

Forward and backward stand here as plain functions: dense and listed attention each call them inside one
autograd.Function, so that a layer is one node of autograd. Below a hundred regions the bookkeeping of a dozen nodes
takes as long as their arithmetic.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Projected(NamedTuple):
    """R regions of all images in a row, D channels, H heads, S = 2 H."""

    values: Float[Tensor, "R D"]
    """W v_i, the heads side by side."""
    vectors: Float[Tensor, "S D"]
    """a for all heads, so that both halves of every score are one product with `values`."""
    halves: Float[Tensor, "R S"]
    """What region i adds to its scores as listener (the first H), and to those of others as speaker."""


def project(
    features: Float[Tensor, "R D"],
    weight: Float[Tensor, "D D"],
    listener: Float[Tensor, "H C"],
    speaker: Float[Tensor, "H C"],
) -> Projected:
    """Map regions; `listener` and `speaker` are the halves of a. Halves are in float32 at least."""
    values = features @ weight.t()
    vectors = _side_by_side(listener, speaker).to(values.dtype)
    # Written so, and the two products below too, a product with a handful of columns is several times faster in MKL.
    halves = values @ vectors.t()
    return Projected(values, vectors, halves.to(torch.promote_types(halves.dtype, torch.float32)))


def project_backward(
    features: Float[Tensor, "R D"],
    weight: Float[Tensor, "D D"],
    values: Float[Tensor, "R D"],
    vectors: Float[Tensor, "S D"],
    grad_values: Float[Tensor, "R D"],
    grad_halves: Float[Tensor, "R S"],
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor]:
    """Gradients of `project`'s arguments; the first two only if `needed`. Works in `grad_values`."""
    grad_halves = grad_halves.to(values.dtype)
    grad_values.addmm_(grad_halves, vectors)
    grad_features = grad_values @ weight if needed[0] else None
    grad_weight = grad_values.t() @ features if needed[1] else None
    heads = len(vectors) // 2
    grad_vectors = grad_halves.t() @ values
    own = grad_vectors.view(2, heads, heads, -1).diagonal(dim1=1, dim2=2)  # 2 C H
    grad_listener, grad_speaker = own.mT.unbind(0)
    return grad_features, grad_weight, grad_listener, grad_speaker


def _side_by_side(listener: Float[Tensor, "H C"], speaker: Float[Tensor, "H C"]) -> Float[Tensor, "S D"]:
    """Row h holds `listener[h]` in the columns of head h, row H + h `speaker[h]`; zeros elsewhere."""
    heads, width = listener.shape
    if heads == 1:
        return torch.cat([listener, speaker])
    vectors = listener.new_zeros((2, heads, heads, width))
    vectors.diagonal(dim1=1, dim2=2).copy_(torch.stack([listener, speaker]).mT)  # 2 C H
    return vectors.view(2 * heads, heads * width)
