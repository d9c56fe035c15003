"""Keywords as a lesson of their own: the fused vector has to tell the words that people use of the picture."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from regioncap.experiments.keywords.targets import caption_shares
from regioncap.experiments.training.objectives.objective import Lessons


class KeywordLesson(nn.Module):
    """A linear head from the fused vector f (eq. 10) onto the words of both banks, which training alone asks.

    Nothing that it says conditions the decoder, so it needs no cross-fitting. W words.
    """

    def __init__(self, lessons: Lessons, dim: int) -> None:
        super().__init__()
        self._banks = [
            (caption_shares(lessons.references, bank), len(bank.words))
            for bank in (lessons.scene_bank, lessons.detail_bank)
        ]
        self.heads = nn.ModuleList(nn.Linear(dim, words) for _, words in self._banks)

    def shares(self, rows: Int[Tensor, "B"]) -> Float[Tensor, "B W"]:
        """Of these training images: the share of captions that hold each word."""
        return torch.cat([shares.dense(rows, words) for shares, words in self._banks], dim=1)

    def forward(self, fused: Float[Tensor, "B D"], shares: Float[Tensor, "B W"]) -> Float[Tensor, ""]:
        """Binary cross-entropy with the shares, summed over words, mean over images."""
        logits = torch.cat([head(fused).float() for head in self.heads], dim=1)
        return F.binary_cross_entropy_with_logits(logits, shares, reduction="none").sum(1).mean()
