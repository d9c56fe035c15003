"""CIDEr-D for curves during training: in process, without Java, references prepared once."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

_ORDERS = 4
_SIGMA = 6.0
"""Width of the length penalty."""

_WORD = re.compile(r"<?\w+>?")


def plain_words(caption: str) -> list[str]:
    """Lower-case words without punctuation; `<num>` stays one word."""
    return _WORD.findall(caption.lower())


class QuickCider:
    """CIDEr-D (Vedantam et al. 2015, arXiv 1411.5726) of candidates against references that are prepared once.

        CIDEr-D(c, S) = 10 / |S| sum_{s in S} exp(-(l_c - l_s)^2 / (2 sigma^2)) mean_n cos_n(c, s)
        cos_n(c, s) = sum_w min(c_w, s_w) s_w / (|c| |s|)     over n-grams w, c_w = count(w) log(images / images with w)

    for n = 1..4, images counted by their references. As in pycocoevalcap, l is the number of bigrams, and on the same
    tokens the values are equal to 1e-9. The tokens differ: `plain_words` here, the Penn Treebank tokenizer there, so
    compare these values with one another and not with those of `CaptionScorer`.
    Raises ValueError if there are fewer than two images (all weights would be 0) or an image has no references.
    """

    def __init__(self, references: Mapping[str, Sequence[str]]) -> None:
        if len(references) < 2:
            raise ValueError(f"CIDEr needs the references of at least two images, got {len(references)}")
        for image, group in references.items():
            if isinstance(group, str) or not group:
                raise ValueError(f"the references of image '{image}' must be a list of at least one caption")
        self._images = {image: index for index, image in enumerate(references)}
        self._image_of = np.repeat(np.arange(len(references)), [len(group) for group in references.values()])
        counts = [_count_grams(caption) for group in references.values() for caption in group]
        self._grams: dict[tuple[str, ...], int] = {}
        for count in counts:
            for gram in count:
                self._grams.setdefault(gram, len(self._grams))
        images_with = Counter[int]()
        for index in range(len(references)):
            same = np.flatnonzero(self._image_of == index)
            images_with.update({self._grams[gram] for caption in same for gram in counts[caption]})
        frequency = np.array([images_with[gram] for gram in range(len(self._grams))], dtype=np.float64)
        # One entry more for n-grams that no reference has: they count towards a candidate's length as a vector.
        self._idf = np.log(len(references)) - np.log(np.append(frequency, 1.0))
        self._references = self._vectors(counts, self._image_of)

    def per_image(self, candidates: Mapping[str, str]) -> dict[str, float]:
        """Image -> CIDEr-D. Raises ValueError naming an image that lacks a candidate or is unknown."""
        odd = [*(image for image in self._images if image not in candidates)]
        odd += [image for image in candidates if image not in self._images]
        if odd:
            raise ValueError(f"image '{odd[0]}' has either no candidate or no references; both are needed")
        counts = [_count_grams(candidates[image]) for image in self._images]
        tested, truth = self._vectors(counts, np.arange(len(counts))), self._references
        by_key = np.argsort(tested.key)
        place = np.searchsorted(tested.key[by_key], truth.key)
        keys, weights = np.append(tested.key[by_key], -1), np.append(tested.weight[by_key], 0.0)
        said = np.where(
            keys[place] == truth.key, weights[place], 0.0
        )  # the candidate's weight at the references' n-grams
        product = _sum_by_order(truth.slot, np.minimum(said, truth.weight) * truth.weight, len(truth.norm))
        scale = tested.norm[self._image_of] * truth.norm
        cosine = np.divide(product, scale, out=np.zeros_like(product), where=scale > 0)  # (captions, orders)
        gap = tested.bigrams[self._image_of] - truth.bigrams
        each = np.exp(-(gap**2) / (2 * _SIGMA**2)) * cosine.mean(axis=1)
        score = 10 * np.bincount(self._image_of, weights=each) / np.bincount(self._image_of)
        return dict(zip(self._images, score.tolist(), strict=True))

    def mean(self, candidates: Mapping[str, str]) -> float:
        """CIDEr-D of the set, a fraction as in `Scores` (1.0 is printed as 100)."""
        return float(np.mean(list(self.per_image(candidates).values())))

    def _vectors(
        self, counts: Sequence[Counter[tuple[str, ...]]], image_of: Int[np.ndarray, " captions"]
    ) -> "_Vectors":
        """The tf-idf vectors of captions; `image_of` says whose caption each is."""
        caption = np.repeat(np.arange(len(counts)), [len(count) for count in counts])
        gram = np.array([self._grams.get(gram, len(self._grams)) for count in counts for gram in count], dtype=np.int64)
        times = np.array([times for count in counts for times in count.values()], dtype=np.float64)
        order = np.array([len(gram) - 1 for count in counts for gram in count], dtype=np.int64)
        slot = caption * _ORDERS + order
        weight = times * self._idf[gram]
        return _Vectors(
            key=image_of[caption] * (len(self._grams) + 1) + gram,
            slot=slot,
            weight=weight,
            norm=np.sqrt(_sum_by_order(slot, weight**2, len(counts))),
            bigrams=_sum_by_order(slot, times, len(counts))[:, 1],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vectors:
    """Sparse tf-idf vectors of captions, one entry per caption and n-gram."""

    key: Int[np.ndarray, " entries"]
    """Image and n-gram as one number, so that a candidate's entry finds the references' entries."""
    slot: Int[np.ndarray, " entries"]
    """Caption and order as one number: caption * orders + n - 1."""
    weight: Float[np.ndarray, " entries"]
    norm: Float[np.ndarray, "captions orders"]
    bigrams: Float[np.ndarray, " captions"]


def _count_grams(caption: str) -> Counter[tuple[str, ...]]:
    words = plain_words(caption)
    return Counter(
        tuple(words[start : start + order])
        for order in range(1, _ORDERS + 1)
        for start in range(len(words) - order + 1)
    )


def _sum_by_order(
    slot: Int[np.ndarray, " entries"], values: Float[np.ndarray, " entries"], captions: int
) -> Float[np.ndarray, "captions orders"]:
    sums = np.bincount(slot, values, captions * _ORDERS).reshape(captions, _ORDERS)
    return sums.astype(np.float64, copy=False)  # integers where there are no entries
