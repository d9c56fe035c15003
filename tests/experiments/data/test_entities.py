import json
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.data.boxes import BoxData, read_box_file, write_box_file
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.data.entities import EntityBoxesConfig, read_entities

DOG, BALL, MEN, MAN = [0.1, 0.2, 0.5, 0.6], [0.6, 0.6, 0.7, 0.8], [0.0, 0.0, 1.0, 0.9], [0.2, 0.1, 0.4, 0.9]


def line(name: str, boxes: dict[str, list[list[float]]], *sentences: str) -> dict[str, Any]:
    return {"image": name, "size": [400, 200], "boxes": boxes, "scene": [], "no_box": [], "sentences": list(sentences)}


LINES = [
    line(
        "a.jpg",
        {"1": [DOG], "2": [BALL], "3": [DOG, BALL]},
        "[/EN#1/animals A black dog] chases [/EN#2/other a red ball] .",
        "[/EN#1/animals A puppy] and [/EN#0/notvisual nothing] .",
        "[/EN#3/animals Two big dogs] .",
    ),
    line(
        "b.jpg",
        {"7": [MEN], "8": [MAN], "9": [BALL]},
        "[/EN#7/people A group of men] watch [/EN#8/people a person] with [/EN#9/other a sphere] .",
        "[/EN#8/people A man] plays .",
        "[/EN#8/people A person] plays .",
    ),
    line("c.jpg", {"1": [DOG]}, "[/EN#1/animals The brown zebra] ."),
]


def folder(root: Path, lines: list[Any] = LINES) -> Path:
    (root / "images").mkdir(exist_ok=True)
    (root / "entities.jsonl").write_text("".join(json.dumps(own) + "\n" for own in lines))
    (root / "train.txt").write_text("a.jpg\nb.jpg\n")
    (root / "dev.txt").write_text("c.jpg\n")
    return root


ALL = EntityBoxesConfig(min_pictures=1, min_attribute_boxes=1)


def said(data: BoxData, picture: int) -> set[tuple[tuple[float, ...], str, frozenset[str]]]:
    image = data.images[picture]
    return {
        (tuple(round(x, 4) for x in box), data.classes[label], frozenset(data.attributes[x] for x in own))
        for box, label, own in zip(image.boxes, image.labels, image.attributes, strict=True)
    }


def pixels(box: list[float]) -> tuple[float, ...]:
    return tuple(round(x * side, 4) for x, side in zip(box, (400, 200, 400, 200), strict=True))


def test_boxes_get_the_words_of_all_their_phrases(tmp_path: Path) -> None:
    train = read_entities(folder(tmp_path), ALL)["train"]
    assert said(train, 0) == {
        (pixels(DOG), "dog", frozenset({"black", "large"})),
        (pixels(BALL), "ball", frozenset({"red"})),
        (pixels(BALL), "dog", frozenset({"large"})),  # the annotators' second dog: a box of another type
    }
    assert said(train, 1) == {
        (pixels(MEN), "men", frozenset()),
        (pixels(MAN), "man", frozenset()),
        (pixels(BALL), "sphere", frozenset()),
    }


def test_classes_come_from_train_alone_and_the_rest_falls_back_on_the_type(tmp_path: Path) -> None:
    both = read_entities(folder(tmp_path), ALL)
    assert set(both["train"].classes) == {"dog", "ball", "men", "man", "sphere"}
    assert both["dev"].classes == both["train"].classes
    assert both["dev"].images[0].boxes == ()  # no zebra and no other animal in train
    rare = read_entities(folder(tmp_path), EntityBoxesConfig(min_pictures=2, min_attribute_boxes=2))
    assert set(rare["train"].classes) == {"animal", "person", "thing"}
    assert rare["train"].attributes == ("large",)
    assert {name for _, name, _ in said(rare["dev"], 0)} == {"animal"}
    assert dict(zip(rare["train"].classes, rare["train"].types, strict=True)) == {
        "person": "people",
        "animal": "animals",
        "thing": "other",
    }


def test_a_group_that_is_no_class_is_people(tmp_path: Path) -> None:
    lines = [*LINES, line("d.jpg", {"1": [MEN]}, "[/EN#1/people people] .")]
    root = folder(tmp_path, lines)
    (root / "train.txt").write_text("a.jpg\nb.jpg\nd.jpg\n")
    lines[1]["boxes"]["7"] = [MEN]
    train = read_entities(root, EntityBoxesConfig(min_pictures=1, min_attribute_boxes=1))["train"]
    assert [train.classes[label] for label in train.images[2].labels] == ["people"]


def test_entities_travel_through_the_coco_format(tmp_path: Path) -> None:
    root = folder(tmp_path)
    for name in "abc":
        (root / "images" / f"{name}.jpg").write_bytes(b"")
    train = read_entities(root, ALL)["train"]
    write_box_file(train, tmp_path / "train.json")
    back = read_box_file(tmp_path / "train.json", root / "images")
    assert [said(back, i) for i in range(2)] == [said(train, i) for i in range(2)]
    assert (back.classes, back.types, back.attributes, back.attribute_groups) == (
        train.classes,
        train.types,
        train.attributes,
        train.attribute_groups,
    )


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("{", r"entities\.jsonl, line 1: not as wanted"),
        ("[]", r"entities\.jsonl, line 1: not as wanted"),
        (json.dumps(line("a.jpg", {"1": [[0.5, 0.1, 0.5, 0.2]]})), r"line 1: box .* of a\.jpg has no area"),
        (json.dumps(line("a.jpg", {"1": [[0.5, 0.1, 1.5, 0.2]]})), r"line 1: box .* leaves the picture"),
        (json.dumps(line("other.jpg", {})), r"has no line for a\.jpg \(2 of 2 names of train\.txt\)"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, broken: str, message: str) -> None:
    root = folder(tmp_path)
    (root / "entities.jsonl").write_text(broken + "\n")
    with pytest.raises(DataError, match=message):
        read_entities(root, ALL)


@pytest.mark.parametrize("name", ["entities.jsonl", "train.txt", "dev.txt"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    root = folder(tmp_path)
    (root / name).unlink()
    with pytest.raises(DataError, match=rf"{name} is missing"):
        read_entities(root, ALL)


@pytest.mark.parametrize("field", ["min_pictures", "min_attribute_boxes"])
def test_bad_config_names_the_field(field: str) -> None:
    with pytest.raises(ValueError, match=rf"data\.entities\.{field} must be at least 1"):
        EntityBoxesConfig(**{field: 0})
