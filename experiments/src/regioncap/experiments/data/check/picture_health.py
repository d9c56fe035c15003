"""Which pictures decode, and how large they are."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from regioncap.encoders.images import read_image
from regioncap.experiments.progress import track

_SMALL = 32
"""Pixels that a side keeps at least: a JPEG comes at an eighth of its size, every byte of it read all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A picture that was opened."""

    path: Path
    size: tuple[int, int]
    """Width and height in pixels; (0, 0) if it does not decode."""
    problem: str
    """Why it does not decode; "" if it does."""


def open_pictures(paths: Sequence[Path], jobs: int = 0) -> list[Opened]:
    """Decode every picture as the encoders do, to its last byte, on so many threads (0: as many as there are cores)."""

    def opened() -> Iterator[Opened]:
        with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
            yield from pool.map(_open, paths)

    return list(track(opened(), description="open pictures", total=len(paths)))


def _open(path: Path) -> Opened:
    try:
        read_image(path, at_least=_SMALL)
        with Image.open(path) as image:
            return Opened(path=path, size=image.size, problem="")
    except (ValueError, OSError) as error:
        return Opened(path=path, size=(0, 0), problem=str(error))
