"""A checkpoint's own preprocessing, as its image processor has it, on one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional
from transformers import AutoImageProcessor
from transformers.image_utils import pil_torch_interpolation_mapping

from regioncap.encoders.images import read_image
from regioncap.encoders.quiet import quiet_transformers
from regioncap.encoders.weights import one_line

RedGreenBlue = tuple[float, float, float]
_WAY_OUT = "copy preprocessor_config.json beside the weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Resize, crop around the middle, scale and normalise, each only if it is given.

    The same numbers as transformers' image processor (its default backend, torchvision) to the last bit, without its
    bookkeeping: half of its time for a photograph of 500x375. (Where it scales and does not normalise, it multiplies
    and we divide, which moves the last bit.)
    """

    resize: int | tuple[int, int] | None
    """Pixels of the shorter side, with the aspect kept; or height and width, with the picture squeezed."""
    resample: InterpolationMode
    crop: tuple[int, int] | None
    """Height and width cut out around the middle; a smaller picture gets a black margin."""
    mean: RedGreenBlue
    """Of red, green and blue, in [0, 255]."""
    std: RedGreenBlue

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what comes out; ValueError if they depend on the picture."""
        size = self.crop or self.resize
        if not isinstance(size, tuple):
            raise ValueError("the preprocessing keeps the aspect and does not crop: its pictures have no fixed size")
        return size

    def load(self, path: Path) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "4"]]:
        """Read a picture; return its pixels, and where they lie: x0 y0 x1 y1 as fractions of the whole picture.

        The picture is decoded at full size, as the image processor gets it. Raises ValueError, one line that names the
        file, for what does not decode.
        """
        picture = read_image(path)
        return self.pixels(picture), self.frame(picture.size)

    def pixels(self, picture: Image.Image) -> Float[Tensor, "3 H W"]:
        """Return what the encoder takes of an RGB picture."""
        x = functional.pil_to_tensor(picture)
        if self.resize is not None:
            size = self._resized(picture.size)
            # torchvision would skip this too, but after looking at the pixels.
            if size != (picture.height, picture.width):
                x = functional.resize(x, list(size), interpolation=self.resample, antialias=True)
        if self.crop is not None:
            # torchvision's own center_crop rounds an odd margin another way, and crops outside come out black here too.
            top, left = self._cut(x.shape[-2:])
            x = functional.crop(x, top, left, *self.crop)
        normalised: Tensor = functional.normalize(x.float(), list(self.mean), list(self.std), inplace=True)
        return normalised

    def frame(self, size: tuple[int, int]) -> Float[Tensor, "4"]:
        """Return the part of a picture of `size` (width, height) that is left, as fractions; outside of [0, 1] where
        a margin was added."""
        if self.crop is None:
            return torch.tensor([0.0, 0.0, 1.0, 1.0])
        height, width = self._resized(size)
        top, left = self._cut((height, width))
        return torch.tensor([left / width, top / height, (left + self.crop[1]) / width, (top + self.crop[0]) / height])

    def _cut(self, size: Sequence[int]) -> tuple[int, int]:
        """Top and left of the crop in a resized picture of `size` (height, width)."""
        assert self.crop is not None
        return int((size[0] - self.crop[0]) / 2), int((size[1] - self.crop[1]) / 2)

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width after resizing a picture of `size` (width, height)."""
        width, height = size
        match self.resize:
            case None:
                return height, width
            case int(short):
                long = int(short * max(size) / min(size))
                return (long, short) if width <= height else (short, long)
            case target:
                return target


def load_preprocessing(source: str) -> Preprocessing:
    """Return the preprocessing stored in a folder or under a hub name.

    Raises ValueError if it is missing, or does what is not supported here: padding, a longest side, no fixed size.
    """
    stored = _stored(source)
    if getattr(stored, "do_pad", None) or not getattr(stored, "do_resize", True):
        raise ValueError(f"the image processor of {source} pads or does not resize: only a fixed size is supported")
    size, crop = stored.size, stored.crop_size if getattr(stored, "do_center_crop", False) else None
    resize = size.shortest_edge if size.shortest_edge else (size.height, size.width)
    if size.longest_edge or (crop is None and isinstance(resize, int)) or resize == (None, None):
        raise ValueError(f"the image processor of {source} gives pictures of no fixed size ({dict(size)})")
    cut = None if crop is None else (int(crop.height), int(crop.width))
    mean, std = _normalisation(stored)
    return Preprocessing(
        resize=resize, resample=pil_torch_interpolation_mapping[stored.resample], crop=cut, mean=mean, std=std
    )


def load_normalisation(source: str) -> tuple[RedGreenBlue, RedGreenBlue]:
    """Return mean and deviation alone, in [0, 255], for a network that takes pictures of any size.

    Raises ValueError if the image processor is missing.
    """
    return _normalisation(_stored(source))


def _stored(source: str) -> Any:
    try:
        with quiet_transformers():
            return AutoImageProcessor.from_pretrained(source)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(f"{source} has no image processor that loads ({one_line(error)}): {_WAY_OUT}") from error


def _normalisation(stored: Any) -> tuple[RedGreenBlue, RedGreenBlue]:
    # Scaling and normalising are one step, as in transformers: (x s - m) / d = (x - m/s) / (d/s).
    scale = stored.rescale_factor if stored.do_rescale else 1.0
    mean, std = (stored.image_mean, stored.image_std) if stored.do_normalize else ([0.0] * 3, [1.0] * 3)
    return _scaled(mean, scale), _scaled(std, scale)


def _scaled(values: Sequence[float], scale: float) -> RedGreenBlue:
    # In float32, as transformers does, for the same last bit.
    red, green, blue = (torch.tensor(values) * (1.0 / scale)).tolist()
    return red, green, blue
