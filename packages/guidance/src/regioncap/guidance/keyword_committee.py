"""Several keyword heads that answer as one."""

from collections.abc import Sequence

import torch
from torch import nn

from regioncap.guidance.keyword_heads import KeywordHeads, KeywordInputs, KeywordQueries


class KeywordCommittee(nn.Module):
    """The mean of what several heads ask for.

        q = 1/H sum_h q_h,   and so   q . k_w = 1/H sum_h q_h . k_w
    A word gains the mean of what it gains by each: an ensemble in log-odds, at the banks' cost of one, since all heads
    look for words at the same keys. It is for images that no head was taught on. H heads.
    """

    def __init__(self, heads: Sequence[KeywordHeads]) -> None:
        super().__init__()
        if not heads:
            raise ValueError("a committee of keyword heads needs at least one, got none")
        self.heads = nn.ModuleList(heads)

    def forward(self, inputs: KeywordInputs) -> KeywordQueries:
        """Queries of the images and of their regions, in float32."""
        said: list[KeywordQueries] = [heads(inputs) for heads in self.heads]
        scene, detail, regions, mix = (
            torch.stack([getattr(own, name) for own in said]).mean(0) for name in ("scene", "detail", "regions", "mix")
        )
        return KeywordQueries(scene=scene, detail=detail, regions=regions, mix=mix)
