import json
from pathlib import Path

import pytest

from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.data.entity_phrases import read_marked_captions
from regioncap.guidance import MarkedCaption

SENTENCE = (
    "[/EN#1/people Two men] watch [/EN#0/notvisual the view] of "
    "[/EN#2/scene a harbour] with [/EN#3/vehicles/scene boats] ."
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(
        tmp_path, {"a.jpg": [SENTENCE, "no phrase here"], "b.jpg": ["[/EN#9/other A zyzzyva] in [/EN#8/scene a quoin]"]}
    )
    return tmp_path


def write(root: Path, sentences: dict[str, list[str]]) -> None:
    lines = [json.dumps({"image": name, "sentences": own}) for name, own in sentences.items()]
    (root / "entities.jsonl").write_text("\n".join(lines) + "\n\n")


def test_phrases_are_told_apart_by_their_types(folder: Path) -> None:
    assert read_marked_captions(folder, ["a.jpg"]) == (
        MarkedCaption(
            text="Two men watch the view of a harbour with boats .", scene=("a harbour",), detail=("Two men", "boats")
        ),
        MarkedCaption(text="no phrase here", scene=(), detail=()),
    )


def test_captions_of_other_pictures_are_not_read(folder: Path) -> None:
    assert "zyzzyva" not in str(read_marked_captions(folder, {"a.jpg"}))
    assert "zyzzyva" in str(read_marked_captions(folder, {"a.jpg", "b.jpg"}))


def test_a_missing_file_and_one_without_the_pictures_say_the_way_out(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match=r"no caption of the 1 training pictures.*--banks\.source captions"):
        read_marked_captions(folder, ["c.jpg"])
    (folder / "entities.jsonl").unlink()
    with pytest.raises(DataError, match=r"entities\.jsonl is missing.*--banks\.source captions"):
        read_marked_captions(folder, ["a.jpg"])


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"sentences": []}', '{"image": "a.jpg"}', '{"image": "a.jpg", "sentences": [3]}']
)
def test_a_line_of_another_form_is_named(folder: Path, line: str) -> None:
    with (folder / "entities.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=r"entities\.jsonl, line 4: not as wanted"):
        read_marked_captions(folder, ["a.jpg"])
