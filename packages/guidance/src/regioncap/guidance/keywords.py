"""The words of an image over both banks: how strong the evidence for each is, and the few that matter most."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regioncap.guidance.bank import KeywordBank

NO_WORD = -1e4
"""Score of a word that is no candidate."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Keywords:
    """Words of an image as rows of the banks in use, one after the other. B images, W words of all, K chosen."""

    gains: Float[Tensor, "B W"]
    """What the image says for or against each word: log-odds over its frequency where keyword heads say it, weight in
    [0, 1] where words are found by similarity; 0 for a word of which nothing is known."""
    words: Int[Tensor, "B K"]
    """The words that the image is likeliest to be described by, likeliest first."""
    scores: Float[Tensor, "B K"]
    """Their log-odds, or weights; 0 where there is no word."""
    valid: Bool[Tensor, "B K"]

    @classmethod
    def of(cls, gains: Float[Tensor, "B W"], scores: Float[Tensor, "B W"], count: int) -> "Keywords":
        """Choose the best `count` by score; words at `NO_WORD` or below are no candidates."""
        best = scores.topk(min(count, scores.shape[1]))
        valid = best.values > NO_WORD
        return cls(gains=gains, words=best.indices, scores=best.values * valid, valid=valid)

    @classmethod
    def none(cls, images: Tensor) -> "Keywords":
        """No words for any of these images."""
        nothing = images.new_zeros(len(images), 0)
        return cls(gains=nothing, words=nothing.long(), scores=nothing, valid=nothing.bool())

    def of_another(self) -> "Keywords":
        """Each image with the words of the one before it in the batch."""
        return Keywords(
            gains=self.gains.roll(1, 0),
            words=self.words.roll(1, 0),
            scores=self.scores.roll(1, 0),
            valid=self.valid.roll(1, 0),
        )


def told_once(banks: tuple[KeywordBank, ...]) -> Bool[Tensor, " W"]:
    """Which words of the banks, one after the other, do not stand in an earlier one."""
    seen: set[str] = set()
    first = []
    for word in (word for bank in banks for word in bank.words):
        first.append(word not in seen)
        seen.add(word)
    return torch.tensor(first, dtype=torch.bool)


def spread_weights(words: Int[Tensor, "B k"], weights: Float[Tensor, "B k"], size: int) -> Float[Tensor, "B W"]:
    """Weights of chosen words as rows over the whole bank; of a word chosen twice the larger one."""
    nothing = weights.new_zeros(len(weights), size)
    return nothing.scatter_reduce(1, words, weights, "amax")
