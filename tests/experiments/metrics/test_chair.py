import json
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.metrics.chair import Chair, ChairError, read_object_words, read_objects

SYNONYMS = "person, man, woman\ndog, puppy\ncat, kitten\ncar, automobile\n\n"
INSTANCES: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}, {"id": 9, "file_name": "c.jpg"}],
    "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "automobile"}, {"id": 18, "name": "dog"}],
    "annotations": [
        {"image_id": 7, "category_id": 1},
        {"image_id": 7, "category_id": 18},
        {"image_id": 7, "category_id": 18},
        {"image_id": 8, "category_id": 3},
    ],
}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    instances, synonyms = tmp_path / "instances_val2014.json", tmp_path / "synonyms.txt"
    instances.write_text(json.dumps(INSTANCES))
    synonyms.write_text(SYNONYMS)
    return instances, synonyms


@pytest.fixture
def chair(files: tuple[Path, Path]) -> Chair:
    return Chair(read_objects([files[0]]), read_object_words(files[1]))


REFERENCES = {"a.jpg": ["a man and his pet"], "b.jpg": ["a kitten in a car"], "c.jpg": ["nothing here"]}


def test_counts_by_hand(chair: Chair) -> None:
    captions = {
        "a.jpg": "a woman with two puppies and a cat",  # there are persons and dogs: the cat is not
        "b.jpg": "a cat in a car near a man and a man",  # the references saw the cat; nobody a man, who is named twice
        "c.jpg": "an empty road",
    }
    measured = chair.measure(captions, REFERENCES)
    assert measured.corpus == {"CHAIRs": 2 / 3, "CHAIRi": 3 / 7}
    assert measured.per_image == {
        "CHAIRs": {"a.jpg": 1.0, "b.jpg": 1.0, "c.jpg": 0.0},
        "CHAIRi": {"a.jpg": 1 / 3, "b.jpg": 2 / 4, "c.jpg": 0.0},
    }
    assert measured.warnings == ()


def test_references_hallucinate_nothing(chair: Chair) -> None:
    captions = {image: own[0] for image, own in REFERENCES.items()}
    assert chair.measure(captions, REFERENCES).corpus == {"CHAIRs": 0.0, "CHAIRi": 0.0}


@pytest.mark.parametrize("name", ["a.jpg", "val2014/a.jpg", "7"])
def test_images_are_found_by_file_path_and_id(chair: Chair, name: str) -> None:
    measured = chair.measure({name: "a car"}, {name: ["a man"]})
    assert measured.corpus == {"CHAIRs": 1.0, "CHAIRi": 1.0}


def test_images_without_annotations_are_left_out_and_counted(chair: Chair) -> None:
    captions = {"a.jpg": "a dog", "z.jpg": "a car"}
    measured = chair.measure(captions, REFERENCES | {"z.jpg": ["a dog"]})
    assert measured.per_image["CHAIRs"] == {"a.jpg": 0.0}
    assert measured.warnings == ("CHAIR is of 1 of 2 images: the annotations do not hold the others",)
    with pytest.raises(ChairError, match=r"none of the 1 images, such as 'z.jpg'"):
        chair.measure({"z.jpg": "a car"}, {"z.jpg": ["a dog"]})


def test_captions_without_objects_are_warned_of(chair: Chair) -> None:
    measured = chair.measure({"a.jpg": "grass"}, REFERENCES)
    assert measured.corpus == {"CHAIRs": 0.0, "CHAIRi": 0.0}
    assert "no caption names an object" in measured.warnings[0]


def test_several_files_of_annotations(files: tuple[Path, Path], tmp_path: Path) -> None:
    more = {
        **INSTANCES,
        "images": [{"id": 70, "file_name": "t.jpg"}],
        "annotations": [{"image_id": 70, "category_id": 1}],
    }
    (tmp_path / "train.json").write_text(json.dumps(more))
    objects = read_objects([files[0], tmp_path / "train.json"])
    assert objects.of("t.jpg") == {"person"}
    assert objects.of("a.jpg") == {"person", "dog"}
    assert objects.of("c.jpg") == frozenset()
    assert objects.of("z.jpg") is None


def test_a_category_without_words_is_refused(files: tuple[Path, Path]) -> None:
    files[1].write_text("person, man\ncar, automobile\n")
    with pytest.raises(ChairError, match="annotations mark 'dog'"):
        Chair(read_objects([files[0]]), read_object_words(files[1]))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "not in the COCO format"),
        ('{"images": [], "annotations": []}', "KeyError: 'categories'"),
        (json.dumps({**INSTANCES, "annotations": [{"image_id": 1, "category_id": 1}]}), "KeyError: 1"),
    ],
)
def test_bad_annotations_are_named(tmp_path: Path, content: str | None, says: str) -> None:
    file = tmp_path / "instances.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ChairError) as caught:
        read_objects([file])
    assert str(file) in str(caught.value)
    assert says in str(caught.value)
    assert "want COCO's instances_val2014.json" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot be read"), (b"\xff\xfe\x00", "cannot be"), (b"\n", "no words")]
)
def test_bad_lists_of_words_are_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "synonyms.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ChairError, match=says):
        read_object_words(file)
