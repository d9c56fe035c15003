"""Captions and boxes from folders in the COCO format.

annotations/captions_{split}.json    images/{split}/{file_name}  (or {split}/{file_name}, as COCO itself lies)
annotations/instances_{split}.json
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regioncap.experiments.data.boxes import BoxData, read_box_file
from regioncap.experiments.data.dataset import CaptionData, CaptionedImage, DataError


def read_coco(root: Path, name: str = "coco") -> CaptionData:
    """Every split that has a `captions_{split}.json`.

    Entries that do not fit together are left out and counted in `skipped`; what is no such folder at all, has no
    image or no caption, is a DataError.
    """
    folder = _annotations(root)
    files = sorted(folder.glob("captions_*.json"))
    if not files:
        raise DataError(f"{folder} has no captions_*.json; wanted is the COCO format: captions_train.json and so on")
    skipped: dict[str, int] = {}
    splits = {file.stem.removeprefix("captions_"): _captioned(root, file, skipped) for file in files}
    order = {split: i for i, split in enumerate(("train", "val", "test"))}
    ordered = dict(sorted(splits.items(), key=lambda item: order.get(item[0], len(order))))
    return CaptionData(name=name, root=root, splits=ordered, skipped=skipped)


def read_boxes(root: Path, split: str) -> BoxData:
    """The objects of a split, from `instances_{split}.json`; crowds are left out."""
    file = _annotations(root) / f"instances_{split}.json"
    if not file.is_file():
        raise DataError(f"{file} is missing; wanted is the COCO format")
    return read_box_file(file, _pictures(root, split, file))


def read_caption_file(file: Path, skipped: dict[str, int]) -> Mapping[str, tuple[str, ...]]:
    """Captions of every image that a COCO file lists, in its order; what fits no image is counted in `skipped`.

    Raises DataError naming the file.
    """
    content = _read(file, ("images", "annotations"))
    texts: dict[Any, list[str]] = defaultdict(list)
    try:
        names = {entry["id"]: entry["file_name"] for entry in content["images"]}
        for entry in content["annotations"]:
            text = entry["caption"].strip()
            if entry["image_id"] not in names:
                _count(skipped, "caption of no listed image")
            elif not text:
                _count(skipped, "empty caption")
            else:
                texts[entry["image_id"]].append(text)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(_wrong_form(file, error)) from None
    return {name: tuple(texts[number]) for number, name in names.items()}


def _captioned(root: Path, file: Path, skipped: dict[str, int]) -> tuple[CaptionedImage, ...]:
    split = file.stem.removeprefix("captions_")
    texts = read_caption_file(file, skipped)
    pictures = _pictures(root, split, file)
    present = {path.name for path in pictures.iterdir()}
    images = []
    for name, captions in texts.items():
        if name not in present:
            _count(skipped, "image file not there")
        elif not captions:
            _count(skipped, "image without caption")
        else:
            images.append(CaptionedImage(name=name, path=pictures / name, captions=captions))
    if not images:
        raise DataError(
            f"{file} names {len(texts)} images, and none has both a file in {pictures} and a caption; "
            "put the pictures there or correct the file"
        )
    return tuple(images)


def _count(skipped: dict[str, int], why: str) -> None:
    skipped[why] = skipped.get(why, 0) + 1


def _annotations(root: Path) -> Path:
    if not root.is_dir():
        raise DataError(f"{root} is no folder; give the folder that holds annotations/ and images/")
    folder = root / "annotations"
    if not folder.is_dir():
        raise DataError(
            f"{root} has no folder annotations/; wanted is the COCO format with annotations/captions_*.json"
        )
    return folder


def _pictures(root: Path, split: str, file: Path) -> Path:
    for folder in (root / "images" / split, root / split):
        if folder.is_dir():
            return folder
    raise DataError(f"the pictures of {file} are missing: no folder {root / 'images' / split}")


def _read(file: Path, keys: tuple[str, ...]) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{file} is missing; wanted is the COCO format") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is no readable JSON ({error}); restore or delete it") from None
    if not isinstance(content, dict) or any(not isinstance(content.get(key), list) for key in keys):
        raise DataError(f"{file} is not in the COCO format: wanted is an object with the lists {', '.join(keys)}")
    return content


def _wrong_form(file: Path, error: Exception) -> str:
    return f"{file} is not in the COCO format: an entry is not as wanted ({type(error).__name__}: {error})"
