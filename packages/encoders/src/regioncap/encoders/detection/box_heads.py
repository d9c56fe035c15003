"""Pooled cells of a region to its feature vector: three heads."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.ops import FrozenBatchNorm2d


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanMlpHeadConfig:
    """Two layers, and beside them the mean of what they look at."""

    hidden: int = 128
    """Channels between the layers."""
    dim: int = 160
    """Learned channels; the output has those of the feature map beside them."""

    def __post_init__(self) -> None:
        for name in ("hidden", "dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"detector.head.{name} must be at least 1, got {getattr(self, name)}")

    def build(self, channels: int, cells: int) -> "MeanMlpHead":
        """Return an untrained head over `channels` maps pooled to `cells` x `cells`."""
        return MeanMlpHead(self, channels, cells)


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpHeadConfig:
    """torchvision's two layers (`TwoMLPHead`), as in its `fasterrcnn_resnet50_fpn`."""

    dim: int = 1024
    """Channels of both layers."""

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"detector.head.dim must be at least 1, got {self.dim}")

    def build(self, channels: int, cells: int) -> "MlpHead":
        """Return an untrained head over `channels` maps pooled to `cells` x `cells`."""
        return MlpHead(self, channels, cells)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer4HeadConfig:
    """ResNet-50's last stage over the pooled cells, averaged: the head of a C4 detector."""

    stride: int = 2
    """Of the stage's first 3x3 convolution. 2 is ResNet's own: 7x7 cells become 4x4; at 1 they stay 7x7, for three
    times the work."""

    def __post_init__(self) -> None:
        if self.stride not in (1, 2):
            raise ValueError(f"detector.head.stride must be 1 or 2, got {self.stride}")

    def build(self, channels: int, cells: int) -> "Layer4Head":
        """Return the untrained stage. Raises ValueError if `channels` is not the 1,024 of ResNet-50's conv4."""
        if channels != Layer4Head.in_channels:
            raise ValueError(
                f"detector.head Layer4HeadConfig continues a ResNet-50 conv4 of {Layer4Head.in_channels} channels, "
                f"got {channels}: take it with ResNetC4Config"
            )
        return Layer4Head(self)


HeadConfig = MeanMlpHeadConfig | MlpHeadConfig | Layer4HeadConfig


class MeanMlpHead(nn.Module):
    """A region's features: two layers that learn its class, and beside them the mean of what they look at.

    P regions, C channels, s cells a side.
    """

    def __init__(self, config: MeanMlpHeadConfig, channels: int, cells: int) -> None:
        super().__init__()
        self.out_dim = config.dim + channels
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * cells**2, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.dim),
            nn.ReLU(),
        )

    def forward(self, pooled: Float[Tensor, "P C s s"]) -> Float[Tensor, "P R"]:
        """Return the features of regions whose maps were pooled to s x s cells."""
        return torch.cat([self.layers(pooled), pooled.mean((-1, -2))], dim=-1)


class MlpHead(TwoMLPHead):  # type: ignore[misc]
    """torchvision's own, which knows its width."""

    def __init__(self, config: MlpHeadConfig, channels: int, cells: int) -> None:
        super().__init__(channels * cells**2, config.dim)
        self.out_dim = config.dim


class Layer4Head(nn.Module):
    """Three bottlenecks over every region's cells and their mean (He et al. 2016, sec. 4.2 of arXiv 1512.03385).

    Batch normalisation is frozen, as in every Faster R-CNN on a ResNet. P regions, s cells a side.
    """

    in_channels = 1024
    out_dim = 2048

    def __init__(self, config: Layer4HeadConfig) -> None:
        super().__init__()
        self.layer4 = resnet50(weights=None, norm_layer=FrozenBatchNorm2d).layer4
        for convolution in (self.layer4[0].conv2, self.layer4[0].downsample[0]):
            convolution.stride = (config.stride, config.stride)

    def forward(self, pooled: Float[Tensor, "P 1024 s s"]) -> Float[Tensor, "P 2048"]:
        """Return the features of regions whose maps were pooled to s x s cells."""
        features: Tensor = self.layer4(pooled).mean((-1, -2))
        return features

    def load_pretrained(self, state: Mapping[str, Tensor]) -> None:
        """Load the stage from a whole ResNet-50's state dict."""
        own = self.state_dict().keys()
        self.load_state_dict({name: state[name] for name in own})
