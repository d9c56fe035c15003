"""What a phrase of Flickr30k Entities says of its box: a head noun, whether it means several, and attributes.

The head noun is the last word before a preposition; after a measure or a part ("a group of young men", "the edge of a
cliff") it is that of what follows "of". Plurals become singular, and synonyms one word, by the tables below. They were
made by reading the words of the training split by frequency.
"""

from collections.abc import Sequence
from dataclasses import dataclass


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PREPOSITIONS = _words(
    "of with in on at from for to by that who which over under near behind beside between into through above around "
    "against inside wearing holding"
)
_MEASURES = _words(
    "group groups crowd bunch pair pairs couple lot lots number pile piles set sets row rows flock pack team line bank "
    "patch patches stack herd body stream pool field bucket bottle glass piece pieces array variety type kind flight "
    "mound plate spray jet puddle cup side top edge bottom middle end back front base part shore closeup close-up view "
    "picture silhouette collection assortment bag"
)
_COLLECTIVES = _words("people crowd audience family team band couple group pair class")
_NO_NOUN = _words(
    "one ones other others another something someone somebody two three four five six many several some each both all "
    "few it them he she his her him they thing things object objects item items something background foreground side "
    "area back front line race number group pair body image picture shot scene open outside inside"
)

_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "leaves": "leaf",
    "shelves": "shelf",
    "knives": "knife",
    "scarves": "scarf",
    "mice": "mouse",
    "geese": "goose",
}
_NO_SINGULAR = _words(
    "glasses sunglasses goggles pants jeans shorts trunks clothes stairs headphones overalls tights leggings scissors "
    "khakis people sheep deer bus grass dress mattress harness canvas gas lens tennis class cactus glass pajamas "
    "binoculars skis crutches christmas moss cross press"
)

_ONE_WORD_FOR = {
    word: kept
    for kept, words in {
        "man": "guy gentleman male fellow dude",
        "woman": "lady female",
        "child": "kid youngster toddler",
        "baby": "infant",
        "teenager": "teen",
        "person": "human individual adult someone somebody",
        "crowd": "audience spectator onlooker",
        "cyclist": "bicyclist biker bike-rider",
        "bike": "bicycle",
        "motorcycle": "motorbike dirtbike",
        "dog": "puppy greyhound poodle shepherd retriever",
        "shirt": "t-shirt tshirt tee-shirt tee top",
        "jacket": "coat parka",
        "hat": "cap",
        "sweater": "sweatshirt hoodie",
        "swimsuit": "bikini swimwear trunks",
        "clothes": "clothing outfit attire gear costume",
        "suit": "tuxedo",
        "shoe": "sneaker boot",
        "bag": "purse backpack",
        "ball": "football basketball baseball volleyball softball",
        "stairs": "step staircase",
        "street": "road",
        "ocean": "sea",
        "couch": "sofa",
        "rock": "boulder",
        "path": "trail",
        "hill": "hillside slope",
        "tree": "woods forest",
        "building": "house",
        "swing": "swingset",
        "phone": "cellphone telephone",
        "ramp": "half-pipe halfpipe",
        "wave": "surf",
        "railing": "rail handrail",
        "car": "automobile suv",
        "food": "meal",
    }.items()
    for word in words.split()
}

ATTRIBUTES: dict[str, dict[str, str]] = {
    "colour": {
        "black": "black",
        "white": "white",
        "red": "red",
        "brown": "brown tan beige",
        "blue": "blue navy turquoise",
        "green": "green",
        "yellow": "yellow golden gold",
        "orange": "orange",
        "pink": "pink",
        "gray": "gray grey silver",
        "purple": "purple",
        "blond": "blond blonde",
        "colorful": "colorful multicolored multi-colored brightly-colored",
    },
    "size": {
        "large": "large big huge giant enormous",
        "small": "small little tiny",
        "tall": "tall",
        "long": "long",
        "short": "short",
    },
    "material": {
        "wooden": "wooden wood",
        "metal": "metal steel iron",
        "plastic": "plastic",
        "stone": "stone concrete cement brick",
        "grassy": "grassy grass",
        "snowy": "snowy snow snow-covered",
        "sandy": "sandy sand",
        "rocky": "rocky rock",
        "dirt": "dirt muddy mud",
        "icy": "ice icy",
        "leather": "leather",
        "rubber": "rubber",
        "paper": "paper",
        "stuffed": "stuffed",
        "inflatable": "inflatable",
        "straw": "straw",
    },
    "age": {
        "young": "young little small younger baby teenage",
        "old": "old older elderly",
    },
    "pattern": {
        "striped": "striped",
        "plaid": "plaid checkered",
        "spotted": "spotted polka-dot",
        "floral": "floral flowered",
        "camouflage": "camouflage",
    },
}
"""Group -> attribute -> the words that say it."""

