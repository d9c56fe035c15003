"""`regioncap caption` with edits, end to end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Command = Callable[..., Any]


@pytest.fixture
def picture(scenes_root: Path) -> Path:
    return min((scenes_root / "images" / "val").iterdir())


def words_of(checkpoint: Path, bank: str) -> list[str]:
    lines = (checkpoint / "banks" / bank / "words.tsv").read_text().splitlines()[1:]
    return [line.split("\t")[0] for line in lines]


def test_the_output_has_the_caption_and_the_words_without_and_with(
    command: Command, trained: tuple[Any, Path], picture: Path, tmp_path: Path
) -> None:
    checkpoint, out, overlay = trained[1] / "checkpoint", tmp_path / "captions.jsonl", tmp_path / "overlay"
    scene, (word, dropped, named) = words_of(checkpoint, "scene")[0], words_of(checkpoint, "detail")[:3]
    outcome = command(
        "caption", checkpoint, picture, "--add", word, "--drop", dropped, "--scene", scene, "--region", f"1={named}",
        "--strength", 9, "--out", out, "--overlay", overlay,
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    record = json.loads(out.read_text())
    told = record["steering"]
    assert told["caption_after"] == record["caption"]
    assert told["caption_before"] == command("caption", checkpoint, picture).out.strip().split("\t")[1]
    assert told["strength"] == 9
    assert {(edit["word"], edit["change"], edit["region"]) for edit in told["edits"]} >= {
        (word, "added", None),
        (dropped, "dropped", None),
        (scene, "added", None),
        (named, "added", 1),
    }
    now = told["chosen_after"]
    assert scene in now["scene"]
    assert {word, scene, named} <= set(now["keywords"])
    assert dropped not in now["keywords"]
    assert named in now["regions"]["1"]
    assert not any(dropped in words for words in now["regions"].values())
    with Image.open(overlay / f"{picture.stem}.png") as drawn:
        assert min(drawn.size) > 200


def test_the_terminal_compares_and_without_edits_is_as_before(
    command: Command, trained: tuple[Any, Path], picture: Path
) -> None:
    checkpoint = trained[1] / "checkpoint"
    plain = command("caption", checkpoint, picture)
    word = words_of(checkpoint, "detail")[0]
    lines = command("caption", checkpoint, picture, "--add", word).out.splitlines()
    assert lines[0] == str(picture)
    assert lines[1] == f"  without   {plain.out.strip().split(chr(9))[1]}"
    assert lines[2].startswith("  with      ")
    assert f"+{word}" in lines[3]


def test_a_phrase_is_embedded_and_noted(command: Command, trained: tuple[Any, Path], picture: Path) -> None:
    checkpoint = trained[1] / "checkpoint"
    phrase = " ".join(words_of(checkpoint, "detail")[:2])
    outcome = command("caption", checkpoint, picture, "--add", phrase)
    assert outcome.status == 0, outcome.err
    assert f"'{phrase}' is in no keyword bank; it was embedded now" in outcome.out
    assert f"{phrase} 4.00" in outcome.out


@pytest.mark.parametrize(
    ("edits", "says"),
    [
        (("--region", "99={word}"), ("no region 99", "numbered from 1")),
        (("--region", "{word}"), ("--region wants NUMBER=WORDS",)),
        (("--add", "{word}", "--drop", "{word}"), ("is to be dropped and to be said",)),
        (("--add", "{word}qx"), ("no word '{word}qx' in the detail bank; nearest: {word}", "nor can the decoder say")),
        (("--add", "{word}", "--strength", "0"), ("--strength must be positive",)),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    command: Command, trained: tuple[Any, Path], picture: Path, edits: tuple[str, ...], says: tuple[str, ...]
) -> None:
    checkpoint = trained[1] / "checkpoint"
    word = max(words_of(checkpoint, "detail"), key=len)
    outcome = command("caption", checkpoint, picture, *(flag.format(word=word) for flag in edits))
    assert outcome.status != 0
    for part in says:
        assert part.format(word=word) in " ".join(outcome.err.split())
    assert "Traceback" not in outcome.err
