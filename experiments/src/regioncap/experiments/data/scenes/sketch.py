"""How one thing looks: shapes in unit coordinates, a pattern over its body, outlined and twice supersampled."""

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from regioncap.experiments.data.scenes.world import COLOURS, Thing

SCALE = 2
"""Everything is drawn at this many times its size and reduced once, for smooth edges."""

Rgb = tuple[int, int, int]
Along = float | int
"""A fraction of a layer's side, 0 to 1."""

_DARK: Rgb = (40, 36, 40)
_WOOD: Rgb = (112, 76, 46)
_SKIN: Rgb = (232, 186, 150)
_GLASS: Rgb = (190, 224, 238)
_METAL: Rgb = (150, 156, 166)


class Pen:
    """Draws into one layer by fractions of its width and height."""

    def __init__(self, layer: Image.Image) -> None:
        self._draw = ImageDraw.Draw(layer)
        self._width, self._height = layer.width - 1, layer.height - 1

    def ellipse(self, x0: Along, y0: Along, x1: Along, y1: Along, fill: Rgb | int) -> None:
        """A filled ellipse in the box."""
        self._draw.ellipse([*self._at(x0, y0), *self._at(x1, y1)], fill=fill)

    def rectangle(self, x0: Along, y0: Along, x1: Along, y1: Along, fill: Rgb | int) -> None:
        """A filled rectangle."""
        self._draw.rectangle([*self._at(x0, y0), *self._at(x1, y1)], fill=fill)

    def rounded(self, x0: Along, y0: Along, x1: Along, y1: Along, fill: Rgb | int) -> None:
        """A filled rectangle with round corners."""
        radius = 0.22 * min((x1 - x0) * self._width, (y1 - y0) * self._height)
        self._draw.rounded_rectangle([*self._at(x0, y0), *self._at(x1, y1)], radius, fill=fill)

    def polygon(self, corners: Sequence[tuple[Along, Along]], fill: Rgb | int) -> None:
        """A filled polygon."""
        self._draw.polygon([self._at(x, y) for x, y in corners], fill=fill)

    def line(self, corners: Sequence[tuple[Along, Along]], width: float, fill: Rgb | int) -> None:
        """A line whose width is a fraction of the layer's smaller side."""
        pixels = max(round(width * min(self._width, self._height)), 1)
        self._draw.line([self._at(x, y) for x, y in corners], fill=fill, width=pixels, joint="curve")

    def _at(self, x: Along, y: Along) -> tuple[Along, Along]:
        return x * self._width, y * self._height


def paint(canvas: Image.Image, thing: Thing) -> None:
    """Draw a thing onto an RGB canvas of SCALE times the picture's size, filling its box."""
    x0, y0, x1, y1 = (round(side * SCALE) for side in thing.box)
    size = (x1 - x0, y1 - y0)
    back, body, front = Image.new("RGBA", size), Image.new("L", size), Image.new("RGBA", size)
    colour = COLOURS[thing.colour]
    _SHAPES[thing.kind](Pen(back), Pen(body), Pen(front), _scaled(colour, 0.62))
    if thing.mirrored:
        back, body, front = (layer.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for layer in (back, body, front))
    outline = _scaled(colour, 0.45)
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        canvas.paste(outline, (x0 + dx, y0 + dy), body)
    canvas.paste(back, (x0, y0), back)
    canvas.paste(_cloth(size, colour, thing.pattern), (x0, y0), body)
    canvas.paste(front, (x0, y0), front)


def _cloth(size: tuple[int, int], colour: Rgb, pattern: str) -> Image.Image:
    """The body's colour with its pattern; the pattern's scale is in pixels, as if printed."""
    cloth = Image.new("RGB", size, colour)
    draw = ImageDraw.Draw(cloth)
    # A light body takes dark marks, so that a pattern shows on every colour.
    mark = _scaled(colour, 0.35) if sum(colour) > 560 else (250, 246, 236)
    if pattern == "striped":
        for x in range(-size[1], size[0], 16):
            draw.line([(x, size[1]), (x + size[1] * 0.6, 0)], fill=mark, width=6)
    elif pattern == "dotted":
        for row, y in enumerate(range(5, size[1] + 5, 12)):
            for x in range(4 + 7 * (row % 2), size[0] + 5, 14):
                draw.ellipse([x - 3.5, y - 3.5, x + 3.5, y + 3.5], fill=mark)
    return cloth


def _scaled(colour: Rgb, factor: float) -> Rgb:
    return round(colour[0] * factor), round(colour[1] * factor), round(colour[2] * factor)


