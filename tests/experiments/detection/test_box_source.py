from dataclasses import replace
from pathlib import Path

import pytest

from regioncap.experiments.data.boxes import read_box_file, write_box_file
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.detection.box_source import BoxSource


def source(root: Path) -> BoxSource:
    return BoxSource(boxes=root / "train.json", dev=root / "dev.json", images=root / "images")


def test_dev_speaks_the_words_of_train(squares: Path, tmp_path: Path) -> None:
    dev = read_box_file(squares / "dev.json", squares / "images")
    turned = replace(
        dev,
        classes=dev.classes[::-1],
        images=tuple(replace(image, labels=tuple(1 - x for x in image.labels)) for image in dev.images),
    )
    write_box_file(turned, tmp_path / "dev.json")
    train, aligned = replace(source(squares), dev=tmp_path / "dev.json").read()
    assert aligned.classes == train.classes
    assert aligned.images == dev.images


@pytest.mark.parametrize("name", ["boxes", "dev", "images"])
def test_a_missing_flag_is_named(squares: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"data\.{name} is not given.*--data\.boxes.*--data\.root"):
        replace(source(squares), **{name: None}).read()


def test_a_folder_and_files_are_too_much(squares: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root and data\.boxes are both given"):
        replace(source(squares), root=squares).read()


def test_pictures_to_learn_from_are_not_measured_on(squares: Path) -> None:
    with pytest.raises(DataError, match=r"train0\.png and 7 more pictures are in the training boxes and in the dev"):
        replace(source(squares), dev=squares / "train.json").read()


def test_no_box_is_nothing_to_learn(squares: Path, tmp_path: Path) -> None:
    train = read_box_file(squares / "train.json", squares / "images")
    empty = replace(train, images=tuple(replace(i, boxes=(), labels=(), attributes=()) for i in train.images))
    write_box_file(empty, tmp_path / "train.json")
    write_box_file(replace(empty, images=empty.images[:0]), tmp_path / "dev.json")
    with pytest.raises(DataError, match=r"dev\.json lists no image"):
        replace(source(squares), boxes=tmp_path / "train.json", dev=tmp_path / "dev.json").read()
    dev = read_box_file(squares / "dev.json", squares / "images")
    write_box_file(
        replace(dev, images=tuple(replace(i, boxes=(), labels=(), attributes=()) for i in dev.images)),
        tmp_path / "dev.json",
    )
    with pytest.raises(DataError, match=r"no box at all"):
        replace(source(squares), boxes=tmp_path / "train.json", dev=tmp_path / "dev.json").read()
