import pytest

from regioncap.guidance import action_words, scene_words

CAPTIONS = [
    "a dog jumps over a log",
    "a dog jumps into the water",
    "a man wearing a hat is running",
    "a woman is wearing black clothing",
    "the clothing is red",
    "something is standing during the evening",
]


def test_forms_of_verbs_are_counted_as_they_stand():
    words = action_words(CAPTIONS, min_count=1)
    assert list(words.items())[:2] == [("jumps", 2), ("wearing", 2)]
    assert words["standing"] == 1


def test_nouns_function_words_and_empty_verbs_are_none():
    assert not action_words(CAPTIONS, min_count=1).keys() & {"clothing", "something", "during", "is"}


def test_what_the_lexicon_names_stays_where_it_is():
    assert "running" in scene_words(CAPTIONS, min_count=1)
    assert "running" not in action_words(CAPTIONS, min_count=1)


def test_rare_words_stay_out_and_the_most_frequent_are_kept():
    assert action_words(CAPTIONS, min_count=2, limit=1) == {"jumps": 2}


def test_captions_without_a_verb_are_told():
    with pytest.raises(ValueError, match="no action word stands 2 times"):
        action_words(["a red ball"], min_count=2)
