"""Fusion of the global feature with the enhanced regions (eq. 10)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


def fuse(
    g: Float[Tensor, "B D"],
    regions: Float[Tensor, "B N D"],
    valid: Bool[Tensor, "B N"],
    weight: Float[Tensor, "D E"],
) -> Float[Tensor, "B D"]:
    """Eq. 10, f = W [g ; mean_{valid} V], with W = `weight`, E = 2 D.

    The paper's text says mean, its formula sums; the mean does not depend on the number of regions. An image without
    a valid region, and N = 0, has mean zero. What stands in padded rows is ignored, NaN too.
    B images, N region slots, D channels.
    """
    total = regions.masked_fill(~valid[..., None], 0.0).sum(1)
    mean = total / valid.sum(1, keepdim=True).clamp_min(1)
    return functional.linear(torch.cat([g, mean], dim=-1), weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionConfig:
    """Eq. 10: one linear map of the global feature beside the mean region."""

    def build(self, dim: int) -> "Fusion":
        """Build the stage for the joint width `dim`."""
        return Fusion(dim)


class Fusion(nn.Module):
    """Project an image's global feature and its mean region into one vector: `fuse` with a weight of its own."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(2 * dim, dim, bias=False)

    def forward(
        self, g: Float[Tensor, "B D"], regions: Float[Tensor, "B N D"], valid: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B D"]:
        """Fuse; what stands in padded rows of `regions` is ignored."""
        return fuse(g, regions, valid, self.project.weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalOnlyConfig:
    """Null stage: the global feature alone."""

    def build(self, dim: int) -> "GlobalOnly":
        """Build the null stage; any width will do."""
        return GlobalOnly()


class GlobalOnly(nn.Module):
    """f = g: the regions are not looked at; no parameters."""

    def forward(
        self, g: Float[Tensor, "B D"], regions: Float[Tensor, "B N D"], valid: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B D"]:
        """Return `g`."""
        return g
