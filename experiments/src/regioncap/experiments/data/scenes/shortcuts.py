"""How far simple rules and edge sets get at the captioned pair, its relation and its attributes."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from random import Random
from statistics import mean
from typing import TypeVar

from regioncap.experiments.data.scenes.world import (
    COLOURS,
    LIGHTS,
    PATTERNS,
    PLACES,
    SIZE,
    Scene,
    Thing,
    area,
    distance,
    neighbours,
)

T = TypeVar("T")


def pair_shares(scenes: Sequence[Scene]) -> dict[str, float]:
    """How often an edge set or a simple rule contains the main pair, and how many edges a thing has in it."""
    shares = {}
    for k in (3, 5):
        graphs = [_knn(scene, k) for scene in scenes]
        noise = [_random_knn(scene, k, Random(f"{k}/{i}")) for i, scene in enumerate(scenes)]
        for name, edges in ((f"k={k} nearest", graphs), (f"k={k} random", noise)):
            shares[name] = float(mean(_pair(scene) in held for scene, held in zip(scenes, edges, strict=True)))
            degrees = (2 * len(held) / len(scene.things) for scene, held in zip(scenes, edges, strict=True))
            shares[f"  edges of a thing, {name}"] = mean(degrees)
    rules: dict[str, Callable[[Scene], frozenset[int]]] = {
        "the two nearest things of all": _nearest_two,
        "subject and its nearest thing": lambda scene: _with_nearest(scene, scene.main.subject, props=False),
        "subject and its nearest prop": lambda scene: _with_nearest(scene, scene.main.subject, props=True),
        "the two largest things": lambda scene: frozenset(_by_area(scene)[:2]),
        "largest actor, largest prop": lambda scene: _largest(scene, True) | _largest(scene, False),
        "largest actor, its nearest prop": lambda scene: _with_nearest(scene, min(_largest(scene, True)), props=True),
    }
    return shares | {name: float(mean(rule(s) == _pair(s) for s in scenes)) for name, rule in rules.items()}


def relation_guesses(train: Sequence[Scene], val: Sequence[Scene]) -> dict[str, float]:
    """How often the commonest relation given something else about the scene, counted on train, is right on val."""
    clues: dict[str, Callable[[Scene], object]] = {
        "nothing": lambda scene: None,
        "subject's and landmark's class": lambda scene: (_subject(scene).kind, scene.things[scene.main.landmark].kind),
        "subject's place in a 4x4 grid": lambda scene: _cell(_subject(scene).box),
        "landmark's place in a 4x4 grid": lambda scene: _cell(scene.things[scene.main.landmark].box),
        "place and light": lambda scene: (scene.place, scene.light),
    }
    return {f"from {name}": _guess(train, val, clue, lambda scene: scene.main.relation) for name, clue in clues.items()}


def attribute_guesses(train: Sequence[Scene], val: Sequence[Scene]) -> dict[str, float]:
    """How often the commonest attribute of a class, counted on train, is right on val; chance in the name."""
    seen, asked = ([thing for scene in scenes for thing in scene.things] for scenes in (train, val))
    return {
        f"colour (chance {1 / len(COLOURS):.3f})": _guess(seen, asked, lambda t: t.kind, lambda t: t.colour),
        f"pattern (chance {1 / len(PATTERNS):.3f})": _guess(seen, asked, lambda t: t.kind, lambda t: t.pattern),
        f"place, from the subject's class (chance {1 / len(PLACES):.3f})": _guess(
            train, val, lambda s: _subject(s).kind, lambda s: s.place
        ),
        f"light, from the subject's class (chance {1 / len(LIGHTS):.3f})": _guess(
            train, val, lambda s: _subject(s).kind, lambda s: s.light
        ),
    }


def _pair(scene: Scene) -> frozenset[int]:
    return frozenset((scene.main.subject, scene.main.landmark))


def _subject(scene: Scene) -> Thing:
    return scene.things[scene.main.subject]


def _knn(scene: Scene, k: int) -> set[frozenset[int]]:
    """Undirected edges to the k nearest centres."""
    return {frozenset((i, j)) for i in range(len(scene.things)) for j in neighbours(scene.things, i)[:k]}


def _random_knn(scene: Scene, k: int, rng: Random) -> set[frozenset[int]]:
    """The same with random symmetric distances."""
    count = len(scene.things)
    far = {frozenset((i, j)): rng.random() for i in range(count) for j in range(i)}
    edges = set()
    for i in range(count):
        edges |= set(sorted((frozenset((i, j)) for j in range(count) if j != i), key=far.__getitem__)[:k])
    return edges


def _nearest_two(scene: Scene) -> frozenset[int]:
    boxes = [thing.box for thing in scene.things]
    pairs = [(distance(boxes[i], boxes[j]), frozenset((i, j))) for i in range(len(boxes)) for j in range(i)]
    return min(pairs, key=lambda pair: pair[0])[1]


def _with_nearest(scene: Scene, index: int, props: bool) -> frozenset[int]:
    order = [i for i in neighbours(scene.things, index) if not (props and scene.things[i].acts)]
    return frozenset((index, order[0]))


def _by_area(scene: Scene) -> list[int]:
    return sorted(range(len(scene.things)), key=lambda i: -area(scene.things[i].box))


def _largest(scene: Scene, acts: bool) -> frozenset[int]:
    return frozenset([i for i in _by_area(scene) if scene.things[i].acts == acts][:1])


def _cell(box: Sequence[float]) -> tuple[int, int]:
    return int((box[0] + box[2]) * 2 // SIZE), int((box[1] + box[3]) * 2 // SIZE)


def _guess(train: Sequence[T], val: Sequence[T], clue: Callable[[T], object], asked: Callable[[T], str]) -> float:
    """Share of val on which the commonest answer to the same clue in train is right."""
    seen: dict[object, Counter[str]] = defaultdict(Counter)
    for item in train:
        seen[clue(item)][asked(item)] += 1
    overall = sum(seen.values(), Counter[str]())
    return float(mean((seen.get(clue(item)) or overall).most_common(1)[0][0] == asked(item) for item in val))
