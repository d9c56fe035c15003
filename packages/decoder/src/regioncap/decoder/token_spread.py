"""From scores of a bank's words to a bias on the tokens of a decoder's vocabulary."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regioncap.decoder.wording import Wordings


@runtime_checkable
class Speller(Wordings, Protocol):
    """What is needed of a tokenizer."""

    def normalise(self, caption: str) -> str:
        """A text as captions have it."""
        ...


class TokenSpread(nn.Module):
    """Which tokens the words of a bank begin with: scores of W words -> bias on V tokens.

        bias_v = max { score_w : w begins with v },   0 for a token that no word begins with
    A word begins with the first piece of its spelling in the middle of a caption: with a vocabulary of words that is
    the word. A phrase ("fire hydrant") begins with each of its words. A word that the tokenizer cannot spell has no
    token, and a phrase only those of its other words. The map is fixed and no part of a checkpoint: the tokenizer and
    the bank make it again.
    """

    word: Int[Tensor, " E"]
    token: Int[Tensor, " E"]

    def __init__(self, tokenizer: Speller, words: Sequence[str], vocab_size: int) -> None:
        super().__init__()
        pairs = [(word, token) for word, text in enumerate(words) for token in _beginnings(tokenizer, text)]
        word, token = torch.tensor(pairs, dtype=torch.long).view(-1, 2).unbind(1)
        self.vocab_size, self.words = vocab_size, len(words)
        self.register_buffer("word", word.contiguous(), persistent=False)
        self.register_buffer("token", token.contiguous(), persistent=False)

    @property
    def reached(self) -> Bool[Tensor, " W"]:
        """Which words have a token."""
        return torch.zeros(self.words, dtype=torch.bool, device=self.word.device).index_fill(0, self.word, True)

    def forward(self, scores: Float[Tensor, "B W"]) -> Float[Tensor, "B V"]:
        """The bias. Of words that share a token the best one's score counts, and gets the gradient."""
        if scores.shape[1] != self.words:
            raise ValueError(f"scores are of {scores.shape[1]} words, the bank has {self.words}: pass one for each")
        nothing = scores.new_zeros(len(scores), self.vocab_size)
        tokens = self.token.expand(len(scores), -1)
        return nothing.scatter_reduce(1, tokens, scores[:, self.word], "amax", include_self=False)


def _beginnings(tokenizer: Speller, text: str) -> list[int]:
    """The first tokens of the words of a phrase, each once."""
    unspoken = set(tokenizer.unspoken)
    spelt = [spellings[-1] for part in tokenizer.normalise(text).split() if (spellings := tokenizer.spellings(part))]
    return list(dict.fromkeys(ids[0] for ids in spelt if ids and not set(ids) & unspoken))
