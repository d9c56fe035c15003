"""What every data set is once it is read: named splits of captioned images."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path


class DataError(ValueError):
    """A data set on disk cannot be used; the message names the file and the way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedImage:
    """One picture and its reference captions."""

    name: str
    """Unique within the data set: the file's name."""
    path: Path
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionData:
    """A data set: named splits, and a count of what was found but could not be used."""

    name: str
    root: Path
    splits: Mapping[str, tuple[CaptionedImage, ...]]
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Why entries were left out -> how many ("caption without image": 3)."""

    def split(self, name: str) -> tuple[CaptionedImage, ...]:
        """The images of a split. Raises DataError with the splits there are."""
        if name not in self.splits:
            raise DataError(f"{self.root} has no split '{name}'; it has {', '.join(self.splits) or 'none'}")
        return self.splits[name]

    @property
    def names(self) -> Mapping[str, Set[str]]:
        """The names of every split's images."""
        return {split: {image.name for image in images} for split, images in self.splits.items()}

    def __iter__(self) -> Iterator[CaptionedImage]:
        for images in self.splits.values():
            yield from images
