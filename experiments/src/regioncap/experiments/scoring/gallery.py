"""Which images a page shows, and their pictures made small."""

import base64
import io
import os
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from regioncap.experiments.scoring.compare import Comparison

_WIDEST = 320
"""Pixels of a picture's longer side."""
_QUALITY = 78


def choose_images(comparison: Comparison, most: int, seed: int) -> list[int]:
    """Positions of at most `most` images to show, in the order of the file.

    Taken in turn from the heads of these rankings: per metric the largest gains and losses of every system over the
    baseline (with one system its best and worst images), then the best and worst by the mean over systems, and a
    random order. So the head of each way to sort a page is that of the whole set.
    """
    rankings: list[Sequence[int]] = []
    for scores in comparison.per_image.values():
        differences = [scores[row] - scores[comparison.baseline] for row in _others(comparison)]
        for values in (*differences, scores.mean(axis=0)):
            ascending = np.argsort(values, kind="stable").tolist()
            rankings += [ascending[::-1], ascending]
    rankings.append(np.random.default_rng(seed).permutation(len(comparison.references)).tolist())
    return take_in_turn(rankings, most)


def take_in_turn(rankings: Sequence[Sequence[int]], most: int) -> list[int]:
    """At most `most` positions, in ascending order, taken in turn from the heads of rankings."""
    chosen: dict[int, None] = {}
    for position in chain.from_iterable(zip_longest(*(ranking[:most] for ranking in rankings))):
        if len(chosen) == most:
            break
        if position is not None:  # the end of a shorter ranking
            chosen[position] = None
    return sorted(chosen)


def thumbnail(path: Path) -> tuple[str, str]:
    """A picture as a `data:` address of a small JPEG and "", or "" and why there is none."""
    try:
        with Image.open(path) as picture:
            picture.draft("RGB", (_WIDEST, _WIDEST))
            small = ImageOps.exif_transpose(picture).convert("RGB")
            small.thumbnail((_WIDEST, _WIDEST))
    except FileNotFoundError:
        return "", "the picture is no longer where it was"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return "", "the picture does not decode"
    jpeg = io.BytesIO()
    small.save(jpeg, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}", ""


class PictureFolder:
    """Finds pictures below a folder by path, by file name, or by file name without ending."""

    def __init__(self, root: Path) -> None:
        """Raises ValueError if there is no such folder."""
        if not root.is_dir():
            raise ValueError(f"--images {root} is no folder; name the one that holds the pictures")
        self.root = root
        self._index: dict[str, Path] | None = None

    def thumbnail(self, name: str) -> tuple[str, str]:
        """A picture as a `data:` address of a small JPEG and "", or "" and why there is none."""
        path = self.find(name)
        return ("", "not in the folder of pictures") if path is None else thumbnail(path)

    def find(self, name: str) -> Path | None:
        """A picture's file; None if it is not in the folder."""
        relative = PurePosixPath(name.replace("\\", "/"))
        if not relative.is_absolute() and ".." not in relative.parts and (self.root / relative).is_file():
            return self.root / relative
        if self._index is None:
            self._index = dict(self._walk())
        return self._index.get(relative.name) or self._index.get(relative.stem)

    def _walk(self) -> Iterator[tuple[str, Path]]:
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder, name)
                yield path.stem, path
                yield name, path


def _others(comparison: Comparison) -> list[int]:
    return [row for row in range(len(comparison.systems)) if row != comparison.baseline]
