"""The null stage of guidance: no words."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from regioncap.guidance.bank import KeywordBank
from regioncap.guidance.chosen import ChosenWords
from regioncap.guidance.guidance import Guidance
from regioncap.guidance.keyword_heads import KeywordQueries
from regioncap.guidance.keyword_training import KeywordShares
from regioncap.guidance.keywords import Keywords
from regioncap.guidance.steering import Steering


@dataclass(frozen=True, slots=True, kw_only=True)
class NoGuidanceConfig:
    """No words reach the decoder: the null stage."""

    def build(self, dim: int, scene_bank: KeywordBank, detail_bank: KeywordBank) -> "NoGuidance":
        """The stage; it takes the banks like its peer and looks at neither."""
        return NoGuidance()


class NoGuidance(nn.Module):
    """Parameter-free: vectors of zeros, and zero words, regions and gates."""

    @property
    def keyword_words(self) -> tuple[str, ...]:
        """None."""
        return ()

    def calibrate(self, g_train: Float[Tensor, "n D"], shares: KeywordShares | None = None) -> None:
        """There is nothing to calibrate."""

    def forward(
        self,
        fused: Float[Tensor, "B D"],
        g: Float[Tensor, "B D"],
        regions: Float[Tensor, "B N D"],
        valid: Bool[Tensor, "B N"],
        queries: KeywordQueries | None = None,
        steering: Steering | None = None,
    ) -> Guidance:
        """Nothing to say, in the types and widths of `SemanticGuidance`."""
        batch, dim = fused.shape
        no_words = torch.zeros(batch, 0, 0, dtype=torch.long, device=fused.device)
        return Guidance(
            scene=torch.zeros_like(fused),
            detail=torch.zeros_like(fused),
            region_detail=fused.new_zeros(batch, 0, dim),
            scene_tokens=fused.new_zeros(batch, 0, dim),
            scene_words=no_words.flatten(1),
            scene_weights=fused.new_zeros(batch, 0),
            detail_words=no_words,
            detail_weights=fused.new_zeros(batch, 0, 0),
            detail_tokens=fused.new_zeros(batch, 0, 0, dim),
            gate=fused.new_zeros(batch, 0, dim),
            keywords=Keywords.none(fused),
        )

    def chosen_words(self, guidance: Guidance) -> list[ChosenWords]:
        """No words for any image."""
        return [ChosenWords(scene=(), detail=()) for _ in guidance.scene]
