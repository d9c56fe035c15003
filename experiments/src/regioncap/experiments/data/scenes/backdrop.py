"""Where and when a scene is: ground and sky by place, and a light that lies over the whole picture."""

from collections.abc import Sequence
from random import Random

from PIL import Image, ImageDraw

from regioncap.experiments.data.scenes.sketch import SCALE, Rgb, paint
from regioncap.experiments.data.scenes.world import SIZE, Scene

_W = SIZE * SCALE

_GROUND: dict[str, Rgb] = {
    "beach": (232, 212, 160),
    "field": (150, 196, 92),
    "street": (128, 128, 134),
    "desert": (222, 168, 104),
    "forest": (88, 128, 72),
    "park": (128, 190, 110),
}
_SKY: dict[str, Rgb] = {
    "sunny": (128, 200, 250),
    "night": (70, 80, 130),
    "foggy": (206, 210, 214),
    "snowy": (204, 214, 228),
    "rainy": (136, 150, 170),
    "sunset": (250, 160, 110),
}
_TINT: dict[str, tuple[float, float, float]] = {
    "sunny": (1.04, 1.02, 0.96),
    "night": (0.42, 0.46, 0.68),
    "foggy": (1.0, 1.0, 1.0),
    "snowy": (0.96, 0.98, 1.04),
    "rainy": (0.72, 0.76, 0.84),
    "sunset": (1.04, 0.87, 0.74),
}


def draw_scene(scene: Scene, rng: Random) -> Image.Image:
    """The RGB picture of a scene; `rng` only scatters what captions do not speak about."""
    canvas = Image.new("RGB", (_W, _W), _SKY[scene.light])
    horizon = rng.randint(40, 54) * SCALE
    draw = ImageDraw.Draw(canvas)
    _sky(draw, rng, scene.light, horizon)
    _ground(draw, rng, scene.place, horizon)
    if scene.light == "snowy":
        canvas.paste(Image.blend(canvas, Image.new("RGB", canvas.size, (250, 250, 252)), 0.45))
    for thing in scene.things:
        paint(canvas, thing)
    return _lit(canvas, rng, scene.light)


def _sky(draw: ImageDraw.ImageDraw, rng: Random, light: str, horizon: int) -> None:
    x, y = rng.randint(40, _W - 90), rng.randint(8, 30)
    if light == "sunny":
        draw.ellipse([x, y, x + 56, y + 56], fill=(255, 236, 110))
    elif light == "sunset":
        draw.rectangle([0, horizon * 0.6, _W, horizon], fill=(255, 196, 120))
        draw.ellipse([x, horizon - 44, x + 76, horizon + 32], fill=(255, 120, 60))
    elif light == "night":
        for _ in range(26):
            sx, sy = rng.randrange(_W), rng.randrange(horizon)
            draw.ellipse([sx, sy, sx + 4, sy + 4], fill=(255, 255, 220))
        draw.ellipse([x, y, x + 48, y + 48], fill=(255, 255, 230))
        draw.ellipse([x + 16, y - 6, x + 60, y + 42], fill=_SKY["night"])
    if light in ("sunny", "rainy", "snowy"):
        cloud = (250, 250, 252) if light == "sunny" else (160, 166, 178)
        for _ in range(2 if light == "sunny" else 5):
            cx, cy = rng.randrange(_W), rng.randint(10, horizon - 30)
            for dx, dy, r in ((-26, 4, 16), (0, -4, 22), (28, 4, 16)):
                draw.ellipse([cx + dx - r, cy + dy - r * 0.7, cx + dx + r, cy + dy + r * 0.7], fill=cloud)


