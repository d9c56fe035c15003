"""Slots that hold no region."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def padding_of(valid: Bool[Tensor, "B N"]) -> Bool[Tensor, "B N 1"] | None:
    """Where features are padding; None if nowhere, as far as it is free to look (on a CPU, in eager mode)."""
    if valid.device.type == "cpu" and not torch.compiler.is_compiling() and valid.all():
        return None
    return ~valid[..., None]


def clear(features: Float[Tensor, "B N D"], padding: Bool[Tensor, "B N 1"] | None) -> Float[Tensor, "B N D"]:
    """Zero what stands in padding, NaN too."""
    return features if padding is None else features.masked_fill(padding, 0.0)
