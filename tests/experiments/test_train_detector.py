"""`regioncap train-detector` on the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regioncap.encoders import FasterRcnnEncoderConfig

TINY = ("--training.steps", 2, "--training.batch-size", 2, "--evaluations", 1)


def test_scenes_are_learned_from_coco_files(
    command: Callable[..., Any], scenes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scenes_root / "annotations"
    flags = ("--data.boxes", folder / "instances_train.json", "--data.dev", folder / "instances_val.json")
    images = ("--data.images", scenes_root / "images" / "train", "--data.dev-images", scenes_root / "images" / "val")
    out = tmp_path / "out"
    done = command("train-detector", "scenes", *flags, *images, "--out", out, *TINY)
    assert (done.status, done.err) == (0, "")
    assert "train: 24 pictures" in done.out
    assert "AP50 on dev" in done.out
    assert "colour right" in done.out
    assert "dog" in FasterRcnnEncoderConfig(weights=out).build().words
    assert json.loads((out / "measured.json").read_text())["pictures"] == {"train": 24, "dev": 8}
    again = command("train-detector", "scenes", *flags, *images, "--out", out, *TINY)
    assert (again.status, again.err) == (0, "")
    assert "is finished" in again.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("zebra",), r"train-detector wants a detector first (scenes, efficientnet-fpn, resnet50-c4, resnet50-fpn)"),
        (("scenes",), "data.boxes is not given"),
        (("scenes", "--data.root", "nowhere"), "entities.jsonl is missing"),
        (("scenes", "--data.boxes", "a.json", "--data.dev", "b.json", "--data.images", "."), "a.json is missing"),
    ],
)
def test_what_is_wrong_is_one_line(
    command: Callable[..., Any], tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = command("train-detector", *arguments, *(() if arguments == ("zebra",) else ("--out", tmp_path / "out")))
    assert done.status in (1, 2)
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_needs_no_data(command: Callable[..., Any]) -> None:
    assert "--data.boxes TRAIN.json" in command("train-detector").out
    done = command("train-detector", "efficientnet-fpn", "--help")
    assert done.status == 0
    assert "--detector.trunk.strides" in done.out
