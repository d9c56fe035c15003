"""Flickr8k and every folder laid out like it: an image folder, a caption file, and lists of names as splits."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from regioncap.experiments.data.caption_source import CaptionSource, Listing, Sizes
from regioncap.experiments.data.dataset import CaptionData, CaptionedImage, DataError
from regioncap.experiments.data.entity_captions import read_entity_captions
from regioncap.experiments.data.entity_phrases import FILE
from regioncap.experiments.data.settle import ANY
from regioncap.experiments.data.token_file import numbered_lines, read_token_file

SPLITS = ("train", "dev", "test")
LAYOUT = "a folder with images/, captions.txt and at least one of train.txt, dev.txt, test.txt"
_OFFICIAL = {"train": 6000, "dev": 1000, "test": 1000}
_IMAGES, _CAPTIONS = "images", "captions.txt"
_PUBLISHED_IMAGES, _PUBLISHED_CAPTIONS = ("Flicker8k_Dataset", "Flickr8k_Dataset"), ("Flickr8k.token.txt", FILE)
"""What stands in for a part that is not there: the published files' names, and the captions of Flickr30k Entities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flickr8kConfig(CaptionSource):
    """Where a data set in Flickr8k's layout lies (Hodosh et al. 2013).

    `captions` holds lines `name.jpg#k<TAB>caption`; `train.txt`, `dev.txt` and `test.txt` hold a file name a line, and
    those that are there become the splits. The published files (Flickr8k.token.txt, Flickr_8k.trainImages.txt,
    Flicker8k_Dataset/) are read by their own names too, and without any caption file those of `entities.jsonl`. The
    published files name images that were never shipped: what exists is kept, the rest is counted in
    `CaptionData.skipped`.
    """

    images: str = _IMAGES
    """Folder of the photographs, below `root`."""
    captions: str = _CAPTIONS
    """Caption file, below `root`; an `entities.jsonl` will do."""
    sizes: Sizes = "any"
    """`official`: the splits that are there must have Flickr8k's 6,000, 1,000 and 1,000 images. Many folders have this
    layout and other photographs, so `any` is the default."""

    def __post_init__(self) -> None:
        for field, value in (("images", self.images), ("captions", self.captions)):
            if not value.strip():
                raise ValueError(f"data.{field} is empty; it must name something below data.root, as '{field}' does")

    def listing(self) -> Listing:
        """Every name of the lists, with the captions it has."""
        root = self.folder(LAYOUT)
        pictures = self._pictures(root)
        captions, skipped = _read_captions(self._caption_file(root))
        names = {split: _read_names(path) for split, path in lists_in(root).items()}
        splits = {
            split: tuple(CaptionedImage(name=n, path=pictures / n, captions=captions.get(n, ())) for n in listed)
            for split, listed in names.items()
        }
        official = {split: count for split, count in _OFFICIAL.items() if split in names}
        return Listing(
            name=root.resolve().name,
            root=root,
            splits=splits,
            official=official if self.sizes == "official" else None,
            named="Flickr8k",
            skipped=skipped,
        )

    def read(self) -> CaptionData:
        """All splits that are there, in the order of their lists. Images are not opened.

        Raises DataError if a part is missing, of the wrong form or size, or would let one split leak into another.
        """
        root = self.folder(LAYOUT)
        pictures = self._pictures(root)
        files = _list_images(pictures)
        source = self._caption_file(root)
        captions, skipped = _read_captions(source, files)
        lists = lists_in(root)
        names = {split: _read_names(path) for split, path in lists.items()}
        if not names:
            raise DataError(
                f"{root} has no train.txt, dev.txt or test.txt: write one, with a file name of {pictures} a line"
            )
        _refuse_leaks(lists, names)

        splits = {}
        for split, listed in names.items():
            there = [name for name in listed if name in files]
            skipped["name without image"] += len(listed) - len(there)
            if not there:
                first = f" (the first is '{listed[0]}')" if listed else ""
                raise DataError(
                    f"{lists[split]} leaves no usable image: none of its {len(listed)} names{first} is in "
                    f"{pictures}; write a file name such as '{min(files)}' a line"
                )
            bare = [name for name in there if name not in captions]
            if bare:
                raise DataError(
                    f"{pictures / bare[0]} has no caption ({len(bare)} of {len(there)} images of "
                    f"{lists[split].name}): add a line '{bare[0]}#0<TAB>caption' to {source} or take the "
                    f"name out of {lists[split].name}"
                )
            if self.sizes == "official" and len(there) != _OFFICIAL[split]:
                raise DataError(
                    f"{lists[split]} has {len(there):,} images that are there, wanted are Flickr8k's "
                    f"{_OFFICIAL[split]:,}: complete it, {ANY}"
                )
            splits[split] = tuple(
                CaptionedImage(name=name, path=pictures / name, captions=captions[name]) for name in there
            )
        skipped["image in no split"] = len(files) - sum(len(images) for images in splits.values())
        return CaptionData(
            name=root.resolve().name,
            root=root,
            splits=splits,
            skipped={why: count for why, count in skipped.items() if count},
        )

    def _pictures(self, root: Path) -> Path:
        named = [self.images, *(_PUBLISHED_IMAGES if self.images == _IMAGES else ())]
        return next((root / name for name in named if (root / name).is_dir()), root / self.images)

    def _caption_file(self, root: Path) -> Path:
        named = [self.captions, *(_PUBLISHED_CAPTIONS if self.captions == _CAPTIONS else ())]
        return next((root / name for name in named if (root / name).is_file()), root / self.captions)


def lists_in(root: Path) -> Mapping[str, Path]:
    """The lists of names that are there, by split."""
    found = {}
    for split in SPLITS:
        for name in (f"{split}.txt", f"Flickr_8k.{split}Images.txt"):
            if split not in found and (root / name).is_file():
                found[split] = root / name
    return found


def _list_images(path: Path) -> set[str]:
    """The file names in the image folder, from one listing: a stat per name takes seconds on network file systems."""
    if not path.is_dir():
        raise DataError(f"{path} is missing: put the photographs there, or name their folder (--data.images)")
    with os.scandir(path) as entries:
        files = {entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file()}
    if not files:
        raise DataError(f"{path} is empty: put the photographs there, or name their folder (--data.images)")
    return files


def _read_captions(path: Path, files: set[str] | None = None) -> tuple[Mapping[str, tuple[str, ...]], Counter[str]]:
    if path.suffix != ".jsonl":
        return read_token_file(path, files)
    found = read_entity_captions(path)
    kept = {name: own for name, own in found.items() if own and (files is None or name in files)}
    return kept, Counter({"caption without image": sum(len(own) for name, own in found.items() if name not in kept)})


def _read_names(path: Path) -> list[str]:
    first: dict[str, int] = {}
    for number, line in numbered_lines(path):
        name = line.strip()
        if name in first:
            raise DataError(f"{path}, line {number}: '{name}' is on line {first[name]} already; take one of them out")
        first[name] = number
    return list(first)


def _refuse_leaks(lists: Mapping[str, Path], names: Mapping[str, list[str]]) -> None:
    owner: dict[str, str] = {}
    for split, listed in names.items():
        shared = [name for name in listed if name in owner]
        if shared:
            raise DataError(
                f"{lists[split]} and {lists[owner[shared[0]]].name} share {len(shared)} image(s), the first is "
                f"'{shared[0]}': what is learned from one would be scored on the other; take them out of one of the two"
            )
        owner |= dict.fromkeys(listed, split)
