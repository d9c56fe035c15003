"""Seven ways to spoil a picture, each at five strengths, the same for the same picture in every run.

Fig. 5 of the paper shows photographs whose objects hide each other, without a number: neither how much is hidden nor
what that costs. Here a grey rectangle hides a given share of the picture. Noise, blur, JPEG and brightness are those of
ImageNet-C (Hendrycks and Dietterich 2019, arXiv 1903.12261), with its five strengths; crop and rotation are ours.
"""

import io
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.random import Generator
from PIL import Image, ImageFilter

GREY = (128, 128, 128)
"""Of what hides a picture, and of the corners that a rotation lays bare."""
_SIDE = 224
"""Shorter side of ImageNet-C's pictures: its blur is in pixels of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """One way, from weak to strong."""

    change: Callable[[Image.Image, float, Generator], Image.Image]
    """RGB picture, strength and what is drawn for this picture -> RGB picture."""
    strengths: tuple[float, ...]
    unit: str
    """What a strength is."""


def corrupt(picture: Image.Image, corruption: str, strength: float, name: str) -> Image.Image:
    """The RGB picture changed by a corruption of `CORRUPTIONS`.

    `name` is the picture's: what is drawn by chance depends on it and on the corruption alone, not on the strength, so
    that what is hidden at one strength is hidden at every higher one.
    """
    seed = zlib.crc32(f"{corruption} {name}".encode())
    return CORRUPTIONS[corruption].change(picture, strength, np.random.default_rng(seed))


def _occlude(picture: Image.Image, share: float, drawn: Generator) -> Image.Image:
    hidden = picture.copy()
    hidden.paste(GREY, _window(picture.size, share, drawn))
    return hidden


def _blur(picture: Image.Image, sigma: float, drawn: Generator) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(sigma * min(picture.size) / _SIDE))


def _noise(picture: Image.Image, deviation: float, drawn: Generator) -> Image.Image:
    values = _values(picture)
    return _picture(values + deviation * drawn.standard_normal(values.shape))


def _jpeg(picture: Image.Image, quality: float, drawn: Generator) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=int(quality))
    return Image.open(file).convert("RGB")


def _brighten(picture: Image.Image, added: float, drawn: Generator) -> Image.Image:
    """Raise V of HSV: hue and saturation stay, which scales the channels; black has neither and becomes grey."""
    values = _values(picture)
    value = values.max(-1, keepdims=True)
    raised = np.minimum(value + added, 1.0)
    scaled = values * (raised / np.where(value > 0, value, 1.0))
    return _picture(np.where(value > 0, scaled, raised))


def _crop(picture: Image.Image, share: float, drawn: Generator) -> Image.Image:
    return picture.crop(_window(picture.size, 1 - share, drawn))


def _rotate(picture: Image.Image, degrees: float, drawn: Generator) -> Image.Image:
    sign = drawn.choice((-1, 1))
    return picture.rotate(float(sign * degrees), Image.Resampling.BICUBIC, fillcolor=GREY)


def _window(size: tuple[int, int], share: float, drawn: Generator) -> tuple[int, int, int, int]:
    """A rectangle of a share of the picture, with its aspect, somewhere inside; smaller ones lie inside larger ones."""
    side, at = math.sqrt(share), drawn.random(2)
    wide, high = (max(1, round(side * pixels)) for pixels in size)
    left, top = int(at[0] * (size[0] - wide)), int(at[1] * (size[1] - high))
    return left, top, left + wide, top + high


def _values(picture: Image.Image) -> Float[np.ndarray, "H W 3"]:
    return np.asarray(picture).astype(np.float64) / 255


def _picture(values: Float[np.ndarray, "H W 3"]) -> Image.Image:
    return Image.fromarray((values.clip(0, 1) * 255).round().astype(np.uint8))


CORRUPTIONS: Mapping[str, Corruption] = {
    "occlusion": Corruption(
        change=_occlude, strengths=(0.1, 0.2, 0.3, 0.4, 0.5), unit="share of the picture under one grey rectangle"
    ),
    "blur": Corruption(
        change=_blur, strengths=(1.0, 2.0, 3.0, 4.0, 6.0), unit="sigma of a Gaussian, in 1/224 of the shorter side"
    ),
    "noise": Corruption(
        change=_noise, strengths=(0.08, 0.12, 0.18, 0.26, 0.38), unit="deviation of Gaussian noise, of the full range"
    ),
    "jpeg": Corruption(change=_jpeg, strengths=(25.0, 18.0, 15.0, 10.0, 7.0), unit="JPEG quality"),
    "brightness": Corruption(change=_brighten, strengths=(0.1, 0.2, 0.3, 0.4, 0.5), unit="added to V of HSV"),
    "crop": Corruption(change=_crop, strengths=(0.1, 0.2, 0.3, 0.4, 0.5), unit="share of the picture cut off"),
    "rotation": Corruption(change=_rotate, strengths=(5.0, 10.0, 20.0, 30.0, 45.0), unit="degrees, either way"),
}
"""In the order of the figures."""
LEVELS = (1, 2, 3, 4, 5)
"""Strengths by number; 0 is the picture as it is."""
