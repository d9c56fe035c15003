import pytest

from regioncap.guidance import detail_words, scene_words
from regioncap.guidance.lexicon import ATTRIBUTES, FUNCTION, SCENE, VERBS

CAPTIONS = [
    "A brown dog runs on the sandy beach .",
    "The dog catches a red frisbee at the beach",
    "Two dogs are running in the snow.",
    "A man in a striped shirt rides a horse through the Snow",
    "Three children play soccer in a sunny park.",
    "The soccer player kicks a ball, and a woman watches",
]


def test_the_scene_bank_takes_places_light_weather_and_activities():
    assert scene_words(CAPTIONS, min_count=1) == {
        "beach": 2,
        "snow": 2,
        "soccer": 2,
        "park": 1,
        "running": 1,
        "sandy": 1,
        "sunny": 1,
    }


def test_the_detail_bank_takes_objects_and_attributes_and_leaves_verbs_places_and_function_words():
    assert detail_words(CAPTIONS, min_count=1) == {
        "dog": 2,
        "ball": 1,
        "brown": 1,
        "children": 1,
        "dogs": 1,
        "frisbee": 1,
        "horse": 1,
        "man": 1,
        "player": 1,
        "red": 1,
        "shirt": 1,
        "striped": 1,
        "three": 1,
        "two": 1,
        "woman": 1,
    }


def test_an_object_that_looks_like_a_verb_is_taken_only_where_it_mostly_stands_as_a_noun():
    assert "swing" in detail_words(["a girl on a swing", "the swing is red"], min_count=1)
    assert "swing" not in detail_words(["a girl on a swing", "they swing high", "boys swing there"], min_count=1)


def test_captions_of_procedural_scenes_give_their_classes_and_their_places():
    captions = [
        f"a {size} {colour} {thing} stands to the left of a {pattern} {other} on the {place} in the {light}"
        for size, colour, thing, pattern, other, place, light in [
            ("small", "red", "tree", "striped", "house-boat", "meadow", "evening"),
            ("large", "blue", "robot", "dotted", "lamp", "beach", "morning"),
            ("small", "teal", "lamp", "striped", "tree", "meadow", "fog"),
        ]
    ]
    assert set(scene_words(captions, min_count=1)) == {"meadow", "beach", "evening", "morning", "fog"}
    assert set(detail_words(captions, min_count=1)) == (
        {"small", "large", "red", "blue", "teal", "striped", "dotted", "tree", "robot", "lamp", "house-boat"}
    )


def test_counts_are_of_captions_and_numbers_are_spelt():
    captions = ["2 dogs and a dog on a beach by a beach", "a dog on the beach"]
    assert detail_words(captions, min_count=1) == {"dog": 2, "dogs": 1, "two": 1}
    assert scene_words(captions, min_count=1) == {"beach": 2}


def test_words_come_by_falling_count_then_alphabet_and_the_limit_cuts_the_rare():
    captions = ["a zebra and a cat", "a zebra and a cow"]
    assert list(detail_words(captions, min_count=1)) == ["zebra", "cat", "cow"]
    assert list(detail_words(captions, min_count=1, limit=2)) == ["zebra", "cat"]
    assert list(detail_words(captions, min_count=2)) == ["zebra"]
    assert list(scene_words(["a beach in the rain"] * 2 + ["rain"], min_count=3, limit=1)) == ["rain"]


@pytest.mark.parametrize("choose", [scene_words, detail_words])
def test_captions_without_a_word_for_the_bank_are_an_error_with_a_way_out(choose):
    with pytest.raises(ValueError, match=r"none was seen at all.*lower min_count"):
        choose([], min_count=1)
    with pytest.raises(ValueError, match="most frequent was seen 1 times"):
        choose(["a dog on a beach"], min_count=2)
    with pytest.raises(ValueError, match="min_count and limit"):
        choose(["a dog on a beach"], min_count=0)
    with pytest.raises(ValueError, match="min_count and limit"):
        choose(["a dog on a beach"], limit=0)


def test_the_lexicons_are_lower_case_words_that_the_rule_can_meet():
    captions = [" ".join(sorted(SCENE | ATTRIBUTES | FUNCTION | VERBS))]
    assert set(scene_words(captions, min_count=1, limit=10_000)) == SCENE
    assert set(detail_words(captions, min_count=1, limit=10_000)) >= ATTRIBUTES
