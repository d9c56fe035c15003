"""What all data sets on disk have in common: a folder, a form of the captions, and what is done about leaks."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from regioncap.experiments.data.caption_form import CaptionFormConfig
from regioncap.experiments.data.dataset import CaptionData, CaptionedImage, DataError

Sizes = Literal["official", "any"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What the files of a data set say, before anybody has looked whether it can be used."""

    name: str
    root: Path
    splits: Mapping[str, tuple[CaptionedImage, ...]]
    """Images that are named, whether they are there or not, with what captions they have."""
    official: Mapping[str, int] | None = None
    """Split -> the published number of images; None where nothing is published, or it does not matter."""
    named: str = ""
    """What the official numbers are called."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Why lines of the files were left out -> how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionSource(ABC):
    """A folder of photographs with captions."""

    root: Path | None = None
    """The folder. It has no default because nobody's photographs lie in the same place."""
    text: CaptionFormConfig = field(default_factory=CaptionFormConfig)
    """Whether captions are normalised (sec. 4.2)."""
    leaks: Literal["refuse", "leave-out"] = "refuse"
    """What becomes of a picture that is in two splits byte for byte: an error that names the pair, or its copy is
    taken out of the training images."""

    @abstractmethod
    def listing(self) -> Listing:
        """What the files say. Raises DataError naming a file that is missing or of another form."""

    @abstractmethod
    def read(self) -> CaptionData:
        """All splits, every image there and captioned; pictures are not opened.

        Raises DataError naming what cannot be used, with the way out.
        """

    def folder(self, layout: str) -> Path:
        """`root`, which is there. Raises DataError that says what it must hold."""
        if self.root is None:
            raise DataError(f"data.root is not given: name {layout} (--data.root DIR)")
        if not self.root.is_dir():
            found = "is a file" if self.root.exists() else "does not exist"
            raise DataError(f"data.root {self.root} {found}: name {layout} (--data.root DIR)")
        return self.root
