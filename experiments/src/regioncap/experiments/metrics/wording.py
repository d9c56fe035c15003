"""How varied captions are, with no reference to compare with: distinct-n, vocabulary, length, novelty, repetition."""

import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from regioncap.experiments.metrics.measures import Measures

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
"""Letters and digits; an apostrophe or a hyphen inside belongs to the word."""


def words_of(caption: str) -> tuple[str, ...]:
    """A caption's words in lower case, without punctuation."""
    return tuple(_WORD.findall(caption.lower()))


class KnownCaptions:
    """Training captions, to be asked whether a caption is one of them: the same words in the same order."""

    def __init__(self, captions: Iterable[str]) -> None:
        self._known = {" ".join(words_of(caption)) for caption in captions}

    def __contains__(self, words: Sequence[str]) -> bool:
        return " ".join(words) in self._known


def wording(captions: Mapping[str, str], known: KnownCaptions | None = None) -> Measures:
    """What captions measure by themselves.

    distinct-n (Li et al. 2016, arXiv 1510.03055) is the share of different n-grams among all n-grams of the set, and
    like the vocabulary depends on how many captions there are: compare sets of the same images. An image's own
    value is that of its caption alone. A caption repeats itself where one or more words are at once followed by the
    same words. Novelty is the share of captions that `known` does not hold; None leaves it out, and says so.
    Raises ValueError if there are no captions.
    """
    if not captions:
        raise ValueError("there are no captions to measure")
    said = {image: words_of(caption) for image, caption in captions.items()}
    every = tuple(said.values())
    per_image: dict[str, dict[str, float]] = {
        "distinct-1": {image: _distinct([words], 1) for image, words in said.items()},
        "distinct-2": {image: _distinct([words], 2) for image, words in said.items()},
        "vocabulary": {image: float(len(set(words))) for image, words in said.items()},
        "length": {image: float(len(words)) for image, words in said.items()},
        "repetition": {image: float(repeats(words)) for image, words in said.items()},
    }
    corpus = {
        "distinct-1": _distinct(every, 1),
        "distinct-2": _distinct(every, 2),
        "vocabulary": float(len({word for words in every for word in words})),
    }
    missing = {}
    if known is None:
        missing["novelty"] = "it wants the captions of training (`regioncap score`: --training FILE)"
    else:
        per_image["novelty"] = {image: float(words not in known) for image, words in said.items()}
    corpus |= {name: fmean(values.values()) for name, values in per_image.items() if name not in corpus}
    return Measures.joined([Measures(corpus=corpus, per_image=per_image, missing=missing)])


def repeats(words: Sequence[str]) -> bool:
    """Whether one or more words are followed at once by the same words: "a man and a man and" does."""
    return any(
        words[start : start + size] == words[start + size : start + 2 * size]
        for size in range(1, len(words) // 2 + 1)
        for start in range(len(words) - 2 * size + 1)
    )


def _distinct(captions: Sequence[Sequence[str]], order: int) -> float:
    """The share of different n-grams; 0 where there is none."""
    grams = [tuple(words[start : start + order]) for words in captions for start in range(len(words) - order + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0
