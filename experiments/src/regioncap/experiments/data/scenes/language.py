"""What five speakers say about a scene: the main pair in a directed relation, attributes, place, light and more."""

from collections import Counter
from collections.abc import Callable
from random import Random

from regioncap.experiments.data.scenes.world import OPPOSITE, Pair, Relation, Scene, Thing

MIN_WORDS, MAX_WORDS = 8, 18

_RELATION: dict[Relation, tuple[str, ...]] = {
    "left": ("to the left of", "to the left of", "left of", "on the left side of"),
    "right": ("to the right of", "to the right of", "right of", "on the right side of"),
    "above": ("above", "above", "right above", "higher than"),
    "below": ("below", "below", "right below", "underneath"),
    "front": ("in front of", "in front of", "just in front of", "partly hiding"),
    "behind": ("behind", "behind", "just behind", "partly hidden by"),
}
_NOUN: dict[str, tuple[str, ...]] = {
    "dog": ("dog", "dog", "puppy"),
    "cat": ("cat", "cat", "kitten"),
    "bird": ("bird",),
    "robot": ("robot",),
    "man": ("man", "man", "person"),
    "ball": ("ball",),
    "box": ("box", "box", "crate"),
    "tree": ("tree",),
    "lamp": ("lamp",),
    "house": ("house", "house", "cottage"),
    "car": ("car",),
    "table": ("table",),
}
_PLURAL: dict[str, str] = {
    "dog": "dogs",
    "cat": "cats",
    "bird": "birds",
    "robot": "robots",
    "man": "people",
    "ball": "balls",
    "box": "boxes",
    "tree": "trees",
    "lamp": "lamps",
    "house": "houses",
    "car": "cars",
    "table": "tables",
}
PATTERN_WORDS: dict[str, tuple[str, ...]] = {
    "plain": ("plain",),
    "striped": ("striped", "striped", "stripy"),
    "dotted": ("dotted", "dotted", "spotted"),
}
PLACE_PHRASES: dict[str, tuple[str, ...]] = {
    "beach": ("on the beach", "on the beach", "at the seaside", "on the sand by the sea"),
    "field": ("in a field", "in a field", "in a meadow", "on a grassy field"),
    "street": ("on the street", "on the street", "in the city", "on a road in town"),
    "desert": ("in the desert", "in the desert", "among the dunes", "on dry desert sand"),
    "forest": ("in the forest", "in the forest", "in the woods", "near the pine trees"),
    "park": ("in the park", "in the park", "by a path in the park", "next to a fence"),
}
LIGHT_PHRASES: dict[str, tuple[str, ...]] = {
    "sunny": ("on a sunny day", "on a sunny day", "in bright sunshine", "under a blue sky"),
    "night": ("at night", "at night", "in the dark", "under the moon"),
    "foggy": ("in the fog", "in the fog", "on a foggy day", "on a misty morning"),
    "snowy": ("in the snow", "in the snow", "on a snowy day", "while snow is falling"),
    "rainy": ("in the rain", "in the rain", "on a rainy day", "under dark clouds"),
    "sunset": ("at sunset", "at sunset", "in the evening light", "under an orange sky"),
}
_NUMBER: dict[int, str] = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
_POSE: tuple[str, ...] = ("is", "is", "stands", "waits")


def captions(scene: Scene, rng: Random) -> tuple[str, ...]:
    """Five captions, one by each speaker, in the speakers' order.

    Three name the subject first, one turns the sentence round and one starts with the landmark, which takes the
    opposite relation word; the last two may add a count or the second pair.
    """
    return tuple(_fitting(speaker, scene, rng) for speaker in (_plain, _posed, _turned, _opposite, _scenic))


def caption(scene: Scene, rng: Random) -> str:
    """One more caption of the main pair, as the first speaker would say it."""
    return _fitting(_plain, scene, rng)


