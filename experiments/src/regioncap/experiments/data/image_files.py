"""Which picture files are there, and which of them are the same to the byte."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from regioncap.encoders.store.digests import UNREADABLE, digest_files
from regioncap.encoders.store.extract import BOOK
from regioncap.experiments.data.dataset import CaptionData, CaptionedImage, DataError
from regioncap.experiments.progress import track

_AT_ONCE = 1000
"""Files between two steps of the progress bar."""
_EMPTY = 0


def files_in(folders: Iterable[Path]) -> set[Path]:
    """The files in these folders, from one listing of each: a stat per name takes seconds on network file systems."""
    found: set[Path] = set()
    for folder in folders:
        if folder.is_dir():
            with os.scandir(folder) as entries:
                found |= {folder / entry.name for entry in entries if entry.is_file()}
    return found


def digests_of(images: Sequence[CaptionedImage], cache: Path, description: str) -> Mapping[Path, str]:
    """SHA-256 of every picture file that can be read and is not empty.

    They are remembered in the book that feature stores keep, by place, size and time of change: a picture is read once
    in all, and later calls cost a `stat` each.
    """
    paths = list(dict.fromkeys(image.path for image in images))
    book = cache / "features" / BOOK
    book.parent.mkdir(parents=True, exist_ok=True)
    looked = digest_files(paths, book, os.cpu_count() or 1, _Thousands(description, len(paths)))
    return {
        path: digest
        for path, (size, digest) in zip(paths, looked, strict=True)
        if digest != UNREADABLE and size != _EMPTY
    }


class _Thousands:
    """A progress bar of thousands: called once a file, and redrawing itself for each would take longer than a look."""

    def __init__(self, description: str, total: int) -> None:
        steps = -(-total // _AT_ONCE)
        self._bar = track(range(steps), description=f"{description}, {_AT_ONCE:,} at a time", total=steps)
        self._count, self._total = 0, total

    def __call__(self) -> None:
        if self._count % _AT_ONCE == 0:
            next(self._bar, None)
        self._count += 1
        if self._count == self._total:
            next(self._bar, None)


def same_bytes(
    splits: Mapping[str, Sequence[CaptionedImage]], digests: Mapping[Path, str]
) -> list[list[tuple[str, CaptionedImage]]]:
    """Groups of two or more images, each with its split, whose files are the same to the byte."""
    groups: dict[str, list[tuple[str, CaptionedImage]]] = defaultdict(list)
    for split, images in splits.items():
        for image in images:
            if image.path in digests:
                groups[digests[image.path]].append((split, image))
    return [group for group in groups.values() if len(group) > 1]


def without_leaks(data: CaptionData, cache: Path, *, leave_out: bool) -> CaptionData:
    """The data, no picture of which is in two splits byte for byte.

    With `leave_out` the copies among the training images are taken out, and those of dev that are in a test split too.
    Raises DataError naming the first pair otherwise, and if a file went away.
    """
    images = list(data)
    digests = digests_of(images, cache, "look for the same pictures in two splits")
    leaks = [group for group in same_bytes(data.splits, digests) if len({split for split, _ in group}) > 1]
    if not leaks:
        return data
    order = list(data.splits)
    first = sorted(leaks[0], key=lambda entry: order.index(entry[0]))
    (one, this), (other, that) = first[0], next(entry for entry in first if entry[0] != first[0][0])
    if not leave_out:
        raise DataError(
            f"{this.path} of the {one} split and {that.path} of the {other} split are the same picture to the byte "
            f"({len(leaks)} such in {data.root}): what is learned from one would be scored on the other; take one of "
            "the two out of its split, or leave training copies out (--data.leaks leave-out)"
        )
    out: set[Path] = set()
    for group in leaks:
        last = max((split for split, _ in group), key=order.index)
        out |= {image.path for split, image in group if split != last}
    splits = {split: tuple(image for image in own if image.path not in out) for split, own in data.splits.items()}
    skipped = {**data.skipped, "picture that another split has too": len(out)}
    return replace(data, splits=splits, skipped=skipped)
