"""BLEU-1 to BLEU-4 of a set of captions and of each of them (Papineni et al. 2002)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from regioncap.experiments.metrics.ngrams import ORDERS, NgramCounts, Tokens, find, sum_at

# Added by the reference scorer, so that an order without n-grams divides: the values are part of the numbers.
_SMALL, _TINY = 1e-9, 1e-15


class Bleu:
    """BLEU against references that are counted once.

        BLEU-n = exp(min(0, 1 - r/c)) (prod_{k<=n} p_k)^(1/n),   p_k = sum_w min(c_w, max_s s_w) / #(k-grams of c)

    with c words in the candidate and r in the reference nearest in length (the shorter one of two). Of a set, counts
    and lengths are summed first, so its BLEU is no mean over images. Equal to pycocoevalcap's to rounding.
    I images with at least one reference each, S references in all.
    """

    def __init__(
        self, references: Tokens, counts: Sequence[NgramCounts], image: Int[np.ndarray, " S"], sizes: Sequence[int]
    ) -> None:
        self._image, self._sizes = image, tuple(sizes)
        self._lengths = references.lengths
        self._first = np.flatnonzero(np.diff(image, prepend=-1))  # of each image
        self._most = [_most(count, image, size) for count, size in zip(counts, sizes, strict=True)]

    def count(self, candidates: Tokens, counts: Sequence[NgramCounts]) -> Float[np.ndarray, "10 I"]:
        """What BLEU is made of, for each image's candidate; added up over images it is what a set's BLEU is made of.

        Clipped matches of 1- to 4-grams, n-grams of each order, words, words of the reference nearest in length.
        """
        words = candidates.lengths
        guessed = [(words - order).clip(min=0) for order in range(ORDERS)]
        right = [self._right(count, order, len(words)) for order, count in enumerate(counts)]
        return np.stack([*right, *guessed, words, self._nearest(words)], dtype=np.float64)

    def _right(self, count: NgramCounts, order: int, images: int) -> Float[np.ndarray, " I"]:
        """Clipped matches of an order."""
        keys, most = self._most[order]
        known = count.gram < self._sizes[order]
        place = find(count.caption[known] * self._sizes[order] + count.gram[known], keys)
        found = place >= 0
        matched = np.minimum(count.times[known][found], most[place[found]])
        return sum_at(count.caption[known][found], matched, images)

    def _nearest(self, tested: Int[np.ndarray, " I"]) -> Int[np.ndarray, " I"]:
        """Length of each image's reference that is nearest in length, the shorter of two."""
        beyond = int(self._lengths.max(initial=0)) + 1
        rank = np.abs(self._lengths - tested[self._image]) * beyond + self._lengths
        nearest: Int[np.ndarray, " I"] = np.minimum.reduceat(rank, self._first) % beyond
        return nearest


def bleu(counts: Float[np.ndarray, "10 *I"]) -> Float[np.ndarray, "4 *I"]:
    """BLEU-1 to BLEU-4 from the counts of a caption, or their sum over a set."""
    right, guessed, (words, nearest) = counts[:ORDERS], counts[ORDERS : 2 * ORDERS], counts[2 * ORDERS :]
    precision = np.cumprod((right + _TINY) / (guessed + _SMALL), axis=0)
    roots = 1 / np.arange(1, ORDERS + 1).reshape(-1, *[1] * (counts.ndim - 1))
    brevity = np.exp(np.minimum(0.0, 1 - 1 / ((words + _TINY) / (nearest + _SMALL))))
    return np.asarray(precision**roots * brevity)


def _most(
    count: NgramCounts, image: Int[np.ndarray, " S"], size: int
) -> tuple[Int[np.ndarray, " K"], Int[np.ndarray, " K"]]:
    """Image and n-gram as one sorted key, and the most that one of the image's references has of it."""
    key = image[count.caption] * size + count.gram
    order = np.argsort(key, kind="stable")
    key, times = key[order], count.times[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    return key[first], np.maximum.reduceat(times, first) if len(first) else times
