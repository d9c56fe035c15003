"""Read a picture from disk as an encoder wants it."""

import struct
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor


def load_image(path: Path, size: int) -> Float[Tensor, "3 S S"]:
    """Return the picture as RGB in [0, 1], turned upright by its EXIF tag and squeezed to a square of `size` pixels.

    The aspect is not kept, as in the paper (images to 224x224): nothing is cut off, and boxes as fractions of width
    and height stay right. Raises ValueError, one line that names the file, for anything that does not decode.
    """
    if not path.is_file():
        raise ValueError(f"there is no image file {path}: check the path")
    if path.stat().st_size == 0:
        raise ValueError(f"image file {path} is empty: fetch it again or remove it")
    try:
        with Image.open(path) as image:
            # Lets the JPEG decoder shrink a large photograph while it reads it.
            image.draft("RGB", (2 * size, 2 * size))
            upright = ImageOps.exif_transpose(image)
            square = _rgb(upright).resize((size, size), Image.Resampling.BICUBIC)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        # Pillow raises all of these for damaged files, and its messages may name a buffer instead of the file.
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error).splitlines()[0]
        raise ValueError(f"image file {path} does not decode ({reason}): fetch it again or remove it") from error
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous() / 255.0


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow would clip 16-bit grey at 255 and return a white picture.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")
