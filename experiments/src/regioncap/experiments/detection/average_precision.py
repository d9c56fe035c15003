"""How well boxes and classes are found: average precision, by pycocotools, and recall."""

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torchvision.ops import box_iou

from regioncap.encoders import Detections
from regioncap.experiments.data.boxes import BoxData

Detect = Callable[[Float[Tensor, "B 3 S S"]], Detections]
"""Finds objects in pictures in [0, 1]."""


def average_precision_50(detect: Detect, data: BoxData, pixels: UInt8[Tensor, "n 3 S S"]) -> float:
    """Mean over classes of the average precision at an overlap of 0.5, by pycocotools.

    With `FasterRcnnEncoder.detect` the very boxes that become regions are scored: above its threshold, at most as many
    as it has slots. So the figure is a little lower than that of the bare detector, whose doubtful boxes count too.
    """
    found = (detect(pixels[start : start + 32].float() / 255.0) for start in range(0, len(pixels), 32))
    per_class = class_average_precision(found, data)
    return float(np.nanmean(per_class)) if not np.isnan(per_class).all() else 0.0


def class_average_precision(found: Iterable[Detections], data: BoxData, overlap: float = 0.5) -> Float[np.ndarray, "K"]:
    """Per class the average precision at `overlap`, by pycocotools; NaN where the split has no box of it.

    `found` are batches in the order of the data's images, at most 100 boxes an image. K classes.
    """
    truth: list[dict[str, object]] = []
    for row, image in enumerate(data.images):
        for (x0, y0, x1, y1), label in zip(image.boxes, image.labels, strict=True):
            box, area = [x0, y0, x1 - x0, y1 - y0], (x1 - x0) * (y1 - y0)
            number = len(truth) + 1
            entry = {"id": number, "image_id": row, "category_id": label, "bbox": box, "area": area, "iscrowd": 0}
            truth.append(entry)
    reference = COCO()
    reference.dataset = {
        "images": [{"id": row} for row in range(len(data.images))],
        "annotations": truth,
        "categories": [{"id": label, "name": name} for label, name in enumerate(data.classes)],
    }
    rows = np.array(list(_coco_rows(found, data)), dtype=np.float64)
    # pycocotools speaks on stdout.
    with contextlib.redirect_stdout(io.StringIO()):
        reference.createIndex()
        if not len(rows):
            counts = np.bincount(
                [label for image in data.images for label in image.labels], minlength=len(data.classes)
            )
            return np.where(counts > 0, 0.0, np.nan)
        evaluation = COCOeval(reference, reference.loadRes(rows), "bbox")
        evaluation.params.iouThrs = np.array([overlap])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    precision: Float[np.ndarray, "R K"] = evaluation.eval["precision"][0, :, :, 0, 0]
    return np.where(precision[0] > -1, precision.mean(axis=0), np.nan)


def recall(
    found: Iterable[Detections], data: BoxData, overlap: float = 0.5
) -> tuple[Bool[np.ndarray, "T"], Bool[np.ndarray, "T"]]:
    """Per true box, in order: whether a found box of its image overlaps it so much; and whether the best has its class.

    T true boxes.
    """
    hits: list[np.ndarray] = []
    named: list[np.ndarray] = []
    row = 0
    for batch in found:
        for boxes, labels, valid in zip(batch.boxes, batch.labels, batch.valid, strict=True):
            image = data.images[row]
            row += 1
            if not image.boxes:
                continue
            truth = torch.tensor(image.boxes) / torch.tensor([image.width, image.height] * 2)
            own = boxes[valid].cpu()
            if not len(own):
                hits.append(np.zeros(len(truth), dtype=bool))
                named.append(hits[-1])
                continue
            best, which = box_iou(truth, own).max(dim=1)
            hit = best >= overlap
            hits.append(hit.numpy())
            named.append((hit & (labels[valid].cpu()[which] == torch.tensor(image.labels))).numpy())
    return (np.concatenate(hits), np.concatenate(named)) if hits else (np.zeros(0, bool), np.zeros(0, bool))


def mean_by_type(per_class: Float[np.ndarray, "K"], data: BoxData, types: Sequence[str]) -> dict[str, float]:
    """Mean over the classes of each named type; types of which no class occurs are left out."""
    means = {}
    for kind in types:
        own = per_class[[own == kind for own in data.types]]
        if len(own) and not np.isnan(own).all():
            means[kind] = float(np.nanmean(own))
    return means


def _coco_rows(found: Iterable[Detections], data: BoxData) -> Iterator[tuple[float, ...]]:
    """Rows of image id, x, y, width, height in pixels, score, class."""
    start = 0
    for batch in found:
        for offset, slot in batch.valid.nonzero().tolist():
            image = data.images[start + offset]
            scale = torch.tensor([image.width, image.height] * 2)
            x0, y0, x1, y1 = (batch.boxes[offset, slot].cpu() * scale).tolist()
            score, label = float(batch.scores[offset, slot]), int(batch.labels[offset, slot])
            yield start + offset, x0, y0, x1 - x0, y1 - y0, score, label
        start += len(batch.valid)
