import pytest

from regioncap.experiments.data.entity_words import ATTRIBUTES, singular, understand


@pytest.mark.parametrize(
    ("phrase", "kind", "noun", "several"),
    [
        ("A black dog", "animals", "dog", False),
        ("Two dogs", "animals", "dog", True),
        ("two puppies", "animals", "dog", True),
        ("The man with a hat", "people", "man", False),
        ("a group of young men", "people", "man", True),
        ("the edge of a rocky cliff", "scene", "cliff", False),
        ("the side of the edge of a cliff", "scene", "cliff", False),
        ("a crowd", "people", "crowd", True),
        ("people", "people", "people", True),
        ("guys", "people", "man", True),
        ("a black and white dog", "animals", "dog", False),
        ("a man and a woman", "people", "", True),
        ("man and woman", "people", "", True),
        ("black", "clothing", "clothes", False),
        ("a pink top", "clothing", "shirt", False),
        ("the top", "scene", "", False),
        ("the other one", "people", "", False),
        ("something", "other", "", False),
        ("glasses", "clothing", "glasses", False),
        ("a red dress", "clothing", "dress", False),
        ('"a sign"', "other", "sign", False),
        ("of", "other", "of", False),
        ("", "other", "", False),
    ],
)
def test_head_noun(phrase: str, kind: str, noun: str, several: bool) -> None:
    meaning = understand(phrase, kind)
    assert (meaning.noun, meaning.several) == (noun, several)


@pytest.mark.parametrize(
    ("phrase", "kind", "attributes"),
    [
        ("a black and white dog", "animals", {"black", "white"}),
        ("a tan dog", "animals", {"brown"}),
        ("a little boy", "people", {"young"}),
        ("a little ball", "other", {"small"}),
        ("a black man", "people", set()),
        ("a blond older woman", "people", {"blond", "old"}),
        ("a large wooden table", "other", {"large", "wooden"}),
        ("a striped gray shirt", "clothing", {"striped", "gray"}),
        ("red", "clothing", {"red"}),
        ("an orange", "other", set()),
        ("a dog with a red ball", "animals", set()),
    ],
)
def test_attributes_stand_before_the_head_noun(phrase: str, kind: str, attributes: set[str]) -> None:
    assert understand(phrase, kind).attributes == attributes


@pytest.mark.parametrize(
    ("plural", "one"),
    [("women", "woman"), ("benches", "bench"), ("boxes", "box"), ("ladies", "lady"), ("dresses", "dress")],
)
def test_plurals(plural: str, one: str) -> None:
    assert singular(plural) == (one, True)
    assert singular(one) == (one, False)


@pytest.mark.parametrize("word", ["grass", "sunglasses", "skis", "bus", "gas"])
def test_words_that_end_in_s_and_are_no_plural(word: str) -> None:
    assert singular(word) == (word, False)


def test_every_attribute_is_said_by_its_own_name_and_has_one_group() -> None:
    names = [name for members in ATTRIBUTES.values() for name in members]
    assert len(names) == len(set(names))
    for members in ATTRIBUTES.values():
        for name, words in members.items():
            assert name in words.split()
