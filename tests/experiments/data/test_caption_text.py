import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regioncap.experiments.data.caption_text import CaptionText, read_caption_text, refuse_leaks
from regioncap.experiments.data.dataset import DataError


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def make(name: str, content: str | bytes) -> Path:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / name

    return make


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "a.jpg#0\tA red house .\r\na.jpg#1\ta house\n\nb.jpg#0\tA dog \n \nc.jpg#0\t \n"),
        ("a.txt", "﻿a.jpg\tA red house .\na.jpg\ta house\nb.jpg\tA dog"),
        ("a.token", "a.jpg#0\tA red house .\na.jpg#1\ta house\nb.jpg#0\tA dog"),
        ("a.csv", 'image,caption\na.jpg,A red house .\na.jpg,"a house"\nb.jpg,A dog\n'),
        ("a.CSV", "number,caption,file_name\n0,A red house .,a.jpg\n1,a house,a.jpg\n0,A dog,b.jpg\n"),
        (
            "a.jsonl",
            "\n".join(
                json.dumps({"image": i, "caption": c})
                for i, c in (("a.jpg", "A red house ."), ("a.jpg", "a house"), ("b.jpg", "A dog"))
            ),
        ),
    ],
)
def test_every_form_names_pictures_and_captions(
    write: Callable[[str, str | bytes], Path], name: str, content: str
) -> None:
    text = read_caption_text(write(name, content))
    assert text.captions == ("A red house .", "a house", "A dog")
    assert text.images == ("a.jpg", "a.jpg", "b.jpg")
    assert text.names == {"a.jpg", "b.jpg"}


def test_lines_without_names_are_captions(write: Callable[[str, str | bytes], Path]) -> None:
    text = read_caption_text(write("a.txt", "A red, white house #1\n\na dog\n"))
    assert text.captions == ("A red, white house #1", "a dog")
    assert text.names == set()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.txt", "\n \n", r"empty\.txt holds no caption; wanted a text file with a caption a line"),
        ("names.txt", "a.jpg#0\t\n", r"names\.txt holds no caption"),
        ("bytes.txt", b"a dog\n\xff\xfe", r"bytes\.txt is no UTF-8 text \(byte 6\)"),
        ("zero.txt", b"\x00\x00\x00", r"zero\.txt holds zero bytes, so it is no text"),
        ("a.csv", "image,text\na.jpg,A dog\n", r"a\.csv: its first line names 'image', 'text'; want columns 'caption'"),
        ("a.jsonl", '{"caption": "a"}\n{', r"a\.jsonl, line 2: is no JSON"),
        ("a.jsonl", '{"text": "a"}\n', r"a\.jsonl, line 1: has no caption"),
        ("a.jsonl", "[1]", r"a\.jsonl, line 1: has no caption"),
    ],
)
def test_file_that_cannot_be_used_is_named(
    write: Callable[[str, str | bytes], Path], name: str, content: str | bytes, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        read_caption_text(write(name, content))


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt does not exist; wanted a text file"):
        read_caption_text(tmp_path / "none.txt")
    with pytest.raises(DataError, match="is a folder; wanted a text file"):
        read_caption_text(tmp_path)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "c", "d", "e", None]), min_size=2, max_size=30),
    st.floats(0.01, 0.99),
    st.integers(0, 5),
)
def test_no_picture_is_on_both_sides(images: list[str | None], share: float, seed: int) -> None:
    text = CaptionText(images=tuple(images), captions=tuple(f"caption {i}" for i in range(len(images))), sha256="")
    if len({image or i for i, image in enumerate(images)}) < 2:
        with pytest.raises(DataError, match="describe one picture"):
            text.split(share, seed)
        return
    learn, held_out = text.split(share, seed)
    assert learn
    assert held_out
    assert sorted((*learn, *held_out)) == sorted(text.captions)
    picture = dict(zip(text.captions, images, strict=True))
    assert not {picture[c] for c in learn} & {picture[c] for c in held_out} - {None}
    assert text.split(share, seed) == (learn, held_out)
    assert list(learn) == [caption for caption in text.captions if caption in set(learn)]


def test_share_is_of_pictures_and_the_seed_draws_them() -> None:
    text = CaptionText(
        images=tuple(f"{i // 5}.jpg" for i in range(500)), captions=tuple(str(i) for i in range(500)), sha256=""
    )
    assert len(text.split(0.1, 0)[1]) == 50
    assert text.split(0.1, 0) != text.split(0.1, 1)


def test_text_about_scored_pictures_is_refused() -> None:
    splits = {"train": {"a.jpg"}, "dev": {"b.jpg", "c.jpg"}, "test": {"d.jpg"}}
    refuse_leaks("text.txt", {"a.jpg", "e.jpg"}, splits)
    with pytest.raises(DataError, match=r"text\.txt holds captions of 1 of the dev split's 2 pictures.*'c\.jpg'"):
        refuse_leaks("text.txt", {"a.jpg", "c.jpg"}, splits)
    with pytest.raises(DataError, match="1 of the test split's 1 pictures"):
        refuse_leaks("text.txt", {"images/d.jpg"}, splits)
