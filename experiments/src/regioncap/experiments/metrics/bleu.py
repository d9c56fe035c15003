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

    def score(
        self, candidates: Tokens, counts: Sequence[NgramCounts]
    ) -> tuple[Float[np.ndarray, "4"], Float[np.ndarray, "4 I"]]:
        """BLEU-1 to BLEU-4 of the set, and of each image; one candidate for each image."""
        tested = candidates.lengths
        guessed = np.stack([(tested - order).clip(min=0) for order in range(ORDERS)]).astype(np.float64)
        right = np.stack([self._right(count, order, len(tested)) for order, count in enumerate(counts)])
        nearest = self._nearest(tested)
        corpus = _bleu(right.sum(1), guessed.sum(1), float(tested.sum()), float(nearest.sum()))
        return corpus, _bleu(right, guessed, tested, nearest)

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


def _most(
    count: NgramCounts, image: Int[np.ndarray, " S"], size: int
) -> tuple[Int[np.ndarray, " K"], Int[np.ndarray, " K"]]:
    """Image and n-gram as one sorted key, and the most that one of the image's references has of it."""
    key = image[count.caption] * size + count.gram
    order = np.argsort(key, kind="stable")
    key, times = key[order], count.times[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    return key[first], np.maximum.reduceat(times, first) if len(first) else times


def _bleu(
    right: Float[np.ndarray, "4 *I"],
    guessed: Float[np.ndarray, "4 *I"],
    tested: "Int[np.ndarray, ' I'] | float",
    nearest: "Int[np.ndarray, ' I'] | float",
) -> Float[np.ndarray, "4 *I"]:
    precision = np.cumprod((right + _TINY) / (guessed + _SMALL), axis=0)
    roots = 1 / np.arange(1, ORDERS + 1).reshape(-1, *[1] * (right.ndim - 1))
    ratio = (np.asarray(tested, dtype=np.float64) + _TINY) / (np.asarray(nearest, dtype=np.float64) + _SMALL)
    brevity = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    return np.asarray(precision**roots * brevity)
