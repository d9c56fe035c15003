"""Any folder of photographs with a CSV, JSON or JSON lines file of their captions."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from regioncap.experiments.data.caption_source import CaptionSource, Listing
from regioncap.experiments.data.caption_table import FORMS, TableRow, read_caption_table
from regioncap.experiments.data.dataset import CaptionData, CaptionedImage, DataError
from regioncap.experiments.data.drawn import drawn_order
from regioncap.experiments.data.settle import settle

LAYOUT = f"a folder with photographs (below images/, or beside the captions) and {FORMS}"
CAPTION_FILES = tuple(
    f"{stem}{ending}" for stem in ("captions", "results", "metadata") for ending in (".csv", ".json", ".jsonl")
)
SPLIT_NAMES = {"train": "train", "training": "train", "restval": "train", "dev": "dev", "val": "dev", "valid": "dev",
               "validation": "dev", "test": "test"}  # fmt: skip
_ORDER = ("train", "dev", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderConfig(CaptionSource):
    """A folder with a caption file. Where it has no column `split`, the splits are drawn by `seed`."""

    captions: str | None = None
    """Caption file, below `root`. None: captions, results or metadata with .csv, .json or .jsonl."""
    images: str | None = None
    """Folder of the photographs, below `root`. None: images/ if it is there, else `root` itself."""
    dev_share: float = 0.1
    """Share of the pictures that are drawn as dev."""
    test_share: float = 0.1
    """Share of the pictures that are drawn as test."""
    seed: int = 0
    """Draws the splits, by the names of the pictures."""

    def __post_init__(self) -> None:
        if min(self.dev_share, self.test_share) < 0 or self.dev_share + self.test_share >= 1:
            raise ValueError(
                "data.dev-share and data.test-share must be at least 0 and leave something to train on, got "
                f"{self.dev_share} and {self.test_share}"
            )

    def listing(self) -> Listing:
        """What the caption file names."""
        root = self.folder(LAYOUT)
        file = self._caption_file(root)
        rows = read_caption_table(file)
        pictures = root / self.images if self.images else root / "images" if (root / "images").is_dir() else root
        skipped: Counter[str] = Counter()
        captions: dict[str, list[str]] = {}
        splits: dict[str, str] = {}
        for row in rows:
            own = captions.setdefault(row.image, [])
            own += [text for text in row.captions if text]
            skipped["empty caption"] += sum(1 for text in row.captions if not text)
            split = _split_of(file, row)
            if splits.setdefault(row.image, split) != split:
                raise DataError(
                    f"{file}: '{row.image}' is in the split '{splits[row.image]}' and in '{split}': correct one"
                )
        assigned = self._assigned(file, splits)
        images = {
            name: CaptionedImage(name=name, path=pictures / name, captions=tuple(own)) for name, own in captions.items()
        }
        names = sorted(set(assigned.values()), key=lambda split: _ORDER.index(split))
        return Listing(
            name=root.resolve().name,
            root=root,
            splits={split: tuple(images[name] for name in images if assigned[name] == split) for split in names},
            skipped={why: count for why, count in skipped.items() if count},
        )

    def read(self) -> CaptionData:
        """The splits; see `CaptionSource.read`."""
        return settle(self.listing(), "any")

    def _caption_file(self, root: Path) -> Path:
        if self.captions:
            return root / self.captions
        found = [root / name for name in CAPTION_FILES if (root / name).is_file()]
        if len(found) != 1:
            there = ", ".join(path.name for path in found) or "none of " + ", ".join(CAPTION_FILES)
            raise DataError(f"{root} has {there}: wanted is one caption file; name it (--data.captions)")
        return found[0]

    def _assigned(self, file: Path, splits: Mapping[str, str]) -> Mapping[str, str]:
        """Image -> split: as the file says or, if it says nothing of any, drawn."""
        silent = [name for name, split in splits.items() if not split]
        if not silent:
            return splits
        if len(silent) < len(splits):
            raise DataError(f"{file}: '{silent[0]}' has no split, others have: give all a split, or none")
        dev, test = (round(share * len(splits)) for share in (self.dev_share, self.test_share))
        order = drawn_order(silent, self.seed)
        held = dict.fromkeys(order[:dev], "dev") | dict.fromkeys(order[dev : dev + test], "test")
        return {name: held.get(name, "train") for name in splits}


def _split_of(file: Path, row: TableRow) -> str:
    if not row.split:
        return ""
    if row.split.lower() not in SPLIT_NAMES:
        raise DataError(f"{file}: '{row.image}' has the split '{row.split}', want one of {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES[row.split.lower()]
