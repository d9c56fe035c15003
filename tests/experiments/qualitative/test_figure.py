"""The figure: what is written where, and that nothing leaves it."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from regioncap.experiments.qualitative.figure import Line, Panel, draw_figure

MARK = "#b3441f"
PEER = Line(label="Peer", text="a cat sleeps on the beach", score="3.0")


def panel(picture: Path | None, name: str = "photo.jpg", **options) -> Panel:
    return Panel(
        **{
            "picture": picture,
            "name": name,
            "gain": "CIDEr +1.0",
            "truth": ("A dog runs on the beach.",),
            "references": ("A dog runs on the beach.", "Brown dogs, on sand"),
            "lines": (
                Line(label="Peer", text="a cat sleeps on the beach", score="3.0"),
                Line(label="Ours", text="a dog"),
            ),
        }
        | options
    )


def drawn(panels, tmp_path: Path, foot: str = "The foot.", **options) -> Figure:
    """The figure itself, in the place of its file."""
    kept: list[Figure] = []
    with patch.object(Figure, "savefig", lambda figure, *arguments, **options: kept.append(figure)):
        draw_figure(panels, foot, [tmp_path / "f.png"], **options)
    return kept[0]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (120, 80), (200, 30, 60)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_references_and_captions_are_written_in_full(photo: Path, tmp_path: Path) -> None:
    found = texts(drawn([panel(photo)], tmp_path))
    words = "GT: A dog runs on the beach. Peer: a cat sleeps on the beach 3.0 Ours: a dog The foot."
    assert [word for word in found if word not in ("photo.jpg", "CIDEr +1.0")] == words.split()


def test_content_words_that_no_reference_has_are_underlined_and_no_others(photo: Path, tmp_path: Path) -> None:
    figure = drawn([panel(photo, lines=(Line(label="Ours", text="the cat's dog, sleeps With Sand in"),))], tmp_path)
    marks = [line for line in figure.get_children() if getattr(line, "get_color", lambda: "")() == MARK]
    assert len([mark for mark in marks if hasattr(mark, "get_xdata")]) == 2  # cat's, sleeps
    bare = drawn([panel(photo, references=(), truth=())], tmp_path)
    assert not [mark for mark in bare.get_children() if hasattr(mark, "get_xdata")]


@pytest.mark.parametrize("columns", [1, 5])
def test_nothing_leaves_the_figure_or_stands_on_something_else(photo: Path, tmp_path: Path, columns: int) -> None:
    long = Line(label="A rather long name", text="word " * 20 + "w" * 25, score="1.0")
    panels = [panel(photo, name=f"{'a' * 60}.jpg", lines=(long,)) for _ in range(5)]
    figure = drawn(panels, tmp_path, foot="foot " * 60, columns=columns)
    with rc_context({"text.hinting": "none"}):  # as it is drawn
        renderer = figure.canvas.get_renderer()
        boxes = [part.get_window_extent(renderer) for part in (*figure.texts, *figure.axes)]
    left, low, right, high = np.array([box.extents for box in boxes]).T
    assert min(left.min(), low.min()) >= 0
    assert (right.max(), high.max()) <= (figure.bbox.width, figure.bbox.height)
    across = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
    up = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    # Descenders of a line may touch the next one.
    on_each_other = (across > 1) & (up > 3) & ~np.eye(len(boxes), dtype=bool)
    assert not on_each_other.any()
    assert len(figure.axes) == 5


@pytest.mark.parametrize("size", [(120, 80), (80, 120), (300, 40)])
def test_a_picture_keeps_its_shape(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (10, 200, 10)).save(tmp_path / "p.png")
    draw_figure([panel(tmp_path / "p.png", gain="", truth=(), lines=())], "", [tmp_path / "f.png"])
    pixels = np.asarray(Image.open(tmp_path / "f.png").convert("RGB")).astype(int)
    green = (abs(pixels - (10, 200, 10)) < 12).all(axis=2)
    rows, columns = np.flatnonzero(green.any(axis=1)), np.flatnonzero(green.any(axis=0))
    shape = (columns[-1] - columns[0] + 1) / (rows[-1] - rows[0] + 1)
    assert shape == pytest.approx(size[0] / size[1], rel=0.02)


def test_a_picture_that_is_not_there_has_a_place_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    figure = drawn([panel(None), panel(tmp_path / "broken.jpg")], tmp_path)
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["picture not found"] * 2


def test_a_caption_without_words_says_so_and_signs_are_no_mathematics(photo: Path, tmp_path: Path) -> None:
    figure = drawn(
        [panel(photo, lines=(Line(label="Ours", text=""), Line(label="Peer", text="costs $5$_a^b")))], tmp_path
    )
    assert "(no words)" in texts(figure)
    assert "$5$_a^b" in texts(figure)
    assert not any(text.get_parse_math() for text in figure.texts if "$" in text.get_text())


def test_formats(photo: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "deep" / f"f.{form}" for form in ("png", "pdf", "svg")]
    draw_figure([panel(photo)], "foot", paths)
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert paths[1].read_bytes().startswith(b"%PDF")
    assert b"/Type3" not in paths[1].read_bytes()
    assert "<svg" in paths[2].read_text()
