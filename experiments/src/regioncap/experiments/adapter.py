"""Raw region features to the joint width: "CrossModal_Adapter 2048 -> 512" of Table 2."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from regioncap.encoders import Regions


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptedRegions:
    """Regions in the joint space, with what the graph needs of them. N = 0 where an arm has no regions."""

    features: Float[Tensor, "B N D"]
    raw: Float[Tensor, "B N R"]
    boxes: Float[Tensor, "B N 4"]
    valid: Bool[Tensor, "B N"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfig:
    """Linear map R -> D over normalised region features."""

    dropout: float = 0.1
    """Share of the raw features' channels dropped in training."""

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"adapter.dropout must lie in [0, 1), got {self.dropout}")

    def build(self, region_dim: int, dim: int) -> "Adapter":
        """An adapter from R = `region_dim` to D = `dim`."""
        return Adapter(self, region_dim, dim)


class Adapter(nn.Module):
    """V_i = W dropout(LayerNorm(r_i)); padded rows are zero.

    Departs from the paper: LayerNorm before W, since the encoders' activations differ in scale by two orders.
    """

    def __init__(self, config: AdapterConfig, region_dim: int, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(region_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(region_dim, dim)

    def forward(self, regions: Regions) -> AdaptedRegions:
        """Regions of width R -> width D."""
        features = self.project(self.dropout(self.norm(regions.features))).float()  # B N D
        return AdaptedRegions(
            features=features * regions.valid[..., None],
            raw=regions.features,
            boxes=regions.boxes,
            valid=regions.valid,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRegionsConfig:
    """Null stage: nothing of what regions look like goes on."""

    places: bool = False
    """Whether regions keep their slots and boxes, for the words that keyword heads found there. Without them the
    captioner sees the global vector alone, as ClipCap does."""

    def build(self, region_dim: int, dim: int) -> "NoRegions":
        """`region_dim` is taken only to be called like the adapter."""
        return NoRegions(self, dim)


class NoRegions(nn.Module):
    """Every image has zero region slots, or with `places` its own with features of zero. No parameters."""

    def __init__(self, config: NoRegionsConfig, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.kept = slice(None if config.places else 0)

    def forward(self, regions: Regions) -> AdaptedRegions:
        """The same images with regions that say nothing."""
        valid = regions.valid[:, self.kept]
        return AdaptedRegions(
            features=torch.zeros(*valid.shape, self.dim, device=regions.features.device),
            raw=regions.features[:, self.kept],
            boxes=regions.boxes[:, self.kept],
            valid=valid,
        )
