"""All captions of an image in one row behind its prefix, without padding between them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

_SLOTS = 16
"""Rows are as long as a multiple of this. The CPU's matrix library compiles and keeps a kernel for every shape it
meets: with a length of its own for every step that took a tenth of the time, and memory grew to gigabytes."""


def round_up(n: int, step: int) -> int:
    """The smallest multiple of `step` that is at least `n`."""
    return -(-n // step) * step


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedCaptions:
    """Rows of S slots: P of the prefix, L caption tokens. B images, C captions of T tokens before packing."""

    tokens: Int[Tensor, "B L"]
    positions: Int[Tensor, "B S"]
    """Of each slot in its own sequence [prefix, caption]; 0 in holes."""
    allowed: Bool[Tensor, "B S S"]
    """Which slot (row) may listen to which (column)."""
    order: Int[Tensor, "B L"]
    """Where each packed token stood among the C*T."""
    real: Bool[Tensor, "B L"]
    """False behind the last token of a row shorter than the longest."""


def pack_captions(
    valid: Bool[Tensor, "B P"], tokens: Int[Tensor, "B C T"], mask: Bool[Tensor, "B C T"]
) -> PackedCaptions:
    """Put the real tokens of an image's captions one behind the other, each caption blind to the others.

    A prefix p q and the captions "a b" and "c" make one row; a 1 says that the row's slot hears the column's:

              p q a b c
            p 1 . . . .
            q 1 1 . . .
            a 1 1 1 . .
            b 1 1 1 1 .
            c 1 1 . . 1
    so the prefix is computed once, and a batch of short and long captions pays for its words, not for its padding.
    Every slot hears itself, padding included, so that no softmax is empty.
    """
    slots, length = valid.shape[1], tokens.shape[2]
    flat = mask.flatten(1)
    longest = int(flat.sum(1).max()) if flat.numel() else 0
    longest = min(round_up(longest, _SLOTS), flat.shape[1])
    order = torch.argsort((~flat).to(torch.uint8), dim=1, stable=True)[:, :longest]  # B L
    real = flat.gather(1, order)

    lengths = valid.sum(1)[:, None]  # B 1
    inside = (mask.cumsum(2) - 1).clamp(min=0).flatten(1).gather(1, order)  # B L, place in its own caption
    prefix_positions = (valid.cumsum(1) - 1).clamp(min=0).masked_fill(~valid, 0)
    positions = torch.cat([prefix_positions, (lengths + inside).masked_fill(~real, 0)], dim=1)

    caption = torch.cat([torch.full_like(valid, -1, dtype=torch.long), order // length], dim=1)  # -1: prefix
    heard = torch.cat([valid, real], dim=1)[:, None]  # B 1 S
    before = torch.ones(slots + longest, slots + longest, dtype=torch.bool, device=valid.device).tril()
    same = (caption[:, None] == caption[:, :, None]) | (caption[:, None] == -1)
    itself = torch.eye(slots + longest, dtype=torch.bool, device=valid.device)
    return PackedCaptions(
        tokens=tokens.flatten(1).gather(1, order),
        positions=positions,
        allowed=before & heard & same | itself,
        order=order,
        real=real,
    )
