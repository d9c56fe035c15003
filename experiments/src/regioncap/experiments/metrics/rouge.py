"""ROUGE-L of each image's caption (Lin 2004)."""

import numpy as np
from jaxtyping import Float, Int

from regioncap.experiments.metrics.ngrams import Tokens

_BETA = 1.2
"""Weight of recall over precision, as in caption evaluation (Chen et al. 2015)."""
_CELLS_AT_ONCE = 2_000_000
"""Cells of the row of the table that are held together, whatever the number of captions."""
_NO_WORD, _NO_OTHER_WORD = -1, -2
"""Padding of references and of candidates: equal to no word, and not to one another."""


def rouge_l(references: Tokens, candidates: Tokens, image: Int[np.ndarray, " S"]) -> Float[np.ndarray, " I"]:
    """ROUGE-L of every image's candidate; that of a set is the mean.

        F = (1 + b^2) P R / (R + b^2 P),   P = max_s LCS(c, s) / |c|,   R = max_s LCS(c, s) / |s|,   b = 1.2

    over the image's references s, LCS the length of the longest common subsequence of words. The best precision and
    the best recall may come from two references, as in pycocoevalcap, to whose values these are equal.
    S references, `image` says whose; I images with a candidate each. A caption without words scores 0.
    """
    common = _common(references, candidates, image).astype(np.float64)
    first = np.flatnonzero(np.diff(image, prepend=-1))
    precision = np.maximum.reduceat(common / candidates.lengths.clip(min=1)[image], first)
    recall = np.maximum.reduceat(common / references.lengths.clip(min=1), first)
    scale = recall + _BETA**2 * precision
    return np.divide((1 + _BETA**2) * precision * recall, scale, out=np.zeros(len(scale)), where=scale > 0)


def _common(references: Tokens, candidates: Tokens, image: Int[np.ndarray, " S"]) -> Int[np.ndarray, " S"]:
    """LCS of each reference with its image's candidate.

    Row by row of the usual table, for many pairs at once: L[i, j] = max_{j' <= j} max(L[i-1, j'], L[i-1, j'-1] + 1
    where the words are equal), so that a row is one running maximum. Pairs go by length, so that little is padding.
    """
    common = np.zeros(len(references.lengths), dtype=np.int64)
    starts, own = _starts(references), _starts(candidates)
    by_length = np.lexsort((candidates.lengths[image], references.lengths))
    widest = int(references.lengths.max(initial=1))
    at_once = max(1, _CELLS_AT_ONCE // (widest + 1))
    for begin in range(0, len(by_length), at_once):
        pairs = by_length[begin : begin + at_once]
        truth = _padded(references.words, starts[pairs], references.lengths[pairs], _NO_WORD)
        tested = _padded(candidates.words, own[image[pairs]], candidates.lengths[image[pairs]], _NO_OTHER_WORD)
        row = np.zeros((len(pairs), truth.shape[1] + 1), dtype=np.int64)
        for word in tested.T:
            longer = np.where(truth == word[:, None], row[:, :-1] + 1, 0)
            np.maximum.accumulate(np.maximum(row[:, 1:], longer), axis=1, out=row[:, 1:])
        common[pairs] = row[:, -1]
    return common


def _starts(tokens: Tokens) -> Int[np.ndarray, " C"]:
    starts: Int[np.ndarray, " C"] = np.cumsum(tokens.lengths) - tokens.lengths
    return starts


def _padded(
    words: Int[np.ndarray, " T"], starts: Int[np.ndarray, " C"], lengths: Int[np.ndarray, " C"], padding: int
) -> Int[np.ndarray, "C L"]:
    column = np.arange(int(lengths.max(initial=0)))
    inside = column < lengths[:, None]
    table = np.full(inside.shape, padding, dtype=np.int64)
    table[inside] = words[(starts[:, None] + column)[inside]]
    return table
