"""Training captions as tensors: tokens, masks and text vectors of every image, and the order they are drawn in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


def batches(images: int, size: int, steps: int, seed: int) -> Iterator[Int[Tensor, "B"]]:
    """`steps` batches of image rows: every epoch a permutation of its own that (seed, epoch) alone decides.

    A batch never crosses an epoch's end; a last batch short of `size` is left out, unless the data set is smaller.
    """
    per_epoch = max(1, images // size)
    for step in range(steps):
        epoch, position = divmod(step, per_epoch)
        if position == 0:
            order = torch.randperm(images, generator=torch.Generator().manual_seed(hash((seed, epoch)) % 2**63))
        yield order[position * size : (position + 1) * size]
