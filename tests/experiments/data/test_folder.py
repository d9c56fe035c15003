"""A folder with captions as CSV, JSON or JSON lines."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.data.folder import FolderConfig

Rows = list[tuple[str, str]]


def write_csv(root: Path, rows: Rows) -> None:
    with (root / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])


def write_kaggle(root: Path, rows: Rows) -> None:
    lines = [f"{name}\t{caption}" for name, caption in rows]
    (root / "captions.csv").write_text("image\tcaption\n" + "\n".join(lines), encoding="utf-8-sig")


def write_list(root: Path, rows: Rows) -> None:
    (root / "captions.json").write_text(json.dumps([{"file_name": name, "caption": text} for name, text in rows]))


def write_mapping(root: Path, rows: Rows) -> None:
    (root / "captions.json").write_text(json.dumps(captions_by_image(rows)))


def write_lines(root: Path, rows: Rows) -> None:
    lines = [json.dumps({"image": name, "captions": own}) for name, own in captions_by_image(rows).items()]
    (root / "metadata.jsonl").write_text("\n\n".join(lines) + "\n")


def captions_by_image(rows: Rows) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, text in rows:
        found.setdefault(name, []).append(text)
    return found


@pytest.mark.parametrize("write", [write_csv, write_kaggle, write_list, write_mapping, write_lines])
def test_all_forms_are_read_alike_and_drawn_alike(mine: Path, rows: Rows, write: Callable[[Path, Rows], None]):
    write(mine, rows)
    data = FolderConfig(root=mine, dev_share=0.2, test_share=0.1).read()
    assert {split: len(images) for split, images in data.splits.items()} == {"train": 14, "dev": 4, "test": 2}
    assert {image.name: list(image.captions) for image in data} == captions_by_image(rows)
    assert all(image.path == mine / "images" / image.name for image in data)
    assert [image.name for image in data.split("test")] == ["2.jpg", "4.jpg"]  # by SHA-256 of "0 name"


def test_a_column_says_the_split(mine: Path, rows: Rows):
    splits = ["train"] * 12 + ["restval"] * 2 + ["validation"] * 4 + ["TEST"] * 2
    lines = [{"image": name, "caption": text, "split": splits[int(name.split(".")[0])]} for name, text in rows]
    (mine / "captions.json").write_text(json.dumps(lines))
    data = FolderConfig(root=mine).read()
    assert {split: len(images) for split, images in data.splits.items()} == {"train": 14, "dev": 4, "test": 2}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"split": "holdout"}, r"'0\.jpg' has the split 'holdout', want one of train, training"),
        ({"split": "test"}, r"'0\.jpg' is in the split 'test' and in 'train'"),
        ({"split": None, "image": "x.jpg"}, r"'x\.jpg' has no split, others have"),
        ({"caption": None}, r"entry 0: has no image or no caption"),
        ({"caption": ["a", 3]}, r"entry 0: has no image or no caption"),
        ({"image": ""}, r"entry 0: has no image or no caption"),
    ],
)
def test_a_row_that_is_not_as_wanted_is_named(mine: Path, rows: Rows, change: dict[str, object], said: str):
    lines = [{"image": name, "caption": text, "split": "train"} for name, text in rows]
    lines[0] |= change
    (mine / "captions.json").write_text(json.dumps(lines))
    with pytest.raises(DataError, match=said):
        FolderConfig(root=mine).read()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("captions.csv", "a,b\n1,2\n", "its first line names a, b; wanted is a .csv with columns image, caption"),
        ("captions.csv", "image,caption\n", "holds no row"),
        ("captions.json", "{", "is no JSON"),
        ("captions.json", "3", "holds a int"),
        ("captions.json", '["a.jpg"]', "entry 0: holds a str"),
        ("captions.jsonl", '{"image": "a.jpg", "caption": "A dog"}\nx', "line 2: is no JSON"),
    ],
)
def test_another_form_is_refused(mine: Path, name: str, text: str, said: str):
    (mine / name).write_text(text)
    with pytest.raises(DataError, match=said):
        FolderConfig(root=mine).read()


def test_another_encoding_is_refused(mine: Path):
    (mine / "captions.csv").write_bytes("image,caption\na.jpg,Kälbchen\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"captions\.csv is no UTF-8 text \(byte 21\)"):
        FolderConfig(root=mine).read()


def test_quoted_captions_keep_their_commas_and_lines(mine: Path):
    (mine / "captions.csv").write_text('image,caption\n0.jpg,"A dog, a ball"\n1.jpg,"Two\nlines"\n2.jpg,\n')
    data = FolderConfig(root=mine, dev_share=0.0, test_share=0.0).read()
    assert [image.captions for image in data] == [("A dog, a ball",), ("Two\nlines",)]
    assert data.skipped == {"empty caption": 1, "image without caption": 1}


def test_pictures_may_lie_beside_the_captions_and_in_folders(mine: Path):
    (mine / "images" / "0.jpg").rename(mine / "0.jpg")
    (mine / "cats").mkdir()
    (mine / "images" / "1.jpg").rename(mine / "cats" / "1.jpg")
    (mine / "images").rename(mine / "other")
    (mine / "mine.json").write_text(json.dumps({"0.jpg": "A dog", "cats/1.jpg": ["A cat"]}))
    data = FolderConfig(root=mine, captions="mine.json", dev_share=0.0, test_share=0.0).read()
    assert [image.path for image in data] == [mine / "0.jpg", mine / "cats" / "1.jpg"]
    with pytest.raises(DataError, match=r"none of the 2 images of its train split is there with a caption"):
        FolderConfig(root=mine, captions="mine.json", images="other", dev_share=0.0, test_share=0.0).read()


def test_one_caption_file_is_wanted(mine: Path, rows: Rows):
    with pytest.raises(DataError, match=r"has none of captions\.csv, .*--data\.captions"):
        FolderConfig(root=mine).read()
    write_csv(mine, rows)
    write_list(mine, rows)
    with pytest.raises(DataError, match=r"has captions\.csv, captions\.json: wanted is one caption file"):
        FolderConfig(root=mine).read()
    assert FolderConfig(root=mine, captions="captions.csv").read().split("train")
    with pytest.raises(DataError, match=r"other\.csv is missing"):
        FolderConfig(root=mine, captions="other.csv").read()


def test_a_picture_that_is_added_moves_no_other(mine: Path, rows: Rows):
    write_csv(mine, rows)
    config = FolderConfig(root=mine, dev_share=0.2, test_share=0.2)
    before = {image.name for split in ("dev", "test") for image in config.read().split(split)}
    write_csv(mine, [row for row in rows if row[0] != "19.jpg"])
    after = {image.name for split in ("dev", "test") for image in config.read().split(split)}
    assert len(before - after) <= 1
    other = replace(config, seed=5).read()
    assert {image.name for split in ("dev", "test") for image in other.split(split)} != after


@pytest.mark.parametrize(("dev", "test"), [(-0.1, 0.1), (0.1, -0.1), (0.5, 0.5)])
def test_shares_must_leave_something(dev: float, test: float):
    with pytest.raises(ValueError, match=r"data\.dev-share and data\.test-share must be at least 0 and leave"):
        FolderConfig(dev_share=dev, test_share=test)
