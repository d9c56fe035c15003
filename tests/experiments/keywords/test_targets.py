"""Shares of bank words in captions and in the phrases of the boxes that regions match."""

from dataclasses import replace

import pytest
import torch

from regioncap.experiments.data.boxed_phrases import BoxedPhrases
from regioncap.experiments.keywords.targets import MATCHED, caption_shares, region_shares
from regioncap.experiments.prepare import Prepared
from regioncap.guidance import KeywordBank

BANK = KeywordBank(words=("dog", "red", "two", "sky"), counts=(1,) * 4, embeddings=torch.eye(4))


def test_a_word_counts_once_in_a_caption_however_it_is_written(prepared: Prepared) -> None:
    image = replace(
        prepared.train_images[0], captions=("A DOG and a dog.", "2 red balls", "dogs run", "the sky, the dog")
    )
    shares = caption_shares([image.captions], BANK)
    assert shares.dense(torch.tensor([0]), 4).tolist() == [[0.5, 0.25, 0.25, 0.25]]


def test_a_region_takes_the_phrases_of_the_box_it_overlaps_most(prepared: Prepared) -> None:
    store = prepared.dev
    regions = store.images(torch.arange(len(store))).regions
    slots = regions.valid.shape[1]
    image = int(regions.valid.sum(1).argmax())
    assert regions.valid[image].sum() >= 2
    first, second = regions.boxes[image, 0].tolist(), regions.boxes[image, 1].tolist()
    phrases = {
        store.names[image]: (
            BoxedPhrases(box=tuple(first), phrases=("a red dog", "the dog")),  # type: ignore[arg-type]
            BoxedPhrases(box=tuple(second), phrases=("two skies",)),  # type: ignore[arg-type]
        )
    }
    found = region_shares(store, phrases, BANK)
    assert len(found) == len(store)
    own = found.shares.dense(found.at(torch.tensor([image]), slots)[0], 4)
    assert own[0].tolist() == [1.0, 0.5, 0.0, 0.0]
    assert own[1].tolist() == [0.0, 0.0, 1.0, 0.0]
    others = torch.tensor([row for row in range(len(store)) if row != image])
    assert not found.shares.any_of(found.at(others, slots)).any()
    for slot in range(slots):
        if own[slot].any():
            assert regions.valid[image, slot]
            assert max(overlap(regions.boxes[image, slot].tolist(), box) for box in (first, second)) >= MATCHED - 1e-6


def overlap(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return both / (area - both)


def test_regions_of_pictures_without_boxes_learn_nothing(prepared: Prepared) -> None:
    shares = region_shares(prepared.dev, {}, BANK).shares
    assert not shares.any_of(torch.arange(len(shares))).any()
    assert shares.mean(4).tolist() == pytest.approx([0.0] * 4)