class _Voice:
    """One speaker's words for one scene."""

    def __init__(self, scene: Scene, rng: Random) -> None:
        self.scene, self.rng = scene, rng
        self.main = scene.main

    def relation(self, relation: Relation) -> str:
        return self.rng.choice(_RELATION[relation])

    def noun(self, index: int, attributes: float = 0.85, article: str = "a") -> str:
        """A noun phrase; each attribute is said with this probability, `plain` rarely."""
        thing = self.scene.things[index]
        words = self._attributes(thing, attributes)
        phrase = " ".join([*words, self.rng.choice(_NOUN[thing.kind])])
        return f"an {phrase}" if article == "a" and phrase[0] in "aeio" else f"{article} {phrase}"

    def place(self) -> str:
        return self.rng.choice(PLACE_PHRASES[self.scene.place])

    def light(self) -> str:
        return self.rng.choice(LIGHT_PHRASES[self.scene.light])

    def around(self, place: float, light: float) -> str:
        """Place and light, each with its probability."""
        said = [self.place()] * (self.rng.random() < place) + [self.light()] * (self.rng.random() < light)
        return " ".join(said)

    def pair(self, pair: Pair) -> str:
        return f"{self.noun(pair.subject)} {self.relation(pair.relation)} {self.noun(pair.landmark, 0.7)}"

    def count(self) -> str | None:
        """`two birds` for a kind that the main pair does not show and that stands there more than once."""
        things = self.scene.things
        shown = {things[self.main.subject].kind, things[self.main.landmark].kind}
        several = [(kind, n) for kind, n in Counter(t.kind for t in things).items() if n > 1 and kind not in shown]
        if not several:
            return None
        kind, n = max(sorted(several), key=lambda item: item[1])
        return f"{_NUMBER.get(n, 'many')} {_PLURAL[kind]}"

    def _attributes(self, thing: Thing, probability: float) -> list[str]:
        said = []
        if self.rng.random() < (probability if thing.pattern != "plain" else 0.1):
            said.append(self.rng.choice(PATTERN_WORDS[thing.pattern]))
        if self.rng.random() < probability:
            said.append(thing.colour)
        return said


def _plain(voice: _Voice) -> str:
    return f"{voice.pair(voice.main)} {voice.around(0.6, 0.5)}"


def _posed(voice: _Voice) -> str:
    main, pose = voice.main, voice.rng.choice(_POSE)
    said = f"{voice.noun(main.subject)} {pose} {voice.relation(main.relation)} {voice.noun(main.landmark, 0.7, 'the')}"
    return f"{said} {voice.around(0.4, 0.6)}"


def _turned(voice: _Voice) -> str:
    main, rng = voice.main, voice.rng
    said = f"there is {voice.pair(main)}"
    if rng.random() < 0.4:
        place = voice.relation(main.relation)
        said = f"{place} {voice.noun(main.landmark, 0.7, 'the')} there is {voice.noun(main.subject)}"
    return f"{said} {voice.around(0.6, 0.4)}"


def _opposite(voice: _Voice) -> str:
    main = voice.main
    if voice.rng.random() < 0.35:
        return f"{voice.pair(main)} {voice.around(0.5, 0.5)}"
    relation = voice.relation(OPPOSITE[main.relation])
    return f"{voice.noun(main.landmark)} {relation} {voice.noun(main.subject)} {voice.around(0.5, 0.5)}"


def _scenic(voice: _Voice) -> str:
    rng, count = voice.rng, voice.count()
    second = voice.scene.second
    if second is not None and rng.random() < 0.5:
        return f"{voice.pair(voice.main)} and {voice.noun(second.subject, 0.5)} {voice.relation(second.relation)} " + (
            voice.noun(second.landmark, 0.3)
        )
    if count is not None and rng.random() < 0.6:
        return f"{voice.pair(voice.main)} and {count} {voice.around(0.5, 0.5)}"
    return f"a scene {voice.place()} {voice.light()} with {voice.pair(voice.main)}"


def _fitting(speaker: Callable[[_Voice], str], scene: Scene, rng: Random) -> str:
    """What the speaker says, said again until it is neither too short nor too long."""
    while True:
        said = " ".join(speaker(_Voice(scene, rng)).split())
        if MIN_WORDS <= len(said.split()) <= MAX_WORDS:
            return said