def _ground(draw: ImageDraw.ImageDraw, rng: Random, place: str, horizon: int) -> None:
    ground = _GROUND[place]
    light, dark = _shade(ground, 1.08), _shade(ground, 0.86)
    draw.rectangle([0, horizon, _W, _W], fill=ground)
    if place == "beach":
        draw.rectangle([0, horizon - 34, _W, horizon + 26], fill=(60, 140, 190))
        for y in range(horizon - 22, horizon + 20, 14):
            draw.line([(x, y + (x // 16 % 2) * 5) for x in range(0, _W + 16, 16)], fill=(210, 236, 244), width=3)
        draw.line([(x, horizon + 28 + (x // 32 % 2) * 7) for x in range(0, _W + 32, 32)], fill=(250, 250, 246), width=6)
        _specks(draw, rng, horizon + 36, 60, dark, 3)
    elif place == "field":
        for y in range(horizon + 10, _W, 26):
            draw.line([(0, y), (_W, y + rng.randint(-6, 6))], fill=dark, width=3)
        _specks(draw, rng, horizon + 8, 40, (240, 224, 90), 5)
    elif place == "street":
        draw.rectangle([0, horizon, _W, horizon + 26], fill=(186, 182, 176))
        for x in range(0, _W, 44):
            top = horizon - rng.randint(30, 84)
            draw.rectangle([x, top, x + 40, horizon], fill=_shade((150, 120, 112), rng.uniform(0.7, 1.15)))
            for wy in range(top + 8, horizon - 12, 18):
                draw.rectangle([x + 8, wy, x + 15, wy + 8], fill=(236, 222, 160))
                draw.rectangle([x + 24, wy, x + 31, wy + 8], fill=(236, 222, 160))
        for lane in (horizon + 118, horizon + 236):
            for x in range(rng.randrange(40), _W, 76):
                draw.rectangle([x, lane, x + 40, lane + 7], fill=(240, 236, 220))
    elif place == "desert":
        for i, x in enumerate(range(-60, _W, 130)):
            draw.ellipse([x, horizon - 36 - 10 * (i % 2), x + 250, horizon + 80], fill=light if i % 2 else dark)
        draw.rectangle([0, horizon + 16, _W, _W], fill=ground)
        for y in range(horizon + 40, _W, 44):
            x = rng.randrange(_W)
            draw.arc([x - 90, y, x + 90, y + 26], 200, 340, fill=dark, width=4)
    elif place == "forest":
        for x in range(-10, _W, 27):
            high = rng.randint(54, 104)
            draw.polygon(
                [(x - 24, horizon + 8), (x, horizon - high), (x + 24, horizon + 8)],
                fill=_shade((40, 84, 52), rng.uniform(0.75, 1.2)),
            )
        _specks(draw, rng, horizon + 14, 70, dark, 6)
        _specks(draw, rng, horizon + 14, 30, (130, 96, 56), 4)
    else:
        draw.polygon([(_W * 0.42, horizon), (_W * 0.5, horizon), (_W * 0.8, _W), (_W * 0.25, _W)], fill=(216, 200, 168))
        for x in range(0, _W, 28):
            draw.rectangle([x, horizon - 26, x + 8, horizon + 8], fill=(236, 230, 220))
        draw.rectangle([0, horizon - 16, _W, horizon - 10], fill=(236, 230, 220))
        _specks(draw, rng, horizon + 14, 30, (236, 120, 160), 5)


def _lit(canvas: Image.Image, rng: Random, light: str) -> Image.Image:
    """The canvas at its final size, with light and weather over everything."""
    draw = ImageDraw.Draw(canvas)
    if light == "rainy":
        for _ in range(110):
            x, y = rng.randrange(_W), rng.randrange(_W)
            draw.line([(x, y), (x - 8, y + 26)], fill=(196, 212, 232), width=2)
    elif light == "snowy":
        for _ in range(190):
            # Smaller than the dots of a pattern, so that snow makes nothing dotted.
            x, y, r = rng.randrange(_W), rng.randrange(_W), rng.choice((1, 2, 2, 3))
            draw.ellipse([x - r, y - r, x + r, y + r], fill=(255, 255, 255))
    picture = canvas.reduce(SCALE)
    if light == "foggy":
        return Image.blend(picture, Image.new("RGB", picture.size, (214, 216, 220)), 0.5)
    table = [min(round(value * factor), 255) for factor in _TINT[light] for value in range(256)]
    return picture.point(table)


def _specks(draw: ImageDraw.ImageDraw, rng: Random, top: int, count: int, colour: Rgb, size: int) -> None:
    for _ in range(count):
        x, y = rng.randrange(_W), rng.randrange(top, _W)
        draw.ellipse([x, y, x + size, y + size * 0.7], fill=colour)


def _shade(colour: Sequence[int], factor: float) -> Rgb:
    red, green, blue = (min(round(c * factor), 255) for c in colour)
    return red, green, blue
