"""Words that name COCO's objects, found in captions (Rohrbach et al. 2018, sec. 3)."""

from collections.abc import Iterable, Iterator, Sequence

from regioncap.experiments.metrics.wording import words_of

# Pairs of words that CHAIR reads as one, so that a "hot dog" is no dog: facts of the metric as published
# (github.com/LisaAnne/Hallucination, utils/chair.py, in `CHAIR.__init__`). Its "stove top oven" has three words, of
# which its window of two never sees the whole; it is left out here.
_COMPOUNDS = (
    "motor bike", "motor cycle", "air plane", "traffic light", "street light", "traffic signal", "stop light",
    "fire hydrant", "stop sign", "parking meter", "suit case", "sports ball", "baseball bat", "baseball glove",
    "tennis racket", "wine glass", "hot dog", "cell phone", "mobile phone", "teddy bear", "hair drier",
    "potted plant", "laptop computer", "home plate", "train track",
)  # fmt: skip
_ANIMALS = (
    "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub",
)  # fmt: skip
_READ_AS = (
    {pair: pair for pair in _COMPOUNDS}
    | {f"{age} {animal}": animal for age in ("baby", "adult") for animal in _ANIMALS}  # no person
    | {f"passenger {vehicle}": vehicle for vehicle in ("jet", "train")}  # no person either
    | {"bow tie": "tie", "toilet seat": "toilet"}
)
"""Pair of words -> the word that it counts as."""

_IRREGULAR = {
    "person": "people", "man": "men", "woman": "women", "child": "children", "mouse": "mice", "goose": "geese",
    "ox": "oxen", "foot": "feet", "tooth": "teeth", "sheep": "sheep", "fish": "fish", "deer": "deer",
}  # fmt: skip
_WITH_VES = ("knife", "calf", "loaf", "wolf", "half", "shelf", "leaf", "scarf", "hoof")


class ObjectWords:
    """A list of words for each category, and what captions name of it.

    A word is found in the singular and in its regular and irregular plurals. The pairs of words that CHAIR reads as
    one are read so; of other words a list may hold in one entry, none is found, as there.
    """

    def __init__(self, groups: Iterable[Sequence[str]]) -> None:
        """A category's name and its words, in lower case, a group each."""
        self._category = {word: group[0] for group in groups for word in group}
        known = (*_READ_AS, *self._category)
        # What stands in the list is never taken for the plural of something else.
        self._singular = {form: word for word in known for form in plurals(word)} | {word: word for word in known}

    def category_of(self, word: str) -> str | None:
        """The category of a word of the list; None for any other."""
        return self._category.get(word)

    def named_in(self, caption: str) -> list[str]:
        """The categories that a caption names, one for every mention, in its order."""
        words = list(self._read([word.replace("’", "'").partition("'")[0] for word in words_of(caption)]))
        if "toilet" in words:  # a seat is a chair, but not that one
            words = [word for word in words if word != "seat"]
        return [self._category[word] for word in words if word in self._category]

    def objects_in(self, captions: Iterable[str]) -> frozenset[str]:
        """All categories that captions name."""
        return frozenset(name for caption in captions for name in self.named_in(caption))

    def _read(self, words: Sequence[str]) -> Iterator[str]:
        """Singular words, with the pairs that count as one in the place of two."""
        singular = [self._singular.get(word, word) for word in words]
        at = 0
        while at < len(words):
            pair = " ".join((singular[at], *words[at + 1 : at + 2]))
            pair = self._singular.get(pair, pair)
            if pair in _READ_AS:
                yield _READ_AS[pair]
                at += 2
            else:
                yield singular[at]
                at += 1


def plurals(word: str) -> set[str]:
    """Plurals that a word, or the last of several, can have."""
    first, space, last = word.rpartition(" ")
    before = first + space
    if last in _IRREGULAR:
        return {before + _IRREGULAR[last]}
    ends = {last + "s"}
    if last.endswith(("s", "x", "z", "ch", "sh", "o")):
        ends.add(last + "es")
    if last.endswith("y") and last[-2:-1] not in "aeiou":
        ends = {last[:-1] + "ies"}
    if last in _WITH_VES:
        ends.add(last.removesuffix("e").removesuffix("f") + "ves")
    if last.endswith("man"):  # fireman
        ends.add(last.removesuffix("an") + "en")
    return {before + end for end in ends}
