"""A sheet of pictures with their captions, drawn at random: what a table of counts cannot show."""

import textwrap
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from regioncap.encoders.images import read_image
from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.data.drawn import drawn_order

COLUMNS = 6
_CELL, _GAP, _LINES, _FONT, _LEADING = 220, 12, 3, 13, 16
"""Pixels of a picture, between two, lines of a caption, size and height of a line."""
_LETTERS = 34
"""Of a line."""
_GROUND, _INK, _QUIET, _EMPTY = "#f7f7f5", "#1d2126", "#5a626c", "#d4d6d8"


def contact_sheet(splits: Mapping[str, Sequence[CaptionedImage]], *, count: int = 24, seed: int = 0) -> Image.Image:
    """At most `count` pictures, about as many of every split, each with its split, name and first caption.

    A picture that does not decode, or is not there, is a grey field that says so.
    """
    chosen = _chosen(splits, count, seed)
    rows = -(-len(chosen) // COLUMNS)
    height = _CELL + (_LINES + 1) * _LEADING + _GAP
    sheet = Image.new("RGB", (COLUMNS * (_CELL + _GAP) + _GAP, max(1, rows) * (height + _GAP) + _GAP), _GROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT)
    for number, (split, image) in enumerate(chosen):
        row, column = divmod(number, COLUMNS)
        left, top = _GAP + column * (_CELL + _GAP), _GAP + row * (height + _GAP)
        sheet.paste(_picture(image), (left, top))
        name = textwrap.shorten(f"{split}: {image.name}", _LETTERS, placeholder="...")
        draw.text((left, top + _CELL + 4), name, fill=_QUIET, font=font)
        said = image.captions[0] if image.captions else "(no caption)"
        lines = textwrap.wrap(said, _LETTERS, max_lines=_LINES, placeholder=" ...")
        for line, text in enumerate(lines, start=1):
            draw.text((left, top + _CELL + 4 + line * _LEADING), _drawable(text), fill=_INK, font=font)
    return sheet


def _chosen(splits: Mapping[str, Sequence[CaptionedImage]], count: int, seed: int) -> list[tuple[str, CaptionedImage]]:
    """Equal shares of the splits, drawn by name; a split with fewer leaves its places to the first."""
    by_name = {split: {image.name: image for image in images} for split, images in splits.items()}
    order = {split: drawn_order(list(images), seed) for split, images in by_name.items()}
    taken = {split: min(count // max(1, len(order)), len(names)) for split, names in order.items()}
    for split, names in order.items():
        taken[split] += min(count - sum(taken.values()), len(names) - taken[split])
    return [(split, by_name[split][name]) for split, names in order.items() for name in names[: taken[split]]]


def _picture(image: CaptionedImage) -> Image.Image:
    field = Image.new("RGB", (_CELL, _CELL), _EMPTY)
    try:
        picture = read_image(image.path, at_least=_CELL)
    except ValueError:
        text = "not readable" if image.path.is_file() else "not there"
        ImageDraw.Draw(field).text(
            (_CELL / 2, _CELL / 2), text, fill=_INK, anchor="mm", font=ImageFont.load_default(16)
        )
        return field
    picture.thumbnail((_CELL, _CELL))
    field.paste(picture, ((_CELL - picture.width) // 2, (_CELL - picture.height) // 2))
    return field


def _drawable(text: str) -> str:
    """Letters that the built-in font lacks as question marks, as a missing glyph would be a box."""
    return text.encode("latin-1", "replace").decode("latin-1")
