"""What a student minimises: the captions' cross-entropy, and its distance from the teacher's word distributions."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regioncap.experiments.captioner import Captioner, Condition
from regioncap.experiments.training.objectives.caption import Losses


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

    def build(self) -> "DistilObjective":
        """The objective as a function of a captioner and a batch."""
        return DistilObjective(self)


class DistilObjective:
    """L = (1 - weight) L_gen + weight temperature^2 KL(teacher || student), mean over real tokens.

    The factor keeps the size of the gradient when the temperature changes. Neither the alignment nor the gate of
    eq. 19 has a say: what they train is the teacher's, and frozen.
    """

    def __init__(self, config: DistilObjectiveConfig) -> None:
        self.config = config

    def __call__(
        self,
        captioner: Captioner,
        condition: Condition,
        tokens: Int[Tensor, "B C T"],
        mask: Bool[Tensor, "B C T"],
        words: Int[Tensor, "B C T-1 k"],
        shares: Float[Tensor, "B C T-1 k"],
    ) -> Losses:
        """`words` and `shares`: the teacher's likeliest words after each token and their softened probabilities."""
        prefix, real = condition.prefix, mask[..., 1:]
        logits = captioner.decoder(prefix.embeddings, prefix.valid, tokens[..., :-1], real, prefix.added, prefix.bias)
        logits = logits[real].float()  # n V
        generation = F.cross_entropy(logits, tokens[..., 1:][real])
        nothing = generation.new_zeros(())
        total = generation
        if self.config.weight:
            divergence = divergence_from(logits / self.config.temperature, words[real], shares[real])
            total = (1 - self.config.weight) * generation
            total = total + self.config.weight * self.config.temperature**2 * divergence.mean()
        return Losses(generation=generation, alignment=nothing, gate=nothing, total=total)


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
