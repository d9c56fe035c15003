"""Read a picture from disk as an encoder wants it."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

LARGEST = 89_478_485
"""Pixels that are decoded at once; Pillow's own limit of what is not suspicious. At most about 0.7 GB of memory."""
_LARGE = 8_000_000
_ONE_LARGE_PICTURE = Lock()
_JPEG = b"\xff\xd8\xff"


def load_image(path: Path, size: int) -> Float[Tensor, "3 S S"]:
    """Return the picture as RGB in [0, 1], turned upright by its EXIF tag and squeezed to a square of `size` pixels.

    The aspect is not kept, as in the paper (images to 224x224): nothing is cut off, and boxes as fractions of width
    and height stay right. Raises ValueError, one line that names the file, for anything that does not decode.
    """
    image = read_image(path, at_least=2 * size)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    # The channels stay last in memory, as Pillow has them and convolutions want them.
    return torch.from_numpy(np.asarray(image).astype(np.float32)).div_(255.0).permute(2, 0, 1)


def read_image(path: Path, *, at_least: int | None = None) -> Image.Image:
    """Return the picture in RGB, turned upright by its EXIF tag; of an animation or a multi-page file the first.

    A JPEG may come at a half, quarter or eighth of its size, but no side below `at_least` pixels (None: as it is): the
    decoder leaves the fine coefficients out, which saves time and makes photographs of any size fit into memory. Any
    other picture of more than `LARGEST` pixels is refused, and large ones are decoded one at a time, so that memory is
    bounded whatever the number of threads. Raises ValueError, one line that names the file and the way out.
    """
    if not path.is_file():
        raise ValueError(f"there is no image file {path}: check the path")
    if path.stat().st_size == 0:
        raise ValueError(f"image file {path} is empty: fetch it again or remove it")
    with _naming(path), _open(path) as image:
        wide, high = image.size
        if at_least is not None:
            image.draft("RGB", (at_least, at_least))
        # A progressive JPEG keeps all coefficients of its full size until the last scan, whatever size comes out.
        pixels = wide * high if image.info.get("progressive") else image.width * image.height
        if pixels > LARGEST:
            raise Image.DecompressionBombError(f"{wide}x{high} pixels, over the {LARGEST:,} that are decoded at once")
        with _ONE_LARGE_PICTURE if pixels > _LARGE else nullcontext():
            ImageOps.exif_transpose(image, in_place=True)
            return _rgb(image)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside, as one ValueError: Pillow's messages may name a buffer instead of the file."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise ValueError(f"image file {path} does not decode (not an image): fetch it again or remove it") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"image file {path} is not decoded ({error}): shrink it or remove it") from error
    except (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, struct.error, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"image file {path} does not decode ({reason}): fetch it again or remove it") from error


def _open(path: Path) -> Image.Image:
    with path.open("rb") as file:
        start = file.read(len(_JPEG))
    # Image.open refuses large pictures by their full size, JPEGs too, although these decode at an eighth of it.
    return JpegImageFile(path) if start == _JPEG else Image.open(path)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow would clip 16-bit grey at 255 and return a white picture.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        # Pillow would clip these too, and their range is anybody's guess.
        raise ValueError(f"pixels of unknown range, Pillow's mode {image.mode}; save it with 8 or 16 bits")
    return image if image.mode == "RGB" else image.convert("RGB")
