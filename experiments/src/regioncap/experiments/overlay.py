"""A picture of what the captioner used: regions, graph edges, the words chosen for them, and the caption underneath."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

LONGEST = 800
"""Pixels of the photograph's longer side."""
NARROWEST = 600
"""Pixels; below that a caption's lines get too short to read, so upright photographs get margins."""
SHARPNESS = 2
"""Lines are drawn this much larger and scaled down: Pillow draws them without anti-aliasing."""
SHOWN = 12
"""Regions drawn in colour. More labels than that cover the photograph."""
EDGES = 28
"""Edges drawn, the strongest at the shown regions."""
PALETTE = (
    (255, 190, 61), (88, 200, 245), (255, 112, 166), (140, 233, 154), (255, 138, 92), (190, 165, 250),
    (250, 240, 120), (64, 224, 208), (255, 175, 204), (178, 214, 90), (226, 150, 240), (160, 215, 255),
)  # fmt: skip
GROUND, INK, FAINT, ACCENT = (21, 24, 30), (244, 244, 240), (138, 145, 158), (88, 200, 245)

Pixels = int | float
"""Of the photograph as it is shown."""
Rectangle = tuple[Pixels, Pixels, Pixels, Pixels]
"""x0 y0 x1 y1."""


def draw_overlay(
    image: Image.Image,
    *,
    caption: str,
    boxes: Float[np.ndarray, "N 4"],
    edges: Float[np.ndarray, "N N"],
    words: Sequence[str],
    relevance: Float[np.ndarray, " N"],
    scene_words: Sequence[tuple[str, float]],
    path: Path,
) -> Image.Image:
    """Draw a caption's evidence over its photograph, write it to `path` (format by its suffix) and return it.

    `boxes`: x0 y0 x1 y1, fractions of the image, real regions only (no padding). `edges`: e_ij, 0 where there is none;
    self-loops are not drawn. `words`: what to write beside each region, "" for nothing. `relevance`: any score of the
    regions; the best dozen are drawn in colour, with their words and edges, so that 49 grid cells stay readable.
    `scene_words`: words with weights of at least 0. Everything may be empty. Raises ValueError if a region has no
    entry in `words`.
    """
    if len(words) != len(boxes):
        raise ValueError(f'{path}: {len(words)} words for {len(boxes)} boxes; want one for each, "" for none')
    zoom = LONGEST / max(image.size)
    width, height = (max(1, round(side * zoom)) for side in image.size)
    margin = max(0, NARROWEST - width) // 2
    panel = _Panel(caption=caption, scene_words=scene_words, width=width + 2 * margin)

    picture = Image.new("RGB", (width + 2 * margin, height + panel.height), GROUND)
    picture.paste(image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), (margin, 0))
    pen = _Pen(width, height)
    shown = choose_regions(relevance, edges, words)
    pixels = boxes * np.array([width, height, width, height])
    _draw_regions(pen, pixels, shown)
    _draw_edges(pen, pixels, edges, shown)
    _draw_words(pen, pixels, words, shown)
    picture.paste(sketch := pen.finish(), (margin, 0), sketch)
    panel.draw(picture, top=height)
    _write(picture, path)
    return picture


def choose_regions(
    relevance: Float[np.ndarray, " N"], edges: Float[np.ndarray, "N N"], words: Sequence[str]
) -> list[int]:
    """The most relevant regions, best first; of too many, only those with a word or an edge to tell of."""
    order = [int(i) for i in np.argsort(-relevance, kind="stable")]
    if len(order) > SHOWN:
        apart = edges * (1 - np.eye(len(edges)))
        order = [i for i in order if words[i] or apart[i].any() or apart[:, i].any()]
    return order[:SHOWN]


def place_labels(
    boxes: Sequence[Rectangle], sizes: Sequence[tuple[Pixels, Pixels]], area: tuple[Pixels, Pixels], gap: Pixels = 3
) -> list[Rectangle | None]:
    """Find each label a place at its box that covers no earlier label; None where there is no such place.

    Tried in turn: the box's upper left corner, above it, the other corners inside, below it, the centre. `area`: width
    and height that all labels must stay within. Boxes that come first choose first.
    """
    taken: list[Rectangle] = []
    placed: list[Rectangle | None] = []
    for box, size in zip(boxes, sizes, strict=True):
        fits = (spot for spot in _spots(box, size, area, gap) if not any(_touch(spot, other, gap) for other in taken))
        spot = next(fits, None)
        placed.append(spot)
        if spot is not None:
            taken.append(spot)
    return placed


