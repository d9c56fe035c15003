"""Which bank words images and their regions were called by, in captions and phrases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

WordShares = Mapping[int, float]
"""Row of a bank -> share of an image's captions (of a region's phrases) that hold the word, in (0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SparseShares:
    """Word shares of n things, stored for the words they have alone. z entries in all."""

    start: Int[Tensor, " n1"]
    """Where each thing's entries begin, and their end: n + 1 numbers."""
    words: Int[Tensor, " z"]
    shares: Float[Tensor, " z"]

    @classmethod
    def of(cls, things: Sequence[WordShares]) -> "SparseShares":
        """From one mapping a thing."""
        start = torch.tensor([0, *(len(own) for own in things)]).cumsum(0)
        words = torch.tensor([word for own in things for word in own], dtype=torch.long)
        shares = torch.tensor([share for own in things for share in own.values()], dtype=torch.float32)
        return cls(start=start, words=words, shares=shares)

    def __len__(self) -> int:
        return len(self.start) - 1

    def dense(self, rows: Int[Tensor, "*rows"], size: int) -> Float[Tensor, "*rows W"]:
        """The shares of these things as rows of a matrix of `size` words."""
        flat = rows.flatten()
        many = self.start[flat + 1] - self.start[flat]
        thing = torch.arange(len(flat)).repeat_interleave(many)
        entry = torch.arange(len(thing)) - (many.cumsum(0) - many)[thing] + self.start[flat][thing]
        out = torch.zeros(len(flat), size)
        out[thing, self.words[entry]] = self.shares[entry]
        return out.view(*rows.shape, size)

    def any_of(self, rows: Int[Tensor, "*rows"]) -> Bool[Tensor, "*rows"]:
        """Which of these things have a word at all."""
        return self.start[rows + 1] > self.start[rows]

    def mean(self, size: int) -> Float[Tensor, " W"]:
        """The mean share of each word over the things that have a word at all."""
        have = int((self.start[1:] > self.start[:-1]).sum())
        return torch.zeros(size).index_add(0, self.words, self.shares) / max(have, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RegionShares:
    """Word shares of the regions of n images, each of which has as many as it has.

    However many slots a batch is padded to, a region is found by its image and its number.
    """

    shares: SparseShares
    """Of all regions, image by image, and behind them of one thing without a word."""
    first: Int[Tensor, " n1"]
    """Where each image's regions begin, and their end: n + 1 numbers."""

    @classmethod
    def of(cls, images: Sequence[Sequence[WordShares]]) -> "RegionShares":
        """From the regions of each image, in the order of their slots."""
        first = torch.tensor([0, *(len(regions) for regions in images)]).cumsum(0)
        return cls(shares=SparseShares.of([own for regions in images for own in regions] + [{}]), first=first)

    def __len__(self) -> int:
        return len(self.first) - 1

    def at(self, rows: Int[Tensor, "B"], slots: int) -> Int[Tensor, "B N"]:
        """Where the first `slots` regions of these images stand in `shares`; a slot without a region has no word."""
        place = self.first[rows][:, None] + torch.arange(slots)
        return torch.where(place < self.first[rows + 1][:, None], place, len(self.shares) - 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeywordTargets:
    """What n images and their regions are called in their training captions and phrases."""

    scene: SparseShares
    """Of the n images, rows of the scene bank."""
    detail: SparseShares
    """Of the n images, rows of the detail bank."""
    regions: RegionShares | None
    """Of the images' regions, rows of the detail bank: the phrases of the human box that a region matches. None where
    no phrase has a box: regions then learn from their image's words."""

    def __post_init__(self) -> None:
        if len(self.scene) != len(self.detail):
            raise ValueError(f"targets of {len(self.scene)} images in the scene bank, {len(self.detail)} in the other")
        if self.regions is not None and len(self.regions) != len(self.scene):
            raise ValueError(f"targets of {len(self.scene)} images, and of the regions of {len(self.regions)}")
