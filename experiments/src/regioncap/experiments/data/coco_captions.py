"""COCO captions (Chen et al. 2015) in the layout they are published in, with the splits that papers use.

annotations/captions_train2014.json, captions_val2014.json    train2014/, val2014/ (or images/train2014/, ...)
dataset_coco.json, Karpathy's splits, in the folder or in annotations/
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from regioncap.experiments.data.caption_source import CaptionSource, Listing, Sizes
from regioncap.experiments.data.coco import read_caption_file
from regioncap.experiments.data.dataset import CaptionData, CaptionedImage, DataError
from regioncap.experiments.data.drawn import drawn_order
from regioncap.experiments.data.karpathy import read_karpathy
from regioncap.experiments.data.settle import settle

LAYOUT = "COCO's folder, with train2014/, val2014/ and annotations/ or dataset_coco.json"
_OFFICIAL: Mapping[str, Mapping[str, int]] = {
    "karpathy": {"train": 113287, "val": 5000, "test": 5000},
    "paper": {"train": 82783, "test": 40504},
    "2017": {"train": 118287, "val": 5000},
}
_NAMED = {"karpathy": "COCO in Karpathy's splits", "paper": "COCO 2014", "2017": "COCO 2017"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoConfig(CaptionSource):
    """COCO captions."""

    splits: Literal["karpathy", "paper", "2017"] = "karpathy"
    """`karpathy`: 113,287 / 5,000 / 5,000, `restval` among the training images. `paper`: train2014's 82,783 to learn
    from and val2014's 40,504 as test. `2017`: 118,287 / 5,000, without test."""
    karpathy: str = "dataset_coco.json"
    """Karpathy's file, below `root` or its annotations/."""
    sizes: Sizes = "official"
    """`official`: splits must have the published numbers of images, all of them there. `any`: a part will do."""
    dev_images: int = 1000
    """`paper` names no images to make choices on: so many of train2014 are dev, and not learned from. 0: none, as in
    the paper; then nothing can be chosen, and no study runs."""
    seed: int = 0
    """Draws these."""

    def __post_init__(self) -> None:
        if self.dev_images < 0:
            raise ValueError(f"data.dev-images must be at least 0, got {self.dev_images}")

    def listing(self) -> Listing:
        """What the annotations name."""
        root = self.folder(LAYOUT)
        official = dict(_OFFICIAL[self.splits])
        skipped: dict[str, int] = {}
        if self.splits == "karpathy":
            found = read_karpathy(self._karpathy_file(root), lambda folder, name: _pictures(root, folder) / name)
        elif self.splits == "paper":
            train = _captioned(root, "train2014", skipped)
            found = dev_held_out(train, self.dev_images, self.seed) | {"test": _captioned(root, "val2014", skipped)}
            official = official_with_dev(official, self.dev_images)
        else:
            found = {split: _captioned(root, f"{split}2017", skipped) for split in ("train", "val")}
        return Listing(
            name=f"coco {self.splits}",
            root=root,
            splits=found,
            official=official if self.sizes == "official" else None,
            named=_NAMED[self.splits],
            skipped=skipped,
        )

    def read(self) -> CaptionData:
        """The splits; see `CaptionSource.read`."""
        return settle(self.listing(), self.sizes)

    def _karpathy_file(self, root: Path) -> Path:
        for file in (root / self.karpathy, root / "annotations" / self.karpathy):
            if file.is_file():
                return file
        raise DataError(
            f"{root / self.karpathy} is missing, and {root / 'annotations'} has none: put Karpathy's file there, name "
            "it (--data.karpathy), or take other splits (--data.splits paper)"
        )


def dev_held_out(train: tuple[CaptionedImage, ...], count: int, seed: int) -> dict[str, tuple[CaptionedImage, ...]]:
    """`train`, and `dev` with `count` images drawn from it by `seed`; no dev for a count of 0. The order is kept.

    Raises ValueError if that would be all.
    """
    if not count:
        return {"train": train}
    if count >= len(train):
        raise ValueError(f"data.dev-images must leave some of the {len(train)} training images, got {count}")
    held = set(drawn_order([image.name for image in train], seed)[:count])
    return {
        "train": tuple(image for image in train if image.name not in held),
        "dev": tuple(image for image in train if image.name in held),
    }


def official_with_dev(official: Mapping[str, int], count: int) -> dict[str, int]:
    """Published numbers with `count` training images held out as dev."""
    dev = {"dev": count} if count else {}
    return {"train": official["train"] - count, **dev, "test": official["test"]}


def _captioned(root: Path, part: str, skipped: dict[str, int]) -> tuple[CaptionedImage, ...]:
    file = root / "annotations" / f"captions_{part}.json"
    pictures = _pictures(root, part)
    texts = read_caption_file(file, skipped)
    return tuple(CaptionedImage(name=name, path=pictures / name, captions=own) for name, own in texts.items())


def _pictures(root: Path, part: str) -> Path:
    return next((folder for folder in (root / part, root / "images" / part) if folder.is_dir()), root / part)
