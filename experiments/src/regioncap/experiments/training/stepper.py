"""One optimiser step over all processes and accumulated parts: draw, forward, backward, clip, check, move."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from regioncap.encoders import ImageFeatures
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.experiments.devices import on_device
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.captions import batch_of
from regioncap.experiments.training.curves import gradient_norms
from regioncap.experiments.training.failures import loss_failure
from regioncap.experiments.training.images import OnTheFlyImages, StoredImages, TrainingImages
from regioncap.experiments.training.objectives.objective import Objective, Targets
from regioncap.experiments.training.phases import PhasePlan, parameter_groups
from regioncap.experiments.training.processes import Processes
from regioncap.experiments.training.step import TrainingStep


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    rows: Int[Tensor, "b"]
    images: ImageFeatures
    targets: Targets
    counts: Mapping[str, int]


class Stepper:
    """Moves a captioner's weights, a step at a time; which of them are free is the caller's matter."""

    def __init__(
        self,
        captioner: Captioner,
        objective: Objective,
        experiment: Experiment,
        prepared: Prepared,
        plan: PhasePlan,
        processes: Processes,
    ) -> None:
        self._experiment, self._config, self._prepared = experiment, experiment.train, prepared
        self._plan, self._processes = plan, processes
        self._captioner, self._objective = captioner, objective
        self._images = _training_images(experiment, prepared)
        self.module = TrainingStep(captioner, objective).to(processes.device)
        groups = parameter_groups(captioner, objective.parameters(), self._config)
        # Fused: one pass over the weights instead of a dozen.
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        self.optimizer = processes.accelerator.prepare_optimizer(optimizer)
        self._forward: nn.Module = self.module
        self.first_loss: float | None = None
        """Size of the first step's loss, that an exploding one is measured by."""

    def wrap(self) -> None:
        """Let processes average the gradients of all that is free now."""
        if self._config.compile:
            self.module.compile()
        self._forward = self._processes.wrap(self.module)

    def __call__(self, step: int, kept: Callable[[], str], *, observe: bool) -> tuple[dict[str, float], int]:
        """Make a step (from 0); returns what it shows, if `observe`, and how many images all processes took.

        Raises TrainingStopped, with what `kept` says, before a loss or gradient of no use reaches the weights.
        """
        config, processes = self._config, self._processes
        rows = batch_of(len(self._prepared.train), config.images_per_step, step, self._experiment.seed)
        parts = self._parts(step, rows)
        shares = self._shares([part.counts for part in parts])
        for group in self.optimizer.param_groups:
            group["lr"] = self._plan.lr(step, group["name"])
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        observed: dict[str, float] = {}
        for number, (part, share) in enumerate(zip(parts, shares, strict=True)):
            last = number == len(parts) - 1
            with self._gradients_meet(last):
                held_out = on_device(self._prepared.held_out(part.rows), processes.device)
                total, terms, seen = self._forward(part.images, held_out, part.targets, share, observe)
                processes.accelerator.backward(total * processes.count)
            for name, term in (terms | {"total": total.detach()}).items():
                sums[name] = sums.get(name, 0.0) + term.item()
            for name, value in seen.items():
                observed[name] = observed.get(name, 0.0) + value * len(part.rows) / len(rows)
        norms = gradient_norms(self._captioner) if observe and config.precision != "fp16" else {}
        norm = float(processes.accelerator.clip_grad_norm_(self.module.parameters(), config.clip_norm))
        sums = processes.total(sums)
        self._check(step, rows, sums, norm, kept)
        self.optimizer.step()
        if not observe:
            return {}, len(rows)
        rates = {f"lr.{group['name']}": float(group["lr"]) for group in self.optimizer.param_groups}
        losses = {f"loss.{name}": value for name, value in sums.items()}
        return losses | {"gradient_norm": norm} | norms | rates | processes.total(observed), len(rows)

    def _parts(self, step: int, rows: Int[Tensor, "B"]) -> list[_Part]:
        """This process's share of a batch, of which every process draws all targets."""
        chance = torch.Generator().manual_seed(hash((self._experiment.seed, step)) % 2**63)
        targets = self._objective.targets(rows, self._config.captions_per_image, chance)
        parts = []
        for positions in self._processes.parts(len(rows), self._config.accumulate):
            own = on_device(tuple(target[positions] for target in targets), self._processes.device)
            images = on_device(self._images.at(step, rows[positions]), self._processes.device)
            counts = self._objective.counts(images, own)
            parts.append(_Part(rows=rows[positions], images=images, targets=own, counts=counts))
        return parts

    def _shares(self, counts: Sequence[Mapping[str, int]]) -> list[dict[str, float]]:
        """Each part's share in the things of all parts and processes, term by term."""
        own = {name: float(sum(part[name] for part in counts)) for name in counts[0]}
        everybody = self._processes.total(own)
        return [{name: part[name] / max(everybody[name], 1.0) for name in part} for part in counts]

    def _gradients_meet(self, last: bool) -> AbstractContextManager[Any]:
        """Processes average their gradients once a step, with its last part."""
        if last or self._processes.count == 1:
            return nullcontext()
        no_sync: AbstractContextManager[Any] = self._processes.accelerator.no_sync(self._forward)
        return no_sync

    def _check(self, step: int, rows: Tensor, sums: Mapping[str, float], norm: float, kept: Callable[[], str]) -> None:
        """Stop before the weights take a gradient that would spoil them."""
        total, why = sums["total"], ""
        if not _finite(total) or not (_finite(norm) or self._config.precision == "fp16"):
            why = "the loss, or its gradient, is no finite number"
        elif self.first_loss is None:
            self.first_loss = abs(total)
        elif self._config.explode and total > self._config.explode * max(self.first_loss, 1.0):
            why = f"the loss is more than {self._config.explode:g} times that of the first step, {self.first_loss:.4g}"
        if why:
            names = [self._prepared.train_images[row].name for row in rows.tolist()]
            raise loss_failure(step=step + 1, terms=sums, why=why, images=names, config=self._config, kept=kept())


def _training_images(experiment: Experiment, prepared: Prepared) -> TrainingImages:
    if experiment.images.encode == "once":
        return StoredImages(prepared.train)
    encoder = experiment.encoders.build().image
    paths = [image.path for image in prepared.train_images]
    return OnTheFlyImages(encoder, paths, experiment.images.augment, experiment.seed)


def _finite(value: float) -> bool:
    return value - value == 0.0
