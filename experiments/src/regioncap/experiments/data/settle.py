"""From what a data set's files say to what can be used: sizes, names and files are checked here, for all kinds."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from regioncap.experiments.data.caption_source import Listing, Sizes
from regioncap.experiments.data.dataset import CaptionData, CaptionedImage, DataError
from regioncap.experiments.data.image_files import files_in

ANY = "or say that the folder holds another set on purpose (--data.sizes any)"


def settle(listing: Listing, sizes: Sizes) -> CaptionData:
    """The images that are there and have captions; the others are counted, or refused where `sizes` are official.

    Raises DataError for a name in two splits, for splits of another size than published, and for a split of which
    nothing is left.
    """
    refuse_shared_names(listing)
    official = listing.official if sizes == "official" else None
    if official is not None:
        _refuse_other_sizes(listing, official, {split: len(images) for split, images in listing.splits.items()})
    there = files_in({image.path.parent for images in listing.splits.values() for image in images})
    skipped = Counter(listing.skipped)
    splits = {}
    for split, images in listing.splits.items():
        present = [image for image in images if image.path in there]
        missing = [image for image in images if image.path not in there]
        bare = [image for image in present if not image.captions]
        if official is not None and (missing or bare):
            _refuse_gaps(listing, split, images, missing, bare)
        skipped["image file not there"] += len(missing)
        skipped["image without caption"] += len(bare)
        splits[split] = tuple(image for image in present if image.captions)
        if not splits[split]:
            first = f"; the first is {images[0].path}" if images else ""
            raise DataError(
                f"{listing.root}: none of the {len(images)} images of its {split} split is there with a caption{first}:"
                " put the pictures there, or name their folder"
            )
    return CaptionData(
        name=listing.name,
        root=listing.root,
        splits=splits,
        skipped={why: count for why, count in skipped.items() if count},
    )


def refuse_shared_names(listing: Listing) -> None:
    """What is learned from one split must not be scored on another. Raises DataError naming the first such picture."""
    owner: dict[str, str] = {}
    for split, images in listing.splits.items():
        for image in images:
            before = owner.setdefault(image.name, split)
            if before != split:
                raise DataError(
                    f"{listing.root}: '{image.name}' is in its {before} split and in its {split} split; what is "
                    "learned from one would be scored on the other: take it out of one of the two"
                )


def _refuse_other_sizes(listing: Listing, official: Mapping[str, int], found: Mapping[str, int]) -> None:
    wrong = {split: count for split, count in official.items() if found.get(split, 0) != count}
    if wrong:
        got = ", ".join(f"{split} {found.get(split, 0):,}" for split in official)
        want = ", ".join(f"{split} {count:,}" for split, count in official.items())
        raise DataError(
            f"{listing.root} has {got}; wanted are the sizes of {listing.named}, {want}: complete its caption files, "
            f"{ANY}"
        )


def _refuse_gaps(
    listing: Listing,
    split: str,
    images: tuple[CaptionedImage, ...],
    missing: list[CaptionedImage],
    bare: list[CaptionedImage],
) -> None:
    first: Path = (missing or bare)[0].path
    count, what = (len(missing), "is missing") if missing else (len(bare), "has no caption")
    raise DataError(
        f"{first} {what} ({count:,} of the {len(images):,} images of the {split} split of {listing.named}): add what "
        f"is missing, {ANY}"
    )
