"""Exact search for the best of many words: all of them roughly in 8-bit integers, the few in question in float32.

A product of 8-bit integers is several times as fast as one of floats on a CPU that has instructions for it, and how far
it can be off is known: with q' and k' the rounded vectors,

    |q . k - q' . k'|  <=  |q| |k - k'| + |q - q'| |k'|          (Cauchy-Schwarz)

So a word whose rough score plus this bound stays below the score of k others is out, for certain. Of 10,000 random
words of width 512, where all are about as near, some twenty remain.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor
from torch.nn import functional

ROUGH_FROM = 4096
"""Words from which on the rough pass pays on a CPU (`python benchmarks/bench_guidance.py forms`)."""
BLOCK = 64
"""Words that share a bound, so that most are never looked at one by one."""
LARGEST = 127
SLACK = 1e-5
"""Rounding of float32 sums, in parts of |q| |k|: generous for widths up to some thousands."""
ROUGH_AT_ONCE = 2**22
"""Rough scores held at a time: 16 MiB. With fewer, integer products spend their time on packing the words anew."""
ROUNDED_AT_ONCE = 2**11
"""Keys rounded at a time, so few that they stay in the cache."""
PAIRS_AT_ONCE = 2**10
"""Words scored anew at a time, so few that they stay in the cache."""
TOO_MANY = 1 / 8
"""Share of all words from which on scoring what remains takes longer than scoring all."""


def nearest_keys(
    queries: Float[Tensor, "Q E"], keys: Float[Tensor, "W E"], bias: Float[Tensor, " W"], count: int
) -> Int[Tensor, "Q k"]:
    """The `count` keys of the highest q . k + bias, highest first, by comparing with all of them in float32."""
    return functional.linear(queries, keys, bias).topk(count, dim=1).indices


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoughKeys:
    """Keys with their rounded selves, in C blocks of b keys; the last block is filled up with keys that never win.

    W keys, E width, P = C b.
    """

    keys: Float[Tensor, "W E"]
    bias: Float[Tensor, " W"]
    rounded: Int8[Tensor, "P E"]
    """Keys in steps: k' = step * rounded."""
    step: Float[Tensor, " P"]
    padded_bias: Float[Tensor, " P"]
    rounding: Float[Tensor, "C b"]
    """|k - k'|, and what float32 sums may add to it."""
    size: Float[Tensor, "C b"]
    """|k'|"""

    @classmethod
    def of(cls, keys: Float[Tensor, "W E"], bias: Float[Tensor, " W"]) -> "RoughKeys":
        """Round these keys; about as long as a few queries take."""
        fill = (0, -len(keys) % BLOCK)
        rounded, step, off, size = map(torch.cat, zip(*map(_round, keys.split(ROUNDED_AT_ONCE)), strict=True))
        return cls(
            keys=keys,
            bias=bias,
            rounded=functional.pad(rounded, (0, 0, *fill)),
            step=functional.pad(step[:, 0], fill),
            padded_bias=functional.pad(bias, fill, value=-torch.inf),
            rounding=functional.pad(off + SLACK * size, fill).view(-1, BLOCK),
            size=functional.pad(size, fill).view(-1, BLOCK),
        )

    def nearest(self, queries: Float[Tensor, "Q E"], count: int) -> Int[Tensor, "Q k"]:
        """The same as `nearest_keys`, up to the order of scores that float32 cannot tell apart."""
        # The integer product of torch 2.14 is wrong for vectors of one number.
        if count > len(self.size) or self.keys.shape[1] == 1:
            return nearest_keys(queries, self.keys, self.bias, count)
        parts = queries.split(max(1, ROUGH_AT_ONCE // len(self.step)))
        return torch.cat([self._nearest(part, count) for part in parts])

    def _nearest(self, queries: Float[Tensor, "Q E"], count: int) -> Int[Tensor, "Q k"]:
        rounded, step, off, _ = _round(queries)
        norm, off = queries.norm(dim=1, keepdim=True), off[:, None]  # Q 1
        whole = torch._int_mm(rounded, self.rounded.T)  # Q P; private, but all that torch has for it
        rough = torch.mul(whole, step)
        torch.addcmul(self.padded_bias, rough, self.step, out=rough)
        rough = rough.view(len(queries), -1, BLOCK)  # Q C b
        best = rough.amax(-1)  # Q C

        # The best words of the best blocks are `count` words: no other can win below the least of their true scores.
        blocks = best.topk(count, dim=1).indices
        within = rough[torch.arange(len(queries))[:, None], blocks].argmax(-1)
        rivals = blocks * BLOCK + within
        true = torch.einsum("qe,qke->qk", queries, self.keys[rivals]) + self.bias[rivals]
        least = true.amin(1, keepdim=True)
        least = least - SLACK * least.abs()

        bound = norm * self.rounding.amax(1) + off * self.size.amax(1)  # Q C
        row, block = (best + bound >= least).nonzero(as_tuple=True)
        highest = rough[row, block] + norm[row] * self.rounding[block] + off[row] * self.size[block]
        at, inside = (highest >= least[row]).nonzero(as_tuple=True)
        row, word = row[at], block[at] * BLOCK + inside
        if len(word) > TOO_MANY * len(queries) * len(self.keys):
            return nearest_keys(queries, self.keys, self.bias, count)
        return _best_of(row, word, self._scores(queries, row, word), len(queries), count)

    def _scores(
        self, queries: Float[Tensor, "Q E"], row: Int[Tensor, " n"], word: Int[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        pairs = zip(row.split(PAIRS_AT_ONCE), word.split(PAIRS_AT_ONCE), strict=True)
        products = [torch.linalg.vecdot(queries[rows], self.keys[words]) for rows, words in pairs]
        return torch.cat(products) + self.bias[word]


def _round(
    vectors: Float[Tensor, "n E"],
) -> tuple[Int8[Tensor, "n E"], Float[Tensor, "n 1"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Whole numbers up to 127, the step they are multiples of, how far off the product is, and how long it is."""
    step = vectors.abs().amax(1, keepdim=True).clamp(min=torch.finfo(vectors.dtype).tiny) / LARGEST
    whole = (vectors / step).round()
    back = whole * step
    return whole.to(torch.int8), step, (vectors - back).norm(dim=1), back.norm(dim=1)


def _best_of(
    row: Int[Tensor, " n"], word: Int[Tensor, " n"], score: Float[Tensor, " n"], rows: int, count: int
) -> Int[Tensor, "Q k"]:
    """The best words of each row from one list of all rows' words, which is sorted by row."""
    many = torch.bincount(row, minlength=rows)
    column = torch.arange(len(row)) - (many.cumsum(0) - many)[row]
    scores = score.new_full((rows, int(many.max())), -torch.inf)
    words = row.new_zeros(scores.shape)
    scores[row, column], words[row, column] = score, word
    return words.gather(1, scores.topk(count, dim=1).indices)
