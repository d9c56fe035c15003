"""Regions and an image vector from a trained Faster R-CNN (eq. 2)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from regioncap.encoders.detector import Detections, load_detector
from regioncap.encoders.image_features import ImageFeatures
from regioncap.encoders.images import load_image
from regioncap.encoders.regions import Regions
from regioncap.encoders.trunk import fold_batch_norm


@dataclass(frozen=True, slots=True, kw_only=True)
class FasterRcnnEncoderConfig:
    """Which detector, and which of its boxes become regions."""

    weights: Path
    """Folder of a trained detector, as `Detector.save` writes it."""
    regions: int = 16
    """Most regions per image (N)."""
    score_threshold: float = 0.3
    """Boxes must score more than this."""
    nms_threshold: float = 0.5
    """Of two boxes that overlap more than this (intersection over union), the better one stays."""
    pool_cells: int = 4
    """The image vector is the feature map averaged over this many cells on each side."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the convolutions; boxes and features stay float32."""

    def __post_init__(self) -> None:
        if self.regions < 1:
            raise ValueError(f"encoder.regions must be at least 1, got {self.regions}")
        if self.pool_cells < 1:
            raise ValueError(f"encoder.pool_cells must be at least 1, got {self.pool_cells}")
        for name in ("score_threshold", "nms_threshold"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"encoder.{name} must lie in [0, 1], got {getattr(self, name)}")

    def build(self) -> "FasterRcnnEncoder":
        """Return the frozen encoder. Raises ValueError naming a weights file that is missing or does not fit."""
        return FasterRcnnEncoder(self)


class FasterRcnnEncoder(nn.Module):
    """Encode pictures by what a trained detector finds in them (eq. 2).

    The N best boxes by score after non-maximum suppression are the regions, the box head's output their features, the
    class their word; a picture with no detection has one region, the whole of it, at score 0 and without a word. The
    image vector is the trunk's map averaged over a coarse grid, so that it still knows where things are. Frozen: no
    parameter takes a gradient, and `train()` leaves the module in evaluation mode. B images, S pixels a side.
    """

    def __init__(self, config: FasterRcnnEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.detector = load_detector(config.weights)
        fold_batch_norm(self.detector.model.backbone)
        self.detector.to(memory_format=torch.channels_last)
        self.requires_grad_(False)
        self.eval()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the detector's classes, in the order of `Detections.labels`."""
        return self.detector.config.classes

    @property
    def pooled_dim(self) -> int:
        """Width of the image vector (G)."""
        return self.detector.config.map_channels * self.config.pool_cells**2

    @property
    def region_dim(self) -> int:
        """Width of a region's features (R)."""
        return self.detector.config.region_dim

    @property
    def regions_per_image(self) -> int:
        """Region slots (N)."""
        return self.config.regions

    @property
    def image_size(self) -> int:
        """Pixels on each side of the pictures it takes."""
        return self.detector.config.image_size

    @property
    def words(self) -> tuple[str, ...]:
        """The class names."""
        return self.classes

    @property
    def words_per_region(self) -> int:
        """Q = 1, the class."""
        return 1

    def load(self, path: Path) -> tuple[Float[Tensor, "3 S S"]]:
        """Read a picture as `forward` wants it."""
        return (load_image(path, self.image_size),)

    def train(self, mode: bool = True) -> "FasterRcnnEncoder":
        """Stay in evaluation mode, whatever the model around does."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 S S"]) -> ImageFeatures:
        """Return the image vector and regions of RGB pictures in [0, 1]; ValueError for another picture size."""
        features = self.detector.trunk_features(images, self.config.precision)
        found = self._found(features)
        empty = ~found.valid[:, 0]
        words = found.labels.masked_fill(~found.valid, -1)[..., None]
        found.boxes[empty, 0] = found.boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
        found.valid[empty, 0] = True
        return ImageFeatures(
            pooled=self._pool(features),
            regions=Regions(
                features=self.detector.region_features(features, found.boxes, found.valid),
                boxes=found.boxes,
                scores=found.scores,
                valid=found.valid,
                words=words,
                word_scores=found.scores[..., None],
            ),
        )

    @torch.no_grad()
    def detect(self, images: Float[Tensor, "B 3 S S"]) -> Detections:
        """Return boxes with their classes; nothing stands in for an empty picture here."""
        return self._found(self.detector.trunk_features(images, self.config.precision))

    @torch.no_grad()
    def pool(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B G"]:
        """Return the image vectors alone, as `forward` has them."""
        return self._pool(self.detector.trunk_features(images, self.config.precision))

    def _pool(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B G"]:
        return F.adaptive_avg_pool2d(features, self.config.pool_cells).flatten(1)

    def _found(self, features: Float[Tensor, "B C h w"]) -> Detections:
        return self.detector.detect(
            features,
            slots=self.config.regions,
            score_threshold=self.config.score_threshold,
            nms_threshold=self.config.nms_threshold,
        )
