"""Sparse word shares against plain dictionaries."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regioncap.guidance import KeywordTargets, RegionShares, SparseShares

WORDS = 6
things = st.lists(st.dictionaries(st.integers(0, WORDS - 1), st.floats(0.125, 1.0, width=32)), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(things=things, data=st.data())
def test_dense_rows_are_the_dictionaries(things: list[dict[int, float]], data: st.DataObject) -> None:
    shares = SparseShares.of(things)
    rows = torch.tensor(data.draw(st.lists(st.integers(0, len(things) - 1), max_size=8)), dtype=torch.long)
    wanted = [[things[row].get(word, 0.0) for word in range(WORDS)] for row in rows.tolist()]
    assert torch.equal(shares.dense(rows, WORDS), torch.tensor(wanted).view(-1, WORDS))
    assert shares.any_of(rows).tolist() == [bool(things[row]) for row in rows.tolist()]
    assert len(shares) == len(things)


def test_rows_of_any_shape() -> None:
    shares = SparseShares.of([{0: 0.5}, {}, {1: 1.0, 2: 0.25}])
    dense = shares.dense(torch.tensor([[2, 1], [0, 2]]), 3)
    assert dense.tolist() == [[[0, 1.0, 0.25], [0, 0, 0]], [[0.5, 0, 0], [0, 1.0, 0.25]]]


def test_the_mean_is_over_things_that_have_a_word() -> None:
    shares = SparseShares.of([{0: 0.5}, {}, {0: 1.0, 2: 0.5}])
    assert shares.mean(3).tolist() == [0.75, 0.0, 0.25]


def test_targets_of_unequal_length_are_refused() -> None:
    one, two = SparseShares.of([{0: 1.0}]), SparseShares.of([{0: 1.0}, {}])
    with pytest.raises(ValueError, match="targets of 1 images in the scene bank, 2 in the other"):
        KeywordTargets(scene=one, detail=two, regions=None)
    with pytest.raises(ValueError, match="targets of 2 images, and of the regions of 3"):
        KeywordTargets(scene=two, detail=two, regions=RegionShares.of([[], [], []]))


def test_a_region_is_found_by_its_image_and_number_however_a_batch_is_padded() -> None:
    images = [[{0: 1.0}], [{1: 0.5}, {}, {2: 1.0}], [], [{2: 0.25}]]
    regions = RegionShares.of(images)
    assert len(regions) == 4
    for rows in ([0, 3], [1, 2, 3], [2], [3, 1, 0]):
        for slots in (1, 3, 5):
            dense = regions.shares.dense(regions.at(torch.tensor(rows), slots), 3)
            for b, row in enumerate(rows):
                for slot in range(slots):
                    own = images[row][slot] if slot < len(images[row]) else {}
                    assert dense[b, slot].tolist() == [own.get(word, 0.0) for word in range(3)]
