"""Regions and an image vector from a trained Faster R-CNN (eq. 2)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from regioncap.encoders.detection.batch_norm import fold_batch_norm
from regioncap.encoders.detection.boxes import Detections
from regioncap.encoders.detection.feature_pyramid import FeaturePyramid
from regioncap.encoders.detection.frozen_layer4 import frozen_head
from regioncap.encoders.detection.stored import load_detector
from regioncap.encoders.image_features import ImageFeatures
from regioncap.encoders.images import load_image
from regioncap.encoders.regions import Regions

UNNAMED = "N/A"
"""What torchvision's COCO detectors call the 10 of their 90 classes that do not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FasterRcnnEncoderConfig:
    """Which detector, and which of its boxes become regions."""

    weights: Path
    """Folder of a trained detector, as `Detector.save` writes it; or torchvision's `fasterrcnn_resnet50_fpn`, by its
    weights file (.pth or .safetensors) or by the name COCO_V1."""
    image_size: int | None = None
    """Pixels on each side of the pictures, a multiple of the trunk's coarsest stride; None: as it was trained."""
    regions: int = 16
    """Most regions per image (N)."""
    proposals: int | None = None
    """Most proposals that the box head looks at, best first; None: as many as the detector's config says."""
    score_threshold: float = 0.3
    """Boxes must score more than this."""
    nms_threshold: float = 0.5
    """Of two boxes that overlap more than this (intersection over union), the better one stays."""
    features_of: Literal["box", "proposal"] = "box"
    """What a region's features are pooled from: its final box, which takes the box head a second time, or the proposal
    it was refined from, as in bottom-up attention."""
    attributes: int = 2
    """Most attributes of a region, where the detector names any."""
    attribute_threshold: float = 0.3
    """Attributes must be likelier than this within their group."""
    pool_cells: int = 4
    """The image vector is the trunk's last map averaged over this many cells on each side."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the trunk's convolutions; boxes and features stay float32."""
    head_precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the proposal network's convolution and of the box head."""

    def __post_init__(self) -> None:
        for name in ("regions", "pool_cells"):
            if getattr(self, name) < 1:
                raise ValueError(f"encoder.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("image_size", "proposals"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"encoder.{name} must be at least 1 or None, got {getattr(self, name)}")
        if self.attributes < 0:
            raise ValueError(f"encoder.attributes must not be negative, got {self.attributes}")
        for name in ("score_threshold", "nms_threshold", "attribute_threshold"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"encoder.{name} must lie in [0, 1], got {getattr(self, name)}")

    def build(self) -> "FasterRcnnEncoder":
        """Return the frozen encoder. Raises ValueError naming a weights file that is missing or does not fit."""
        return FasterRcnnEncoder(self)


class FasterRcnnEncoder(nn.Module):
    """Encode pictures by what a trained detector finds in them (eq. 2).

    The N best boxes by score after non-maximum suppression are the regions, the box head's output their features,
    class and attributes their words; a picture with no detection has one region, the whole of it, at score 0 and
    without a word. The image vector is the trunk's map averaged over a coarse grid, so that it still knows where things
    are. Frozen: no parameter takes a gradient, and `train()` leaves the module in evaluation mode. B images, S pixels a
    side, N regions, R channels, Q = 1 + attributes words.
    """

    def __init__(self, config: FasterRcnnEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.detector = load_detector(config.weights)
        multiple = self.detector.trunk.multiple
        if self.image_size % multiple:
            raise ValueError(f"encoder.image_size must be a multiple of {multiple}, got {self.image_size}")
        fold_batch_norm(self.detector)
        self.detector.to(memory_format=torch.channels_last)
        if config.head_precision == "float32":  # in bfloat16 minimal filtering would lose too much
            heads = self.detector.model.roi_heads
            heads.box_head = frozen_head(heads.box_head, self.detector.config.roi_size)
        self.requires_grad_(False)
        self.eval()
        attributes = self.detector.config.attributes.words
        self._words = tuple(dict.fromkeys(word for word in (*self.classes, *attributes) if word != UNNAMED))
        place = {word: i for i, word in enumerate(self._words)}
        self.register_buffer("class_words", torch.tensor([place.get(word, -1) for word in self.classes]), False)
        self.register_buffer(
            "attribute_words", torch.tensor([place[word] for word in attributes], dtype=torch.long), False
        )
        self.class_words: Int[Tensor, K]
        self.attribute_words: Int[Tensor, A]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the detector's classes, in the order of `Detections.labels`."""
        return self.detector.config.classes

    @property
    def pooled_dim(self) -> int:
        """Width of the image vector (G)."""
        return self.detector.trunk.pooled_channels * self.config.pool_cells**2

    @property
    def region_dim(self) -> int:
        """Width of a region's features (R)."""
        return self.detector.region_dim

    @property
    def regions_per_image(self) -> int:
        """Region slots (N)."""
        return self.config.regions

    @property
    def image_size(self) -> int:
        """Pixels on each side of the pictures it takes."""
        return self.config.image_size or self.detector.config.image_size

    @property
    def words(self) -> tuple[str, ...]:
        """The class names and then the attributes; a word that is both (orange) stands there once."""
        return self._words

    @property
    def words_per_region(self) -> int:
        """Q: the class, and the most attributes."""
        return 1 + min(self.config.attributes, len(self.attribute_words))

    def load(self, path: Path) -> tuple[Float[Tensor, "3 S S"]]:
        """Read a picture as `forward` wants it."""
        return (load_image(path, self.image_size),)

    def train(self, mode: bool = True) -> "FasterRcnnEncoder":
        """Stay in evaluation mode, whatever the model around does."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 S S"]) -> ImageFeatures:
        """Return the image vector and regions of RGB pictures in [0, 1]; ValueError for another picture size."""
        pyramid = self._pyramid(images)
        found = self._found(pyramid)
        words, word_scores = self._name(found)
        empty = ~found.valid[:, 0]
        boxes, valid = found.boxes.clone(), found.valid.clone()
        boxes[empty, 0] = boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
        valid[empty, 0] = True
        pooled_again = valid if self.config.features_of == "box" else valid & ~found.valid
        features = self.detector.region_features(pyramid.levels, boxes, pooled_again, self.config.head_precision)
        if self.config.features_of == "proposal":
            features = features + found.features  # each row is zero in one of them
        return ImageFeatures(
            pooled=self._pool(pyramid),
            regions=Regions(
                features=features, boxes=boxes, scores=found.scores, valid=valid, words=words, word_scores=word_scores
            ),
        )

    @torch.no_grad()
    def detect(self, images: Float[Tensor, "B 3 S S"]) -> Detections:
        """Return boxes with their classes; nothing stands in for an empty picture here."""
        return self._found(self._pyramid(images))

    @torch.no_grad()
    def pool(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B G"]:
        """Return the image vectors alone, as `forward` has them."""
        return self._pool(self._pyramid(images))

    def _pyramid(self, images: Float[Tensor, "B 3 S S"]) -> FeaturePyramid:
        if images.shape[-2:] != (self.image_size, self.image_size):
            got = "x".join(map(str, images.shape[-2:]))
            size = self.image_size
            raise ValueError(f"the detector takes pictures of {size}x{size} pixels, got {got}: resize them first")
        precision = self.config.precision
        return self.detector.pyramid(self.detector.trunk_features(images, precision), precision)

    def _pool(self, pyramid: FeaturePyramid) -> Float[Tensor, "B G"]:
        return F.adaptive_avg_pool2d(pyramid.pooled_map, self.config.pool_cells).flatten(1)

    def _found(self, pyramid: FeaturePyramid) -> Detections:
        return self.detector.detect(
            pyramid.levels,
            slots=self.config.regions,
            score_threshold=self.config.score_threshold,
            nms_threshold=self.config.nms_threshold,
            proposals=self.config.proposals,
            precision=self.config.head_precision,
        )

    def _name(self, found: Detections) -> tuple[Int[Tensor, "B N Q"], Float[Tensor, "B N Q"]]:
        """The class and the likeliest attributes, -1 and 0 where there is none."""
        kept = found.valid
        words = found.labels.new_full((*kept.shape, self.words_per_region), -1)
        scores = found.scores.new_zeros(words.shape)
        words[..., 0][kept] = self.class_words[found.labels[kept]]
        likely = self.detector.attributes(found.features[kept], found.labels[kept])
        best, which = likely.topk(self.words_per_region - 1, dim=-1)
        enough = best > self.config.attribute_threshold
        words[..., 1:][kept] = torch.where(enough, self.attribute_words[which], -1)
        scores[..., 1:][kept] = torch.where(enough, best, 0.0)
        scores[..., 0] = torch.where(words[..., 0] >= 0, found.scores, 0.0)
        return words, scores
