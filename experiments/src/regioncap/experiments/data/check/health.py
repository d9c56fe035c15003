"""Everything that `regioncap data check` finds out about a data set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from regioncap.experiments.data.caption_source import CaptionSource, Listing
from regioncap.experiments.data.check.caption_health import CaptionHealth, caption_health
from regioncap.experiments.data.check.detect import kind_of
from regioncap.experiments.data.check.picture_health import Opened, open_pictures
from regioncap.experiments.data.coco import read_coco
from regioncap.experiments.data.dataset import CaptionedImage, DataError
from regioncap.experiments.data.drawn import drawn_order
from regioncap.experiments.data.image_files import digests_of, files_in, same_bytes
from regioncap.experiments.data.sources import DataSource, ScenesSource

_DEV = ("dev", "val")
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitHealth:
    """A split in numbers."""

    listed: int
    there: int
    captioned: int
    """Images that are there and have a caption."""
    captions: int
    """Of all listed images."""
    fewest: int
    most: int
    """Captions of one image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What was found. Pictures are named by their path."""

    kind: str
    name: str
    root: Path
    problems: tuple[str, ...]
    """What would stop training, each with the way out."""
    splits: Mapping[str, SplitHealth]
    images: Mapping[str, tuple[CaptionedImage, ...]]
    """All listed images."""
    missing: tuple[Path, ...]
    bare: tuple[Path, ...]
    """Images that are there and have no caption."""
    leaks: tuple[tuple[tuple[str, CaptionedImage], ...], ...]
    """Groups of files, the same to the byte, in more than one split."""
    duplicates: tuple[tuple[tuple[str, CaptionedImage], ...], ...]
    """Groups of files, the same to the byte, in one split."""
    opened: tuple[Opened, ...]
    """Pictures that were decoded, or could not be."""
    captions: CaptionHealth
    skipped: Mapping[str, int]
    """Lines of the caption files that fit nothing."""
    unlisted: int
    """Pictures in the folders that no split names."""

    @property
    def unreadable(self) -> tuple[Opened, ...]:
        """Pictures that do not decode."""
        return tuple(picture for picture in self.opened if picture.problem)


def check_health(
    source: DataSource, cache: Path, *, pictures: int | None = None, jobs: int = 0, seed: int = 0
) -> Health:
    """Look at a data set whose files can be read; `pictures` of its images, drawn by `seed`, are opened (None: all).

    Raises DataError if its caption files cannot be read at all.
    """
    listing = _listing(source)
    images = [image for own in listing.splits.values() for image in own]
    files = files_in({image.path.parent for image in images})
    there = {split: [image for image in own if image.path in files] for split, own in listing.splits.items()}
    digests = digests_of([image for own in there.values() for image in own], cache, "look for the same pictures")
    groups = [tuple(group) for group in same_bytes(there, digests)]
    leaks = tuple(group for group in groups if len({split for split, _ in group}) > 1)
    paths = {image.name: image.path for own in there.values() for image in own}
    opened = tuple(open_pictures([paths[name] for name in sorted(drawn_order(list(paths), seed)[:pictures])], jobs))
    dev = next((split for split in _DEV if split in listing.splits), None)
    health = Health(
        kind=kind_of(source),
        name=listing.name,
        root=listing.root,
        problems=(),
        splits={split: _split(own, files) for split, own in listing.splits.items()},
        images=listing.splits,
        missing=tuple(image.path for image in images if image.path not in files),
        bare=tuple(image.path for own in there.values() for image in own if not image.captions),
        leaks=leaks,
        duplicates=tuple(group for group in groups if len({split for split, _ in group}) == 1),
        opened=opened,
        captions=caption_health(listing.splits, dev, numbers=source.text.numbers),
        skipped=listing.skipped,
        unlisted=sum(path.suffix.lower() in _PICTURES for path in files - {image.path for image in images}),
    )
    return replace(health, problems=tuple(_problems(source, health, dev)))


def _listing(source: DataSource) -> Listing:
    if isinstance(source, CaptionSource):
        return source.listing()
    assert isinstance(source, ScenesSource)
    if source.root is None:
        raise DataError("data.root is not given: name the folder of the scenes")
    data = read_coco(source.root, name="scenes")
    return Listing(name=data.name, root=data.root, splits=data.splits, skipped=data.skipped)


def _split(images: Sequence[CaptionedImage], files: set[Path]) -> SplitHealth:
    counts = Counter(len(image.captions) for image in images)
    return SplitHealth(
        listed=len(images),
        there=sum(image.path in files for image in images),
        captioned=sum(image.path in files and bool(image.captions) for image in images),
        captions=sum(len(image.captions) for image in images),
        fewest=min(counts, default=0),
        most=max(counts, default=0),
    )


def _problems(source: DataSource, health: Health, dev: str | None) -> list[str]:
    """What a study would stop at."""
    problems = []
    if isinstance(source, CaptionSource):
        try:
            source.read()
        except DataError as error:
            problems.append(str(error))
        if health.leaks and source.leaks == "refuse":
            (one, this), *others = health.leaks[0]
            other, that = next((split, image) for split, image in others if split != one)
            problems.append(
                f"{_count(len(health.leaks), 'picture is', 'pictures are')} in two splits to the byte: {this.path} "
                f"({one}) and {that.path} ({other}), to begin with; take one of the two out, or leave training copies "
                "out (--data.leaks leave-out)"
            )
    if health.unreadable:
        problems.append(
            f"{_count(len(health.unreadable), 'picture', 'pictures')} cannot be read "
            f"({health.unreadable[0].problem}); or leave them out of a study (--unreadable leave-out)"
        )
    if "train" not in health.splits:
        problems.append(f"there is no train split to learn from; there are {', '.join(health.splits) or 'none'}")
    if dev is None:
        problems.append(f"there is no dev or val split to choose on; there are {', '.join(health.splits) or 'none'}")
    return problems


def _count(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"
