"""Flickr8k and every folder laid out like it: an image folder, a caption file, and lists of names as splits."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from regioncap.experiments.data.dataset import CaptionData, CaptionedImage, DataError

SPLITS = ("train", "dev", "test")
CAPTION_LINE = "'name.jpg#0<TAB>caption'"
LAYOUT = "a folder with images/, captions.txt and at least one of train.txt, dev.txt, test.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flickr8kConfig:
    """Where a data set in Flickr8k's layout lies (Hodosh et al. 2013).

    `captions` holds lines `name.jpg#k<TAB>caption`; `train.txt`, `dev.txt` and `test.txt` hold a file name a line, and
    those that are there become the splits. The published files name images that were never shipped: what exists is
    kept, the rest is counted in `CaptionData.skipped`.
    """

    root: Path | None = None
    """The folder. It has no default because nobody's photographs lie in the same place."""
    images: str = "images"
    """Folder of the photographs, below `root`."""
    captions: str = "captions.txt"
    """Caption file, below `root`."""

    def __post_init__(self) -> None:
        for field, value in (("images", self.images), ("captions", self.captions)):
            if not value.strip():
                raise ValueError(f"data.{field} is empty; it must name something below data.root, as '{field}' does")

    def read(self) -> CaptionData:
        """All splits that are there, in the order of their lists. Images are not opened.

        Raises DataError if a part is missing, of the wrong form, or would let one split leak into another.
        """
        if self.root is None:
            raise DataError(f"data.root is not given: name {LAYOUT} (--data.root DIR)")
        files = _list_images(self.root, self.images)
        captions, skipped = _read_captions(self.root / self.captions, files)
        names = {split: _read_names(path) for split in SPLITS if (path := self.root / f"{split}.txt").is_file()}
        if not names:
            raise DataError(
                f"{self.root} has no train.txt, dev.txt or test.txt: write one, with a file name of "
                f"{self.root / self.images} a line"
            )
        _refuse_leaks(self.root, names)

        splits = {}
        for split, listed in names.items():
            source = self.root / f"{split}.txt"
            there = [name for name in listed if name in files]
            skipped["name without image"] += len(listed) - len(there)
            if not there:
                first = f" (the first is '{listed[0]}')" if listed else ""
                raise DataError(
                    f"{source} leaves no usable image: none of its {len(listed)} names{first} is in "
                    f"{self.root / self.images}; write a file name such as '{min(files)}' a line"
                )
            bare = [name for name in there if name not in captions]
            if bare:
                raise DataError(
                    f"{self.root / self.images / bare[0]} has no caption ({len(bare)} of {len(there)} images of "
                    f"{source.name}): add a line '{bare[0]}#0<TAB>caption' to {self.root / self.captions} or take the "
                    f"name out of {source.name}"
                )
            splits[split] = tuple(
                CaptionedImage(name=name, path=self.root / self.images / name, captions=captions[name])
                for name in there
            )
        skipped["image in no split"] = len(files) - sum(len(images) for images in splits.values())
        return CaptionData(
            name=self.root.resolve().name,
            root=self.root,
            splits=splits,
            skipped={why: count for why, count in skipped.items() if count},
        )


def _list_images(root: Path, folder: str) -> set[str]:
    """The file names in the image folder, from one listing: a stat per name takes seconds on network file systems."""
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise DataError(f"data.root {root} {found}: name {LAYOUT} (--data.root DIR)")
    path = root / folder
    if not path.is_dir():
        raise DataError(f"{path} is missing: put the photographs there, or name their folder (--data.images)")
    with os.scandir(path) as entries:
        files = {entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file()}
    if not files:
        raise DataError(f"{path} is empty: put the photographs there, or name their folder (--data.images)")
    return files


def _read_captions(path: Path, files: set[str]) -> tuple[Mapping[str, tuple[str, ...]], Counter[str]]:
    """Captions of the images that exist, in the order of the file, and why other lines were left out."""
    if not path.is_file():
        raise DataError(f"{path} is missing: write {CAPTION_LINE} lines there, or name the file (--data.captions)")
    captions: dict[str, list[str]] = {}
    skipped: Counter[str] = Counter()
    seen = set()
    for number, line in _lines(path):
        key, tab, caption = line.partition("\t")
        name, hash_, index = key.rpartition("#")
        if not (tab and hash_ and name and index.isdecimal()):
            raise DataError(f"{path}, line {number}: found '{_short(line)}', want {CAPTION_LINE}; correct the line")
        if key in seen:
            skipped["repeated caption line"] += 1
        elif name not in files:
            skipped["caption without image"] += 1
        elif not caption.strip():
            skipped["empty caption"] += 1
        else:
            captions.setdefault(name, []).append(caption.strip())
        seen.add(key)
    if not seen:
        raise DataError(f"{path} is empty: write {CAPTION_LINE} lines there, or name another file (--data.captions)")
    return {name: tuple(found) for name, found in captions.items()}, skipped


def _read_names(path: Path) -> list[str]:
    first: dict[str, int] = {}
    for number, line in _lines(path):
        name = line.strip()
        if name in first:
            raise DataError(f"{path}, line {number}: '{name}' is on line {first[name]} already; take one of them out")
        first[name] = number
    return list(first)


def _refuse_leaks(root: Path, names: Mapping[str, list[str]]) -> None:
    owner: dict[str, str] = {}
    for split, listed in names.items():
        shared = [name for name in listed if name in owner]
        if shared:
            raise DataError(
                f"{root / f'{split}.txt'} and {owner[shared[0]]}.txt share {len(shared)} image(s), the first is "
                f"'{shared[0]}': what is learned from one would be scored on the other; take them out of one of the two"
            )
        owner |= dict.fromkeys(listed, split)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that hold something; a byte order mark, as some editors write, is no part of the first name."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text (byte {error.start}): save it as UTF-8") from None
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _short(line: str, limit: int = 60) -> str:
    return line if len(line) <= limit else f"{line[:limit]}..."
