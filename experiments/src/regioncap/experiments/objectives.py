"""What training minimises: eqs. 16-19. Each term is returned apart, so that each can be logged."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regioncap.experiments.captioner import Captioner, Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Terms of eq. 19 for one batch, unweighted, and their weighted sum."""

    generation: Float[Tensor, ""]
    alignment: Float[Tensor, ""]
    gate: Float[Tensor, ""]
    total: Float[Tensor, ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveConfig:
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

    def __post_init__(self) -> None:
        for name in ("alpha1", "alpha2", "gate_lambda"):
            if getattr(self, name) < 0:
                raise ValueError(f"objective.{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.gate_floor <= 1:
            raise ValueError(f"objective.gate_floor must lie in [0, 1], got {self.gate_floor}")
        if self.temperature <= 0:
            raise ValueError(f"objective.temperature must be positive, got {self.temperature}")

    def build(self) -> "Objective":
        """The objective as a function of a captioner and a batch."""
        return Objective(self)


class Objective:
    """L = L_gen + alpha1 L_align + alpha2 L_gate (eq. 19).

    Departs from eq. 18: its term is off while the gates are less open than `gate_floor`, so that no lambda closes
    them all.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        self.config = config

    def __call__(
        self,
        captioner: Captioner,
        condition: Condition,
        tokens: Int[Tensor, "B C T"],
        mask: Bool[Tensor, "B C T"],
        text: Float[Tensor, "B C T2"],
    ) -> Losses:
        """`tokens` are the captions, `text` their BERT vectors; both are targets and never inputs of the prefix."""
        generation = captioner.generation_loss(condition.prefix, tokens, mask).float()
        embedded = F.normalize(captioner.embed_text(text).float(), dim=-1)  # B C D
        if self.config.align == "cosine":
            alignment = cosine_alignment(condition.g, embedded)
        else:
            alignment = contrastive_alignment(condition.g, embedded, self.config.temperature)
        sparsity = gate_sparsity(condition.guidance.region_detail, condition.regions.valid)
        gate = self.config.gate_lambda * sparsity * self._may_close(condition)
        total = generation + self.config.alpha1 * alignment + self.config.alpha2 * gate
        return Losses(generation=generation, alignment=alignment, gate=gate, total=total)

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
    """Symmetric InfoNCE over the batch; an image's captions are averaged, so they are never each other's negatives."""
    logits = g @ F.normalize(text.mean(dim=1), dim=-1).T / temperature  # B B
    target = torch.arange(len(g), device=g.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def gate_sparsity(region_detail: Float[Tensor, "B N2 D"], valid: Bool[Tensor, "B N"]) -> Float[Tensor, ""]:
    """mean |W_local| over valid regions (eq. 18 without lambda); zero where a captioner has no detail guidance."""
    if region_detail.shape[1] == 0:
        return region_detail.new_zeros(())
    return region_detail.abs().mean(dim=-1)[valid].mean()
