import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regioncap.experiments.metrics.wording import KnownCaptions, repeats, wording, words_of

CAPTIONS = {"a": "A dog runs.", "b": "a dog , a dog", "c": "The man's T-shirt!", "d": ""}
words = st.lists(st.sampled_from(["a", "dog", "runs", "red"]), max_size=9)


def test_words_are_lower_case_without_punctuation() -> None:
    assert words_of("A dog — well, the man's T-shirt: 3 balls!") == (
        "a", "dog", "well", "the", "man's", "t-shirt", "3", "balls",
    )  # fmt: skip
    assert words_of(" ... ") == ()


def test_of_a_set() -> None:
    measured = wording(CAPTIONS, KnownCaptions(["a dog runs", "another"])).corpus
    said = ["a", "dog", "runs", "a", "dog", "a", "dog", "the", "man's", "t-shirt"]
    assert measured["distinct-1"] == len(set(said)) / len(said)
    pairs = ["a dog", "dog runs", "a dog", "dog a", "a dog", "the man's", "man's t-shirt"]
    assert measured["distinct-2"] == len(set(pairs)) / len(pairs)
    assert measured["vocabulary"] == 6
    assert measured["length"] == 10 / 4
    assert measured["novelty"] == 3 / 4
    assert measured["repetition"] == 1 / 4


def test_of_images() -> None:
    per_image = wording(CAPTIONS, KnownCaptions(["A DOG RUNS"])).per_image
    assert per_image["distinct-1"] == {"a": 1.0, "b": 0.5, "c": 1.0, "d": 0.0}
    assert per_image["distinct-2"] == {"a": 1.0, "b": 2 / 3, "c": 1.0, "d": 0.0}
    assert per_image["vocabulary"] == {"a": 3.0, "b": 2.0, "c": 3.0, "d": 0.0}
    assert per_image["length"] == {"a": 3.0, "b": 4.0, "c": 3.0, "d": 0.0}
    assert per_image["novelty"] == {"a": 0.0, "b": 1.0, "c": 1.0, "d": 1.0}
    assert per_image["repetition"] == {"a": 0.0, "b": 1.0, "c": 0.0, "d": 0.0}


def test_novelty_wants_training_captions() -> None:
    measured = wording(CAPTIONS)
    assert "novelty" not in measured.corpus
    assert "--training" in measured.missing["novelty"]


@given(st.lists(words, min_size=1, max_size=8))
def test_distinct_equals_a_count(captions: list[list[str]]) -> None:
    measured = wording({str(i): " ".join(own) for i, own in enumerate(captions)}).corpus
    for order in (1, 2):
        grams = Counter(tuple(own[i : i + order]) for own in captions for i in range(len(own) - order + 1))
        wanted = len(grams) / sum(grams.values()) if grams else 0.0
        assert measured[f"distinct-{order}"] == pytest.approx(wanted)


@given(words)
def test_repetition_equals_a_regular_expression(said: list[str]) -> None:
    assert repeats(said) == bool(re.search(r"\b(\w+(?: \w+)*) \1\b", " ".join(said)))


def test_no_captions_are_refused() -> None:
    with pytest.raises(ValueError, match="no captions to measure"):
        wording({})
