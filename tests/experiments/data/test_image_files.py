"""Pictures that are the same to the byte in two splits, and what is remembered of pictures."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from regioncap.experiments.data.coco_captions import CocoConfig
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.data.image_files import digests_of, files_in, same_bytes
from regioncap.experiments.data.sources import read_data


@pytest.fixture
def leaky(photographs: Path, tmp_path: Path) -> Path:
    """The first training picture again as the second of dev, and the last of dev as one of test."""
    root = Path(shutil.copytree(photographs, tmp_path / "flickr"))
    shutil.copy(root / "images" / "1000_photo.jpg", root / "images" / "1007_photo.jpg")
    shutil.copy(root / "images" / "1008_photo.jpg", root / "images" / "1011_photo.jpg")
    return root


def test_a_leak_is_refused_with_the_pair_and_the_way_out(leaky: Path, tmp_path: Path):
    with pytest.raises(DataError) as caught:
        read_data(Flickr8kConfig(root=leaky), tmp_path / "cache")
    message = str(caught.value)
    assert f"{leaky / 'images' / '1000_photo.jpg'} of the train split" in message
    assert f"{leaky / 'images' / '1007_photo.jpg'} of the dev split" in message
    assert "2 such" in message
    assert "--data.leaks leave-out" in message


def test_leave_out_keeps_what_is_scored(leaky: Path, tmp_path: Path):
    source = Flickr8kConfig(root=leaky, leaks="leave-out")
    data = read_data(source, tmp_path / "cache")
    names = {split: [image.name for image in images] for split, images in data.splits.items()}
    assert names["train"] == [f"{1000 + i}_photo.jpg" for i in range(1, 6)]
    assert names["dev"] == ["1006_photo.jpg", "1007_photo.jpg"]
    assert names["test"] == [f"{1000 + i}_photo.jpg" for i in range(9, 12)]
    assert data.skipped["picture that another split has too"] == 2
    whole = source.read()
    images = {split: whole.split(split) for split in names}
    left = {split: [image for image in own if image.name in names[split]] for split, own in images.items()}
    assert not same_bytes(left, digests_of(list(data), tmp_path / "cache", "look"))


def test_the_same_picture_twice_in_one_split_is_no_leak(photographs: Path, tmp_path: Path):
    root = Path(shutil.copytree(photographs, tmp_path / "flickr"))
    shutil.copy(root / "images" / "1000_photo.jpg", root / "images" / "1001_photo.jpg")
    assert len(read_data(Flickr8kConfig(root=root), tmp_path / "cache").split("train")) == 6


def test_empty_files_are_not_the_same_picture(photographs: Path, tmp_path: Path):
    root = Path(shutil.copytree(photographs, tmp_path / "flickr"))
    for number in (1000, 1007):
        (root / "images" / f"{number}_photo.jpg").write_bytes(b"")
    assert read_data(Flickr8kConfig(root=root), tmp_path / "cache").split("train")


def test_pictures_are_read_once_and_again_when_they_change(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = Path(shutil.copytree(photographs, tmp_path / "flickr"))
    for picture in (root / "images").iterdir():  # settled long ago: what was just written may be written again
        shutil.copystat(photographs / "images" / picture.name, picture)
        os.utime(picture, (1_000_000_000, 1_000_000_000))
    source, cache = Flickr8kConfig(root=root), tmp_path / "cache"
    read_data(source, cache)
    opened: list[Path] = []
    real = Path.open

    def counting(self: Path, *arguments, **named):
        opened.append(self)
        return real(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", counting)
    read_data(source, cache)
    assert not [path for path in opened if path.suffix == ".jpg"]
    shutil.copy(root / "images" / "1000_photo.jpg", root / "images" / "1007_photo.jpg")
    with pytest.raises(DataError, match="the same picture to the byte"):
        read_data(source, cache)
    (root / "images" / "1007_photo.jpg").unlink()
    assert len(read_data(source, cache).split("dev")) == 2


def test_coco_is_looked_at_too(coco: Path, tmp_path: Path):
    shutil.copy(
        coco / "train2014" / "COCO_train2014_000000000000.jpg", coco / "val2014" / "COCO_val2014_000000000010.jpg"
    )
    source = CocoConfig(root=coco, sizes="any")
    with pytest.raises(DataError, match=r"of the train split and .*000000000010\.jpg of the test split"):
        read_data(source, tmp_path / "cache")
    assert len(read_data(replace(source, leaks="leave-out"), tmp_path / "cache").split("train")) == 8


def test_a_folder_that_is_not_there_has_no_files(tmp_path: Path):
    assert files_in([tmp_path / "no"]) == set()
