"""Boxes of a data set as a detector takes them, and how well it finds them."""

import contextlib
import io
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from regioncap.encoders import BoxTargets, Detections, load_image
from regioncap.experiments.data.coco import BoxData


def load_pixels(data: BoxData, size: int) -> UInt8[Tensor, "n 3 S S"]:
    """All pictures in memory, `size` pixels a side. Raises ValueError naming a file that does not decode."""
    pixels = torch.empty(len(data.images), 3, size, size, dtype=torch.uint8)
    for row, image in enumerate(data.images):
        pixels[row] = (load_image(image.path, size) * 255.0).round().byte()
    return pixels


def box_targets(data: BoxData) -> list[BoxTargets]:
    """Per picture its objects, boxes as fractions of it."""
    targets = []
    for image in data.images:
        scale = torch.tensor([image.width, image.height] * 2, dtype=torch.float32)
        boxes = torch.tensor(image.boxes, dtype=torch.float32).view(-1, 4) / scale
        labels = torch.tensor(image.labels, dtype=torch.long)
        targets.append(BoxTargets(boxes=boxes, labels=labels, attributes=torch.zeros(len(labels), 0, dtype=torch.bool)))
    return targets


Detect = Callable[[Float[Tensor, "B 3 S S"]], Detections]
"""Finds objects in pictures in [0, 1]."""


def average_precision_50(detect: Detect, data: BoxData, pixels: UInt8[Tensor, "n 3 S S"]) -> float:
    """Mean over classes of the average precision at an overlap of 0.5, by pycocotools.

    With `FasterRcnnEncoder.detect` the very boxes that become regions are scored: above its threshold, at most as many
    as it has slots. So the figure is a little lower than that of the bare detector, whose doubtful boxes count too.
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
    # pycocotools speaks on stdout.
    with contextlib.redirect_stdout(io.StringIO()):
        reference.createIndex()
        found = np.array(list(_coco_rows(detect, data, pixels)), dtype=np.float64)
        if not len(found):
            return 0.0
        evaluation = COCOeval(reference, reference.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    at_half: Float[np.ndarray, "R K"] = evaluation.eval["precision"][0, :, :, 0, 2]
    return float(at_half[at_half > -1].mean())


def _coco_rows(
    detect: Detect, data: BoxData, pixels: UInt8[Tensor, "n 3 S S"], batch_size: int = 32
) -> Iterator[tuple[float, ...]]:
    """Rows of image id, x, y, width, height in pixels, score, class."""
    for start in range(0, len(pixels), batch_size):
        found = detect(pixels[start : start + batch_size].float() / 255.0)
        for offset, slot in found.valid.nonzero().tolist():
            image = data.images[start + offset]
            scale = torch.tensor([image.width, image.height] * 2)
            x0, y0, x1, y1 = (found.boxes[offset, slot] * scale).tolist()
            score, label = float(found.scores[offset, slot]), int(found.labels[offset, slot])
            yield start + offset, x0, y0, x1 - x0, y1 - y0, score, label
