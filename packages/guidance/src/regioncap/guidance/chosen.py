"""Guidance in words: what was chosen for an image and its regions, for people to read."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

WeightedWords = tuple[tuple[str, float], ...]
"""Words and their weights, heaviest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenWords:
    """The words one image is guided by."""

    scene: WeightedWords
    """Of the whole image; the weights sum to 1."""
    detail: tuple[WeightedWords, ...]
    """Of each region slot; empty for padding."""


def weighted_words(vocabulary: Sequence[str], rows: Int[Tensor, " k"], weights: Float[Tensor, " k"]) -> WeightedWords:
    """The words in these rows of a bank, heaviest first; those of no weight are left out."""
    pairs = zip(rows.tolist(), weights.tolist(), strict=True)
    return tuple(sorted(((vocabulary[row], weight) for row, weight in pairs if weight > 0), key=lambda pair: -pair[1]))
