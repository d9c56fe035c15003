"""A bank's words in a decoder's own embeddings."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regioncap.decoder.wording import Wordings


class KeywordPieces(nn.Module):
    """How a tokenizer spells the W words of a bank, and their vectors by a decoder's table of embeddings.

        vector of w = mean of table[piece] over the pieces of w
    Words and phrases are spelt as in the middle of a caption. The map is fixed and no part of a checkpoint: the
    tokenizer and the bank make it again. Words of no bank, of which there may come any, get a map of their own.
    """

    pieces: Int[Tensor, "W L"]
    real: Bool[Tensor, "W L"]

    def __init__(self, tokenizer: Wordings, words: Sequence[str]) -> None:
        super().__init__()
        unspoken = set(tokenizer.unspoken)
        spelt = [(tokenizer.spellings(text) or ((),))[-1] for text in words]
        spelt = [() if set(ids) & unspoken else ids for ids in spelt]
        longest = max(map(len, spelt), default=0)
        pieces = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in spelt], dtype=torch.long)
        lengths = torch.tensor([len(ids) for ids in spelt], dtype=torch.long)
        self.register_buffer("pieces", pieces.view(len(spelt), longest), persistent=False)
        self.register_buffer("real", torch.arange(longest) < lengths[:, None], persistent=False)

    @property
    def known(self) -> Bool[Tensor, " W"]:
        """Which words can be spelt; the others' vectors are zero, and their slots should not be valid."""
        return self.real.any(1)

    def forward(self, words: Int[Tensor, "*rows"], table: Float[Tensor, "V H"]) -> Float[Tensor, "*rows H"]:
        """Vectors of words by their rows in the bank; `table` is the decoder's, `model.transformer.wte.weight`."""
        real = self.real[words][..., None]  # *rows L 1
        return (table[self.pieces[words]] * real).sum(-2) / real.sum(-2).clamp(min=1)
