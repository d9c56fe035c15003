"""Flickr30k Entities as it is published, through every reader of boxes and phrases."""

import json
from pathlib import Path

import pytest

from regioncap.experiments.data.boxed_phrases import read_boxed_phrases
from regioncap.experiments.data.dataset import CaptionData, DataError
from regioncap.experiments.data.entities import EntityBoxesConfig, read_entities
from regioncap.experiments.data.entity_folder import entity_folder
from regioncap.experiments.data.entity_phrases import read_marked_captions
from regioncap.experiments.data.entity_xml import entity_line
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.data.flickr30k import Flickr30kConfig
from regioncap.experiments.detection.box_source import BoxSource


@pytest.fixture
def data(flickr30k: Path) -> CaptionData:
    return Flickr30kConfig(root=flickr30k, sizes="any").read()


def test_a_line_has_the_pixels_as_fractions(flickr30k: Path):
    assert entity_line(flickr30k, "1000092795.jpg") == {
        "image": "1000092795.jpg",
        "size": [48, 36],
        "boxes": {"1": [[0.0, 0.25, 0.5, 1.0]], "2": [[0.625, 0.5, 1.0, 1.0]], "5": [[0.625, 0.5, 1.0, 1.0]]},
        "scene": ["3"],
        "no_box": ["4"],
        "sentences": [
            "[/EN#1/animals A red dog] with [/EN#2/other a ball] runs on [/EN#3/scene a beach] .",
            "[/EN#1/animals The dog] has [/EN#5/other a toy] and [/EN#4/other time] .",
        ],
    }
    assert entity_line(flickr30k, "none.jpg") is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("</annotation>", "", "no element found"),
        ("<width>48</width>", "", "no size/width"),
        ("<xmin>1</xmin>", "<xmin>left</xmin>", "invalid literal"),
        ("<width>48</width>", "<width>0</width>", "division by zero"),
    ],
)
def test_a_broken_annotation_is_named(flickr30k: Path, old: str, new: str, said: str):
    file = flickr30k / "Annotations" / "1000092795.xml"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(DataError, match=rf"1000092795\.xml is no annotation of Flickr30k Entities \(.*{said}"):
        entity_line(flickr30k, "1000092795.jpg")


def test_boxes_outside_are_cut_and_those_without_area_left_out(flickr30k: Path):
    file = flickr30k / "Annotations" / "1000092795.xml"
    text = file.read_text().replace("<xmax>24</xmax>", "<xmax>60</xmax>").replace("<xmin>31</xmin>", "<xmin>99</xmin>")
    file.write_text(text)
    line = entity_line(flickr30k, "1000092795.jpg")
    assert line is not None
    assert line["boxes"] == {"1": [[0.0, 0.25, 1.0, 1.0]]}


def test_all_readers_find_boxes_and_phrases(data: CaptionData, tmp_path: Path):
    folder = entity_folder(data, tmp_path / "cache")
    first = data.split("train")[0]
    phrases = read_boxed_phrases(folder, {first.name})[first.name]
    assert [own.phrases for own in phrases] == [("A red dog", "The dog"), ("a ball",), ("a toy",)]
    marked = read_marked_captions(folder, {first.name})
    assert (marked[0].scene, marked[0].detail) == (("a beach",), ("A red dog", "a ball"))
    parts = read_entities(folder, EntityBoxesConfig(min_pictures=1, min_attribute_boxes=1))
    assert {split: len(own) for split, own in parts.items()} == {"train": 6, "dev": 2}
    assert {"dog", "ball"} <= set(parts["train"].classes)
    assert parts["train"].images[0].path.resolve() == first.path.resolve()
    train, dev = BoxSource(root=folder, entities=EntityBoxesConfig(min_pictures=1, min_attribute_boxes=1)).read()
    assert (train.count, dev.count) == (12, 4)


def test_test_pictures_have_no_line(data: CaptionData, tmp_path: Path):
    folder = entity_folder(data, tmp_path)
    named = {json.loads(line)["image"] for line in (folder / "entities.jsonl").read_text().splitlines()}
    assert named == {image.name for split in ("train", "val") for image in data.split(split)}
    assert not (folder / "test.txt").exists()


def test_annotations_are_read_once_and_again_when_others_come(
    data: CaptionData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = entity_folder(data, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("regioncap.experiments.data.entity_folder.entity_line", lambda root, name: pytest.fail("again"))
        assert entity_folder(data, tmp_path) == first
    (data.root / "Annotations" / "another.xml").write_text("")
    assert entity_folder(data, tmp_path) != first


def test_a_list_of_entities_beside_other_captions_serves_too(data: CaptionData, tmp_path: Path):
    lines = [entity_line(data.root, image.name) for image in data]
    for folder in ("Annotations", "Sentences"):
        (data.root / folder).rename(data.root / f"no{folder}")
    assert entity_folder(data, tmp_path) == data.root  # has none: whoever needs them says so
    (data.root / "entities.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder = entity_folder(data, tmp_path)
    assert len(read_entities(folder, EntityBoxesConfig(min_pictures=1))["train"]) == 6


def test_flickr8ks_layout_is_such_a_folder_itself(photographs: Path, tmp_path: Path):
    assert entity_folder(Flickr8kConfig(root=photographs).read(), tmp_path) == photographs
    assert not list(tmp_path.iterdir())
