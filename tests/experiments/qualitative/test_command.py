import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from regioncap.experiments.qualitative.command import FiguresOptions, make_figure


@pytest.fixture(scope="module")
def study(invent_runs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return invent_runs(tmp_path_factory.mktemp("runs") / "study", {"old": 0.0, "new": 0.1})


def test_figure_of_two_runs(command: Callable[..., Any], study: Path, tmp_path: Path) -> None:
    files = tmp_path / "f.png", tmp_path / "f.pdf"
    words = ("--order", "change", "--count", 4, "--names", "Peer", "Ours", "--metric", "METEOR", "--out", *files)
    outcome = command("figures", study / "old", study / "new", *words)
    assert (outcome.status, outcome.err) == (0, "")
    assert "Largest METEOR gains, then the largest losses, of Ours over Peer among 12 images" in outcome.out
    assert all(file.is_file() for file in files)
    with Image.open(files[0]) as picture:
        assert picture.width == 2000


def test_one_run_at_random(command: Callable[..., Any], study: Path, tmp_path: Path) -> None:
    outcome = command("figures", study / "new", "--out", tmp_path / "f.png", "--count", 2, "--seed", 3)
    assert outcome.status == 0
    assert "2 of 12 images drawn at random (seed 3)" in outcome.out


def test_what_is_wrong_says_the_way_out(study: Path, invent_runs: Callable[..., Path], tmp_path: Path) -> None:
    out = (tmp_path / "f.png",)
    with pytest.raises(ValueError, match="wants one run or more"):
        make_figure((), FiguresOptions(out=out))
    with pytest.raises(ValueError, match="--names must be one a run: got 1 for 2"):
        make_figure((study / "old", study / "new"), FiguresOptions(out=out, names=("one",)))
    with pytest.raises(ValueError, match=r"--metric must be one of .*got 'SPICE'"):
        make_figure((study / "old",), FiguresOptions(out=out, metric="SPICE"))
    untold = invent_runs(tmp_path / "untold", {"old": 0.0}, told=False)
    with pytest.raises(ValueError, match="add --references FILE"):
        make_figure((untold / "old",), FiguresOptions(out=out))
    moved = invent_runs(tmp_path / "moved", {"old": 0.0})
    shutil.rmtree(tmp_path / "moved-photographs")
    with pytest.raises(ValueError, match="add --images DIR"):
        make_figure((moved / "old",), FiguresOptions(out=out))
    assert not out[0].exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": ()}, "--out must be files that end in .png, .pdf, .svg, got none"),
        ({"out": (Path("a.jpg"),)}, r"got a\.jpg"),
        ({"count": 0}, "--count must be at least 1"),
        ({"columns": 0}, "--columns must be at least 1"),
        ({"truth": -1}, "--truth must be at least 0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FiguresOptions(**options)
