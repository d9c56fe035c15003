"""The captions of Flickr30k Entities without their marks, for a folder that has no other caption file."""

import json
from collections.abc import Mapping
from pathlib import Path

from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.data.entity_phrases import PHRASE
from regioncap.experiments.data.token_file import numbered_lines


def read_entity_captions(file: Path) -> Mapping[str, tuple[str, ...]]:
    """Captions by image, in the order of `entities.jsonl`. Raises DataError naming the line that is not as wanted."""
    captions: dict[str, tuple[str, ...]] = {}
    for number, line in numbered_lines(file):
        try:
            picture = json.loads(line)
            captions[str(picture["image"])] = tuple(
                text for sentence in picture["sentences"] if (text := PHRASE.sub(r"\3", sentence).strip())
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{file}, line {number}: not as wanted ({type(error).__name__}: {error}); a line is an object with "
                "image and sentences"
            ) from None
    if not captions:
        raise DataError(f"{file} is empty: wanted is an object with image and sentences a line")
    return captions
