"""Train a detector on boxes, and measure it."""

from regioncap.experiments.detection.average_precision import (
    average_precision_50,
    class_average_precision,
    mean_by_type,
    recall,
)
from regioncap.experiments.detection.targets import box_targets, load_pixels

__all__ = [
    "average_precision_50",
    "box_targets",
    "class_average_precision",
    "load_pixels",
    "mean_by_type",
    "recall",
]