_ATTRIBUTE_OF = {
    group: {word: name for name, words in members.items() for word in words.split()}
    for group, members in ATTRIBUTES.items()
}
_GROUPS_OF_PEOPLE = ("size", "age")
"""A colour before a person is that of the skin or the clothes: it is not taken, but for blond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhraseMeaning:
    """What one phrase says."""

    noun: str
    """Head noun in the singular, "" if the phrase names nothing (a pronoun, two things at once)."""
    several: bool
    """A plural or a collective."""
    attributes: frozenset[str]
    """Names of `ATTRIBUTES`."""


def understand(phrase: str, kind: str) -> PhraseMeaning:
    """Head noun and attributes of a phrase as annotated, `kind` its type ("people", "clothing", ...)."""
    words = [word.strip("\"'.,()") for word in phrase.lower().split()]
    words = [word for word in words if word]
    before, several = _noun_phrase(words)
    if not before:
        return PhraseMeaning(noun="", several=several, attributes=frozenset())
    last = before[-1]
    if last == "top" and kind != "clothing":
        return PhraseMeaning(noun="", several=several, attributes=frozenset())
    if kind == "clothing" and last in _ATTRIBUTE_OF["colour"]:
        # "a man in [black]": a colour that stands for what is worn
        return PhraseMeaning(noun="clothes", several=False, attributes=_attributes(before, kind))
    if _joins_two(before):
        return PhraseMeaning(noun="", several=True, attributes=frozenset())
    noun, plural = singular(last)
    noun = _ONE_WORD_FOR.get(noun, noun)
    attributes = _attributes(before[:-1], kind)
    collective = noun in _COLLECTIVES or last in ("spectators", "onlookers")
    return PhraseMeaning(
        noun="" if noun in _NO_NOUN else noun, several=several or plural or collective, attributes=attributes
    )


def singular(word: str) -> tuple[str, bool]:
    """The singular of a noun, and whether it was a plural."""
    if word in _IRREGULAR:
        return _IRREGULAR[word], True
    if word in _NO_SINGULAR or not word.endswith("s") or word.endswith("ss") or len(word) < 4:
        return word, False
    if word.endswith("ies") and len(word) > 5:
        return f"{word[:-3]}y", True
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2], True
    return word[:-1], True


def _noun_phrase(words: Sequence[str]) -> tuple[list[str], bool]:
    """The words up to the head noun, and whether a measure before it says that there are several."""
    several = False
    rest = list(words)
    while True:
        end = next((i for i, word in enumerate(rest) if word in _PREPOSITIONS and i > 0), len(rest))
        head = rest[:end]
        if end < len(rest) - 1 and rest[end] == "of" and head[-1] in _MEASURES:
            several = several or head[-1] in ("group", "groups", "crowd", "bunch", "pair", "couple", "flock", "pack")
            rest = rest[end + 1 :]
            continue
        return head, several


def _joins_two(words: Sequence[str]) -> bool:
    """ "a man and a woman", not "a black and white dog": an article after "and", or no adjective before it."""
    if "and" not in words:
        return False
    at = words.index("and")
    after = words[at + 1 : at + 2]
    if list(after) and after[0] in ("a", "an", "the", "his", "her", "their", "another", "two", "three"):
        return True
    adjectives = {word for members in _ATTRIBUTE_OF.values() for word in members}
    return at == 0 or words[at - 1] not in adjectives


def _attributes(words: Sequence[str], kind: str) -> frozenset[str]:
    found = set()
    for group, members in _ATTRIBUTE_OF.items():
        if kind == "people" and group not in _GROUPS_OF_PEOPLE:
            members = {word: name for word, name in members.items() if name == "blond"}
        if kind != "people" and group == "age":
            members = {word: name for word, name in members.items() if word in ("young", "old")}
        if kind == "people" and group == "size":
            # "little boy", "small child": an age
            members = {word: name for word, name in members.items() if name != "small"}
        found |= {members[word] for word in words if word in members}
    return frozenset(found)
