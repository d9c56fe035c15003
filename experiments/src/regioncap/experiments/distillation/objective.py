"""What a student minimises: the captions' cross-entropy, and its distance from the teacher's word distributions."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from regioncap.encoders import ImageFeatures
from regioncap.experiments.captioner import Captioner, Condition
from regioncap.experiments.distillation.targets import Targets
from regioncap.experiments.distillation.teacher_table import TeacherTable
from regioncap.experiments.training.objectives.objective import Losses, Objective
from regioncap.experiments.training.objectives.objective import Targets as Drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilObjectiveConfig:
    """Word-level distillation (Hinton et al. 2015, arXiv 1503.02531; Kim and Rush 2016, arXiv 1606.07947)."""

    weight: float = 0.5
    """Share of the teacher in the loss; 0 trains the student on the captions alone."""
    temperature: float = 2.0
    """Both distributions are softened by it; 1 leaves them as they are."""
    top: int = 32
    """Words of the teacher that are told apart at every place; the others are one event. A larger vocabulary than this
    makes the divergence a lower bound of that over all words."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"objective.weight must lie in [0, 1], got {self.weight}")
        if self.temperature <= 0:
            raise ValueError(f"objective.temperature must be positive, got {self.temperature}")
        if self.top < 1:
            raise ValueError(f"objective.top must be at least 1, got {self.top}")

    def build(self, targets: Targets, table: TeacherTable | None) -> "DistilObjective":
        """The objective over these captions; `table` is what the teacher says of them, None with `weight` 0."""
        return DistilObjective(self, targets, table)


class DistilObjective(Objective):
    """L = (1 - weight) L_gen + weight temperature^2 KL(teacher || student), means over real tokens.

    The factor keeps the size of the gradient when the temperature changes. Neither the alignment nor the gate of
    eq. 19 has a say: what they train is the teacher's, and frozen.
    """

    def __init__(self, config: DistilObjectiveConfig, targets: Targets, table: TeacherTable | None) -> None:
        super().__init__()
        self.config = config
        self._targets, self._table = targets, table

    @property
    def weights(self) -> Mapping[str, float]:
        """Term -> its weight in the sum."""
        if not self.config.weight:
            return {"generation": 1.0}
        return {"generation": 1 - self.config.weight, "teacher": self.config.weight * self.config.temperature**2}

    def targets(self, rows: Int[Tensor, "B"], captions: int, chance: torch.Generator) -> Drawn:
        """Tokens and mask B C T, drawn as `CaptionTensors.pick` does, and the teacher's likeliest words after each
        token with their softened probabilities, B C T-1 k."""
        total = self._targets.tokens.shape[1]
        if captions >= total:
            columns = torch.arange(total).expand(len(rows), -1)
        else:
            columns = torch.rand(len(rows), total, generator=chance).argsort(dim=1)[:, :captions]  # B C2
        tokens, mask = self._targets.tokens[rows[:, None], columns], self._targets.mask[rows[:, None], columns]
        longest = int(mask.sum(-1).max())
        tokens, mask = tokens[..., :longest], mask[..., :longest]
        if self._table is None:
            return tokens, mask
        return tokens, mask, *self._table.at(rows, columns, mask[..., 1:])

    def counts(self, images: ImageFeatures, targets: Drawn) -> Mapping[str, int]:
        """Tokens to be said."""
        tokens = int(targets[1][..., 1:].sum())
        return dict.fromkeys(self.weights, tokens)

    def forward(self, captioner: Captioner, condition: Condition, targets: Drawn) -> Losses:
        """Both terms of a part of a batch."""
        tokens, mask = targets[:2]
        prefix, real = condition.prefix, mask[..., 1:]
        logits = captioner.decoder(prefix.embeddings, prefix.valid, tokens[..., :-1], real, prefix.added, prefix.bias)
        logits = logits[real].float()  # n V
        terms = {"generation": F.cross_entropy(logits, tokens[..., 1:][real])}
        if self.config.weight:
            words, shares = targets[2:]
            divergence = divergence_from(logits / self.config.temperature, words[real], shares[real])
            terms["teacher"] = divergence.mean()
        return Losses(terms=terms)


def divergence_from(
    logits: Float[Tensor, "n V"], words: Int[Tensor, "n k"], shares: Float[Tensor, "n k"]
) -> Float[Tensor, " n"]:
    """KL(q || p) over k + 1 events, with q = `shares` of `words` and p the softmax of `logits`: k words and the rest.

    With k = V it is that over all words, else a lower bound of it.
    """
    log_p = logits.log_softmax(-1).gather(1, words)  # n k
    # Where the k words have all of p in float32, the rest is taken to have a millionth: its logarithm must be finite.
    rest_p = (1 - log_p.exp().sum(-1)).clamp(min=1e-6)
    rest_q = (1 - shares.sum(-1)).clamp(min=0)
    told = (torch.xlogy(shares, shares) - shares * log_p).sum(-1)
    return told + torch.xlogy(rest_q, rest_q) - rest_q * rest_p.log()
