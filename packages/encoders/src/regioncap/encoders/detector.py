"""A Faster R-CNN small enough to learn on one CPU thread in minutes."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, clip_boxes_to_image, nms

from regioncap.encoders.trunk import STRIDE, Trunk

WEIGHTS_FILE = "detector.safetensors"
CONFIG_FILE = "detector.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConfig:
    """Architecture of a `Detector`."""

    classes: tuple[str, ...]
    """Names of the object classes, background left out; their order is that of the labels."""
    image_size: int = 224
    """Pixels on each side of the square pictures."""
    channels: int = 64
    """Channels of the trunk's last layers; the feature map has half as many on top, from an early layer."""
    blocks: int = 3
    """Residual blocks at stride 8; every second one is dilated, which widens what a cell sees at no cost."""
    anchor_sizes: tuple[int, ...] = (20, 34, 56)
    """Side of the square anchors in pixels."""
    aspect_ratios: tuple[float, ...] = (0.6, 1.0, 1.7)
    """Height over width of the anchors."""
    proposals_before_nms: int = 100
    """Anchors the proposal network keeps by score."""
    proposals: int = 60
    """Proposals left after its own non-maximum suppression."""
    sampled_rois: int = 32
    """Proposals per picture that the box head is trained on."""
    roi_size: int = 5
    """Cells on each side of a region's pooled features."""
    head_dim: int = 160
    """Learned channels of the box head; its output has those of the feature map beside them."""

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("detector.classes must name at least one class, got none")
        if self.image_size < STRIDE or self.image_size % STRIDE:
            raise ValueError(f"detector.image_size must be a positive multiple of {STRIDE}, got {self.image_size}")
        if self.channels < 4:
            raise ValueError(f"detector.channels must be at least 4, got {self.channels}")
        for name in ("proposals_before_nms", "proposals", "sampled_rois", "roi_size", "head_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"detector.{name} must be at least 1, got {getattr(self, name)}")
        if self.blocks < 0:
            raise ValueError(f"detector.blocks must not be negative, got {self.blocks}")
        if not self.anchor_sizes or not self.aspect_ratios:
            raise ValueError("detector.anchor_sizes and detector.aspect_ratios must not be empty")

    @property
    def map_channels(self) -> int:
        """Channels of the feature map (C)."""
        return self.channels + self.channels // 2

    @property
    def region_dim(self) -> int:
        """Width of a region's feature vector, the box head's output (R)."""
        return self.head_dim + self.map_channels

    def build(self) -> "Detector":
        """Return an untrained detector."""
        return Detector(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxTargets:
    """The objects of one picture, to train on. m objects, none allowed."""

    boxes: Float[Tensor, "m 4"]
    """x0 y0 x1 y1 as fractions of the image, in [0, 1]."""
    labels: Int[Tensor, "m"]
    """Indices into `DetectorConfig.classes`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """What a detector found, best first. B images, N slots; padded rows are zero."""

    boxes: Float[Tensor, "B N 4"]
    """x0 y0 x1 y1 as fractions of the image, in [0, 1]."""
    scores: Float[Tensor, "B N"]
    labels: Int[Tensor, "B N"]
    """Indices into `DetectorConfig.classes`."""
    valid: Bool[Tensor, "B N"]


class Detector(nn.Module):
    """torchvision's Faster R-CNN (Ren et al. 2015) on a small trunk of ours; learns classes and boxes only.

    Its parts are called directly instead of through `FasterRCNN.forward`: all pictures have one size, so neither
    torchvision's per-picture resizing nor its padding is wanted, and the regions' features are needed.
    B images, S pixels a side, C channels, N slots, R region width.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        anchors = AnchorGenerator((config.anchor_sizes,), (config.aspect_ratios,))
        self.model = FasterRCNN(
            Trunk(config.channels, config.blocks),
            min_size=config.image_size,
            max_size=config.image_size,
            image_mean=[0.5] * 3,
            image_std=[0.25] * 3,
            rpn_anchor_generator=anchors,
            rpn_pre_nms_top_n_train=config.proposals_before_nms,
            rpn_pre_nms_top_n_test=config.proposals_before_nms,
            rpn_post_nms_top_n_train=config.proposals,
            rpn_post_nms_top_n_test=config.proposals,
            rpn_batch_size_per_image=64,
            box_batch_size_per_image=config.sampled_rois,
            box_positive_fraction=0.5,
            box_roi_pool=MultiScaleRoIAlign(["0"], config.roi_size, sampling_ratio=1),
            box_head=BoxHead(config.map_channels, config.roi_size, config.head_dim),
            box_predictor=FastRCNNPredictor(config.region_dim, len(config.classes) + 1),
        )

    def trunk_features(
        self, images: Float[Tensor, "B 3 S S"], precision: Literal["float32", "bfloat16"] = "float32"
    ) -> Float[Tensor, "B C h w"]:
        """Return the stride-8 feature map of pictures in [0, 1], as float32.

        Raises ValueError for pictures of another size than the detector's.
        """
        size = self.config.image_size
        if images.shape[-2:] != (size, size):
            got = "x".join(map(str, images.shape[-2:]))
            raise ValueError(f"the detector takes pictures of {size}x{size} pixels, got {got}: resize them first")
        normalised = (images - 0.5) / 0.25
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            features: Tensor = self.model.backbone(normalised.contiguous(memory_format=torch.channels_last))
        return features.float()

    def losses(
        self,
        images: Float[Tensor, "B 3 S S"],
        targets: Sequence[BoxTargets],
        precision: Literal["float32", "bfloat16"] = "float32",
    ) -> dict[str, Float[Tensor, ""]]:
        """Return torchvision's four losses by name; the module must be in training mode. Sum them to train."""
        assert self.training, "the losses exist in training mode only"
        size = self.config.image_size
        # Label 0 is torchvision's background.
        pixel_targets = [{"boxes": target.boxes * size, "labels": target.labels + 1} for target in targets]
        maps = {"0": self.trunk_features(images, precision)}
        sizes = [(size, size)] * len(images)
        proposals, proposal_losses = self.model.rpn(ImageList(images, sizes), maps, pixel_targets)
        _, box_losses = self.model.roi_heads(maps, proposals, sizes, pixel_targets)
        return {**proposal_losses, **box_losses}

    @torch.no_grad()
    def detect(
        self, features: Float[Tensor, "B C h w"], *, slots: int, score_threshold: float, nms_threshold: float
    ) -> Detections:
        """Return at most `slots` objects per picture, best first, from the trunk's feature map.

        Departs from torchvision: a box keeps its best class only and suppression ignores classes, so that an object
        whose class is in doubt is one region, not two. The module must be in evaluation mode.
        """
        assert not self.training, "detect() is for evaluation mode"
        size = self.config.image_size
        maps, sizes = {"0": features}, [(size, size)] * len(features)
        # The proposal network reads no pixels, only the batch's shape.
        batch = ImageList(features.new_empty(len(features), 3, size, size), sizes)
        proposals, _ = self.model.rpn(batch, maps)
        heads = self.model.roi_heads
        logits, offsets = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, proposals, sizes)))
        scores, labels = F.softmax(logits, dim=-1)[:, 1:].max(dim=-1)  # P, P: all pictures' proposals in a row
        boxes = heads.box_coder.decode(offsets, proposals)  # P, classes+1, 4
        boxes = boxes[torch.arange(len(boxes), device=boxes.device), labels + 1]
        boxes = clip_boxes_to_image(boxes, (size, size))

        found = Detections(
            boxes=features.new_zeros(len(features), slots, 4),
            scores=features.new_zeros(len(features), slots),
            labels=torch.zeros(len(features), slots, dtype=torch.long, device=features.device),
            valid=torch.zeros(len(features), slots, dtype=torch.bool, device=features.device),
        )
        start = 0
        for image, own in enumerate(proposals):
            rows = slice(start, start + len(own))
            start += len(own)
            chosen = _distinct(boxes[rows], scores[rows], score_threshold, nms_threshold)[:slots]
            n = len(chosen)
            found.boxes[image, :n] = boxes[rows][chosen] / size
            found.scores[image, :n] = scores[rows][chosen]
            found.labels[image, :n] = labels[rows][chosen]
            found.valid[image, :n] = True
        return found

    def region_features(
        self, features: Float[Tensor, "B C h w"], boxes: Float[Tensor, "B N 4"], valid: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B N R"]:
        """Return the box head's output for each valid box (fractions of the image); padded rows are zero."""
        size = self.config.image_size
        heads = self.model.roi_heads
        kept = [own[mask] * size for own, mask in zip(boxes, valid, strict=True)]
        pooled = heads.box_roi_pool({"0": features}, kept, [(size, size)] * len(features))
        out = features.new_zeros(*valid.shape, self.config.region_dim)
        out[valid] = heads.box_head(pooled)
        return out

    def save(self, folder: Path) -> None:
        """Write the weights in half precision and the config, readable, to `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        half = {name: x.half() if x.is_floating_point() else x for name, x in self.state_dict().items()}
        save_file({name: x.contiguous() for name, x in half.items()}, folder / WEIGHTS_FILE)
        (folder / CONFIG_FILE).write_text(json.dumps(asdict(self.config), indent=2) + "\n")


def load_detector(folder: Path) -> Detector:
    """Return the float32 detector that `Detector.save` wrote, in evaluation mode.

    Raises ValueError naming the file that is missing, cannot be read, or belongs to another architecture.
    """
    config_file, weights_file = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    for file in (config_file, weights_file):
        if not file.is_file():
            raise ValueError(f"{file} is missing: give the folder of a trained detector (made by Detector.save)")
    try:
        stored: dict[str, Any] = json.loads(config_file.read_text())
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
        config = DetectorConfig(**values)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{config_file} is no detector config ({error}): train the detector again") from error
    detector = config.build()
    try:
        detector.load_state_dict(load_file(weights_file))
    except Exception as error:  # safetensors and torch each raise types of their own
        reason = str(error).splitlines()[0]
        raise ValueError(f"{weights_file} does not fit {config_file} ({reason}): train the detector again") from error
    return detector.eval()


class BoxHead(nn.Module):
    """A region's features: two layers that learn its class, and beside them the mean of what they look at.

    P regions, C channels, s cells a side.
    """

    def __init__(self, channels: int, cells: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * cells**2, 128), nn.ReLU(), nn.Linear(128, width), nn.ReLU()
        )

    def forward(self, pooled: Float[Tensor, "P C s s"]) -> Float[Tensor, "P R"]:
        """Return the features of regions whose maps were pooled to s x s cells."""
        return torch.cat([self.layers(pooled), pooled.mean((-1, -2))], dim=-1)


def _distinct(
    boxes: Float[Tensor, "p 4"], scores: Float[Tensor, "p"], score_threshold: float, nms_threshold: float
) -> Int[Tensor, "q"]:
    """Return the rows of one picture's confident boxes that no better box covers, best first."""
    wide = (boxes[:, 2:] - boxes[:, :2] >= 1.0).all(dim=-1)  # a box under a pixel has no features
    candidates = torch.where(wide & (scores > score_threshold))[0]
    return candidates[nms(boxes[candidates], scores[candidates], nms_threshold)]
