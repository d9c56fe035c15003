"""What may stand in a scene, and the facts of one scene: things, relations, what a viewer would speak about."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

SIZE = 224
"""Side of a picture in pixels; every box is in these pixels."""

Relation = Literal["left", "right", "above", "below", "front", "behind"]
RELATIONS: tuple[Relation, ...] = ("left", "right", "above", "below", "front", "behind")
OPPOSITE: dict[Relation, Relation] = {
    "left": "right",
    "right": "left",
    "above": "below",
    "below": "above",
    "front": "behind",
    "behind": "front",
}

ACTORS: dict[str, float] = {"dog": 1.25, "cat": 0.95, "bird": 1.2, "robot": 0.75, "man": 0.55}
"""Kinds that act, with width over height."""
PROPS: dict[str, float] = {"ball": 1.0, "box": 1.1, "tree": 0.8, "lamp": 0.55, "house": 1.05, "car": 1.8, "table": 1.5}
"""Kinds that only stand there, with width over height."""
KINDS: tuple[str, ...] = (*ACTORS, *PROPS)
"""The detector's classes; a box's category id is the place in this list plus one."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 48, 44),
    "blue": (46, 98, 216),
    "green": (52, 156, 64),
    "yellow": (244, 208, 48),
    "purple": (138, 62, 178),
    "orange": (244, 134, 34),
    "pink": (246, 150, 190),
    "white": (244, 244, 240),
}
PATTERNS: tuple[str, ...] = ("plain", "striped", "dotted")
PLACES: tuple[str, ...] = ("beach", "field", "street", "desert", "forest", "park")
LIGHTS: tuple[str, ...] = ("sunny", "night", "foggy", "snowy", "rainy", "sunset")

NEARBY = 4
"""A viewer names the most salient prop among this many nearest neighbours of the subject."""
AXIS_MARGIN = 1.7
"""`left` needs |dx| to be this many times |dy|, and so for the other directions; in between no relation is said."""
OVERLAP = 0.12
"""From this share of the smaller box on, one thing is in front of the other."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One object. `box` is x0 y0 x1 y1 in pixels, whole even where another thing covers it."""

    kind: str
    colour: str
    pattern: str
    box: Box
    mirrored: bool

    @property
    def acts(self) -> bool:
        """Whether it is of a kind that a sentence takes as its subject."""
        return self.kind in ACTORS

    @property
    def salience(self) -> float:
        """Area in pixels times a factor of 0.6 (far, at the top) to 1.4 (near, at the bottom)."""
        return area(self.box) * (0.6 + 0.8 * self.box[3] / SIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """`subject` stands in `relation` to `landmark`; both are indices into the scene's things."""

    subject: int
    relation: Relation
    landmark: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that a picture shows and that its captions may say."""

    place: str
    light: str
    things: tuple[Thing, ...]
    """In painting order: whoever reaches lower in the picture is nearer and covers the others."""
    main: Pair
    second: Pair | None
    """The next most salient actor and its landmark, where that relation is clear."""


def area(box: Box) -> float:
    """Pixels that a box covers."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def overlap(a: Box, b: Box) -> float:
    """Shared area over the smaller one's area, in [0, 1]."""
    if a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]:
        return 0.0
    shared = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    return shared / min(area(a), area(b))


def distance(a: Box, b: Box) -> float:
    """Pixels between two boxes' centres."""
    return math.hypot(a[0] + a[2] - b[0] - b[2], a[1] + a[3] - b[1] - b[3]) / 2


def relate(a: Box, b: Box) -> Relation | None:
    """How `a` stands to `b`, or None where two viewers could disagree."""
    shared = overlap(a, b)
    dx, dy = (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
    if shared >= OVERLAP:
        if abs(a[3] - b[3]) < 6:
            return None
        return "front" if a[3] > b[3] else "behind"
    if shared > 0:
        return None
    if abs(dx) >= AXIS_MARGIN * abs(dy):
        return "left" if dx < 0 else "right"
    if abs(dy) >= AXIS_MARGIN * abs(dx):
        return "above" if dy < 0 else "below"
    return None


def neighbours(things: Sequence[Thing], index: int) -> list[int]:
    """All other things, nearest centre first."""
    others = [i for i in range(len(things)) if i != index]
    return sorted(others, key=lambda i: distance(things[i].box, things[index].box))


def landmark_of(things: Sequence[Thing], subject: int) -> int | None:
    """The most salient prop among the subject's nearest neighbours, or None where that is no clear choice.

    Clear means: 1.2 times as salient as the runner-up, and no more salient prop stands hardly further off.
    """
    order = neighbours(things, subject)
    props = sorted((i for i in order[:NEARBY] if not things[i].acts), key=lambda i: -things[i].salience)
    if not props or (len(props) > 1 and things[props[0]].salience < 1.2 * things[props[1]].salience):
        return None
    reach = 1.08 * distance(things[order[NEARBY - 1]].box, things[subject].box)
    for rival in order[NEARBY:]:
        close = distance(things[rival].box, things[subject].box) < reach
        if close and not things[rival].acts and things[rival].salience > things[props[0]].salience:
            return None
    return props[0]


def pair_of(things: Sequence[Thing], subject: int) -> Pair | None:
    """What a viewer would say about a subject, or None where that is not clear."""
    landmark = landmark_of(things, subject)
    if landmark is None:
        return None
    relation = relate(things[subject].box, things[landmark].box)
    return None if relation is None else Pair(subject=subject, relation=relation, landmark=landmark)
