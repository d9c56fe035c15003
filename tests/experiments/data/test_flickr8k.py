import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from regioncap.experiments.data.dataset import CaptionData, CaptionedImage, DataError
from regioncap.experiments.data.flickr8k import Flickr8kConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six photographs with two captions each: three to train on, two for dev, one in no split."""
    root = tmp_path / "holiday"
    write_images(root / "images", *"abcdef")
    lines = [f"{n}.jpg#{k}\tA {word} of {n} ." for n in "abcdef" for k, word in enumerate(("picture", "photograph"))]
    (root / "captions.txt").write_text("\n".join(lines) + "\n")
    (root / "train.txt").write_text("c.jpg\na.jpg\nb.jpg\n")
    (root / "dev.txt").write_text("d.jpg\ne.jpg\n")
    return root


def write_images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for shade, name in enumerate(names):
        Image.new("RGB", (40, 30), (20 * shade, 90, 200)).save(folder / f"{name}.jpg")


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def read(root: Path) -> CaptionData:
    return Flickr8kConfig(root=root).read()


def complaint(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(root)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_splits_keep_the_order_of_their_lists(folder):
    data = read(folder)
    assert list(data.splits) == ["train", "dev"]
    assert [image.name for image in data.split("train")] == ["c.jpg", "a.jpg", "b.jpg"]
    assert data.split("dev")[0] == CaptionedImage(
        name="d.jpg", path=folder / "images" / "d.jpg", captions=("A picture of d .", "A photograph of d .")
    )
    assert data.name == "holiday"
    assert all(image.path.is_file() for image in data)


def test_a_test_list_alone_is_enough(folder):
    (folder / "train.txt").unlink()
    (folder / "dev.txt").unlink()
    (folder / "test.txt").write_text("f.jpg")
    data = read(folder)
    assert {split: len(images) for split, images in data.splits.items()} == {"test": 1}
    assert data.skipped == {"image in no split": 5}
    with pytest.raises(DataError, match="has no split 'train'; it has test"):
        data.split("train")


def test_what_has_no_image_is_counted(folder):
    append(folder / "captions.txt", "gone.jpg#0\tA ghost .\ngone.jpg#1\tA spirit .\na.jpg#2\t \na.jpg#0\tAgain .\n")
    append(folder / "train.txt", "gone.jpg\n")
    data = read(folder)
    assert data.skipped == {
        "caption without image": 2,
        "empty caption": 1,
        "repeated caption line": 1,
        "name without image": 1,
        "image in no split": 1,
    }
    assert len(data.split("train")) == 3
    assert data.split("train")[1].captions == ("A picture of a .", "A photograph of a .")


def test_hidden_files_and_folders_are_no_images(folder):
    (folder / "images" / ".DS_Store").write_bytes(b"x")
    (folder / "images" / "thumbnails").mkdir()
    assert read(folder).skipped == {"image in no split": 1}


def test_editors_leave_no_trace(folder):
    for name in ("captions.txt", "train.txt"):
        text = (folder / name).read_text()
        (folder / name).write_bytes(b"\xef\xbb\xbf" + f"\n{text}\n\n".replace("\n", "\r\n").encode())
    data = read(folder)
    assert [image.name for image in data.split("train")] == ["c.jpg", "a.jpg", "b.jpg"]
    assert data.split("train")[0].captions[1] == "A photograph of c ."


def test_a_name_may_hold_a_hash_and_a_caption_a_line_separator(folder):
    write_images(folder / "images", "x#1")
    append(folder / "captions.txt", "x#1.jpg#0\tA\u2028pair .\n")
    append(folder / "dev.txt", "x#1.jpg\n")
    assert read(folder).split("dev")[-1].captions == ("A\u2028pair .",)


def test_fields_name_the_parts(folder):
    (folder / "images").rename(folder / "photos")
    (folder / "captions.txt").rename(folder / "tokens.txt")
    config = Flickr8kConfig(root=folder, images="photos", captions="tokens.txt")
    assert config.read().split("train")[0].path == folder / "photos" / "c.jpg"
    with pytest.raises(DataError, match="images is missing"):
        replace(config, images="images").read()
    with pytest.raises(DataError, match=r"captions\.txt is missing"):
        replace(config, captions="captions.txt").read()


@pytest.mark.parametrize("field", ["images", "captions"])
def test_a_part_needs_a_name(field):
    with pytest.raises(ValueError, match=rf"data\.{field} is empty"):
        Flickr8kConfig(**{field: " "})


def test_the_folder_must_be_given_and_there(folder):
    with pytest.raises(DataError, match=r"data\.root is not given.*--data\.root"):
        Flickr8kConfig().read()
    assert f"{folder / 'no'} does not exist" in complaint(folder / "no")
    assert "is a file" in complaint(folder / "train.txt")
    (folder / "blank").mkdir()
    assert f"{folder / 'blank' / 'images'} is missing" in complaint(folder / "blank")


def test_an_empty_image_folder_is_refused(folder):
    for path in (folder / "images").iterdir():
        path.unlink()
    assert complaint(folder).startswith(f"{folder / 'images'} is empty")


def test_an_empty_caption_file_is_refused(folder):
    (folder / "captions.txt").write_text("\n\n")
    assert complaint(folder).startswith(f"{folder / 'captions.txt'} is empty")


@pytest.mark.parametrize(
    "line", ["image,caption", "a.jpg,A dog .", "a.jpg\tA dog .", "a.jpg#0 A dog .", "a.jpg#x\tA dog .", "#0\tA dog ."]
)
def test_a_caption_file_of_another_form_is_refused(folder, line):
    append(folder / "captions.txt", line + "\n")
    message = complaint(folder)
    assert "captions.txt, line 13" in message
    assert f"found '{line}'" in message
    assert "want 'name.jpg#0<TAB>caption'" in message


def test_a_long_line_is_quoted_in_part(folder):
    (folder / "captions.txt").write_text('{"a": "' + "x" * 5000)
    assert len(complaint(folder)) < 300 + len(str(folder))


def test_another_encoding_is_refused(folder):
    (folder / "captions.txt").write_bytes("a.jpg#0\tEin Kälbchen .\n".encode("latin-1"))
    assert "captions.txt is no UTF-8 text (byte 13)" in complaint(folder)


def test_no_split_is_refused(folder):
    (folder / "train.txt").unlink()
    (folder / "dev.txt").unlink()
    assert "has no train.txt, dev.txt or test.txt" in complaint(folder)


def test_an_image_twice_in_a_split_is_refused(folder):
    append(folder / "train.txt", "\nc.jpg\n")
    assert complaint(folder).startswith(f"{folder / 'train.txt'}, line 5: 'c.jpg' is on line 1 already")


@pytest.mark.parametrize("split", ["dev", "test"])
def test_an_image_in_two_splits_is_refused(folder, split):
    append(folder / f"{split}.txt", "f.jpg\nb.jpg\n")
    message = complaint(folder)
    assert message.startswith(f"{folder / f'{split}.txt'} and train.txt share 1 image(s), the first is 'b.jpg'")


def test_an_image_missing_from_disk_still_leaks(folder):
    append(folder / "train.txt", "gone.jpg\n")
    append(folder / "dev.txt", "gone.jpg\n")
    assert "'gone.jpg'" in complaint(folder)


@pytest.mark.parametrize(("names", "quoted"), [("a\nb\n", "(the first is 'a')"), ("", "none of its 0 names")])
def test_a_split_without_usable_image_is_refused(folder, names, quoted):
    (folder / "train.txt").write_text(names)
    message = complaint(folder)
    assert message.startswith(f"{folder / 'train.txt'} leaves no usable image")
    assert quoted in message
    assert "'a.jpg'" in message


def test_an_image_without_caption_is_refused(folder):
    write_images(folder / "images", "mute", "silent")
    append(folder / "dev.txt", "silent.jpg\nmute.jpg\n")
    message = complaint(folder)
    assert message.startswith(f"{folder / 'images' / 'silent.jpg'} has no caption (2 of 4 images of dev.txt)")
    assert "silent.jpg#0<TAB>" in message


def test_the_published_files_are_read_by_their_own_names(folder):
    wanted = read(folder)
    (folder / "images").rename(folder / "Flicker8k_Dataset")
    (folder / "captions.txt").rename(folder / "Flickr8k.token.txt")
    for split in ("train", "dev"):
        (folder / f"{split}.txt").rename(folder / f"Flickr_8k.{split}Images.txt")
    found = read(folder)
    assert {s: [(i.name, i.captions) for i in own] for s, own in found.splits.items()} == {
        s: [(i.name, i.captions) for i in own] for s, own in wanted.splits.items()
    }
    assert found.split("train")[0].path == folder / "Flicker8k_Dataset" / "c.jpg"
    append(folder / "Flickr_8k.devImages.txt", "a.jpg\n")
    assert "Flickr_8k.devImages.txt and Flickr_8k.trainImages.txt share 1 image(s)" in complaint(folder)


def test_entities_are_captions_where_there_are_no_others(folder):
    lines = [
        {"image": f"{name}.jpg", "sentences": [f"[/EN#1/other A picture] of [/EN#2/other {name}] .", " "]}
        for name in "abcdefx"
    ]
    (folder / "entities.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read(folder).split("train")[0].captions == ("A picture of c .", "A photograph of c .")
    (folder / "captions.txt").unlink()
    data = read(folder)
    assert data.split("train")[0].captions == ("A picture of c .",)
    assert data.skipped == {"caption without image": 1, "image in no split": 1}
    (folder / "entities.jsonl").write_text('{"image": "a.jpg"}\n')
    assert "entities.jsonl, line 1: not as wanted (KeyError: 'sentences')" in complaint(folder)
    (folder / "entities.jsonl").write_text("")
    assert "entities.jsonl is empty" in complaint(folder)


def test_official_sizes_are_those_of_flickr8k(folder):
    with pytest.raises(DataError, match=r"train\.txt has 3 images that are there, wanted are Flickr8k's 6,000"):
        Flickr8kConfig(root=folder, sizes="official").read()


def test_a_listing_has_what_is_not_there_and_what_has_no_caption(folder):
    append(folder / "train.txt", "gone.jpg\n")
    write_images(folder / "images", "mute")
    append(folder / "dev.txt", "mute.jpg\n")
    found = Flickr8kConfig(root=folder).listing()
    assert [(image.name, len(image.captions)) for image in found.splits["train"]][-1] == ("gone.jpg", 0)
    assert [(image.name, len(image.captions)) for image in found.splits["dev"]][-1] == ("mute.jpg", 0)
    assert (found.official, Flickr8kConfig(root=folder, sizes="official").listing().official) == (
        None,
        {"train": 6000, "dev": 1000},
    )
