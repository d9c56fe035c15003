"""The figure: photographs in columns, and below each what people and runs say of it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextToPath
from numpy.typing import NDArray
from PIL import Image, ImageOps

Pixels = NDArray[np.uint8]

_WIDTH, _GAP, _MARGIN = 10.0, 0.28, 0.15
"""Inches: the figure, between columns and rows, around it."""
_SIZE, _LINE = 9.0, 0.175
"""Points of the text, inches of a line of it."""
_TALLEST, _FLATTEST = 1.0, 0.5
"""Height of a row's pictures by their width: that of its tallest, within these; every picture keeps its own shape."""
_PIXELS = 900
"""Of a picture's longer side: enough for print at this size, and a PDF stays small."""
_INK, _QUIET, _GROUND, _OWN = "#1d2126", "#6a727c", "#eceded", "#b3441f"
_TRUTH = "#1c7a43"
_RUNS = ("#5a626c", "#2459a3", "#b8438a", "#b3962f")
"""The first run, and those that are compared with it."""
_WORDS = re.compile(r"\w+(?:['’]\w+)*")
_FUNCTION_WORDS = frozenset(
    _WORDS.findall("a an and are at be being by for her his in is it its of on the their to was were with")
)
"""Never marked: that no reference happens to use one says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One caption below a picture."""

    label: str
    text: str
    score: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture with what is said of it."""

    picture: Path | None
    name: str
    gain: str
    """`CIDEr +12.3`, or nothing with one run."""
    truth: tuple[str, ...]
    """The references that are shown."""
    references: tuple[str, ...]
    """All of them: a run's content words that none has are marked."""
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    text: str
    colour: str = _INK
    bold: bool = False
    own: bool = False
    """A content word that no reference has."""


def draw_figure(panels: Sequence[Panel], foot: str, paths: Sequence[Path], *, columns: int = 3) -> None:
    """Draw the panels and write the figure to `paths`, in the format of their endings."""
    columns = min(columns, len(panels))
    width = (_WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) / columns
    pictures = [_pixels(panel.picture) for panel in panels]
    blocks = [[_flow(tokens, width) for tokens in _texts(panel)] for panel in panels]
    rows = [range(start, min(start + columns, len(panels))) for start in range(0, len(panels), columns)]
    shapes = [width * _shape([pictures[at] for at in row]) for row in rows]
    texts = [_LINE * (1.4 + max(sum(map(len, blocks[at])) for at in row)) for row in rows]
    feet = _flow([_Token(text=word, colour=_QUIET) for word in foot.split()], _WIDTH - 2 * _MARGIN)
    height = 2 * _MARGIN + sum(shapes) + sum(texts) + _GAP * len(rows) + _LINE * len(feet)
    # TrueType in a PDF, as publishers want it; without hinting a word is as wide as it was measured.
    with rc_context({"pdf.fonttype": 42, "font.size": _SIZE, "svg.fonttype": "none", "text.hinting": "none"}):
        figure = Figure(figsize=(_WIDTH, height), facecolor="white")
        FigureCanvasAgg(figure)
        top = height - _MARGIN
        for row, tall, text in zip(rows, shapes, texts, strict=True):
            for column, at in enumerate(row):
                left = _MARGIN + column * (width + _GAP)
                _picture(figure, pictures[at], (left, top - tall, width, tall))
                _head(figure, panels[at], left, top - tall - 0.95 * _LINE, width)
                below = top - tall - 1.4 * _LINE
                for lines in blocks[at]:
                    below = _write(figure, lines, left, below)
            top -= tall + text + _GAP
        _write(figure, feet, _MARGIN, top)
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=200)


def _texts(panel: Panel) -> Iterator[list[_Token]]:
    """Per caption its label and words."""
    for text in panel.truth:
        yield [_Token(text="GT:", colour=_TRUTH, bold=True), *(_Token(text=word) for word in text.split())]
    known = {word for text in panel.references for word in _WORDS.findall(text.lower())}
    for number, line in enumerate(panel.lines):
        colour = _RUNS[number % len(_RUNS)] if len(panel.lines) > 1 else _RUNS[1]
        tokens = [_Token(text=f"{line.label}:", colour=colour, bold=True)]
        for word in line.text.split() or ["(no words)"]:
            content = set(_WORDS.findall(word.lower())) - _FUNCTION_WORDS
            tokens.append(_Token(text=word, own=bool(panel.references) and not content <= known))
        yield [*tokens, *([_Token(text=line.score, colour=_QUIET)] if line.score else [])]


