"""CHAIR: how often captions name objects that the picture does not show (Rohrbach et al. 2018, arXiv 1809.02156).

    CHAIRs = captions that name an object that is not there / captions
    CHAIRi = named objects that are not there / named objects

What is there: the objects of COCO's segmentations and those that the image's references name.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regioncap.experiments.metrics.measures import Measures
from regioncap.experiments.metrics.object_words import ObjectWords

_INSTANCES = "COCO's instances_val2014.json, or another file in its format"


class ChairError(ValueError):
    """A file that CHAIR needs cannot be used; the message names it and what is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """Which objects COCO's annotators marked in which image."""

    by_image: Mapping[str, frozenset[str]]
    """Image -> categories; an image goes by its file name and, as text, by its id."""

    def of(self, image: str) -> frozenset[str] | None:
        """The categories in an image, which may be named with its folder; None if the annotations lack it."""
        found = self.by_image.get(image)
        return self.by_image.get(Path(image).name) if found is None else found


def read_objects(files: Sequence[Path]) -> Objects:
    """Read one or more instances_*.json: COCO's own are one for train and one for val.

    An image without objects is known too. Raises ChairError naming the file.
    """
    by_image: dict[str, frozenset[str]] = {}
    for file in files:
        content = _read(file)
        try:
            categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
            found: dict[Any, set[str]] = {entry["id"]: set() for entry in content["images"]}
            for entry in content["annotations"]:
                found[entry["image_id"]].add(categories[entry["category_id"]])
            for entry in content["images"]:
                own = frozenset(found[entry["id"]])
                by_image |= {str(entry["file_name"]): own, str(entry["id"]): own}
        except (KeyError, TypeError) as error:
            raise ChairError(
                f"{file} is not in the COCO format ({type(error).__name__}: {error}); want {_INSTANCES}"
            ) from error
    return Objects(by_image=by_image)


class Chair:
    """CHAIR over one set of pictures.

    Departs from the authors' code (github.com/LisaAnne/Hallucination, utils/chair.py) where it finds plurals: there a
    word is made singular by the library pattern, here each word of the list is looked for in its plural forms too
    (see `ObjectWords`). CHAIRi counts every mention, as there.
    """

    def __init__(self, objects: Objects, words: ObjectWords) -> None:
        """Raises ChairError if the annotations have a category that the list of words does not know."""
        self._objects, self._words = objects, words
        unknown = sorted({name for own in objects.by_image.values() for name in own if not words.category_of(name)})
        if unknown:
            raise ChairError(
                f"the annotations mark {', '.join(map(repr, unknown[:3]))}, of which the list of words has none: want "
                "the list that belongs to these categories"
            )

    def measure(self, captions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> Measures:
        """Look for objects in one caption for every image.

        Images that the annotations do not hold are left out, and a warning counts them. Raises ChairError if that is
        all of them.
        """
        known = {image: own for image in captions if (own := self._objects.of(image)) is not None}
        if not known:
            raise ChairError(
                f"CHAIR's annotations hold none of the {len(captions)} images, such as '{next(iter(captions))}'; want "
                "the instances_*.json of these images"
            )
        named = {image: self._words.named_in(captions[image]) for image in known}
        there = {
            image: {self._words.category_of(name) for name in own} | self._words.objects_in(references[image])
            for image, own in known.items()
        }
        wrong = {image: [name for name in named[image] if name not in there[image]] for image in known}
        mentions = sum(map(len, named.values()))
        any_wrong = {image: float(bool(names)) for image, names in wrong.items()}
        shares = {image: len(wrong[image]) / len(named[image]) if named[image] else 0.0 for image in known}
        return Measures(
            corpus={
                "CHAIRs": sum(any_wrong.values()) / len(known),
                "CHAIRi": sum(map(len, wrong.values())) / mentions if mentions else 0.0,
            },
            per_image={"CHAIRs": any_wrong, "CHAIRi": shares},
            warnings=self._warnings(len(captions), len(known), mentions),
        )

    def _warnings(self, captions: int, known: int, mentions: int) -> tuple[str, ...]:
        warnings = []
        if known < captions:
            warnings.append(f"CHAIR is of {known} of {captions} images: the annotations do not hold the others")
        if not mentions:
            warnings.append("CHAIR is 0 because no caption names an object of the list")
        return tuple(warnings)


def read_object_words(file: Path) -> ObjectWords:
    """Read a list such as the authors' data/synonyms.txt: a line a category, its name first, words between commas.

    Raises ChairError naming the file and the line.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ChairError(f"{file} cannot be read ({error}); want CHAIR's list of words, a line a category") from error
    groups = [[word.strip().lower() for word in line.split(",") if word.strip()] for line in lines if line.strip()]
    if not groups:
        raise ChairError(f"{file} holds no words; want a line a category, such as 'dog, puppy'")
    return ObjectWords(groups)


def _read(file: Path) -> Mapping[str, Iterable[Any]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ChairError(f"{file} cannot be read ({error}); want {_INSTANCES}") from error
    if not isinstance(content, dict):
        raise ChairError(f"{file} is not in the COCO format; want {_INSTANCES}")
    return content
