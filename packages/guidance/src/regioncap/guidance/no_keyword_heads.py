"""The null stage of keyword heads: nobody was taught what images are called."""

from torch import nn

from regioncap.guidance.keyword_heads import KeywordInputs


class NoKeywordHeads(nn.Module):
    """No parameters and no queries: guidance finds its words by similarity."""

    def forward(self, inputs: KeywordInputs) -> None:
        """Nothing to ask the banks."""
