"""CIDEr-D of each image's caption (Vedantam et al. 2015)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from regioncap.experiments.metrics.ngrams import ORDERS, NgramCounts, find, sum_at

_SIGMA = 6.0
"""Width of the length penalty."""


class CiderD:
    """CIDEr-D (arXiv 1411.5726) against references that are weighed once.

        CIDEr-D(c, S) = 10 / |S| sum_{s in S} exp(-(l_c - l_s)^2 / (2 sigma^2)) mean_n cos_n(c, s)
        cos_n(c, s) = sum_w min(c_w, s_w) s_w / (|c| |s|)     over n-grams w, c_w = count(w) log(images / images with w)

    for n = 1..4, images counted by their references. As in pycocoevalcap, to whose values it is equal to rounding, l
    is the number of bigrams and an n-gram without a reference weighs as if one image had it.
    I images with at least one reference each, S references in all.
    """

    def __init__(self, counts: Sequence[NgramCounts], image: Int[np.ndarray, " S"], sizes: Sequence[int]) -> None:
        self._image, self._sizes = image, tuple(sizes)
        self._images = int(image.max()) + 1
        self._idf = [_idf(count, image, size, self._images) for count, size in zip(counts, self._sizes, strict=True)]
        self._references = [_weigh(count, idf, len(image)) for count, idf in zip(counts, self._idf, strict=True)]

    def score(self, counts: Sequence[NgramCounts]) -> Float[np.ndarray, " I"]:
        """CIDEr-D of every image's candidate; that of a set is the mean."""
        cosines = np.zeros(len(self._image))
        bigrams = np.zeros(self._images)
        for order, (count, idf, truth) in enumerate(zip(counts, self._idf, self._references, strict=True)):
            tested = _weigh(count, idf, self._images)
            cosines += self._cosine(tested, truth, self._sizes[order])
            if order == 1:
                bigrams = tested.total
        gap = bigrams[self._image] - self._references[1].total
        each = np.exp(-(gap**2) / (2 * _SIGMA**2)) * cosines / ORDERS
        return 10 * sum_at(self._image, each, self._images) / np.bincount(self._image)

    def _cosine(self, tested: "_Weighed", truth: "_Weighed", size: int) -> Float[np.ndarray, " S"]:
        """cos_n of each reference with its image's candidate."""
        known = tested.gram < size
        keys = tested.caption[known] * size + tested.gram[known]  # sorted, as the counts are
        place = find(self._image[truth.caption] * size + truth.gram, keys)
        met = place >= 0
        weight = truth.weight[met]
        product = sum_at(
            truth.caption[met], np.minimum(tested.weight[known][place[met]], weight) * weight, len(self._image)
        )
        scale = tested.norm[self._image] * truth.norm
        cosine: Float[np.ndarray, " S"] = np.divide(product, scale, out=np.zeros(len(scale)), where=scale > 0)
        return cosine


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weighed:
    """tf-idf vectors of captions for one order, an entry per caption and n-gram."""

    caption: Int[np.ndarray, " E"]
    gram: Int[np.ndarray, " E"]
    weight: Float[np.ndarray, " E"]
    norm: Float[np.ndarray, " C"]
    total: Float[np.ndarray, " C"]
    """N-grams in each caption."""


def _idf(count: NgramCounts, image: Int[np.ndarray, " S"], size: int, images: int) -> Float[np.ndarray, " G1"]:
    """log(images / images with the n-gram); the last entry is for n-grams that no reference has."""
    pairs = np.sort(image[count.caption] * size + count.gram)
    different = pairs[np.diff(pairs, prepend=-1) > 0]  # as np.unique, which takes 16 times as long for millions
    frequency = np.bincount(different % size, minlength=size)
    idf: Float[np.ndarray, " G1"] = np.log(float(images)) - np.log(np.append(np.maximum(frequency, 1.0), 1.0))
    return idf


def _weigh(count: NgramCounts, idf: Float[np.ndarray, " G1"], captions: int) -> _Weighed:
    weight = count.times * idf[np.minimum(count.gram, len(idf) - 1)]
    return _Weighed(
        caption=count.caption,
        gram=count.gram,
        weight=weight,
        norm=np.sqrt(sum_at(count.caption, weight**2, captions)),
        total=sum_at(count.caption, count.times, captions),
    )
