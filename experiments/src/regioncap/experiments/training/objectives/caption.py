"""Learning from captions: the terms of eqs. 16-19, and an auxiliary lesson in keywords."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regioncap.encoders import ImageFeatures
from regioncap.experiments.captioner import Captioner, Condition
from regioncap.experiments.training.objectives.keyword_lesson import KeywordLesson
from regioncap.experiments.training.objectives.objective import Lessons, Losses, Objective, Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionObjectiveConfig:
    """Weights of eq. 19 and the form of its alignment term."""

    align: Literal["cosine", "contrastive"] = "cosine"
    """eq. 17 as written, or the contrastive loss that its text names."""
    alpha1: float = 0.7
    """Weight of the alignment loss."""
    alpha2: float = 0.3
    """Weight of the gate's sparsity."""
    gate_lambda: float = 0.001
    """lambda of eq. 18. At 0.1 and without a floor every gate closed on scenes by step 200 (docs/decisions.md)."""
    gate_floor: float = 0.2
    """Mean openness of the gates from which on eq. 18 closes them no further, in [0, 1]; 0 is eq. 18 to the letter."""
    temperature: float = 0.07
    """Softmax temperature of `align: contrastive`."""
    keyword_weight: float = 0.0
    """Weight of an auxiliary lesson, beyond the paper: the fused vector has to tell which bank words the captions
    hold. Its head is thrown away after training, so it tells the decoder nothing; 0 leaves it out."""

    def __post_init__(self) -> None:
        for name in ("alpha1", "alpha2", "gate_lambda", "keyword_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"objective.{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.gate_floor <= 1:
            raise ValueError(f"objective.gate_floor must lie in [0, 1], got {self.gate_floor}")
        if self.temperature <= 0:
            raise ValueError(f"objective.temperature must be positive, got {self.temperature}")

    def build(self, lessons: Lessons, dim: int) -> "CaptionObjective":
        """The objective over these training captions, for a captioner of joint width `dim`."""
        return CaptionObjective(self, lessons, dim)


class CaptionObjective(Objective):
    """L = L_gen + alpha1 L_align + alpha2 L_gate (eq. 19), and `keyword_weight` L_keywords where it is asked for.

    Departs from eq. 18: its term is off while the gates are less open than `gate_floor`, so that no lambda closes
    them all.
    """

    def __init__(self, config: CaptionObjectiveConfig, lessons: Lessons, dim: int) -> None:
        super().__init__()
        self.config = config
        self._captions = lessons.captions
        self.keywords: KeywordLesson | None = None
        if config.keyword_weight:
            self.keywords = KeywordLesson(lessons, dim)

    @property
    def weights(self) -> Mapping[str, float]:
        """Term -> its weight in the sum."""
        weights = {"generation": 1.0, "alignment": self.config.alpha1, "gate": self.config.alpha2}
        return weights if self.keywords is None else weights | {"keywords": self.config.keyword_weight}

    def targets(self, rows: Int[Tensor, "B"], captions: int, chance: torch.Generator) -> Targets:
        """Tokens B C T, mask B C T, BERT vectors B C T2 and, for the keyword lesson, the words' shares B W.

        They are targets and never inputs of the prefix.
        """
        drawn = self._captions.pick(rows, captions, chance)
        return drawn if self.keywords is None else (*drawn, self.keywords.shares(rows))

    def counts(self, images: ImageFeatures, targets: Targets) -> Mapping[str, int]:
        """Tokens to be said, captions, regions, images."""
        tokens, mask = targets[:2]
        counts = {
            "generation": int(mask[..., 1:].sum()),
            "alignment": len(tokens) * (tokens.shape[1] if self.config.align == "cosine" else 1),
            "gate": int(images.regions.valid.sum()),
        }
        return counts if self.keywords is None else counts | {"keywords": len(tokens)}

    def forward(self, captioner: Captioner, condition: Condition, targets: Targets) -> Losses:
        """The terms of a part of a batch, by the names that `weights` has."""
        tokens, mask, text = targets[:3]
        embedded = F.normalize(captioner.embed_text(text).float(), dim=-1)  # B C D
        if self.config.align == "cosine":
            alignment = cosine_alignment(condition.g, embedded)
        else:
            alignment = contrastive_alignment(condition.g, embedded, self.config.temperature)
        sparsity = gate_sparsity(condition.guidance.region_detail, condition.regions.valid)
        terms = {
            "generation": captioner.generation_loss(condition.prefix, tokens, mask).float(),
            "alignment": alignment,
            "gate": self.config.gate_lambda * sparsity * self._may_close(condition),
        }
        if self.keywords is not None:
            terms["keywords"] = self.keywords(condition.fused, targets[3])
        return Losses(terms=terms)

    def _may_close(self, condition: Condition) -> bool:
        """Whether the gates are open enough for eq. 18 to close them."""
        gate, valid = condition.guidance.gate, condition.regions.valid
        if not gate.shape[1] or not bool(valid.any()):
            return True
        return gate.detach()[valid].mean().item() > self.config.gate_floor


def cosine_alignment(g: Float[Tensor, "B D"], text: Float[Tensor, "B C D"]) -> Float[Tensor, ""]:
    """1 - cos(g, text), mean over captions (eq. 17); both of unit length."""
    return 1 - torch.einsum("bd,bcd->bc", g, text).mean()


def contrastive_alignment(
    g: Float[Tensor, "B D"], text: Float[Tensor, "B C D"], temperature: float
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE over the batch; an image's captions are averaged, so they are never each other's negatives.

    A part of a batch (another process, a part that gradients accumulate from) has its own images as negatives alone.
    """
    logits = g @ F.normalize(text.mean(dim=1), dim=-1).T / temperature  # B B
    target = torch.arange(len(g), device=g.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def gate_sparsity(region_detail: Float[Tensor, "B N2 D"], valid: Bool[Tensor, "B N"]) -> Float[Tensor, ""]:
    """mean |W_local| over valid regions (eq. 18 without lambda); zero where a captioner has no detail guidance."""
    if region_detail.shape[1] == 0:
        return region_detail.new_zeros(())
    return region_detail.abs().mean(dim=-1)[valid].mean()