def _spots(
    box: Rectangle, size: tuple[Pixels, Pixels], area: tuple[Pixels, Pixels], gap: Pixels
) -> Iterator[Rectangle]:
    (x0, y0, x1, y1), (w, h) = box, size
    left, right, middle = x0 + gap, x1 - gap - w, (x0 + x1 - w) / 2
    top, bottom, centre = y0 + gap, y1 - gap - h, (y0 + y1 - h) / 2
    above, below = y0 - gap - h, y1 + gap
    tried = [(left, top), (left, above), (right, top), (left, bottom), (right, bottom), (left, below), (middle, centre)]
    tried += product((left, middle, right), (above, top, centre, bottom, below))
    for x, y in tried:
        x, y = min(max(x, gap), area[0] - gap - w), min(max(y, gap), area[1] - gap - h)
        if x >= 0 and y >= 0:
            yield x, y, x + w, y + h


def _touch(a: Rectangle, b: Rectangle, gap: Pixels) -> bool:
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap


class _Pen:
    """A transparent sheet over the photograph, in its pixels. What comes later replaces what lies below."""

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self.sheet = Image.new("RGBA", (width * SHARPNESS, height * SHARPNESS), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.sheet)

    def frame(
        self, box: Sequence[Pixels] | Float[np.ndarray, "4"], colour: tuple[int, ...], width: Pixels, radius: Pixels = 5
    ) -> None:
        """A box's outline, kept inside the box so that neighbours do not cover each other."""
        x0, y0, x1, y1 = _scaled(box)
        if x1 - x0 >= 1 and y1 - y0 >= 1:
            radius = min(radius * SHARPNESS, (x1 - x0) / 2, (y1 - y0) / 2)
            self.draw.rounded_rectangle((x0, y0, x1, y1), radius, outline=colour, width=round(width * SHARPNESS))

    def pill(self, box: Sequence[Pixels] | Float[np.ndarray, "4"], fill: tuple[int, ...], radius: Pixels) -> None:
        self.draw.rounded_rectangle(_scaled(box), radius * SHARPNESS, fill=fill)

    def curve(self, points: Float[np.ndarray, "S 2"], colour: tuple[int, ...], width: Pixels) -> None:
        corners = [tuple(point) for point in (points * SHARPNESS).tolist()]
        self.draw.line(corners, fill=colour, width=max(1, round(width * SHARPNESS)), joint="curve")

    def dot(self, x: Pixels, y: Pixels, radius: Pixels, fill: tuple[int, ...]) -> None:
        self.draw.ellipse(_scaled((x - radius, y - radius, x + radius, y + radius)), fill=fill)

    def text(self, x: Pixels, y: Pixels, words: str, size: Pixels, fill: tuple[int, ...]) -> None:
        self.draw.text((x * SHARPNESS, y * SHARPNESS), words, fill=fill, font=_font(size * SHARPNESS), anchor="lm")

    def finish(self) -> Image.Image:
        return self.sheet.reduce(SHARPNESS)


def _scaled(box: Sequence[Pixels] | Float[np.ndarray, "4"]) -> Rectangle:
    x0, y0, x1, y1 = (side * SHARPNESS for side in box)
    return x0, y0, x1, y1


def _font(size: Pixels) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that Pillow carries: no system font is needed, and pictures look the same everywhere."""
    return ImageFont.load_default(size)


def _length(text: str, size: Pixels) -> float:
    """Pixels, measured at the size the pen really writes: hinting makes small type wider."""
    return _font(size * SHARPNESS).getlength(text) / SHARPNESS


def _draw_regions(pen: _Pen, pixels: Float[np.ndarray, "N 4"], shown: Sequence[int]) -> None:
    for region in sorted(set(range(len(pixels))) - set(shown)):
        pen.frame(pixels[region], (255, 255, 255, 70), width=1)
    for rank, region in reversed(list(enumerate(shown))):
        pen.frame(pixels[region], (0, 0, 0, 110), width=4)
        pen.frame(pixels[region] + np.array([1, 1, -1, -1]), (*PALETTE[rank], 255), width=2)


def _draw_edges(
    pen: _Pen, pixels: Float[np.ndarray, "N 4"], edges: Float[np.ndarray, "N N"], shown: Sequence[int]
) -> None:
    """The strongest edges at the shown regions, as arcs: straight ones would run into each other on a grid."""
    centres = (pixels[:, :2] + pixels[:, 2:]) / 2
    ends = strongest_edges(edges, shown)
    strength = np.array([edges[i, j] for i, j in ends])
    shares: list[float] = (strength / strength.max(initial=1e-12)).tolist()
    arcs = [_arc(centres[i], centres[j]) for i, j in ends]
    for arc, share in zip(arcs, shares, strict=True):
        pen.curve(arc, (0, 0, 0, 130), width=2.5 + 3 * share)
    for arc, share in zip(arcs, shares, strict=True):
        pen.curve(arc, (255, 255, 255, round(70 + 175 * share)), width=1 + 2.5 * share)
    for region in {end for pair in ends for end in pair} - set(shown):
        x, y = centres[region].tolist()
        pen.dot(x, y, 4, (0, 0, 0, 130))
        pen.dot(x, y, 2.5, (255, 255, 255, 255))
    for rank, region in reversed(list(enumerate(shown))):
        x, y = centres[region].tolist()
        pen.dot(x, y, 6, (0, 0, 0, 170))
        pen.dot(x, y, 4.5, (*PALETTE[rank], 255))


def strongest_edges(edges: Float[np.ndarray, "N N"], shown: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs i < j with an edge and an end among `shown`, weakest first, at most `EDGES`."""
    both = np.triu(np.maximum(edges, edges.T), k=1)
    near = np.zeros(len(edges), dtype=bool)
    near[list(shown)] = True
    both = np.where(near[:, None] | near[None, :], both, 0)
    pairs = sorted(zip(*np.nonzero(both), strict=True), key=lambda pair: (both[pair], -pair[0], -pair[1]))
    return [(int(i), int(j)) for i, j in pairs[-EDGES:]]


