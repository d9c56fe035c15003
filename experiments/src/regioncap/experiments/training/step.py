"""Captioner and objective as one module, from images to a number: what a process wraps, compiles and averages."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from regioncap.encoders import ImageFeatures
from regioncap.experiments.captioner import Captioner, HeldOut
from regioncap.experiments.training.objectives.objective import Objective, Targets
from regioncap.guidance import gate_statistics


class TrainingStep(nn.Module):
    """The forward pass of one part of a batch.

    A term is a mean over this part's things, `shares` the part's share in those of the whole batch: the sum over all
    parts is the whole's mean, whatever the parts.
    """

    def __init__(self, captioner: Captioner, objective: Objective) -> None:
        super().__init__()
        self.captioner = captioner
        self.objective = objective

    def forward(
        self,
        images: ImageFeatures,
        held_out: HeldOut | None,
        targets: Targets,
        shares: Mapping[str, float],
        observe: bool,
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, float]]:
        """The weighted sum (differentiable), the unweighted terms times their shares, and with `observe` also gates and
        whatever the objective shows."""
        condition = self.captioner.condition(images, held_out)
        losses = self.objective(self.captioner, condition, targets)
        weights = self.objective.weights
        terms = {name: term * shares[name] for name, term in losses.terms.items()}
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        observed: dict[str, float] = {}
        if observe:
            observed = gate_statistics(condition.guidance, condition.regions.valid) | dict(losses.observed)
        return total, {name: term.detach() for name, term in terms.items()}, observed
