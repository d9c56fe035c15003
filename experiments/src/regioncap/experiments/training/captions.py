"""Training captions as tensors: tokens, masks and text vectors of every image, and the order they are drawn in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionTensors:
    """n images, C captions each (an image with fewer repeats its own), T tokens, T2 the text encoder's width."""

    tokens: Int[Tensor, "n C T"]
    mask: Bool[Tensor, "n C T"]
    text: Float[Tensor, "n C T2"]

    def pick(
        self, rows: Int[Tensor, "B"], captions: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, "B C2 T"], Bool[Tensor, "B C2 T"], Float[Tensor, "B C2 T2"]]:
        """`captions` captions of each image, drawn without replacement; all where there are no more than that."""
        total = self.tokens.shape[1]
        if captions >= total:
            return self.tokens[rows], self.mask[rows], self.text[rows].float()
        columns = torch.rand(len(rows), total, generator=generator).argsort(dim=1)[:, :captions]  # B C2
        at = rows[:, None]
        return self.tokens[at, columns], self.mask[at, columns], self.text[at, columns].float()


def same_count(captions: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Every image's captions repeated in turn until all have as many as the image with the most."""
    most = max(len(own) for own in captions)
    return tuple(tuple(own[i % len(own)] for i in range(most)) for own in captions)


def batch_of(images: int, size: int, step: int, seed: int) -> Int[Tensor, "B"]:
    """The image rows of a step (from 0): every epoch is a permutation of its own that (seed, epoch) alone decides.

    A batch never crosses an epoch's end; a last batch short of `size` is left out, unless the data set is smaller.
    """
    epoch, position = divmod(step, max(1, images // size))
    return _order(images, seed, epoch)[position * size : (position + 1) * size]


def batches(images: int, size: int, steps: int, seed: int) -> Iterator[Int[Tensor, "B"]]:
    """The batches of `steps` steps, one after the other."""
    return (batch_of(images, size, step, seed) for step in range(steps))


@lru_cache(maxsize=2)
def _order(images: int, seed: int, epoch: int) -> Int[Tensor, "n"]:
    return torch.randperm(images, generator=torch.Generator().manual_seed(hash((seed, epoch)) % 2**63))
