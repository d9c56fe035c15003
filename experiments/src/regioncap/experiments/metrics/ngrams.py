"""N-grams of captions as numbers and counts, so that BLEU and CIDEr are a few array operations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

ORDERS = 4
"""BLEU and CIDEr look at n-grams of one to four words."""

_WORDS_AT_MOST = 2**31
"""Words, and n-grams of an order, that an index can tell apart: two such numbers make one 64-bit key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Captions as word numbers, one behind the other. C captions, T words in all."""

    words: Int[np.ndarray, " T"]
    lengths: Int[np.ndarray, " C"]
    """Words of each caption."""

    @property
    def caption(self) -> Int[np.ndarray, " T"]:
        """Which caption each word belongs to."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


@dataclass(frozen=True, slots=True, kw_only=True)
class NgramCounts:
    """How often each n-gram of one order stands in each caption: an entry for every pair that occurs, sorted by it."""

    caption: Int[np.ndarray, " E"]
    gram: Int[np.ndarray, " E"]
    """Number of the n-gram among those of its order; from `NgramIndex.sizes` on, n-grams that no reference has."""
    times: Int[np.ndarray, " E"]


class NgramIndex:
    """The words and n-grams of a set of captions, numbered.

    An n-gram is the pair of its first n-1 words' number and its last word's, so that numbering needs no hash table of
    word tuples: 200,000 captions fit where a dictionary of tuples takes gigabytes.
    `words` lists the words in the order of their numbers; `keys[n - 2]` are the sorted pairs of order n.
    """

    def __init__(self, words: Sequence[str], keys: Sequence[Int[np.ndarray, " _"]]) -> None:
        self.words = words
        self.keys = tuple(keys)
        self._numbers = {word: number for number, word in enumerate(words)}

    @classmethod
    def learn(cls, captions: Sequence[str]) -> tuple["NgramIndex", list[NgramCounts]]:
        """The index of everything in `captions`, tokens joined by single spaces, and what `count` gives for them."""
        index = cls([*dict.fromkeys(word for caption in captions for word in caption.split())], ())
        tokens = index.number(captions)
        grams, places, caption = tokens.words, np.arange(len(tokens.words)), tokens.caption
        keys, counts = [], [_counted(caption, grams)]
        for order in range(2, ORDERS + 1):
            pairs, places = _pairs(tokens, grams, places, order)
            unique, grams = np.unique(pairs, return_inverse=True)
            keys.append(unique)
            counts.append(_counted(caption[places], grams))
        return cls(index.words, keys), counts

    @property
    def sizes(self) -> tuple[int, ...]:
        """Known n-grams of each order."""
        return len(self.words), *(len(keys) for keys in self.keys)

    def number(self, captions: Sequence[str]) -> Tokens:
        """Captions as numbers; a word that the index does not have gets a number of its own behind the known ones."""
        strange: dict[str, int] = {}
        known, numbers, lengths = self._numbers, [], []
        for caption in captions:
            words = caption.split()
            lengths.append(len(words))
            for word in words:
                number = known.get(word)
                numbers.append(strange.setdefault(word, len(known) + len(strange)) if number is None else number)
        return Tokens(words=np.array(numbers, dtype=np.int64), lengths=np.array(lengths, dtype=np.int64))

    def count(self, tokens: Tokens) -> list[NgramCounts]:
        """The n-grams of numbered captions, one `NgramCounts` for each order from 1 to 4."""
        grams, places, caption = tokens.words, np.arange(len(tokens.words)), tokens.caption
        counts = [_counted(caption, grams)]
        for order, keys in enumerate(self.keys, 2):
            pairs, places = _pairs(tokens, grams, places, order)
            grams = _known_or_new(pairs, keys)
            counts.append(_counted(caption[places], grams))
        return counts


def find(wanted: Int[np.ndarray, " W"], keys: Int[np.ndarray, " K"]) -> Int[np.ndarray, " W"]:
    """Where each wanted number stands among sorted `keys`, -1 where it does not."""
    if not len(keys):
        return np.full(len(wanted), -1)
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)


def sum_at(
    places: Int[np.ndarray, " E"], values: Shaped[np.ndarray, " E"], length: int
) -> Float[np.ndarray, " {length}"]:
    """The values summed at their places; zeros where there are none."""
    return np.bincount(places, values, length).astype(np.float64)  # integers where there are no entries


def _pairs(
    tokens: Tokens, grams: Int[np.ndarray, " P"], places: Int[np.ndarray, " P"], order: int
) -> tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " Q"]]:
    """Keys of the n-grams of `order`, and where they start, from those of one word less that start at `places`."""
    last = places + order - 1
    end = np.repeat(np.cumsum(tokens.lengths), tokens.lengths)
    inside = last < end[places] if len(places) else np.zeros(0, dtype=bool)
    return grams[inside] * _WORDS_AT_MOST + tokens.words[last[inside]], places[inside]


def _known_or_new(pairs: Int[np.ndarray, " Q"], keys: Int[np.ndarray, " G"]) -> Int[np.ndarray, " Q"]:
    grams = find(pairs, keys)
    new = grams < 0
    grams[new] = len(keys) + np.unique(pairs[new], return_inverse=True)[1]
    return grams


def _counted(caption: Int[np.ndarray, " P"], gram: Int[np.ndarray, " P"]) -> NgramCounts:
    stride = int(gram.max(initial=0)) + 1
    both, times = np.unique(caption * stride + gram, return_counts=True)
    return NgramCounts(caption=both // stride, gram=both % stride, times=times)
