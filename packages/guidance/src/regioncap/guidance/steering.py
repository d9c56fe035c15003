"""Editing what guidance chose: words that must count, and words that must not."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

BARRED = -1e4
"""Score of a word that must not be chosen: finite, so that a softmax over barred words alone stays a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steering:
    """What a user wants of each image's words: 1 adds a word, -1 drops it, 0 leaves it to guidance.

    B images, N regions, W words of a bank.
    """

    scene: Int8[Tensor, "B Ws"]
    """Scene words of the image."""
    detail: Int8[Tensor, "B Wd"]
    """Detail words of the image; an added word goes to the region that shows it best, a dropped one leaves all."""
    regions: Int8[Tensor, "B N Wd"] | None = None
    """Detail words of single regions."""
    strength: float = 4.0
    """Log-odds that an added word has at least, and what a dropped one has taken off: 4 is a probability of 0.98."""

    def __post_init__(self) -> None:
        if not 0 < self.strength < float("inf"):
            raise ValueError(f"steering.strength must be positive and finite, got {self.strength}; 4 is usual")

    @classmethod
    def none(cls, images: int, scene_words: int, detail_words: int, strength: float = 4.0) -> "Steering":
        """No edit yet."""
        return cls(
            scene=torch.zeros(images, scene_words, dtype=torch.int8),
            detail=torch.zeros(images, detail_words, dtype=torch.int8),
            strength=strength,
        )


def steered(
    scores: Float[Tensor, "*rows W"], edits: Int8[Tensor, "*rows W"], strength: float
) -> Float[Tensor, "*rows W"]:
    """Scores with the edits: added words have `strength` at least, dropped ones are barred."""
    raised = torch.where(edits > 0, scores.clamp(min=strength), scores)
    return raised.masked_fill(edits < 0, BARRED)


def raised(
    logits: Float[Tensor, "*rows k"], edits: Int8[Tensor, "*rows k"], strength: float
) -> Float[Tensor, "*rows k"]:
    """Logits of a softmax in which each added word has log-odds of `strength`, or more, against all that are not added;
    dropped words have none. How sharp the softmax has become in training makes no difference."""
    others = logits.masked_fill(edits != 0, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.where(edits > 0, torch.maximum(logits, others + strength), logits).masked_fill(edits < 0, BARRED)


def best_words(
    scores: Float[Tensor, "*rows W"], edits: Int8[Tensor, "*rows W"], strength: float, count: int
) -> Int[Tensor, "*rows k"]:
    """Rows of the `count` best words, all of them where there are fewer; added words come before all others."""
    first = steered(scores, edits, strength) - BARRED * (edits > 0)
    return first.topk(min(count, scores.shape[-1])).indices


def steered_gains(
    gains: Float[Tensor, "B W"], prior: Float[Tensor, " W"], edits: Int8[Tensor, "B W"], strength: float
) -> Float[Tensor, "B W"]:
    """Evidence with the edits: what brings an added word to `strength`, and `strength` against a dropped one."""
    raised = torch.where(edits > 0, torch.maximum(gains, strength - prior), gains)
    return torch.where(edits < 0, gains.clamp(max=0) - strength, raised)
