"""The captions of Flickr30k Entities (`entities.jsonl`) with what their phrases speak of, for the keyword banks."""

import json
import re
from collections.abc import Collection
from pathlib import Path

from regioncap.experiments.data.dataset import DataError
from regioncap.guidance import MarkedCaption

FILE = "entities.jsonl"
PHRASE = re.compile(r"\[/EN#(\d+)/(\S+) ([^\]]*)\]")
"""A marked phrase: chain of co-referring phrases, types, words."""
_SCENE = "scene"
_NOT_VISUAL = "notvisual"


def read_marked_captions(root: Path, names: Collection[str]) -> tuple[MarkedCaption, ...]:
    """The marked captions of the named pictures, those of the training split; no other line's words are looked at.

    A phrase of more types than scene ("vehicles/scene") names a thing. Raises DataError naming the file if it is
    missing or has no caption of these pictures, and the line that is not as wanted.
    """
    file, wanted = root / FILE, set(names)
    if not file.is_file():
        raise DataError(
            f"{file} is missing, from whose phrases the keyword banks would be made: "
            "put it there or take words by part of speech (--banks.source captions)"
        )
    captions: list[MarkedCaption] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            picture = json.loads(line)
            if picture["image"] in wanted:
                captions += [_marked(sentence) for sentence in picture["sentences"]]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{file}, line {number}: not as wanted ({type(error).__name__}: {error}); a line is an object with "
                "image and sentences"
            ) from None
    if not captions:
        raise DataError(
            f"{file} has no caption of the {len(wanted)} training pictures: add their lines or take words by part of "
            "speech (--banks.source captions)"
        )
    return tuple(captions)


def _marked(sentence: str) -> MarkedCaption:
    phrases = [(types, words) for _, types, words in PHRASE.findall(sentence) if types != _NOT_VISUAL]
    return MarkedCaption(
        text=PHRASE.sub(r"\3", sentence),
        scene=tuple(words for types, words in phrases if types == _SCENE),
        detail=tuple(words for types, words in phrases if types != _SCENE),
    )
