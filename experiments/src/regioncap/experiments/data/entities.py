"""Flickr30k Entities as boxes with classes and attributes (Plummer et al. 2015, arXiv 1505.04870).

A folder in Flickr8k's layout with `entities.jsonl` beside its captions: one line a picture, with the boxes of every
chain of co-referring phrases and the sentences in which the phrases are marked. Rules, all counted on train alone:

- A box belongs to every chain of its type that has it to the last digit: "two dogs" and "a black dog" are one box.
- A phrase for several things with several boxes names each of them (dog); with one box it names a group (dogs).
- A box is called by the noun that most specific phrases use for it: man before person, skateboarder before people.
- A noun becomes a class from `min_pictures` training pictures on; others fall back on the general class of their type.
- Attributes are those that any phrase of the box names; what no phrase names is unknown.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from regioncap.experiments.data.boxes import BoxData, BoxedImage
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.data.entity_phrases import FILE, PHRASE
from regioncap.experiments.data.entity_words import ATTRIBUTES, understand

_GENERAL = {
    "people": "person",
    "animals": "animal",
    "clothing": "clothes",
    "vehicles": "vehicle",
    "instruments": "instrument",
    "bodyparts": "body part",
    "scene": "place",
    "other": "thing",
}
"""Type -> the class of its boxes whose noun is too rare."""
_COLLECTIVE = ("people", "crowd", "family", "team", "couple", "band")
"""One box: the noun itself; several boxes: persons."""
_VAGUE = {"": 0, "person": 1, "animal": 1, "vehicle": 1, "toy": 2, "child": 2}
"""How specific a noun is; all others 3, a group's plural 4."""
_PLURAL = {"man": "men", "woman": "women", "child": "children", "person": "people", "foot": "feet", "leaf": "leaves"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityBoxesConfig:
    """Which nouns and attributes are worth learning."""

    min_pictures: int = 50
    """A head noun whose boxes lie in fewer training pictures is no class of its own."""
    min_attribute_boxes: int = 40
    """An attribute that fewer training boxes have is left out."""

    def __post_init__(self) -> None:
        for name in ("min_pictures", "min_attribute_boxes"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.entities.{name} must be at least 1, got {getattr(self, name)}")


class _Noun(NamedTuple):
    """What a phrase calls a box, and how specific that is."""

    noun: str
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """A box and what its phrases call it."""

    box: tuple[float, float, float, float]
    kind: str
    nouns: Counter[_Noun]
    attributes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    name: str
    size: tuple[int, int]
    boxes: tuple[_Named, ...]


def read_entities(
    root: Path, config: EntityBoxesConfig, splits: Sequence[str] = ("train", "dev")
) -> dict[str, BoxData]:
    """The boxes of the named splits, classes and attributes chosen on the first of them alone.

    Raises DataError naming the file, and the line of it, that cannot be used.
    """
    pictures = _pictures(root / FILE)
    parts = {}
    for split in splits:
        names = _names(root / f"{split}.txt")
        lacking = [name for name in names if name not in pictures]
        if lacking:
            raise DataError(
                f"{root / FILE} has no line for {lacking[0]} ({len(lacking)} of {len(names)} names of {split}.txt): "
                "take them out of the list or add their boxes"
            )
        parts[split] = [pictures[name] for name in names]
    learn = [box for picture in parts[splits[0]] for box in picture.boxes]
    pictures_with = Counter(
        noun for picture in parts[splits[0]] for noun in {_choose(box.nouns, {}) for box in picture.boxes}
    )
    kept = {noun: count for noun, count in pictures_with.items() if noun and count >= config.min_pictures}
    types = _types(learn, kept)
    classes = tuple(sorted(types, key=lambda name: (list(_GENERAL).index(types[name]), name)))
    counted = Counter(name for box in learn for name in box.attributes)
    attributes = [
        (group, name)
        for group, members in ATTRIBUTES.items()
        for name in members
        if counted[name] >= config.min_attribute_boxes
    ]
    return {
        split: BoxData(
            classes=classes,
            types=tuple(types[name] for name in classes),
            attributes=tuple(name for _, name in attributes),
            attribute_groups=tuple(group for group, _ in attributes),
            images=tuple(_boxed(picture, root / "images", kept, classes, attributes) for picture in own),
        )
        for split, own in parts.items()
    }


def _pictures(file: Path) -> dict[str, _Picture]:
    if not file.is_file():
        raise DataError(f"{file} is missing: wanted are the boxes of Flickr30k Entities, one line a picture")
    pictures = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            picture = _picture(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{file}, line {number}: not as wanted ({type(error).__name__}: {error}); a line is an object with "
                "image, size, boxes and sentences"
            ) from None
        for named in picture.boxes:
            x0, y0, x1, y1 = named.box
            if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
                raise DataError(
                    f"{file}, line {number}: box {list(named.box)} of {picture.name} has no area or leaves the "
                    "picture; wanted are x0 < x1 and y0 < y1 in [0, 1]"
                )
        pictures[picture.name] = picture
    return pictures


def _picture(line: Mapping[str, Any]) -> _Picture:
    phrases: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for sentence in line["sentences"]:
        for chain, kinds, phrase in PHRASE.findall(sentence):
            phrases[chain].append((kinds.split("/")[0], phrase))
    nouns: dict[tuple[str, tuple[float, ...]], Counter[_Noun]] = defaultdict(Counter)
    attributes: dict[tuple[str, tuple[float, ...]], set[str]] = defaultdict(set)
    for chain, boxes in line["boxes"].items():
        own = phrases[chain]
        kind = Counter(kind for kind, _ in own).most_common(1)[0][0] if own else "other"
        if kind not in _GENERAL:
            kind = "other"
        for box in boxes:
            x0, y0, x1, y1 = map(float, box)
            key = (kind, (x0, y0, x1, y1))
            nouns[key].update()  # a box without a phrase counts as well
            for _, phrase in own:
                meaning = understand(phrase, kind)
                nouns[key].update(_calls(meaning.noun, kind, group=meaning.several and len(boxes) == 1))
                attributes[key] |= meaning.attributes
    width, height = map(int, line["size"])
    return _Picture(
        name=str(line["image"]),
        size=(width, height),
        boxes=tuple(
            _Named(box=(x[0], x[1], x[2], x[3]), kind=kind, nouns=count, attributes=frozenset(attributes[kind, x]))
            for (kind, x), count in nouns.items()
        ),
    )


def _calls(noun: str, kind: str, *, group: bool) -> list[_Noun]:
    """What one phrase calls one box: a group is its plural, or else of its members' class."""
    collective = noun in _COLLECTIVE
    if group:
        fallback = "people" if kind == "people" else noun
        plural = [] if collective or not noun else [_Noun(noun=_plural(noun), rank=4)]
        return [*plural, _Noun(noun=noun if collective else fallback, rank=1)]
    noun = "person" if collective else noun
    return [_Noun(noun=noun, rank=_VAGUE.get(noun, 3))]


def _plural(noun: str) -> str:
    if noun in _PLURAL:
        return _PLURAL[noun]
    if noun.endswith("s") or noun in ("grass", "water", "sand", "snow", "clothing"):
        return noun
    if noun.endswith("y") and noun[-2:-1] not in ("a", "e", "o"):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("ch", "sh", "x")) else f"{noun}s"


def _class_of(box: _Named, kept: Mapping[str, int]) -> str:
    """The class that `_choose` picks among the kept ones, or the general one of the box's type."""
    return _choose({noun: n for noun, n in box.nouns.items() if noun.noun in kept}, kept) or _GENERAL[box.kind]


def _choose(nouns: Mapping[_Noun, int], frequency: Mapping[str, int]) -> str:
    """The most specific noun, of those the most said, of those the more frequent; "" if there is none."""
    if not nouns:
        return ""
    return max(nouns, key=lambda noun: (noun.rank, nouns[noun], frequency.get(noun.noun, 0), noun.noun)).noun


def _types(boxes: Iterable[_Named], kept: Mapping[str, int]) -> dict[str, str]:
    """Class -> the type that most of its boxes have; general classes of the rest as well."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for box in boxes:
        votes[_class_of(box, kept)][box.kind] += 1
    return {name: count.most_common(1)[0][0] for name, count in votes.items()}


def _boxed(
    picture: _Picture,
    folder: Path,
    kept: Mapping[str, int],
    classes: tuple[str, ...],
    attributes: Sequence[tuple[str, str]],
) -> BoxedImage:
    width, height = picture.size
    column = {name: i for i, (_, name) in enumerate(attributes)}
    named = [(box, _class_of(box, kept)) for box in picture.boxes]
    named = [(box, name) for box, name in named if name in classes]
    return BoxedImage(
        name=picture.name,
        path=folder / picture.name,
        width=width,
        height=height,
        boxes=tuple((b.box[0] * width, b.box[1] * height, b.box[2] * width, b.box[3] * height) for b, _ in named),
        labels=tuple(classes.index(name) for _, name in named),
        attributes=tuple(tuple(sorted(column[x] for x in box.attributes if x in column)) for box, _ in named),
    )


def _names(file: Path) -> list[str]:
    if not file.is_file():
        raise DataError(f"{file} is missing: write a file name a line, as Flickr8k's layout has it")
    return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
