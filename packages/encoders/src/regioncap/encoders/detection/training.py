"""Train a `Detector` on boxes, classes and attributes; killed at any moment, it goes on as if nothing had happened."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from regioncap.encoders.detection.boxes import BoxTargets, mirror
from regioncap.encoders.detection.config_json import to_json
from regioncap.encoders.detection.detector import Detector
from regioncap.encoders.detection.examples import Examples, PixelExamples

Report = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorTrainingConfig:
    """How long and how fast a detector learns."""

    steps: int = 1000
    """Optimiser steps."""
    batch_size: int = 8
    """Pictures per step."""
    learning_rate: float = 3e-3
    """Peak of the one-cycle schedule (AdamW)."""
    body_share: float = 0.1
    """Learning rate of a pre-trained body's learning stages, as a share of the others'."""
    weight_decay: float = 1e-4
    """AdamW's decoupled decay."""
    attribute_weight: float = 0.5
    """Weight of the attributes' loss beside the four others."""
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
        for name in ("learning_rate", "body_share", "gradient_norm"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"detector_training.{name} must be positive, got {getattr(self, name)}")
        for name in ("weight_decay", "attribute_weight"):
            if getattr(self, name) < 0.0:
                raise ValueError(f"detector_training.{name} must not be negative, got {getattr(self, name)}")
        if not 0.0 <= self.flip <= 1.0:
            raise ValueError(f"detector_training.flip must lie in [0, 1], got {self.flip}")


class DetectorTraining:
    """One training of one detector, which can be saved between any two steps and resumed bit for bit.

        training = DetectorTraining(detector, examples, config)
        training.resume(file)                      # if there is one
        training.run(report, checkpoint=file)
    Every random choice comes from two generators of its own, which are part of the state: torch's global one, from
    which torchvision samples anchors and proposals, is lent the second and given back untouched. Raises ValueError if
    the examples fill no batch.
    """

    def __init__(self, detector: Detector, examples: Examples, config: DetectorTrainingConfig) -> None:
        if len(examples.targets) < config.batch_size:
            raise ValueError(
                f"a batch takes {config.batch_size} pictures, got {len(examples.targets)}: give more or lower "
                "detector_training.batch_size"
            )
        self.detector = detector.to(memory_format=torch.channels_last)
        self.examples = examples
        self.config = config
        self.step = 0
        groups = _parameter_groups(detector, config)
        self.optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)
        self.schedule = OneCycleLR(
            self.optimizer, [group["lr"] for group in groups], total_steps=config.steps, pct_start=0.15
        )
        self._generator = torch.Generator().manual_seed(config.seed)
        self._order = torch.empty(0, dtype=torch.long)
        self._sampling = torch.Generator().manual_seed(config.seed).get_state()

    def run(self, report: Report, *, checkpoint: Path | None = None, checkpoint_every: int = 200) -> None:
        """Train to the last step; leaves the detector in evaluation mode.

        `report(step, losses)` is called after every step. The state is saved to `checkpoint` at every
        `checkpoint_every`-th step and after the last.
        """
        self.detector.train()
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._sampling)
            while self.step < self.config.steps:
                losses = self._step()
                self.step += 1
                self._sampling = torch.get_rng_state()
                if checkpoint and (self.step % checkpoint_every == 0 or self.step == self.config.steps):
                    self.save(checkpoint)
                report(self.step - 1, losses)
        self.detector.eval()

    def save(self, file: Path) -> None:
        """Write the whole state; an earlier one stays valid until this one is on disk."""
        state = {
            "made_by": self._made_by(),
            "step": self.step,
            "detector": self.detector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": self._order,
            "generator": self._generator.get_state(),
            "sampling": self._sampling,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(file.name + ".part")
        with partial.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, file)

    def resume(self, file: Path) -> bool:
        """Take up the state in `file`; False if there is none.

        Raises ValueError for a file that is no such state, or one of another detector, config or number of pictures.
        """
        if not file.is_file():
            return False
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            made_by = state["made_by"]
        except Exception as error:  # a foreign file raises whatever its bytes happen to provoke
            raise ValueError(
                f"{file} is no state of a detector's training ({type(error).__name__}): remove it to start anew"
            ) from error
        if made_by != self._made_by():
            raise ValueError(f"{file} belongs to another detector, config or data set: remove it to start anew")
        self.detector.load_state_dict(state["detector"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step = state["step"]
        self._order = state["order"]
        self._generator.set_state(state["generator"])
        self._sampling = state["sampling"]
        return True

    def _step(self) -> dict[str, float]:
        config = self.config
        targets = self.examples.targets
        if len(self._order) < config.batch_size:
            self._order = torch.randperm(len(targets), generator=self._generator)
        rows, self._order = self._order[: config.batch_size], self._order[config.batch_size :]
        mirrored = torch.rand(len(rows), generator=self._generator) < config.flip
        maps = self.examples.maps(self.detector, rows, mirrored, config.precision)
        objects = [
            mirror(targets[i]) if flipped else targets[i]
            for i, flipped in zip(rows.tolist(), mirrored.tolist(), strict=True)
        ]
        losses = self.detector.losses(maps, objects, config.precision)
        weights = {"loss_attributes": config.attribute_weight}
        total: Float[Tensor, ""] = torch.stack([weights.get(name, 1.0) * x for name, x in losses.items()]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.detector.parameters(), config.gradient_norm)
        self.optimizer.step()
        self.schedule.step()
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def _made_by(self) -> str:
        return json.dumps([to_json(self.detector.config), to_json(self.config), len(self.examples.targets)])


def train_detector(
    detector: Detector,
    images: UInt8[Tensor, "n 3 S S"],
    targets: Sequence[BoxTargets],
    config: DetectorTrainingConfig,
    report: Report,
) -> None:
    """Train in place on pictures in memory, from the first step to the last; see `DetectorTraining`."""
    DetectorTraining(detector, PixelExamples(images, targets), config).run(report)


def _parameter_groups(detector: Detector, config: DetectorTrainingConfig) -> list[dict[str, Any]]:
    """Learning parameters by learning rate: a trunk's `body` is its pre-trained part."""
    pre_trained = getattr(detector.trunk, "body", None)
    body = {id(p) for p in pre_trained.parameters()} if isinstance(pre_trained, nn.Module) else set()
    learning = [p for p in detector.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if id(p) not in body], "lr": config.learning_rate},
        {"params": [p for p in learning if id(p) in body], "lr": config.learning_rate * config.body_share},
    ]
    return [group for group in groups if group["params"]]