# Every shape gets three layers (behind the body, the patterned body's mask, before the body) and a dark body shade.


def _dog(back: Pen, body: Pen, front: Pen, shade: Rgb) -> None:
    back.line([(0.1, 0.55), (0.02, 0.22)], 0.12, shade)
    for x in (0.16, 0.3, 0.54, 0.68):
        back.rectangle(x, 0.65, x + 0.09, 0.99, shade)
    body.ellipse(0.06, 0.36, 0.78, 0.8, 255)
    body.ellipse(0.58, 0.06, 0.93, 0.55, 255)
    body.rounded(0.78, 0.26, 1, 0.5, 255)
    front.ellipse(0.58, 0.08, 0.7, 0.46, shade)
    front.ellipse(0.93, 0.25, 1, 0.36, _DARK)
    front.ellipse(0.76, 0.18, 0.82, 0.27, _DARK)


def _cat(back: Pen, body: Pen, front: Pen, shade: Rgb) -> None:
    back.line([(0.75, 0.9), (0.95, 0.78), (0.92, 0.45)], 0.08, shade)
    body.ellipse(0.16, 0.42, 0.84, 1, 255)
    body.ellipse(0.18, 0.1, 0.8, 0.58, 255)
    body.polygon([(0.19, 0.32), (0.2, 0), (0.46, 0.16)], 255)
    body.polygon([(0.79, 0.32), (0.78, 0), (0.52, 0.16)], 255)
    for x in (0.31, 0.57):
        front.ellipse(x, 0.26, x + 0.12, 0.4, (248, 248, 220))
        front.ellipse(x + 0.04, 0.27, x + 0.08, 0.39, _DARK)
    front.polygon([(0.45, 0.42), (0.55, 0.42), (0.5, 0.48)], _DARK)
    for y in (0.43, 0.5):
        front.line([(0.02, y), (0.32, 0.46)], 0.02, _DARK)
        front.line([(0.98, y), (0.68, 0.46)], 0.02, _DARK)
    front.ellipse(0.24, 0.88, 0.46, 1, shade)
    front.ellipse(0.54, 0.88, 0.76, 1, shade)


def _bird(back: Pen, body: Pen, front: Pen, shade: Rgb) -> None:
    back.polygon([(0.3, 0.6), (0, 0.42), (0.02, 0.72)], shade)
    for x in (0.42, 0.56):
        back.line([(x, 0.8), (x, 0.97), (x + 0.1, 0.98)], 0.06, _WOOD)
    back.polygon([(0.84, 0.16), (1, 0.28), (0.84, 0.36)], (250, 180, 30))
    body.ellipse(0.14, 0.32, 0.78, 0.86, 255)
    body.ellipse(0.56, 0.02, 0.9, 0.46, 255)
    front.polygon([(0.26, 0.46), (0.6, 0.5), (0.36, 0.76)], shade)
    front.ellipse(0.72, 0.13, 0.8, 0.24, _DARK)


def _robot(back: Pen, body: Pen, front: Pen, shade: Rgb) -> None:
    back.line([(0.5, 0.12), (0.5, 0.02)], 0.06, _METAL)
    back.ellipse(0.42, 0, 0.58, 0.09, (240, 60, 50))
    for x in (0, 0.85):
        back.rounded(x, 0.44, x + 0.15, 0.8, _METAL)
    for x in (0.24, 0.56):
        back.rectangle(x, 0.8, x + 0.2, 1, _METAL)
    body.rounded(0.2, 0.09, 0.8, 0.4, 255)
    body.rounded(0.14, 0.43, 0.86, 0.86, 255)
    for x in (0.28, 0.54):
        front.rectangle(x, 0.16, x + 0.18, 0.27, _GLASS)
        front.rectangle(x + 0.06, 0.19, x + 0.12, 0.25, _DARK)
    front.rectangle(0.34, 0.32, 0.66, 0.36, _DARK)


def _man(back: Pen, body: Pen, front: Pen, shade: Rgb) -> None:
    for x in (0.2, 0.54):
        back.rectangle(x, 0.62, x + 0.24, 0.96, (62, 66, 92))
        back.rectangle(x - 0.06, 0.94, x + 0.28, 1, _DARK)
    back.line([(0.2, 0.34), (0.06, 0.62)], 0.14, _SKIN)
    back.line([(0.8, 0.34), (0.94, 0.62)], 0.14, _SKIN)
    body.polygon(
        [(0.2, 0.27), (0.8, 0.27), (1, 0.46), (0.84, 0.52), (0.82, 0.68), (0.18, 0.68), (0.16, 0.52), (0, 0.46)], 255
    )
    front.ellipse(0.26, 0, 0.74, 0.28, _SKIN)
    front.polygon([(0.25, 0.13), (0.3, 0.02), (0.5, 0), (0.7, 0.02), (0.75, 0.13), (0.5, 0.07)], _WOOD)
    for x in (0.36, 0.56):
        front.ellipse(x, 0.12, x + 0.08, 0.155, _DARK)
    front.line([(0.4, 0.21), (0.6, 0.21)], 0.05, (150, 60, 60))


