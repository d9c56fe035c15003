"""What corpus BLEU is made of, image by image, so that images can be resampled and BLEU made anew."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

ORDERS = 4
COUNTS = 2 * ORDERS + 2
"""Numbers an image: clipped matches of 1- to 4-grams, guesses of each, length of the caption, closest reference's."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_TINY, _SMALL = 1e-15, 1e-9
"""pycocoevalcap's guards against 0 / 0."""


def bleu_counts(
    references: Mapping[str, Sequence[str]], systems: Sequence[Mapping[str, str]], images: Sequence[str]
) -> NDArray[np.float64]:
    """The counts of every system's captions, [systems, COUNTS, images] in the order of `images`.

    Words are runs of letters and digits in lower case. That differs from the PTB tokenizer of the scores in rare
    cases, so the counts serve the spread of BLEU and never its value.
    """
    counts = np.zeros((len(systems), COUNTS, len(images)))
    for column, image in enumerate(images):
        truth = [_words(text) for text in references[image]]
        most: Counter[tuple[str, ...]] = Counter()
        for words in truth:
            most |= _grams(words)
        for row, captions in enumerate(systems):
            words = _words(captions[image])
            grams = _grams(words)
            for gram, often in (grams & most).items():
                counts[row, len(gram) - 1, column] += often
            closest = min((abs(len(other) - len(words)), len(other)) for other in truth)[1]
            guesses = [max(0, len(words) - order) for order in range(ORDERS)]
            counts[row, ORDERS:, column] = *guesses, len(words), closest
    return counts


def corpus_bleu(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """BLEU-1..4 [4, ...] from summed counts [COUNTS, ...] (Papineni et al. 2002).

    BLEU-n = min(1, exp(1 - r / c)) (p_1 ... p_n)^(1/n),   p_k = matches_k / guesses_k
    """
    matches, guesses, (length, closest) = counts[:ORDERS], counts[ORDERS : 2 * ORDERS], counts[2 * ORDERS :]
    precision = (matches + _TINY) / (guesses + _SMALL)
    order = np.arange(1, ORDERS + 1).reshape(-1, *[1] * (counts.ndim - 1))
    ratio = (length + _TINY) / (closest + _SMALL)
    brevity = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    bleu: NDArray[np.float64] = brevity * np.cumprod(precision, axis=0) ** (1 / order)
    return bleu


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _grams(words: Sequence[str]) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(words[start : start + order]) for order in range(1, ORDERS + 1) for start in range(len(words) - order + 1)
    )
