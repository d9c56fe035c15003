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
        self._sizes = tuple(sizes)
        self._images = int(image.max()) + 1
        self._bounds = np.searchsorted(image, np.arange(self._images + 1))
        self._idf = [_idf(count, image, size, self._images) for count, size in zip(counts, self._sizes, strict=True)]
        self._references = [_weigh(count, idf, len(image)) for count, idf in zip(counts, self._idf, strict=True)]

    def score(
        self, counts: Sequence[NgramCounts], image: Int[np.ndarray, " C"] | None = None
    ) -> Float[np.ndarray, " C"]:
        """CIDEr-D of each of C captions, that of a set is the mean; `image` says of which image each is.

        None is one caption for every image, in their order.
        """
        image = np.arange(self._images) if image is None else image
        own = self._bounds[image + 1] - self._bounds[image]  # references that each caption meets
        candidate = np.repeat(np.arange(len(image)), own)  # M meetings
        reference = _ranges(self._bounds[image], own)
        cosines = np.zeros(len(candidate))
        bigrams = np.zeros(len(image))
        for order, (count, idf, truth) in enumerate(zip(counts, self._idf, self._references, strict=True)):
            tested = _weigh(count, idf, len(image))
            cosines += _cosine(tested, truth, candidate, reference, self._sizes[order])
            if order == 1:
                bigrams = tested.total
        gap = bigrams[candidate] - self._references[1].total[reference]
        each = np.exp(-(gap**2) / (2 * _SIGMA**2)) * cosines / ORDERS
        return 10 * sum_at(candidate, each, len(image)) / own


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weighed:
    """tf-idf vectors of captions for one order, an entry per caption and n-gram."""

    caption: Int[np.ndarray, " E"]
    """Ascending."""
    gram: Int[np.ndarray, " E"]
    bounds: Int[np.ndarray, " C1"]
    """Where each caption's entries begin, and the end of the last."""
    weight: Float[np.ndarray, " E"]
    norm: Float[np.ndarray, " C"]
    total: Float[np.ndarray, " C"]
    """N-grams in each caption."""


def _cosine(
    tested: _Weighed,
    truth: _Weighed,
    candidate: Int[np.ndarray, " M"],
    reference: Int[np.ndarray, " M"],
    size: int,
) -> Float[np.ndarray, " M"]:
    """cos_n of candidates with references, a pair for each meeting."""
    known = tested.gram < size
    keys = tested.caption[known] * size + tested.gram[known]  # sorted, as the counts are
    begin = truth.bounds[reference]
    entries = truth.bounds[reference + 1] - begin
    meeting = np.repeat(np.arange(len(reference)), entries)
    entry = _ranges(begin, entries)
    place = find(candidate[meeting] * size + truth.gram[entry], keys)
    met = place >= 0
    weight = truth.weight[entry[met]]
    product = sum_at(meeting[met], np.minimum(tested.weight[known][place[met]], weight) * weight, len(reference))
    scale = tested.norm[candidate] * truth.norm[reference]
    cosine: Float[np.ndarray, " M"] = np.divide(product, scale, out=np.zeros(len(scale)), where=scale > 0)
    return cosine


def _ranges(begin: Int[np.ndarray, " R"], lengths: Int[np.ndarray, " R"]) -> Int[np.ndarray, " L"]:
    """begin, begin + 1, ... of each of R ranges, one range behind the other."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(begin - before, lengths) + np.arange(lengths.sum())


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
        bounds=np.searchsorted(count.caption, np.arange(captions + 1)),
        weight=weight,
        norm=np.sqrt(sum_at(count.caption, weight**2, captions)),
        total=sum_at(count.caption, count.times, captions),
    )
