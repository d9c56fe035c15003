"""Faster R-CNN: one assembly over every trunk, box head and attribute head."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.ops import MultiScaleRoIAlign, clip_boxes_to_image

from regioncap.encoders.arithmetic import arithmetic
from regioncap.encoders.detection.attributes import AttributesConfig, NoAttributesConfig
from regioncap.encoders.detection.box_heads import HeadConfig, Layer4Head, MeanMlpHeadConfig
from regioncap.encoders.detection.box_predictor import BoxPredictor, mean_over_boxes
from regioncap.encoders.detection.boxes import BoxTargets, Detections
from regioncap.encoders.detection.config_json import to_json
from regioncap.encoders.detection.efficientnet_fpn import EfficientNetFpnConfig
from regioncap.encoders.detection.feature_pyramid import LAST, FeaturePyramid, float32, without_last
from regioncap.encoders.detection.proposals import ProposalHead
from regioncap.encoders.detection.resnet import ResNetC4Config, ResNetFpnConfig
from regioncap.encoders.detection.selection import select
from regioncap.encoders.detection.small_trunk import SmallTrunkConfig
from regioncap.encoders.detection.trunk import Maps, Trunk

WEIGHTS_FILE = "detector.safetensors"
CONFIG_FILE = "detector.json"

TrunkConfig = SmallTrunkConfig | EfficientNetFpnConfig | ResNetC4Config | ResNetFpnConfig
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConfig:
    """Architecture of a `Detector`; the defaults are those of the scenes detector. `presets` has the others."""

    classes: tuple[str, ...]
    """Names of the object classes, background left out; their order is that of the labels."""
    attributes: AttributesConfig = field(default_factory=NoAttributesConfig)
    """What it says of an object besides its class."""
    image_size: int = 224
    """Pixels on each side of the square pictures it is trained on."""
    trunk: TrunkConfig = field(default_factory=SmallTrunkConfig)
    """Pixels to feature maps."""
    head: HeadConfig = field(default_factory=MeanMlpHeadConfig)
    """Pooled cells of a region to its features."""
    anchor_sizes: tuple[int, ...] = (20, 34, 56)
    """Side of the square anchors in pixels, dealt out evenly to the trunk's levels, finest first."""
    aspect_ratios: tuple[float, ...] = (0.6, 1.0, 1.7)
    """Height over width of the anchors."""
    proposal_channels: int | None = None
    """Channels of the proposal network's convolution; None: as many as the feature maps have."""
    proposals_before_nms: int = 100
    """Anchors the proposal network keeps by score, on each level."""
    proposals: int = 60
    """Proposals left after its own non-maximum suppression."""
    sampled_anchors: int = 64
    """Anchors per picture that the proposal network is trained on."""
    sampled_rois: int = 32
    """Proposals per picture that the box head is trained on."""
    positive_share: float = 0.5
    """Most of these that may be objects; the rest is background."""
    roi_size: int = 5
    """Cells on each side of a region's pooled features."""
    roi_samples: int = 1
    """Points on each side of such a cell that are averaged."""
    last_map: Literal["none", "names"] = "none"
    """`names`: the trunk's last map, averaged over a region, stands beside the box head's output; classes and
    attributes are read from both, boxes refined by the latter. A frozen trunk knows more than a pyramid takes of it."""
    roi_scale: int = 224
    """Side of a box in pixels from which on it is pooled at stride 16; at half of it at stride 8, and so on."""

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("detector.classes must name at least one class, got none")
        if self.image_size < 1:
            raise ValueError(f"detector.image_size must be positive, got {self.image_size}")
        for name in ("proposals_before_nms", "proposals", "sampled_anchors", "sampled_rois", "roi_size", "roi_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"detector.{name} must be at least 1, got {getattr(self, name)}")
        if self.proposal_channels is not None and self.proposal_channels < 1:
            raise ValueError(f"detector.proposal_channels must be at least 1 or None, got {self.proposal_channels}")
        if not 0.0 < self.positive_share < 1.0:
            raise ValueError(f"detector.positive_share must lie between 0 and 1, got {self.positive_share}")
        if self.roi_scale < 1:
            raise ValueError(f"detector.roi_scale must be at least 1, got {self.roi_scale}")
        if not self.anchor_sizes or not self.aspect_ratios:
            raise ValueError("detector.anchor_sizes and detector.aspect_ratios must not be empty")

    def build(self) -> "Detector":
        """Return a detector to train: the trunk with the pre-trained weights it names, the rest untrained."""
        detector = Detector(self)
        later_stages = detector.trunk.load_pretrained()
        head = detector.model.roi_heads.box_head
        if isinstance(head, Layer4Head) and later_stages:
            head.load_pretrained(later_stages)
        return detector


class Detector(nn.Module):
    """torchvision's Faster R-CNN (Ren et al. 2015) over a trunk and heads of choice, with attributes beside classes.

    Its parts are called directly instead of through `FasterRCNN.forward`: all pictures of a batch have one size, so
    neither torchvision's per-picture resizing nor its padding is wanted, and the regions' features are needed.
    Weights keep torchvision's names under `model`. B images, S pixels a side, N slots, R region width.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        trunk = config.trunk.build()
        per_level, rest = divmod(len(config.anchor_sizes), trunk.levels)
        if rest or not per_level:
            raise ValueError(
                f"detector.anchor_sizes must give the same number to each of the trunk's {trunk.levels} levels, "
                f"got {len(config.anchor_sizes)}"
            )
        if config.image_size % trunk.multiple:
            raise ValueError(
                f"detector.image_size must be a multiple of {trunk.multiple} for this trunk, got {config.image_size}"
            )
        sizes = tuple(config.anchor_sizes[i : i + per_level] for i in range(0, len(config.anchor_sizes), per_level))
        anchors = AnchorGenerator(sizes, (config.aspect_ratios,) * len(sizes))
        head = config.head.build(trunk.out_channels, config.roi_size)
        region_dim = head.out_dim + (trunk.pooled_channels if config.last_map == "names" else 0)
        self.model = FasterRCNN(
            trunk,
            min_size=config.image_size,
            max_size=config.image_size,
            image_mean=list(trunk.image_mean),
            image_std=list(trunk.image_std),
            rpn_anchor_generator=anchors,
            rpn_head=ProposalHead(
                trunk.out_channels,
                config.proposal_channels or trunk.out_channels,
                anchors.num_anchors_per_location()[0],
            ),
            rpn_pre_nms_top_n_train=config.proposals_before_nms,
            rpn_pre_nms_top_n_test=config.proposals_before_nms,
            rpn_post_nms_top_n_train=config.proposals,
            rpn_post_nms_top_n_test=config.proposals,
            rpn_batch_size_per_image=config.sampled_anchors,
            box_batch_size_per_image=config.sampled_rois,
            box_positive_fraction=config.positive_share,
            box_roi_pool=MultiScaleRoIAlign(
                list(trunk.pooled_levels), config.roi_size, config.roi_samples, canonical_scale=config.roi_scale
            ),
            box_head=head,
            box_predictor=BoxPredictor(region_dim, head.out_dim, len(config.classes)),
        )
        self.attributes = config.attributes.build(region_dim, len(config.classes))
        self.region_dim: int = region_dim

    @property
    def trunk(self) -> Trunk:
        """Pixels to feature maps."""
        trunk: Trunk = self.model.backbone
        return trunk

    def trunk_features(self, images: Float[Tensor, "B 3 S S"], precision: Precision = "float32") -> Maps:
        """Return what the frozen part of the trunk makes of pictures in [0, 1], as float32: maps that may be stored.

        Raises ValueError if the pictures' sides are no multiple of the trunk's coarsest stride.
        """
        if any(side % self.trunk.multiple for side in images.shape[-2:]):
            got = "x".join(map(str, images.shape[-2:]))
            raise ValueError(
                f"the detector takes pictures whose sides are multiples of {self.trunk.multiple} pixels, got {got}: "
                "resize them first"
            )
        mean, std = (images.new_tensor(x).view(3, 1, 1) for x in (self.trunk.image_mean, self.trunk.image_std))
        normalised = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
        with arithmetic(images.device, precision):
            return float32(self.trunk.frozen_maps(normalised))

    @torch.no_grad()
    def pyramid(self, maps: Maps, precision: Precision = "float32") -> FeaturePyramid:
        """Return the rest of the trunk's maps, as float32."""
        with arithmetic(next(iter(maps.values())).device, precision):
            body_maps = self.trunk.body_maps(maps)
            levels = self._levels(body_maps)
            pooled_map = levels[LAST] if LAST in levels else self.trunk.pooled_map(body_maps).float()
        return FeaturePyramid(levels=levels, pooled_map=pooled_map)

    def losses(
        self, maps: Maps, targets: Sequence[BoxTargets], precision: Precision = "float32"
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the losses by name, from what `trunk_features` gave; sum them to train.

        They are torchvision's four, and `loss_attributes` where there are attributes: of the sampled proposals that
        overlap an object, given its true class. `precision` is that of the trunk. The module must be in training mode.
        """
        assert self.training, "the losses exist in training mode only"
        with arithmetic(next(iter(maps.values())).device, precision):
            levels = self._levels(self.trunk.body_maps(maps))
        height, width = self._size(levels)
        scale = next(iter(levels.values())).new_tensor([width, height, width, height])
        # Label 0 is torchvision's background.
        pixel_targets = [{"boxes": target.boxes * scale, "labels": target.labels + 1} for target in targets]
        proposals, proposal_losses = self.model.rpn(self._image_list(levels), without_last(levels), pixel_targets)
        heads = self.model.roi_heads
        proposals, matched, labels, offsets = heads.select_training_samples(proposals, pixel_targets)
        features = self._features(levels, proposals, "float32")
        class_loss, box_loss = fastrcnn_loss(*heads.box_predictor(features), labels, offsets)
        objects = torch.cat(labels) > 0
        said = [_rows(target.attributes, own) for target, own in zip(targets, matched, strict=True)]
        return {
            **proposal_losses,
            "loss_classifier": class_loss,
            "loss_box_reg": box_loss,
            **self.attributes.losses(features[objects], torch.cat(labels)[objects] - 1, torch.cat(said)[objects]),
        }

    @torch.no_grad()
    def detect(
        self,
        levels: Maps,
        *,
        slots: int,
        score_threshold: float,
        nms_threshold: float,
        proposals: int | None = None,
        precision: Precision = "float32",
    ) -> Detections:
        """Return at most `slots` objects per picture, best first, from the pyramid's levels.

        Departs from torchvision: a box keeps its best class only and suppression ignores classes, so that an object
        whose class is in doubt is one region, not two. `proposals` is the most that reach the box head, the config's if
        None; `precision` that of the proposal network's convolution and of the box head. The module must be in
        evaluation mode.
        """
        assert not self.training, "detect() is for evaluation mode"
        size = self._size(levels)
        device = next(iter(levels.values())).device
        with arithmetic(device, precision):
            proposed, _ = self.model.rpn(self._image_list(levels), without_last(levels))
        proposed = [own[:proposals] for own in proposed]  # they come best first
        features = self._features(levels, proposed, precision)
        heads = self.model.roi_heads
        logits, offsets = heads.box_predictor(features)
        scores, labels = F.softmax(logits, dim=-1)[:, 1:].max(dim=-1)  # P, P: all pictures' proposals in a row
        boxes = heads.box_coder.decode(offsets, proposed)  # P, classes+1, 4
        boxes = boxes[torch.arange(len(boxes), device=device), labels + 1]
        boxes = clip_boxes_to_image(boxes, size)

        return select(
            boxes,
            scores,
            labels,
            features,
            per_image=[len(own) for own in proposed],
            size=size,
            slots=slots,
            score_threshold=score_threshold,
            nms_threshold=nms_threshold,
        )

    @torch.no_grad()
    def region_features(
        self,
        levels: Maps,
        boxes: Float[Tensor, "B N 4"],
        valid: Bool[Tensor, "B N"],
        precision: Precision = "float32",
    ) -> Float[Tensor, "B N R"]:
        """Return the box head's output for each valid box (fractions of the image); padded rows are zero."""
        height, width = self._size(levels)
        scale = boxes.new_tensor([width, height, width, height])
        kept = [own[mask] * scale for own, mask in zip(boxes, valid, strict=True)]
        out = boxes.new_zeros(*valid.shape, self.region_dim)
        if valid.any():
            out[valid] = self._features(levels, kept, precision)
        return out

    def save(self, folder: Path) -> None:
        """Write the weights in half precision and the config, readable, to `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        half = {name: x.half() if x.is_floating_point() else x for name, x in self.state_dict().items()}
        save_file({name: x.contiguous() for name, x in half.items()}, folder / WEIGHTS_FILE)
        (folder / CONFIG_FILE).write_text(json.dumps(to_json(self.config), indent=2) + "\n")

    def _levels(self, body_maps: Maps) -> Maps:
        levels = self.trunk.pyramid(body_maps)
        return float32(levels | ({LAST: self.trunk.pooled_map(body_maps)} if self.config.last_map == "names" else {}))

    def _features(self, levels: Maps, boxes: list[Float[Tensor, "_p 4"]], precision: Precision) -> Float[Tensor, "P R"]:
        parts = [self._head(levels, boxes, precision)]
        parts += [mean_over_boxes(levels[LAST], boxes, self._size(levels))] if LAST in levels else []
        return torch.cat(parts, dim=-1)

    def _head(self, levels: Maps, boxes: list[Float[Tensor, "_p 4"]], precision: Precision) -> Float[Tensor, "P R"]:
        heads, head_levels = self.model.roi_heads, {name: levels[name] for name in self.trunk.pooled_levels}
        with arithmetic(boxes[0].device, precision):
            features: Tensor = heads.box_head.of_boxes(
                head_levels, boxes, [self._size(levels)] * len(boxes), heads.box_roi_pool
            )
        return features.float()

    def _size(self, levels: Maps) -> tuple[int, int]:
        """Height and width of the pictures in pixels."""
        height, width = next(iter(levels.values())).shape[-2:]
        return height * self.trunk.finest_stride, width * self.trunk.finest_stride

    def _image_list(self, levels: Maps) -> ImageList:
        """What the proposal network asks of the pictures: their size, no pixel."""
        first, size = next(iter(levels.values())), self._size(levels)
        return ImageList(first.new_empty(len(first), 3, *size), [size] * len(first))


def _rows(attributes: Bool[Tensor, "m A"], matched: Int[Tensor, "p"]) -> Bool[Tensor, "p A"]:
    """The row of each proposal's object; of a picture without objects, whose proposals are matched with row 0, none."""
    if not len(attributes):
        return attributes.new_zeros(len(matched), attributes.shape[1])
    return attributes[matched]
