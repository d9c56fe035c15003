"""A detector's figures on a split: average precision, recall of its regions, attributes."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms, nms

from regioncap.encoders import BoxTargets, Detections, Detector
from regioncap.encoders.detection.trunk import Maps
from regioncap.experiments.data.boxes import BoxData
from regioncap.experiments.detection.average_precision import class_average_precision, mean_by_type, recall
from regioncap.experiments.detection.targets import box_targets

SLOTS = 100
"""Most detections of an image that count, as COCO has it."""
REGIONS = 36
"""Regions whose recall is measured: those of bottom-up attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeAccuracy:
    """How often the likeliest word of a group is one that was said, over the true boxes of which one was."""

    accuracy: float
    majority: float
    """The same of the word that training boxes of the same true class have most."""
    boxes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorScores:
    """Fractions in [0, 1]."""

    ap50: float
    """Mean over classes of the average precision at an overlap of 0.5: every class of a box counts with its score."""
    ap50_weighted: float
    """The same, classes weighted by their boxes."""
    ap50_one_class: float
    """Mean over classes when a box has its best class only, as regions do."""
    ap50_of_type: Mapping[str, float]
    ap50_of_class: Mapping[str, float]
    recall: float
    """Share of the true boxes that one of the best REGIONS boxes overlaps by 0.5, whatever the classes."""
    named: float
    """Share of the true boxes of which the best-overlapping of these boxes has the right class as well."""
    attributes: Mapping[str, AttributeAccuracy]
    """Per group of attributes."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, rounded to four digits."""
        rounded: dict[str, Any] = _rounded(asdict(self))
        return rounded


def measure_detector(detector: Detector, batches: Iterator[Maps], data: BoxData, train: BoxData) -> DetectorScores:
    """Score a detector in evaluation mode on `data`, whose frozen maps come in `batches`, in order.

    `train` gives the attributes' majority. What comes after the frozen maps runs in float32.
    """
    targets = box_targets(data)
    every: list[Detections] = []
    best: list[Detections] = []
    regions: list[Detections] = []
    likely: list[Tensor] = []
    row = 0
    with torch.inference_mode():
        for maps in batches:
            levels = detector.pyramid(maps).levels
            size = len(next(iter(levels.values())))
            own = targets[row : row + size]
            row += size
            # Nothing is suppressed in this call: each of the three uses has its own suppression.
            slots = detector.config.proposals
            bare = detector.detect(levels, slots=slots, score_threshold=0.0, nms_threshold=1.0)
            every.append(_every_class(detector, bare))
            best.append(_best(bare, slots=SLOTS, score_threshold=0.01, nms_threshold=0.5))
            regions.append(_best(bare, slots=REGIONS, score_threshold=0.0, nms_threshold=0.6))
            if data.attributes:
                likely.append(_likely_attributes(detector, levels, own))
    assert row == len(targets), f"{row} pictures came for {len(targets)}"
    per_class = class_average_precision(every, data)
    counts = np.bincount([x for image in data.images for x in image.labels], minlength=len(data.classes))
    known = ~np.isnan(per_class)
    found, named = recall(regions, data)
    return DetectorScores(
        ap50=_mean(per_class),
        ap50_weighted=float(np.average(per_class[known], weights=counts[known])) if known.any() else 0.0,
        ap50_one_class=_mean(class_average_precision(best, data)),
        ap50_of_type=mean_by_type(per_class, data, tuple(dict.fromkeys(data.types))),
        ap50_of_class={name: float(x) for name, x in zip(data.classes, per_class, strict=True) if not np.isnan(x)},
        recall=float(found.mean()) if len(found) else 0.0,
        named=float(named.mean()) if len(named) else 0.0,
        attributes=dict(_attribute_accuracies(torch.cat(likely), data, train)) if likely else {},
    )


