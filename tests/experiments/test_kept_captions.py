import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regioncap.experiments import evaluate as evaluate_module
from regioncap.experiments.kept_captions import KeptCaptionsError, caption_all

IMAGES = {f"{number}.jpg": number for number in range(10)}
MAKER = {"weights": "abc", "search": {"beams": 5, "words": ("a", "b")}, "split": "dev"}


class Captioner:
    """Tells what it was asked, and fails at a batch if told to."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.batches: list[list[int]] = []
        self.fails_at = fails_at

    def __call__(self, batch: Sequence[int]) -> list[str]:
        if len(self.batches) == self.fails_at:
            raise RuntimeError("the power is gone")
        self.batches.append(list(batch))
        return [f"caption\nof {number} é" for number in batch]


WHOLE = {name: f"caption\nof {number} é" for name, number in IMAGES.items()}


def test_every_image_gets_its_caption_in_batches(tmp_path: Path) -> None:
    captioner = Captioner()
    file = tmp_path / "new" / "kept"
    assert caption_all(IMAGES, captioner, file, MAKER, batch_size=4) == WHOLE
    assert captioner.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    again = Captioner()
    assert caption_all(IMAGES, again, file, MAKER, batch_size=4) == WHOLE
    assert again.batches == []


def test_nothing_is_kept_without_a_file(tmp_path: Path) -> None:
    assert caption_all(IMAGES, Captioner(), None, MAKER, batch_size=4) == WHOLE
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_failed_goes_on_with_the_batch_that_it_failed_at(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    with pytest.raises(RuntimeError, match="power"):
        caption_all(IMAGES, Captioner(fails_at=1), file, MAKER, batch_size=4)
    later = Captioner()
    captions = caption_all(IMAGES, later, file, MAKER, batch_size=4)
    assert list(captions.items()) == list(WHOLE.items())
    assert later.batches == [[4, 5, 6, 7], [8, 9]]


_KILLED = """
import os, signal, sys
from pathlib import Path
from regioncap.experiments.kept_captions import caption_all

def caption(batch):
    if 6 in batch:
        os.kill(os.getpid(), signal.SIGKILL)
    return [f"caption of {number}" for number in batch]

caption_all({f"{n}.jpg": n for n in range(10)}, caption, Path(sys.argv[1]), {"split": "dev"}, batch_size=2)
"""


def test_a_killed_process_loses_one_batch(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    done = subprocess.run([sys.executable, "-c", _KILLED, str(file)], env=_here(), timeout=60)
    assert done.returncode == -signal.SIGKILL
    later = Captioner()
    captions = caption_all(IMAGES, later, file, {"split": "dev"}, batch_size=2)
    assert later.batches == [[6, 7], [8, 9]]
    assert captions["5.jpg"] == "caption of 5"
    assert set(captions) == set(IMAGES)


def _here() -> dict[str, str]:
    return {"PYTHONPATH": ":".join(path for path in sys.path if path)}


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 1))
def test_a_file_cut_anywhere_gives_the_same_captions(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    file = tmp_path_factory.mktemp("cut") / "kept"
    caption_all(IMAGES, Captioner(), file, MAKER, batch_size=3)
    whole = file.read_bytes()
    file.write_bytes(whole[: round(share * len(whole))])
    later = Captioner()
    assert caption_all(IMAGES, later, file, MAKER, batch_size=3) == WHOLE
    assert [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]][4 - len(later.batches) :] == later.batches
    assert file.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"split": "test"}, 'split is "dev" there, "test" here'),
        ({"weights": "def"}, 'weights is "abc" there, "def" here'),
        ({"search": {"beams": 3}}, "search is"),
        ({"more": 1}, "more is null there, 1 here"),
    ],
)
def test_captions_of_another_maker_are_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    file = tmp_path / "kept"
    caption_all(IMAGES, Captioner(), file, MAKER)
    before = file.read_bytes()
    with pytest.raises(KeptCaptionsError) as caught:
        caption_all(IMAGES, Captioner(), file, {**MAKER, **change})
    assert says in str(caught.value)
    assert str(file) in str(caught.value)
    assert "Delete it" in str(caught.value)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (dict.fromkeys(list(IMAGES)[:9], 0), "10 images there, 9 here"),
        (dict.fromkeys(reversed(IMAGES), 0), "other names or another order"),
    ],
)
def test_captions_of_other_images_are_refused(tmp_path: Path, images: dict[str, int], says: str) -> None:
    file = tmp_path / "kept"
    caption_all(IMAGES, Captioner(), file, MAKER)
    with pytest.raises(KeptCaptionsError, match=says):
        caption_all(images, Captioner(), file, MAKER)


@pytest.mark.parametrize("content", ["my thesis", "my\nthesis\n", '{"a": 1}\n', "[1]\n[2]\n"])
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    file = tmp_path / "kept"
    file.write_text(content)
    with pytest.raises(KeptCaptionsError, match="holds no captions that were kept"):
        caption_all(IMAGES, Captioner(), file, MAKER)
    assert file.read_text() == content


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "kept"

    def caption(batch: Sequence[int]) -> list[str]:
        with pytest.raises(KeptCaptionsError, match="by another process"):
            caption_all(IMAGES, Captioner(), file, MAKER)
        return Captioner()(batch)

    assert caption_all(IMAGES, caption, file, MAKER) == WHOLE


def test_texts_must_be_as_many_as_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="captioning 10 images gave 1 texts"):
        caption_all(IMAGES, lambda batch: ["one"], tmp_path / "kept", MAKER)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        caption_all(IMAGES, Captioner(), None, MAKER, batch_size=0)


def test_evaluate_goes_on_where_it_was_interrupted(
    trained: tuple[Any, Path], command: Callable[..., Any], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("evaluate", trained[1] / "checkpoint", "--split", "val", "--cache", cache)
    whole = tmp_path / "whole.json"
    assert command(*arguments, "--out", whole).status == 0
    assert [path.name for path in tmp_path.iterdir()] == ["whole.json"]

    generator = evaluate_module.CaptionGenerator.__call__
    asked: list[list[str]] = []

    def spy(self: Any, images: Any, names: list[str]) -> Any:
        if len(asked) == 2:
            asked.append([])
            raise KeyboardInterrupt
        asked.append(names)
        return generator(self, images, names)

    def in_threes(*given: Any) -> dict[str, str]:
        return caption_all(*given, batch_size=3)

    monkeypatch.setattr(evaluate_module.CaptionGenerator, "__call__", spy)
    monkeypatch.setattr(evaluate_module, "caption_all", in_threes)
    out = tmp_path / "out.json"
    assert command(*arguments, "--out", out).status == 1
    assert not out.exists()
    other = command(*arguments, "--out", out, "--search.beams", 2)
    assert (other.status, "out.json.captions holds captions of another run: search is" in other.err) == (1, True)
    assert command(*arguments, "--out", out).status == 0
    assert [len(names) for names in asked] == [3, 3, 0, 2]
    assert len({name for names in asked for name in names}) == 8
    captions, wanted = (
        {name: row["caption"] for name, row in json.loads(file.read_text())["per_image"].items()}
        for file in (out, whole)
    )
    assert captions == wanted
    assert json.loads(out.read_text()) == json.loads(whole.read_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "whole.json"]