def _arc(start: Float[np.ndarray, "2"], end: Float[np.ndarray, "2"]) -> Float[np.ndarray, "S 2"]:
    """A quadratic Bezier curve that leaves the straight line by a twelfth of its length."""
    bow = np.array([start[1] - end[1], end[0] - start[0]]) / 6
    t = np.linspace(0, 1, 24)[:, None]
    return np.asarray((1 - t) ** 2 * start + 2 * t * (1 - t) * ((start + end) / 2 + bow) + t**2 * end)


def _draw_words(pen: _Pen, pixels: Float[np.ndarray, "N 4"], words: Sequence[str], shown: Sequence[int]) -> None:
    size = 16
    told = [(rank, words[region], pixels[region]) for rank, region in enumerate(shown) if words[region]]
    boxes = [(float(box[0]), float(box[1]), float(box[2]), float(box[3])) for _, _, box in told]
    sizes = [(_length(word, size) + 14, size + 8) for _, word, _ in told]
    for (rank, word, _), spot in zip(told, place_labels(boxes, sizes, pen.size), strict=True):
        if spot is not None:
            pen.pill(spot, (*GROUND, 225), radius=6)
            pen.text(spot[0] + 7, (spot[1] + spot[3]) / 2, word, size, (*PALETTE[rank], 255))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """What stands below the photograph: the caption, and the scene words as bars in two columns."""

    caption: str
    scene_words: Sequence[tuple[str, float]]
    width: int

    padding = 22
    size, leading = 25, 33
    word_size, row = 16, 26

    @property
    def lines(self) -> list[str]:
        return wrap(self.caption, self.size, self.width - 2 * self.padding)

    @property
    def height(self) -> int:
        rows = -(-len(self.scene_words) // 2)
        return 2 * self.padding + self.leading * len(self.lines) + (12 + self.row * rows if rows else 0)

    def draw(self, picture: Image.Image, top: int) -> None:
        pen = _Pen(self.width, self.height)
        y = self.padding + self.leading / 2
        for line in self.lines:
            pen.text(self.padding, y, line, self.size, (*INK, 255))
            y += self.leading
        self._draw_bars(pen, y - self.leading / 2 + 12 + self.row / 2)
        picture.paste(sheet := pen.finish(), (0, top), sheet)

    def _draw_bars(self, pen: _Pen, top: Pixels) -> None:
        if not self.scene_words:
            return
        gutter, figures = 36, 44
        column = (self.width - 2 * self.padding - gutter) / 2
        names = min(column / 2, max(_length(word, self.word_size) for word, _ in self.scene_words) + 12)
        room = column - names - figures
        longest = max(weight for _, weight in self.scene_words) or 1
        rows = -(-len(self.scene_words) // 2)
        for index, (word, weight) in enumerate(self.scene_words):
            x = self.padding + (index // rows) * (column + gutter)
            y = top + (index % rows) * self.row
            pen.text(x, y, word, self.word_size, (*INK, 255))
            pen.pill((x + names, y - 4, x + names + room, y + 4), (255, 255, 255, 22), radius=4)
            pen.pill((x + names, y - 4, x + names + max(8, room * weight / longest), y + 4), (*ACCENT, 255), radius=4)
            pen.text(x + names + room + 8, y, f"{weight:.2f}", self.word_size - 2, (*FAINT, 255))


def wrap(text: str, size: Pixels, width: Pixels) -> list[str]:
    """Break text into lines of at most `width` pixels; a word that is longer than a line is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if _length(longer, size) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if _length(lines[-1] + letter, size) > width and lines[-1]:
                lines.append("")
            lines[-1] += letter
    return lines


def _write(picture: Image.Image, path: Path) -> None:
    """A half-written picture never stands under the final name. Level 1: a photograph hardly gets smaller with more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".draft-{path.name}")
    picture.save(draft, compress_level=1)
    draft.replace(path)
