"""Flickr30k (Young et al. 2014) in the layouts it is published in, with the splits that papers use.

results_20130124.token (name.jpg#k<TAB>caption), results.csv (image_name| comment_number| comment) or
dataset_flickr30k.json (Karpathy's)    flickr30k-images/, flickr30k_images/ or images/    Annotations/, Sentences/
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from regioncap.experiments.data.caption_source import CaptionSource, Listing, Sizes
from regioncap.experiments.data.caption_table import read_caption_table
from regioncap.experiments.data.coco_captions import dev_held_out, official_with_dev
from regioncap.experiments.data.dataset import CaptionData, CaptionedImage, DataError
from regioncap.experiments.data.drawn import drawn_order
from regioncap.experiments.data.karpathy import read_karpathy
from regioncap.experiments.data.settle import settle
from regioncap.experiments.data.token_file import read_token_file

LAYOUT = "Flickr30k's folder, with flickr30k-images/ and dataset_flickr30k.json or results_20130124.token"
KARPATHY = "dataset_flickr30k.json"
CAPTIONS = ("results_20130124.token", "captions.csv", "results.csv", "captions.txt")
_IMAGES = ("flickr30k-images", "flickr30k_images", "images", "Images")
_TOTAL = 31783
_TRAIN_SHARE = 0.8
_OFFICIAL = {"train": 29000, "val": 1014, "test": 1000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flickr30kConfig(CaptionSource):
    """Flickr30k captions, with the boxes of Flickr30k Entities where they are there."""

    splits: Literal["karpathy", "paper"] = "karpathy"
    """`karpathy`: 29,000 / 1,014 / 1,000. `paper`: 31,783 in the ratio 8:2, drawn by `seed`."""
    captions: str | None = None
    """Caption file, below `root`. None: dataset_flickr30k.json for `karpathy`, for `paper` results_20130124.token,
    captions.csv, results.csv or captions.txt."""
    images: str | None = None
    """Folder of the photographs, below `root`. None: flickr30k-images, flickr30k_images or images."""
    sizes: Sizes = "official"
    """`official`: splits must have the published numbers of images, all of them there. `any`: a part will do."""
    dev_images: int = 1000
    """`paper` names no images to make choices on: so many of its training images are dev, and not learned from.
    0: none, as in the paper; then nothing can be chosen, and no study runs."""
    seed: int = 0
    """Draws the `paper`'s splits, by the names of the pictures."""

    def __post_init__(self) -> None:
        if self.dev_images < 0:
            raise ValueError(f"data.dev-images must be at least 0, got {self.dev_images}")

    def listing(self) -> Listing:
        """What the caption file names."""
        root = self.folder(LAYOUT)
        pictures = self._pictures(root)
        skipped: Counter[str] = Counter()
        official = dict(_OFFICIAL)
        if self.splits == "karpathy":
            found = read_karpathy(self._file(root, (KARPATHY,)), lambda _, name: pictures / name)
        else:
            texts, skipped = _read(self._file(root, CAPTIONS))
            found = self._drawn({n: CaptionedImage(name=n, path=pictures / n, captions=t) for n, t in texts.items()})
            train = round(_TRAIN_SHARE * _TOTAL)
            official = official_with_dev({"train": train, "test": _TOTAL - train}, self.dev_images)
        return Listing(
            name=f"flickr30k {self.splits}",
            root=root,
            splits=found,
            official=official if self.sizes == "official" else None,
            named="Flickr30k in Karpathy's splits" if self.splits == "karpathy" else "Flickr30k, 8:2",
            skipped={why: count for why, count in skipped.items() if count},
        )

    def read(self) -> CaptionData:
        """The splits; see `CaptionSource.read`."""
        return settle(self.listing(), self.sizes)

    def _drawn(self, images: Mapping[str, CaptionedImage]) -> Mapping[str, tuple[CaptionedImage, ...]]:
        order = drawn_order(list(images), self.seed)
        test = set(order[round(_TRAIN_SHARE * len(order)) :])
        learn = tuple(image for name, image in images.items() if name not in test)
        held = tuple(image for name, image in images.items() if name in test)
        return dev_held_out(learn, self.dev_images, self.seed) | {"test": held}

    def _file(self, root: Path, names: tuple[str, ...]) -> Path:
        named = (self.captions,) if self.captions else names
        for name in named:
            if (root / name).is_file():
                return root / name
        raise DataError(
            f"{root} has no {' and no '.join(named)}: put it there, name it (--data.captions), or take other splits "
            "(--data.splits paper or karpathy)"
        )

    def _pictures(self, root: Path) -> Path:
        named = (self.images,) if self.images else _IMAGES
        for name in named:
            if (root / name).is_dir():
                inner = root / name / name  # as a well-known archive unpacks
                return inner if inner.is_dir() else root / name
        raise DataError(f"{root} has no folder {' or '.join(named)}: put the photographs there (--data.images)")


def _read(file: Path) -> tuple[Mapping[str, tuple[str, ...]], Counter[str]]:
    if file.suffix not in (".csv", ".json", ".jsonl") and _has_tabs(file):
        return read_token_file(file)
    captions: dict[str, list[str]] = {}
    skipped: Counter[str] = Counter()
    for row in read_caption_table(file):
        captions.setdefault(row.image, []).extend(text for text in row.captions if text)
        skipped["empty caption"] += sum(1 for text in row.captions if not text)
    return {name: tuple(own) for name, own in captions.items()}, skipped


def _has_tabs(file: Path) -> bool:
    """Whether the first line is a token file's; captions.txt goes round as CSV too."""
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        return "\t" in lines.readline()