def _ball(back: Pen, body: Pen, front: Pen, shade: Rgb) -> None:
    body.ellipse(0, 0, 1, 1, 255)
    front.ellipse(0.2, 0.14, 0.4, 0.32, (255, 255, 255))


def _box(back: Pen, body: Pen, front: Pen, shade: Rgb) -> None:
    back.polygon([(0, 0.26), (0.2, 0), (1, 0), (0.8, 0.26)], shade)
    back.polygon([(0.8, 0.26), (1, 0), (1, 0.76), (0.8, 1)], _scaled(shade, 0.75))
    body.rectangle(0, 0.26, 0.8, 1, 255)
    front.rectangle(0.33, 0.26, 0.47, 0.5, (222, 200, 150))


def _tree(back: Pen, body: Pen, front: Pen, shade: Rgb) -> None:
    back.rectangle(0.41, 0.6, 0.59, 1, _WOOD)
    body.ellipse(0, 0.25, 0.6, 0.72, 255)
    body.ellipse(0.4, 0.25, 1, 0.72, 255)
    body.ellipse(0.15, 0, 0.85, 0.55, 255)


def _lamp(back: Pen, body: Pen, front: Pen, shade: Rgb) -> None:
    back.rectangle(0.44, 0.4, 0.56, 0.96, _METAL)
    back.ellipse(0.12, 0.88, 0.88, 1, _METAL)
    back.ellipse(0.34, 0.36, 0.66, 0.52, (255, 244, 170))
    body.polygon([(0.28, 0), (0.72, 0), (1, 0.42), (0, 0.42)], 255)


def _house(back: Pen, body: Pen, front: Pen, shade: Rgb) -> None:
    back.rectangle(0.7, 0.04, 0.82, 0.3, _scaled(shade, 0.7))
    back.polygon([(0, 0.44), (0.5, 0), (1, 0.44)], shade)
    body.rectangle(0.08, 0.42, 0.92, 1, 255)
    front.rectangle(0.42, 0.64, 0.62, 1, _WOOD)
    front.rectangle(0.16, 0.54, 0.34, 0.74, _GLASS)
    front.rectangle(0.7, 0.54, 0.86, 0.74, _GLASS)


def _car(back: Pen, body: Pen, front: Pen, shade: Rgb) -> None:
    body.polygon([(0.16, 0.45), (0.3, 0), (0.66, 0), (0.84, 0.45)], 255)
    body.rounded(0, 0.38, 1, 0.82, 255)
    front.polygon([(0.24, 0.4), (0.34, 0.1), (0.47, 0.1), (0.47, 0.4)], _GLASS)
    front.polygon([(0.52, 0.1), (0.63, 0.1), (0.75, 0.4), (0.52, 0.4)], _GLASS)
    front.rectangle(0.93, 0.46, 1, 0.58, (255, 240, 150))
    for x in (0.13, 0.65):
        front.ellipse(x, 0.6, x + 0.22, 1, _DARK)
        front.ellipse(x + 0.07, 0.73, x + 0.15, 0.87, _METAL)


def _table(back: Pen, body: Pen, front: Pen, shade: Rgb) -> None:
    for x, foot in ((0.2, 0.85), (0.74, 0.85), (0.04, 1), (0.9, 1)):
        back.rectangle(x, 0.35, x + 0.07, foot, shade)
    body.polygon([(0.16, 0), (0.84, 0), (1, 0.34), (1, 0.5), (0, 0.5), (0, 0.34)], 255)
    front.line([(0, 0.35), (1, 0.35)], 0.05, shade)


_SHAPES: dict[str, Callable[[Pen, Pen, Pen, Rgb], None]] = {
    "dog": _dog,
    "cat": _cat,
    "bird": _bird,
    "robot": _robot,
    "man": _man,
    "ball": _ball,
    "box": _box,
    "tree": _tree,
    "lamp": _lamp,
    "house": _house,
    "car": _car,
    "table": _table,
}
