"""Where the things of a scene stand: a planned pair, neighbours that distract from it, and others all over."""

import math
from random import Random

from regioncap.experiments.data.scenes.world import (
    ACTORS,
    COLOURS,
    LIGHTS,
    OVERLAP,
    PATTERNS,
    PLACES,
    PROPS,
    RELATIONS,
    SIZE,
    Box,
    Relation,
    Scene,
    Thing,
    distance,
    overlap,
    pair_of,
)

_EDGE = 3.0  # pixels kept free around the picture, for outlines
_GROUND = 56.0  # things reach down at least this far, so that they stand on the ground
_CLOSE = 2  # so many small things are put as near to the subject as its landmark is
_TRIES = 2000
_LEAD = 1.3  # the subject is this many times as salient as any other actor


def sample_scene(rng: Random, things: int) -> Scene:
    """A scene of so many things whose main pair follows the viewer's rule (`world.landmark_of`).

    Kinds, relation, place and light are drawn first and uniformly; only positions and sizes are drawn again when the
    rule does not pick the planned pair, so that no relation is rarer for being harder to place.
    """
    relation = rng.choice(RELATIONS)
    actor, prop = rng.choice(tuple(ACTORS)), rng.choice(tuple(PROPS))
    place, light = rng.choice(PLACES), rng.choice(LIGHTS)
    for _ in range(_TRIES):
        placed = _place(rng, relation, actor, prop, things)
        if placed is None:
            continue
        painted = tuple(sorted(placed, key=lambda thing: thing.box[3]))
        actors = sorted((i for i, thing in enumerate(painted) if thing.acts), key=lambda i: -painted[i].salience)
        first, runner_up = actors[0], actors[1]
        if painted[first] is not placed[0] or painted[first].salience < _LEAD * painted[runner_up].salience:
            continue
        main = pair_of(painted, first)
        if main is None or painted[main.landmark] is not placed[1] or main.relation != relation:
            continue
        second = pair_of(painted, runner_up)
        return Scene(place=place, light=light, things=painted, main=main, second=second)
    raise AssertionError(f"no layout for {relation} with {things} things in {_TRIES} tries")


def _place(rng: Random, relation: Relation, actor: str, prop: str, count: int) -> list[Thing] | None:
    """Subject first, landmark second, then the others; None where something found no room."""
    pair = _pair_boxes(rng, relation, actor, prop)
    if pair is None:
        return None
    things = [_dress(rng, actor, pair[0]), _dress(rng, prop, pair[1])]
    reach = distance(*pair)
    extras = rng.randint(2, 4)
    acting = [n < extras for n in range(count - 2)]
    rng.shuffle(acting)
    for n, acts in enumerate(acting):
        close = n < _CLOSE
        kind = rng.choice(tuple(ACTORS if acts else PROPS))
        size = rng.uniform(18, 30) if close else rng.uniform(20, 42) if acts else rng.uniform(22, 58)
        box = _free_box(rng, kind, size, [t.box for t in things], reach if close else None)
        if box is None:
            return None
        things.append(_dress(rng, kind, box))
    return things


def _pair_boxes(rng: Random, relation: Relation, actor: str, prop: str) -> tuple[Box, Box] | None:
    """Boxes of subject and landmark in the relation, together anywhere in the picture."""
    (sw, sh), (lw, lh) = _sides(actor, rng.uniform(42, 56)), _sides(prop, rng.uniform(34, 54))
    gap = rng.uniform(5, 26)
    if relation in ("left", "right"):
        dx = (sw + lw) / 2 + gap
        dy = rng.uniform(-0.5, 0.5) * dx
        dx = -dx if relation == "left" else dx
    elif relation in ("above", "below"):
        dy = (sh + lh) / 2 + gap
        dx = rng.uniform(-0.5, 0.5) * dy
        dy = -dy if relation == "above" else dy
    else:
        dx = rng.choice((-1, 1)) * rng.uniform(0.25, 0.8) * (sw + lw) / 2
        lower = rng.uniform(7, 22)
        dy = (lower if relation == "front" else -lower) - (sh - lh) / 2
    subject = (-sw / 2, -sh / 2, sw / 2, sh / 2)
    landmark = (-dx - lw / 2, -dy - lh / 2, -dx + lw / 2, -dy + lh / 2)
    if relation in ("front", "behind") and not OVERLAP + 0.03 <= overlap(subject, landmark) <= 0.5:
        return None
    left, top = min(subject[0], landmark[0]), min(subject[1], landmark[1])
    width, height = max(subject[2], landmark[2]) - left, max(subject[3], landmark[3]) - top
    if max(width, height) > SIZE - 2 * _EDGE:
        return None
    x = rng.uniform(_EDGE, SIZE - _EDGE - width) - left
    highest = max(_EDGE, _GROUND + top - min(subject[3], landmark[3]))
    if highest > SIZE - _EDGE - height:
        return None
    y = rng.uniform(highest, SIZE - _EDGE - height) - top
    return _shift(subject, x, y), _shift(landmark, x, y)


def _free_box(rng: Random, kind: str, size: float, taken: list[Box], reach: float | None) -> Box | None:
    """Room for a thing: near the subject (`taken[0]`) within `reach` pixels, or anywhere if that is None.

    Anywhere, things may cover a little of each other; the main pair is hardly covered.
    """
    width, height = _sides(kind, size)
    subject = taken[0]
    for _ in range(60):
        if reach is None:
            x = rng.uniform(_EDGE, SIZE - _EDGE - width)
            y = rng.uniform(max(_EDGE, _GROUND - height), SIZE - _EDGE - height)
        else:
            angle, far = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 1.15) * max(reach, 34)
            x = (subject[0] + subject[2] - width) / 2 + far * math.cos(angle)
            y = (subject[1] + subject[3] - height) / 2 + far * math.sin(angle)
        box = (x, y, x + width, y + height)
        inside = min(x, y) >= _EDGE and max(box[2], box[3]) <= SIZE - _EDGE and box[3] >= _GROUND
        if inside and all(overlap(box, other) <= (0.05 if i < 2 else 0.2) for i, other in enumerate(taken)):
            return box
    return None


def _sides(kind: str, size: float) -> tuple[float, float]:
    """Width and height of a kind whose box has `size` squared pixels."""
    aspect = (ACTORS | PROPS)[kind]
    return size * math.sqrt(aspect), size / math.sqrt(aspect)


def _shift(box: Box, x: float, y: float) -> Box:
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def _dress(rng: Random, kind: str, box: Box) -> Thing:
    return Thing(
        kind=kind,
        colour=rng.choice(tuple(COLOURS)),
        pattern=rng.choice(PATTERNS),
        box=box,
        mirrored=rng.random() < 0.5,
    )
