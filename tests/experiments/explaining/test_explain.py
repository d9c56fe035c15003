import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Command = Callable[..., Any]


@pytest.fixture
def pictures(tmp_path: Path, scenes_root: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for at, source in enumerate(sorted((scenes_root / "images" / "val").iterdir())[:2]):
        (folder / f"{at}{source.suffix}").write_bytes(source.read_bytes())
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def test_every_picture_gets_a_figure_and_a_record_but_the_broken_one(
    command: Command, trained: tuple[Any, Path], pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "why"
    outcome = command("explain", trained[1] / "checkpoint", pictures, "--out", out)
    assert outcome.status == 1
    assert "broken.jpg" in outcome.err
    assert sorted(path.name for path in out.iterdir()) == ["0.json", "0.png", "1.json", "1.png"]
    record = json.loads((out / "0.json").read_text())
    assert record["image"] == str(next(pictures.glob("0.*")))
    assert record["caption"] == " ".join(word["word"] for word in record["words"])
    with Image.open(out / "0.png") as picture:
        assert picture.width > 1000
    captions = command("caption", trained[1] / "checkpoint", next(pictures.glob("0.*"))).out
    assert captions.strip().endswith(f"\t{record['caption']}")


def test_edits_are_explained(command: Command, trained: tuple[Any, Path], pictures: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "why", next(pictures.glob("0.*"))
    outcome = command("explain", trained[1] / "checkpoint", picture, "--out", out, "--region", "1=red")
    assert outcome.status == 0, outcome.err
    record = json.loads((out / "0.json").read_text())
    assert "red" in record["regions"][0]["words"]
    assert "red" in record["keywords"]
    assert record["steering"]["caption_after"] == record["caption"]


def test_no_picture_is_one_line(command: Command, trained: tuple[Any, Path]) -> None:
    outcome = command("explain", trained[1] / "checkpoint")
    assert outcome.status == 1
    assert "wants pictures" in outcome.err
