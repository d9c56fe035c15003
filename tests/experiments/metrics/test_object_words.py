import pytest

from regioncap.experiments.metrics.object_words import ObjectWords, plurals

LIST = ObjectWords(
    [
        ["person", "man", "woman", "child", "baby", "passenger", "player"],
        ["dog", "puppy"],
        ["elephant"],
        ["chair", "seat"],
        ["toilet"],
        ["tie"],
        ["hot dog"],
        ["train", "locomotive"],
        ["knife"],
        ["bus"],
        ["skis", "ski"],
        ["wine glass"],
        ["dining table", "table"],
        ["mouse"],
        ["bird", "goose"],
        ["teddy bear", "teddy"],
        ["bear"],
        ["fire hydrant", "hydrant"],
    ]
)


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("A man with two dogs.", ["person", "dog"]),
        ("puppies chase geese", ["dog", "bird"]),
        ("Women and children on buses with knives and mice", ["person", "person", "bus", "knife", "mouse"]),
        ("a hot dog beside a dog", ["hot dog", "dog"]),
        ("hot dogs", ["hot dog"]),
        ("a baby elephant with a baby", ["elephant", "person"]),
        ("two adult elephants", ["elephant"]),
        ("a passenger train waits for a passenger", ["train", "person"]),
        ("a man in a bow tie", ["person", "tie"]),
        ("a toilet seat", ["toilet"]),
        ("a toilet with its seat up", ["toilet"]),
        ("a seat", ["chair"]),
        ("the man's dog's ball", ["person", "dog"]),
        ("wine glasses on a table", ["wine glass", "dining table"]),
        ("a teddy bear is no bear", ["teddy bear", "bear"]),
        ("people of all ages", ["person"]),
        ("a person on skis", ["person", "skis"]),
        ("a pair of tables by a fire hydrant", ["dining table", "fire hydrant"]),
        ("home plate and a train track", []),
        ("the dogma of catchairs", []),
        ("", []),
    ],
)
def test_names(caption: str, named: list[str]) -> None:
    assert LIST.named_in(caption) == named


def test_what_stands_in_the_list_is_no_plural_of_something_else() -> None:
    words = ObjectWords([["new"], ["news", "paper"]])
    assert words.named_in("new news") == ["new", "news"]


def test_objects_of_several_captions() -> None:
    assert LIST.objects_in(["a dog", "a man and a puppy"]) == {"dog", "person"}
    assert LIST.category_of("puppy") == "dog"
    assert LIST.category_of("cat") is None


@pytest.mark.parametrize(
    ("word", "plural"),
    [
        ("dog", "dogs"), ("bus", "buses"), ("box", "boxes"), ("bench", "benches"), ("baby", "babies"), ("boy", "boys"),
        ("knife", "knives"), ("calf", "calves"), ("potato", "potatoes"), ("kite", "kites"), ("fireman", "firemen"),
        ("person", "people"), ("sheep", "sheep"), ("human", "humans"), ("wine glass", "wine glasses"),
    ],
)  # fmt: skip
def test_plurals(word: str, plural: str) -> None:
    assert plural in plurals(word)