def _every_class(detector: Detector, found: Detections, score_threshold: float = 0.01) -> Detections:
    """Pairs of box and class instead of boxes, best first; suppression at 0.5 within a class, as in torchvision."""
    scores = F.softmax(detector.model.roi_heads.box_predictor.cls_score(found.features), dim=-1)[..., 1:]  # B N K
    out = _empty(len(scores), SLOTS)
    for i in range(len(scores)):
        slot, label = torch.where(found.valid[i][:, None] & (scores[i] > score_threshold))
        score = scores[i][slot, label]
        kept = batched_nms(found.boxes[i][slot], score, label, 0.5)[:SLOTS]
        n = len(kept)
        out.boxes[i, :n] = found.boxes[i][slot[kept]]
        out.scores[i, :n], out.labels[i, :n], out.valid[i, :n] = score[kept], label[kept], True
    return out


def _best(found: Detections, *, slots: int, score_threshold: float, nms_threshold: float) -> Detections:
    """What `Detector.detect` gives with these settings, but for the features, which would fill the memory."""
    out = _empty(len(found.valid), slots)
    for i, valid in enumerate(found.valid):
        rows = torch.where(valid & (found.scores[i] > score_threshold))[0]
        kept = rows[nms(found.boxes[i][rows], found.scores[i][rows], nms_threshold)][:slots]
        n = len(kept)
        out.boxes[i, :n], out.scores[i, :n] = found.boxes[i][kept], found.scores[i][kept]
        out.labels[i, :n], out.valid[i, :n] = found.labels[i][kept], True
    return out


def _empty(images: int, slots: int) -> Detections:
    return Detections(
        boxes=torch.zeros(images, slots, 4),
        scores=torch.zeros(images, slots),
        labels=torch.zeros(images, slots, dtype=torch.long),
        valid=torch.zeros(images, slots, dtype=torch.bool),
        features=torch.zeros(images, slots, 0),
    )


def _likely_attributes(detector: Detector, levels: Maps, targets: list[BoxTargets]) -> Tensor:
    """Probabilities of the attributes of all true boxes, given their true classes."""
    most = max(1, *(len(target.labels) for target in targets))
    boxes, valid = torch.zeros(len(targets), most, 4), torch.zeros(len(targets), most, dtype=torch.bool)
    for i, target in enumerate(targets):
        boxes[i, : len(target.labels)], valid[i, : len(target.labels)] = target.boxes, True
    features = detector.region_features(levels, boxes, valid)[valid]
    probabilities: Tensor = detector.attributes(features, torch.cat([target.labels for target in targets]))
    return probabilities


def _attribute_accuracies(likely: Tensor, data: BoxData, train: BoxData) -> Iterator[tuple[str, AttributeAccuracy]]:
    most_said = _majorities(train)
    boxes = [(label, said) for i in data.images for label, said in zip(i.labels, i.attributes, strict=True)]
    for group in dict.fromkeys(data.attribute_groups):
        columns = [x for x, own in enumerate(data.attribute_groups) if own == group]
        right = by_majority = count = 0
        for row, (label, said) in enumerate(boxes):
            words = set(said) & set(columns)
            if words:
                count += 1
                right += columns[int(likely[row, columns].argmax())] in words
                by_majority += most_said[group].get(label, most_said[group][None]) in words
        if count:
            yield group, AttributeAccuracy(accuracy=right / count, majority=by_majority / count, boxes=count)


def _majorities(train: BoxData) -> dict[str, dict[int | None, int]]:
    """Group -> class -> the word said most of its boxes; under None that of all classes."""
    counts: dict[str, dict[int | None, Counter[int]]] = defaultdict(lambda: defaultdict(Counter))
    for image in train.images:
        for label, said in zip(image.labels, image.attributes, strict=True):
            for x in said:
                for key in (label, None):
                    counts[train.attribute_groups[x]][key][x] += 1
    most = {group: {key: count.most_common(1)[0][0] for key, count in own.items()} for group, own in counts.items()}
    return most | {group: {None: -1} for group in train.attribute_groups if group not in most}


def _mean(per_class: np.ndarray) -> float:
    return 0.0 if np.isnan(per_class).all() else float(np.nanmean(per_class))


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(own) for key, own in value.items()}
    return round(value, 4) if isinstance(value, float) else value
