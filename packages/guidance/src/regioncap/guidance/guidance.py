"""What the guidance stage says of images, for the decoder and for people."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regioncap.guidance.keywords import Keywords

CLOSED_GATE = 0.05
"""A gate below this lets through next to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Guidance:
    """What guidance says of each image, and the words it says it with.

    B images, N region slots, M scene words, m detail words a region, D joint width. A scale that is not in use has
    M = 0 or m = 0; `NoGuidance` has N = 0 as well. Everything of a padded region is zero.
    """

    scene: Float[Tensor, "B D"]
    """W_global of eq. 11."""
    detail: Float[Tensor, "B D"]
    """Mean of W_local of eq. 12 over the valid regions."""
    region_detail: Float[Tensor, "B N D"]
    """W_local per region; the L1 of eq. 18 is taken of it."""
    scene_tokens: Float[Tensor, "B M D"]
    """The scene words' own vectors, weighted so that equal weights leave them unchanged."""
    scene_words: Int[Tensor, "B M"]
    """Rows of the scene bank, best first."""
    scene_weights: Float[Tensor, "B M"]
    detail_words: Int[Tensor, "B N m"]
    """Rows of the detail bank, best first."""
    detail_weights: Float[Tensor, "B N m"]
    detail_tokens: Float[Tensor, "B N m D"]
    """The detail words' own vectors as weighted and gated: their mean over m is `region_detail`."""
    gate: Float[Tensor, "B N2 D"]
    """The sigmoid of eq. 12, in (0, 1); N2 = 0 without detail words."""
    keywords: Keywords
    """The image's words over both banks, for prefix tokens and for the bias on what is said."""


def of_another(guidance: Guidance, valid: Bool[Tensor, "B N"]) -> Guidance:
    """Each image with the guidance of the one before it in the batch, zero where it has no region itself."""
    rolled = {
        field.name: value.roll(1, 0)
        for field in fields(guidance)
        if isinstance(value := getattr(guidance, field.name), Tensor)
    }
    for name in ("region_detail", "detail_weights", "detail_tokens", "detail_words"):
        missing = ~valid.view(*valid.shape, *(1,) * (rolled[name].dim() - 2))
        rolled[name] = rolled[name].masked_fill(missing, 0)
    return replace(guidance, **rolled, keywords=guidance.keywords.of_another())


def gate_statistics(guidance: Guidance, valid: Bool[Tensor, "B N"]) -> dict[str, float]:
    """What to log of guidance each epoch, to see that it lives.

    `gate_mean` and `gate_closed` (share below 0.05) over the valid regions' gates; `scene_entropy` in nats, mean over
    images, at most log M. A figure over nothing (no valid region, `NoGuidance`) is left out.
    """
    statistics: dict[str, float] = {}
    if guidance.gate.shape[1] and bool(valid.any()):
        gates = guidance.gate.detach()[valid].float()
        statistics["gate_mean"] = gates.mean().item()
        statistics["gate_closed"] = (gates < CLOSED_GATE).float().mean().item()
    if guidance.scene_weights.numel():
        statistics["scene_entropy"] = torch.special.entr(guidance.scene_weights.detach().float()).sum(-1).mean().item()
    return statistics
