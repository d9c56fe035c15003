from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from regioncap.experiments.metrics.ngrams import ORDERS, NgramIndex, find

captions = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "dd", "e"]), max_size=9).map(" ".join), min_size=1, max_size=8
)


def by_hand(caption: str, order: int) -> Counter[tuple[str, ...]]:
    words = caption.split()
    return Counter(tuple(words[start : start + order]) for start in range(len(words) - order + 1))


@given(known=captions, asked=captions)
def test_counts_are_those_of_word_tuples(known: list[str], asked: list[str]) -> None:
    """Numbers are arbitrary, so each must stand for one n-gram, the same in both sets, and for no other."""
    index, _ = NgramIndex.learn(known)
    for texts in (known, asked):
        for order, count in enumerate(index.count(index.number(texts)), 1):
            seen = [by_hand(text, order) for text in texts]
            assert len(count.gram) == sum(len(each) for each in seen)
            for number, each in enumerate(seen):
                assert sorted(count.times[count.caption == number].tolist()) == sorted(each.values())
    learned = {}
    for order, count in enumerate(index.count(index.number(known)), 1):
        assert (count.gram < index.sizes[order - 1]).all()
        assert index.sizes[order - 1] == len({gram for text in known for gram in by_hand(text, order)})
        learned[order] = count
    for order, count in enumerate(index.count(index.number(asked)), 1):
        known_grams = {gram for text in known for gram in by_hand(text, order)}
        for number, text in enumerate(asked):
            shared = set(by_hand(text, order)) & known_grams
            mine = count.gram[count.caption == number]
            assert (mine < index.sizes[order - 1]).sum() == len(shared)


def test_the_same_caption_has_the_same_numbers_later() -> None:
    index, _ = NgramIndex.learn(["a red dog runs on grass", "a dog"])
    before = index.count(index.number(["a red dog runs on grass"]))
    after = index.count(index.number(["a red dog runs on grass"]))
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.gram, other.gram)


def test_n_grams_do_not_cross_captions() -> None:
    index, _ = NgramIndex.learn(["a b", "c d"])
    assert index.sizes == (4, 2, 0, 0)


def test_nothing_to_count() -> None:
    index, _ = NgramIndex.learn([""])
    assert index.sizes == (0,) * ORDERS
    assert [len(count.gram) for count in index.count(index.number(["", "x y"]))] == [2, 1, 0, 0]


def test_find() -> None:
    assert find(np.array([3, 4, 9]), np.array([1, 3, 5])).tolist() == [1, -1, -1]
    assert find(np.array([3]), np.array([], dtype=np.int64)).tolist() == [-1]


@given(known=captions)
def test_what_is_counted_in_learning_is_what_count_gives(known: list[str]) -> None:
    index, learned = NgramIndex.learn(known)
    for ours, again in zip(learned, index.count(index.number(known)), strict=True):
        assert ours.caption.tolist() == again.caption.tolist()
        assert ours.gram.tolist() == again.gram.tolist()
        assert ours.times.tolist() == again.times.tolist()
