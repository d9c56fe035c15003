"""Karpathy's splits (Karpathy & Fei-Fei 2015): dataset_coco.json, dataset_flickr30k.json, dataset_flickr8k.json.

{"images": [{"filename", "split": train | restval | val | test, "sentences": [{"raw"}], "filepath": folder, COCO}]}
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from regioncap.experiments.data.dataset import CaptionedImage, DataError

FORM = "wanted is Karpathy's format: an object with the list 'images' of {filename, split, sentences: [{raw}]}"
_SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}
"""COCO's `restval`, which Karpathy left of val2014, is trained on by everybody since."""


def read_karpathy(file: Path, path_of: Callable[[str, str], Path]) -> Mapping[str, tuple[CaptionedImage, ...]]:
    """The splits train, val and test. `path_of` gives the place of a picture by its `filepath` ("" if none) and name.

    Raises DataError naming the file and the entry that is not as wanted.
    """
    splits: dict[str, list[CaptionedImage]] = {"train": [], "val": [], "test": []}
    for number, entry in enumerate(_entries(file)):
        try:
            split, name = entry["split"], entry["filename"]
            captions = tuple(text for sentence in entry["sentences"] if (text := sentence["raw"].strip()))
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{file}, image {number}: not as wanted ({type(error).__name__}: {error}); {FORM}"
            ) from None
        if split not in _SPLITS:
            raise DataError(f"{file}, image {number}: split {split!r} is none of {', '.join(_SPLITS)}; correct it")
        path = path_of(str(entry.get("filepath", "")), name)
        splits[_SPLITS[split]].append(CaptionedImage(name=name, path=path, captions=captions))
    return {split: tuple(images) for split, images in splits.items() if images}


def _entries(file: Path) -> list[Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is no readable JSON ({error}); restore it") from None
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise DataError(f"{file}: {FORM}")
    entries: list[Any] = content["images"]
    if not entries:
        raise DataError(f"{file} lists no image; {FORM}")
    return entries
