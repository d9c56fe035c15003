"""Which words of the training captions go into the keyword banks: scene words and detail words.

Part of speech needs no model here: captions are short and plain. A word is taken for a noun by where it stands (after a
determiner, number, adjective or preposition, and before something that ends a noun phrase) in a good share of its uses;
what nouns are places, and what adjectives are colours, small lexicons say (`lexicon.py`). Where people have marked what
the phrases of the captions speak of, `phrases.py` is the better source.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from regioncap.guidance.caption_words import caption_words, captions_with, most_frequent
from regioncap.guidance.lexicon import (
    ATTRIBUTES,
    DETERMINERS,
    FUNCTION,
    LOCATIVES,
    PREPOSITIONS,
    SCENE,
    STRUCTURES,
    VERBS,
)

NOUN_SHARE = 0.2
"""Least share of a word's uses in a noun's place for it to count as a noun."""
VERB_NOUN_SHARE = 0.6
"""The same for a word whose form is a verb's: "swing" and "plants" may still be objects."""
PLACE_SHARE = 0.5
"""Least share of a structure's uses as what something is in or on for it to count as a place."""

_NOUN_OPENERS = DETERMINERS | PREPOSITIONS | ATTRIBUTES | SCENE | STRUCTURES | {"and"}


def scene_words(captions: Iterable[str], *, min_count: int = 5, limit: int = 300) -> dict[str, int]:
    """Words for the whole picture: places, light, weather, activities. Word -> captions with it, most frequent first.

    `captions` are those of the training split. Words seen fewer than `min_count` times are left out, and the `limit`
    most frequent are kept; equal counts go by the alphabet. Raises ValueError for captions that leave no word.
    """
    counts = scene_counts([caption_words(caption) for caption in captions])
    return most_frequent(counts, "scene", min_count=min_count, limit=limit)


def detail_words(captions: Iterable[str], *, min_count: int = 5, limit: int = 1000) -> dict[str, int]:
    """Words for a region: objects, and their colours, patterns, materials, sizes and counts. Word -> count as above.

    A scene word ("snow", "street") is no detail word unless it is an attribute too ("concrete", "wet").
    """
    counts = detail_counts([caption_words(caption) for caption in captions])
    return most_frequent(counts, "detail", min_count=min_count, limit=limit)


def scene_counts(sentences: Sequence[Sequence[str]]) -> dict[str, int]:
    """All scene words of captions given as `caption_words`, in no order. Word -> captions with it."""
    places = _places(sentences, Counter(word for words in sentences for word in words))
    return {word: count for word, count in captions_with(sentences).items() if word in SCENE or word in places}


def detail_counts(sentences: Sequence[Sequence[str]]) -> dict[str, int]:
    """All detail words of captions given as `caption_words`, in no order. Word -> captions with it."""
    uses = Counter(word for words in sentences for word in words)
    as_noun = Counter(
        word
        for words in sentences
        for before, word, after in zip(["", *words[:-1]], words, [*words[1:], "."], strict=True)
        if _opens_noun(before) and _closes_noun(after)
    )
    places = _places(sentences, uses)
    return {
        word: count
        for word, count in captions_with(sentences).items()
        if word in ATTRIBUTES or (word not in places and _is_object(word, as_noun[word] / uses[word]))
    }


def _places(sentences: Sequence[Sequence[str]], uses: Counter[str]) -> set[str]:
    """The structures that these captions mostly speak of as places."""
    located = Counter(token for tokens in sentences for token in _located(tokens) if token in STRUCTURES)
    return {word for word, count in located.items() if count >= PLACE_SHARE * uses[word]}


def _located(tokens: Sequence[str]) -> Iterator[str]:
    """The tokens that a locative preposition reaches over determiners and adjectives: "in", "an old", "house"."""
    reached = False
    for token in tokens:
        if reached:
            yield token
        reached = token in LOCATIVES or (reached and (token in DETERMINERS or token in ATTRIBUTES))


def _opens_noun(before: str) -> bool:
    return before in _NOUN_OPENERS or before.endswith("ing")


def _closes_noun(after: str) -> bool:
    return not after.isalpha() or after in FUNCTION or after in VERBS or after.endswith(("ing", "ed"))


def _is_object(word: str, noun_share: float) -> bool:
    if len(word) < 2 or not word[0].isalpha() or word in FUNCTION or word in SCENE:
        return False
    verb = word in VERBS or word.endswith(("ing", "ed", "ly"))
    return word in STRUCTURES or noun_share >= (VERB_NOUN_SHARE if verb else NOUN_SHARE)
