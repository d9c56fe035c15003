import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Command = Callable[..., Any]


@pytest.fixture
def pictures(scenes_root: Path, tmp_path: Path) -> Path:
    """A folder with two pictures, one below another folder and upper case, a broken one, and a text."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    source = sorted((scenes_root / "images" / "test").iterdir())
    shutil.copy(source[0], folder / "b.jpg")
    shutil.copy(source[1], folder / "deep" / "B.JPG")
    (folder / "a_broken.jpg").write_bytes(source[2].read_bytes()[:900])
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_folder_is_captioned_but_for_the_picture_that_does_not_decode(
    trained: tuple[Any, Path], command: Command, pictures: Path, tmp_path: Path
) -> None:
    out, overlay = tmp_path / "sub" / "captions.jsonl", tmp_path / "overlay"
    outcome = command("caption", trained[1] / "checkpoint", pictures, "--out", out, "--overlay", overlay)
    outcome.assert_one_line(str(pictures / "a_broken.jpg"), "does not decode")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["image"] for row in rows] == [str(pictures / "b.jpg"), str(pictures / "deep" / "B.JPG")]
    for row in rows:
        assert isinstance(row["caption"], str)
        assert len(row["scene_words"]) == 4
        assert row["detail_words"]
    assert len(list(overlay.iterdir())) == 2
    for path in overlay.iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) >= 224


def test_a_picture_gets_as_many_captions_as_are_asked_for_each_with_its_confidence(
    trained: tuple[Any, Path], command: Command, pictures: Path, tmp_path: Path
) -> None:
    out, picture = tmp_path / "captions.jsonl", pictures / "b.jpg"
    for flags in (["--n", 5], ["--n", 5, "--search.method", "sample", "--search.top-p", 0.99]):
        outcome = command("caption", trained[1] / "checkpoint", picture, "--out", out, *flags)
        assert outcome.status == 0
        row = json.loads(out.read_text())
        captions = [row, *row["alternatives"]]
        assert len({each["caption"] for each in captions}) == 5
        scores = [each["score"] for each in captions]
        assert scores == sorted(scores, reverse=True)
        assert all(0 < each["confidence"] <= 1 for each in captions)
        product = 1.0
        for _, probability in row["tokens"]:
            product *= probability
        assert product ** (1 / len(row["tokens"])) == pytest.approx(row["confidence"], rel=0.02)
    printed = command("caption", trained[1] / "checkpoint", picture, "--n", 3).out
    assert len([line for line in printed.splitlines() if line.startswith(str(picture))]) == 3


def test_search_flags_change_what_the_checkpoint_says(
    trained: tuple[Any, Path], command: Command, pictures: Path, tmp_path: Path
) -> None:
    def said(*flags: object) -> str:
        out = tmp_path / "captions.jsonl"
        assert command("caption", trained[1] / "checkpoint", pictures / "b.jpg", "--out", out, *flags).status == 0
        caption: str = json.loads(out.read_text())["caption"]
        return caption

    plain = said()
    assert len(said("--search.max-new-tokens", 2).split()) == 2 < len(plain.split())
    assert said("--search.prompt", "there is a").startswith("there is a ")
    first = plain.split()[0]
    assert first not in said("--search.bad-words", first).split()


@pytest.mark.parametrize(("flag", "name"), [("--search.prompt", "prompt"), ("--search.bad-words", "bad_words")])
def test_a_word_that_the_decoder_does_not_know_is_named(
    trained: tuple[Any, Path], command: Command, pictures: Path, flag: str, name: str
) -> None:
    outcome = command("caption", trained[1] / "checkpoint", pictures / "b.jpg", flag, "zebra")
    outcome.assert_one_line(f"search.{name}", "'zebra'", "not in the decoder's vocabulary")


def test_captioning_wants_pictures(trained: tuple[Any, Path], command: Command) -> None:
    command("caption", trained[1] / "checkpoint").assert_one_line("wants pictures", "got none")


def test_files_are_captioned_alone_as_in_a_folder_and_printed_without_out(
    trained: tuple[Any, Path], command: Command, pictures: Path, tmp_path: Path
) -> None:
    file, out = pictures / "b.jpg", tmp_path / "captions.jsonl"
    outcome = command("caption", trained[1] / "checkpoint", file, pictures / "deep", "--out", out)
    assert (outcome.status, outcome.err) == (0, "")
    together = [json.loads(line)["caption"] for line in out.read_text().splitlines()]
    alone = command("caption", trained[1] / "checkpoint", file)
    assert (alone.status, alone.err) == (0, "")
    assert alone.out == f"{file}\t{together[0]}\n"


def test_pictures_of_one_name_get_an_overlay_each(
    trained: tuple[Any, Path], command: Command, pictures: Path, tmp_path: Path
) -> None:
    shutil.copy(pictures / "b.jpg", pictures / "deep" / "b.png")
    overlay = tmp_path / "overlay"
    (pictures / "a_broken.jpg").unlink()
    outcome = command("caption", trained[1] / "checkpoint", pictures, "--overlay", overlay)
    assert outcome.status == 0
    assert len(list(overlay.iterdir())) == 3


def test_only_broken_pictures_give_an_empty_file_and_a_status(
    trained: tuple[Any, Path], command: Command, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "captions.jsonl"
    outcome = command("caption", trained[1] / "checkpoint", pictures / "a_broken.jpg", "--out", out)
    outcome.assert_one_line("a_broken.jpg")
    assert out.read_text() == ""


def test_paths_without_pictures_are_one_line(trained: tuple[Any, Path], command: Command, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    checkpoint = trained[1] / "checkpoint"
    command("caption", checkpoint, empty).assert_one_line("empty holds no picture; wanted files ending in")
    command("caption", checkpoint, tmp_path / "gone.jpg").assert_one_line("gone.jpg: no such file or folder")
