"""Boxes to feature vectors: three heads over pooled cells."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from regioncap.encoders.detection.linear_pool import linear_pool
from regioncap.encoders.detection.trunk import Maps


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


class BoxHead(nn.Module, ABC):
    """Pooled cells of boxes to features, and the pooling with it. P boxes, C channels, s cells a side, R features."""

    out_dim: int
    """R."""

    @abstractmethod
    def forward(self, pooled: Float[Tensor, "P C s s"]) -> Float[Tensor, "P R"]:
        """Return the features of regions whose maps were pooled to s x s cells."""

    def of_boxes(
        self,
        levels: Maps,
        boxes: Sequence[Float[Tensor, "_p 4"]],
        sizes: Sequence[tuple[int, int]],
        pool: MultiScaleRoIAlign,
    ) -> Float[Tensor, "P R"]:
        """Return the features of boxes in pixels, all pictures' in a row; `sizes` are those pictures' height and width.

        A head may compute the same in another order.
        """
        features: Tensor = self(pool(levels, list(boxes), list(sizes)))
        return features


class MeanMlpHead(BoxHead):
    """Two layers that learn a region's class, and beside them the mean of what they look at."""

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


class MlpHead(BoxHead):
    """Two layers, under torchvision's names."""

    def __init__(self, config: MlpHeadConfig, channels: int, cells: int) -> None:
        super().__init__()
        self.out_dim = config.dim
        self.fc6 = nn.Linear(channels * cells**2, config.dim)
        self.fc7 = nn.Linear(config.dim, config.dim)

    def forward(self, pooled: Float[Tensor, "P C s s"]) -> Float[Tensor, "P R"]:
        """Return the features of regions whose maps were pooled to s x s cells."""
        return F.relu(self.fc7(F.relu(self.fc6(pooled.flatten(1)))))


class Layer4Head(BoxHead):
    """Three bottlenecks over every region's cells and their mean (He et al. 2016, arXiv 1512.03385, appendix A).

    Batch normalisation is frozen, as in every Faster R-CNN on a ResNet. The first bottleneck's 1x1 convolutions and
    RoIAlign are both linear, so `of_boxes` swaps them: the convolutions see each cell of the map once instead of once
    for every box over it, and of the skip path only the cells that its stride keeps are pooled. The same features to
    rounding, for a quarter less work at 36 boxes in 224 px.
    """

    in_channels = 1024
    out_dim = 2048

    def __init__(self, config: Layer4HeadConfig) -> None:
        super().__init__()
        self.stride = config.stride
        self.layer4 = resnet50(weights=None, norm_layer=FrozenBatchNorm2d).layer4
        for convolution in (self.layer4[0].conv2, self.layer4[0].downsample[0]):
            convolution.stride = (config.stride, config.stride)

    def forward(self, pooled: Float[Tensor, "P 1024 s s"]) -> Float[Tensor, "P 2048"]:
        """Return the features of regions whose maps were pooled to s x s cells."""
        features: Tensor = self.layer4(pooled).mean((-1, -2))
        return features

    def of_boxes(
        self,
        levels: Maps,
        boxes: Sequence[Float[Tensor, "_p 4"]],
        sizes: Sequence[tuple[int, int]],
        pool: MultiScaleRoIAlign,
    ) -> Float[Tensor, "P 2048"]:
        """Return what `forward` makes of the pooled boxes."""
        (level,) = levels.values()
        first, rest = self.layer4[0], self.layer4[1:]
        scale = level.shape[-2] / sizes[0][0]

        def pooled(convolution: nn.Conv2d, step: int) -> Float[Tensor, "P C s s"]:
            # The bias waits until after pooling: samples beyond the edge count 0, and must not take it along.
            # As a matrix product: PyTorch sends the 1x1 convolution of a single map down a slow path.
            projected = F.linear(level.permute(0, 2, 3, 1), convolution.weight.flatten(1))  # B h w C
            cells, samples = pool.output_size[0], pool.sampling_ratio
            with torch.autocast(level.device.type, enabled=False):
                x = linear_pool(projected.float(), boxes, scale=scale, cells=cells, samples=samples, step=step)
            x = x if convolution.bias is None else x + convolution.bias[:, None, None]
            return x.to(projected.dtype)  # under autocast the residual path stays in bfloat16, as in the plain stage

        x = F.relu(first.bn1(pooled(first.conv1, step=1)))
        x = F.relu(first.bn2(first.conv2(x)))
        skip = first.downsample[1](pooled(first.downsample[0], step=self.stride))
        x = F.relu(first.bn3(first.conv3(x)) + skip)
        features: Tensor = rest(x).mean((-1, -2))
        return features

    def load_pretrained(self, state: Mapping[str, Tensor]) -> None:
        """Load the stage from a whole ResNet-50's state dict."""
        own = self.state_dict().keys()
        self.load_state_dict({name: state[name] for name in own})
