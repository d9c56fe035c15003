"""Detectors to start from, each with the training that suits it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from regioncap.encoders import (
    DetectorConfig,
    DetectorTrainingConfig,
    efficientnet_fpn,
    resnet50_c4,
    resnet50_fpn,
)
from regioncap.experiments.detection.training import FROM_DATA


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorPreset:
    """An architecture and how it is trained."""

    detector: DetectorConfig
    training: DetectorTrainingConfig


def scenes() -> DetectorPreset:
    """The small detector of the procedural scenes: all of it learns, from nothing."""
    return DetectorPreset(detector=DetectorConfig(classes=FROM_DATA), training=DetectorTrainingConfig(steps=1800))


def efficientnet() -> DetectorPreset:
    """ImageNet's EfficientNet-Lite0, frozen, under a small pyramid: learns on photographs in minutes of one core."""
    return DetectorPreset(
        detector=efficientnet_fpn(FROM_DATA), training=DetectorTrainingConfig(steps=1600, learning_rate=2e-3)
    )


def c4() -> DetectorPreset:
    """Table 2's detector. ResNet-50 starts from `--detector.trunk.weights`, or from nothing."""
    return DetectorPreset(
        detector=resnet50_c4(FROM_DATA), training=DetectorTrainingConfig(steps=20000, learning_rate=2e-4)
    )


def fpn() -> DetectorPreset:
    """torchvision's ResNet-50 with a pyramid."""
    return DetectorPreset(
        detector=resnet50_fpn(FROM_DATA), training=DetectorTrainingConfig(steps=20000, learning_rate=2e-4)
    )


DETECTORS: Mapping[str, Callable[[], DetectorPreset]] = {
    "scenes": scenes,
    "efficientnet-fpn": efficientnet,
    "resnet50-c4": c4,
    "resnet50-fpn": fpn,
}