def _flow(tokens: Sequence[_Token], width: float) -> list[list[tuple[float, _Token]]]:
    """Tokens in lines no wider than `width` inches, each with its place; a longer word is broken."""
    space = _wide(_Token(text="n"))
    lines: list[list[tuple[float, _Token]]] = [[]]
    at = 0.0
    for token in (piece for whole in tokens for piece in _broken(whole, width)):
        wide = _wide(token)
        if lines[-1] and at + wide > width:
            lines.append([])
            at = 0.0
        lines[-1].append((at, token))
        at += wide + 0.55 * space
    return lines


def _broken(token: _Token, width: float) -> Iterator[_Token]:
    while len(token.text) > 1 and _wide(token) > width:
        end = len(token.text) - 1
        while end > 1 and _wide(replace(token, text=token.text[:end])) > width:
            end -= 1
        yield replace(token, text=token.text[:end])
        token = replace(token, text=token.text[end:])
    yield token


@cache
def _wide(token: _Token) -> float:
    """Inches."""
    wide, _, _ = _measure().get_text_width_height_descent(token.text, _font(token.bold), ismath=False)
    return float(wide) / 72


@cache
def _measure() -> TextToPath:
    return TextToPath()


@cache
def _font(bold: bool) -> FontProperties:
    return FontProperties(family="DejaVu Sans", size=_SIZE, weight="bold" if bold else "normal")


def _pixels(path: Path | None) -> Pixels | None:
    if path is None:
        return None
    try:
        with Image.open(path) as picture:
            picture.draft("RGB", (_PIXELS, _PIXELS))
            small = ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    small.thumbnail((_PIXELS, _PIXELS))
    return np.asarray(small)


def _shape(pictures: Sequence[Pixels | None]) -> float:
    shapes = [pixels.shape[0] / pixels.shape[1] for pixels in pictures if pixels is not None]
    return float(min(_TALLEST, max([_FLATTEST, *shapes])))


def _picture(figure: Figure, pixels: Pixels | None, place: tuple[float, float, float, float]) -> None:
    """The picture in the middle of its place (left, bottom, width, height in inches)."""
    left, bottom, width, tall = place
    across, up = figure.get_size_inches()
    axes = figure.add_axes((left / across, bottom / up, width / across, tall / up))
    axes.set_axis_off()
    axes.add_patch(Rectangle((0, 0), width, tall, facecolor=_GROUND, zorder=0))
    if pixels is None:
        axes.text(width / 2, tall / 2, "picture not found", ha="center", va="center", color=_QUIET)
    else:
        high, wide = pixels.shape[:2]
        scale = min(width / wide, tall / high)
        x, y = (width - scale * wide) / 2, (tall - scale * high) / 2
        extent = (x, x + scale * wide, y, y + scale * high)
        axes.imshow(pixels, extent=extent, aspect="auto", interpolation="antialiased")
    axes.set_xlim(0, width)
    axes.set_ylim(0, tall)


def _head(figure: Figure, panel: Panel, left: float, y: float, width: float) -> None:
    """The image's name, cut where there is no room, and what it gains, small, right below the picture."""
    across, up = figure.get_size_inches()
    small = 0.75
    room = width - (small * _wide(_Token(text=f"{panel.gain}nn")) if panel.gain else 0)
    name = panel.name
    while len(name) > 1 and small * _wide(_Token(text=name)) > room:
        name = f"{name.removesuffix('…')[:-1]}…"
    figure.text(left / across, y / up, name, fontsize=small * _SIZE, color=_QUIET, va="center", parse_math=False)
    if panel.gain:
        tone, right = _TRUTH if "+" in panel.gain else _OWN, (left + width) / across
        figure.text(right, y / up, panel.gain, fontsize=small * _SIZE, color=tone, ha="right", va="center")


def _write(figure: Figure, lines: Sequence[Sequence[tuple[float, _Token]]], left: float, top: float) -> float:
    """Write lines of tokens below `top` inches; returns where they end."""
    across, up = figure.get_size_inches()
    for line in lines:
        base = top - 0.75 * _LINE
        for x, token in line:
            place = ((left + x) / across, base / up)
            font = _font(token.bold)
            figure.text(*place, token.text, color=token.colour, fontproperties=font, va="baseline", parse_math=False)
            if token.own:
                ends = [place[0], place[0] + _wide(token) / across]
                under = (base - 0.035) / up
                figure.add_artist(Line2D(ends, [under, under], color=_OWN, linewidth=1.0, linestyle=(0, (1.2, 1.0))))
        top -= _LINE
    return top
