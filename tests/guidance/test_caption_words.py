import pytest
from hypothesis import given
from hypothesis import strategies as st

from regioncap.guidance.caption_words import caption_words, captions_with, most_frequent


def test_words_keep_hyphens_and_apostrophes_and_marks_stand_alone():
    assert caption_words("A man's t-shirt, red -- and wet!") == ["a", "man's", "t-shirt", ",", "red", "and", "wet", "!"]


def test_small_numbers_are_spelt_and_large_ones_are_not():
    assert caption_words("2 dogs, 12 cats and 13 men in the 1950s") == (
        ["two", "dogs", ",", "twelve", "cats", "and", "13", "men", "in", "the", "1950", "s"]
    )


@given(st.text())
def test_cutting_the_words_again_changes_nothing(caption):
    words = caption_words(caption)
    assert caption_words(" ".join(words)) == words


def test_a_caption_counts_once_however_often_it_says_a_word():
    assert captions_with([["dog", "and", "dog"], ["dog"]]) == {"dog": 2, "and": 1}


@given(st.dictionaries(st.text(min_size=1), st.integers(1, 50), min_size=1), st.integers(1, 5))
def test_the_most_frequent_are_no_rarer_than_those_left_out(counts, limit):
    kept = most_frequent(counts, "detail", min_count=1, limit=limit)
    assert len(kept) == min(limit, len(counts))
    assert list(kept.values()) == sorted(kept.values(), reverse=True)
    assert min(kept.values()) >= max((count for word, count in counts.items() if word not in kept), default=0)


def test_errors_name_the_bank():
    with pytest.raises(ValueError, match=r"no scene word stands 3 times.*seen 2 times.*lower min_count"):
        most_frequent({"beach": 2}, "scene", min_count=3, limit=5)
