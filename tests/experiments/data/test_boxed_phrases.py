"""Human boxes and what people call them, from lines of entities.jsonl."""

import json
from pathlib import Path

import pytest

from regioncap.experiments.data.boxed_phrases import read_boxed_phrases
from regioncap.experiments.data.dataset import DataError

LINE = {
    "image": "a.jpg",
    "size": [500, 375],
    "boxes": {"1": [[0.1, 0.2, 0.5, 0.9], [0.5, 0.2, 0.7, 0.9]], "2": [[0.0, 0.0, 1.0, 0.5]], "9": [[0, 0, 0.5, 0.5]]},
    "scene": ["3"],
    "no_box": [],
    "sentences": [
        "[/EN#1/people Two children] in [/EN#2/clothing a pink dress] on [/EN#3/scene the beach] .",
        "[/EN#1/people Kids] run .",
    ],
}


def write(root: Path, *lines: object) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (root / "entities.jsonl").write_text("\n".join(texts) + "\n")
    return root


def test_every_box_has_the_phrases_of_its_chain(tmp_path: Path) -> None:
    found = read_boxed_phrases(write(tmp_path, LINE), {"a.jpg"})["a.jpg"]
    assert [(own.box, own.phrases) for own in found] == [
        ((0.1, 0.2, 0.5, 0.9), ("Two children", "Kids")),
        ((0.5, 0.2, 0.7, 0.9), ("Two children", "Kids")),
        ((0.0, 0.0, 1.0, 0.5), ("a pink dress",)),
    ]  # a box that no sentence speaks of is left out


def test_lines_of_other_pictures_are_not_read(tmp_path: Path) -> None:
    other = {"image": "test.jpg", "boxes": "nobody looks", "sentences": None}
    assert set(read_boxed_phrases(write(tmp_path, LINE, "", other), {"a.jpg"})) == {"a.jpg"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{broken", r"line 2: not as wanted \(JSONDecodeError"),
        ({"image": "b.jpg", "sentences": []}, r"line 2: not as wanted \(KeyError: 'boxes'\)"),
        (LINE | {"image": "b.jpg", "boxes": {"1": [[0.5, 0.2, 0.4, 0.9]]}}, r"line 2: .*has no area or leaves"),
        (LINE | {"image": "b.jpg", "boxes": {"1": [[0.5, 0.2]]}}, r"line 2: .*ValueError"),
    ],
)
def test_a_line_that_is_not_as_wanted_is_named(tmp_path: Path, line: object, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_boxed_phrases(write(tmp_path, LINE, line), {"a.jpg", "b.jpg"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"entities\.jsonl is missing: wanted are human boxes"):
        read_boxed_phrases(tmp_path, {"a.jpg"})
