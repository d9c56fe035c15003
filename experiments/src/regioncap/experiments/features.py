"""The features of a split's images: encoded once into the cache, or read from a store that is named."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from regioncap.encoders import ImageEncoder
from regioncap.encoders.store import ExtractConfig, FeatureStore, Observer, Team, extract, find_store
from regioncap.experiments.data.dataset import CaptionedImage, DataError
from regioncap.experiments.image_progress import ImageProgress

_TOLD = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturesSource:
    """Where features come from."""

    cache: Path
    """Features that are missing are encoded into `cache/features`."""
    store: Path | None = None
    """A folder that `regioncap extract` wrote: what it lacks is an error that says what differs."""
    unreadable: Literal["fail", "leave-out"] = "fail"
    """What becomes of pictures that cannot be read: an error that names them, or a line that says so."""

    def open(
        self, images: Sequence[CaptionedImage], encoder: ImageEncoder, split: str
    ) -> tuple[FeatureStore, tuple[CaptionedImage, ...]]:
        """The features of a split, and the images that are their rows.

        Raises DataError naming the pictures that cannot be read, StoreError for a store of something else.
        """
        if self.store is None:
            store = encode(images, encoder, self.cache / "features", split)
        else:
            store = find_store(files_of(images), encoder, self.store, split)
        if store.unreadable and self.unreadable == "fail":
            raise DataError(
                f"{unreadable_text(store.unreadable)}. Mend them, take their names out of the split, or leave them out "
                "with --unreadable leave-out"
            )
        if store.unreadable:
            print(f"left out of {split}: {unreadable_text(store.unreadable)}", flush=True)
        kept = set(store.names)
        return store, tuple(image for image in images if image.name in kept)


def encode(
    images: Sequence[CaptionedImage],
    encoder: ImageEncoder,
    root: Path,
    split: str,
    config: ExtractConfig | None = None,
    team: Team | None = None,
) -> FeatureStore:
    """`extract` with a progress bar."""
    team = team or Team()
    share = f", process 1 of {team.size}" if team.size > 1 else ""
    with ImageProgress(f"encode {split}{share}") as bar:
        observer = Observer() if team.index else Observer(encoded=bar.update)
        return extract(files_of(images), encoder, root, split, config, team=team, observer=observer)


def files_of(images: Sequence[CaptionedImage]) -> Mapping[str, Path]:
    """The pictures by name. Raises DataError if two have the same name."""
    files = {image.name: image.path for image in images}
    if len(files) < len(images):
        twice = next(name for name, count in Counter(image.name for image in images).items() if count > 1)
        raise DataError(f"{files[twice]}: the name {twice} occurs twice in its split; take one of them out")
    return files


def unreadable_text(unreadable: Mapping[str, str]) -> str:
    """How many pictures cannot be read, and why the first cannot."""
    reasons = list(unreadable.values())
    more = f"; and {len(reasons) - _TOLD} more" if len(reasons) > _TOLD else ""
    return f"{len(reasons)} pictures cannot be read: {'; '.join(reasons[:_TOLD])}{more}"
