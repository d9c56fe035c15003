"""The cells of a feature map as regions: no detector, no boxes to learn from."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from regioncap.encoders.backbones import (
    Backbone,
    EfficientNetLiteConfig,
    ResNetConfig,
    StackedMapsConfig,
    VitMapConfig,
)
from regioncap.encoders.cells import cell_regions, grid_boxes
from regioncap.encoders.fast_linear import PRECISIONS, Precision
from regioncap.encoders.image_features import ImageFeatures
from regioncap.encoders.images import load_image


@dataclass(frozen=True, slots=True, kw_only=True)
class GridEncoderConfig:
    """Which backbone a `GridEncoder` runs, and how."""

    backbone: EfficientNetLiteConfig | ResNetConfig | VitMapConfig | StackedMapsConfig = field(
        default_factory=EfficientNetLiteConfig
    )
    """The network that gives the feature map."""
    image_size: int = 224
    """Side of the square images in pixels, a multiple of the backbone's stride; every cell becomes one region, unless
    `cells` says otherwise."""
    cells: int | None = None
    """Cells on each side, to which a finer map is averaged: a larger picture shows more at no more regions. None: as
    many as the map has."""
    precision: Precision = "float32"
    """What the backbone computes in, int8 for vision transformers alone; features are float32 in any case."""

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ValueError(f"encoder.image_size must be at least 1, got {self.image_size}")
        if self.cells is not None and self.cells < 1:
            raise ValueError(f"encoder.cells must be at least 1, or None, got {self.cells}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"encoder.precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")

    def build(self) -> "GridEncoder":
        """Return the encoder with its weights loaded. Raises ValueError if they are missing or of another model, or if
        the image size is no multiple of the stride."""
        return GridEncoder(self)


class GridEncoder(nn.Module):
    """Take every cell of a backbone's last feature map as a region (eq. 2 without a detector).

    Regions are in reading order, their boxes tile the image, their scores are 1 and all are valid. `pooled` is their
    mean, which is the vector that a convolutional backbone's own classifier was trained on. The backbone is frozen. B
    images, N = (S / stride)^2 or `cells`^2 regions, R = G channels. Raises ValueError for images of another size than
    the config's.
    """

    def __init__(self, config: GridEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone: Backbone = config.backbone.build(config.precision)
        stride = self.backbone.stride
        if config.image_size % stride:
            raise ValueError(f"encoder.image_size must be a positive multiple of {stride}, got {config.image_size}")
        side = config.image_size // stride
        if config.cells is not None:
            if config.cells > side:
                raise ValueError(
                    f"encoder.cells must be at most the {side} that an image of {config.image_size} pixels has on each "
                    f"side, got {config.cells}: give a larger encoder.image_size"
                )
            side = config.cells
        self.register_buffer("cells", grid_boxes(side, side), persistent=False)
        self.cells: Float[Tensor, "N 4"]

    @property
    def pooled_dim(self) -> int:
        """Channels G of the image vector."""
        return self.backbone.channels

    @property
    def region_dim(self) -> int:
        """Channels R of a region."""
        return self.backbone.channels

    @property
    def regions_per_image(self) -> int:
        """Number of region slots N."""
        return len(self.cells)

    @property
    def image_size(self) -> int:
        """Side S of the images in pixels."""
        return self.config.image_size

    @property
    def words(self) -> tuple[str, ...]:
        """None: cells have no names."""
        return ()

    @property
    def words_per_region(self) -> int:
        """Q = 0."""
        return 0

    def load(self, path: Path) -> tuple[Float[Tensor, "3 S S"]]:
        """Read a picture as `forward` wants it."""
        return (load_image(path, self.image_size),)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 S S"]) -> ImageFeatures:
        """Encode images in [0, 1] RGB."""
        feature_map = self._map(images)
        pooled = feature_map.mean((2, 3))
        if self.config.cells is not None:
            feature_map = F.adaptive_avg_pool2d(feature_map, self.config.cells)
        features = feature_map.flatten(2).transpose(1, 2).contiguous()  # B N R
        return ImageFeatures(pooled=pooled, regions=cell_regions(features, self.cells.expand(len(images), -1, -1)))

    @torch.no_grad()
    def pool(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B G"]:
        """Return the image vectors alone, for a `CompositeEncoder` whose regions come from elsewhere."""
        return self._map(pixels).mean((2, 3))

    def _map(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C Y X"]:
        if images.shape[-1] != self.image_size:
            raise ValueError(f"images are {images.shape[-1]} pixels wide, the encoder wants {self.image_size}")
        return self.backbone(images)
