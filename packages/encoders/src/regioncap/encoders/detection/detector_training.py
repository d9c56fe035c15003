"""Train a `Detector` on boxes and classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from regioncap.encoders.detection.boxes import BoxTargets, mirror
from regioncap.encoders.detection.detector import Detector


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorTrainingConfig:
    """How long and how fast a detector learns."""

    steps: int = 1000
    """Optimiser steps."""
    batch_size: int = 8
    """Pictures per step."""
    learning_rate: float = 3e-3
    """Peak of the one-cycle schedule (AdamW)."""
    weight_decay: float = 1e-4
    """AdamW's decoupled decay."""
    flip: float = 0.5
    """Chance that a picture is mirrored left to right; a detector knows no captions that this would make untrue."""
    gradient_norm: float = 5.0
    """Longer gradients are cut to this length."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the trunk's convolutions; weights and losses stay float32."""
    seed: int = 0
    """Order of the pictures, mirroring, and the proposals that are sampled."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"detector_training.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "gradient_norm"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"detector_training.{name} must be positive, got {getattr(self, name)}")
        if self.weight_decay < 0.0:
            raise ValueError(f"detector_training.weight_decay must not be negative, got {self.weight_decay}")
        if not 0.0 <= self.flip <= 1.0:
            raise ValueError(f"detector_training.flip must lie in [0, 1], got {self.flip}")


def train_detector(
    detector: Detector,
    images: UInt8[Tensor, "n 3 S S"],
    targets: Sequence[BoxTargets],
    config: DetectorTrainingConfig,
    report: Callable[[int, Mapping[str, float]], None],
) -> None:
    """Train in place; leaves the detector in evaluation mode.

    `report(step, losses)` is called after every step with the four losses of torchvision's Faster R-CNN.
    n pictures of S pixels a side. Raises ValueError if pictures and targets differ in number, or fill no batch.
    """
    if len(images) != len(targets):
        raise ValueError(f"every picture needs its boxes: got {len(images)} pictures and {len(targets)} targets")
    if len(images) < config.batch_size:
        raise ValueError(
            f"a batch takes {config.batch_size} pictures, got {len(images)}: give more or lower batch_size"
        )
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps, pct_start=0.15)
    detector.to(memory_format=torch.channels_last)
    detector.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # torchvision samples anchors and proposals from the global generator
        order = torch.empty(0, dtype=torch.long)
        for step in range(config.steps):
            if len(order) < config.batch_size:
                order = torch.randperm(len(images), generator=generator)
            batch, order = order[: config.batch_size], order[config.batch_size :]
            mirrored = torch.rand(len(batch), generator=generator) < config.flip
            pictures = images[batch].float() / 255.0
            pictures[mirrored] = pictures[mirrored].flip(-1)
            boxes = [
                mirror(targets[i]) if flipped else targets[i]
                for i, flipped in zip(batch.tolist(), mirrored.tolist(), strict=True)
            ]
            losses = detector.losses(detector.trunk_features(pictures, config.precision), boxes, config.precision)
            total: Float[Tensor, ""] = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            torch.nn.utils.clip_grad_norm_(detector.parameters(), config.gradient_norm)
            optimizer.step()
            schedule.step()
            report(step, {name: float(loss.detach()) for name, loss in losses.items()})
    detector.eval()
