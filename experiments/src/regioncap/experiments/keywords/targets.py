"""What training captions and phrases call images and regions, as shares per bank word."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.ops import box_iou

from regioncap.encoders.store import FeatureStore
from regioncap.experiments.data.boxed_phrases import BoxedPhrases
from regioncap.guidance import KeywordBank, RegionShares, SparseShares, caption_words

MATCHED = 0.5
"""Least overlap (intersection over union) of a region with the human box whose phrases are its own."""
_AT_ONCE = 256


def caption_shares(captions: Sequence[Sequence[str]], bank: KeywordBank) -> SparseShares:
    """Of each image: bank word -> share of its captions that hold the word."""
    row = {word: number for number, word in enumerate(bank.words)}
    return SparseShares.of([_shares(own, row) for own in captions])


def region_shares(
    store: FeatureStore, phrases: Mapping[str, Sequence[BoxedPhrases]], bank: KeywordBank
) -> RegionShares:
    """Of each region of a store's images: bank word -> share of its box's phrases that hold the word.

    A region takes the phrases of the human box that it overlaps most, from `MATCHED` on.
    """
    row = {word: number for number, word in enumerate(bank.words)}
    images: list[list[dict[int, float]]] = []
    for rows in torch.arange(len(store)).split(_AT_ONCE):
        regions = store.images(rows).regions
        for image, boxes, valid in zip(rows.tolist(), regions.boxes, regions.valid, strict=True):
            human = phrases.get(store.names[image], ())
            named = [_shares(own.phrases, row) for own in human]
            matches = _matches(boxes.float(), valid, torch.tensor([own.box for own in human]).view(-1, 4))
            images.append([named[match] if match >= 0 else {} for match in matches])
    return RegionShares.of(images)


def _matches(boxes: Float[Tensor, "N 4"], valid: Bool[Tensor, " N"], human: Float[Tensor, "H 4"]) -> list[int]:
    """The human box of each region, -1 for none."""
    if not len(human):
        return [-1] * len(boxes)
    overlap, which = box_iou(boxes, human).max(1)
    matches: list[int] = which.masked_fill((overlap < MATCHED) | ~valid, -1).tolist()
    return matches


def _shares(texts: Sequence[str], row: Mapping[str, int]) -> dict[int, float]:
    counts = Counter(row[word] for text in texts for word in set(caption_words(text)) if word in row)
    return {word: count / len(texts) for word, count in sorted(counts.items())}
