"""Which words of the training captions go into the keyword banks: scene words and detail words.

Part of speech needs no model here: captions are short and plain. A word is taken for a noun by where it stands (after a
determiner, number, adjective or preposition, and before something that ends a noun phrase) in a good share of its uses;
what nouns are places, and what adjectives are colours, small lexicons say (`lexicon.py`). Words stay as they are
written in the captions, in lower case: "dog" and "dogs" are two words, since the count is something to be seen.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

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
_TOKEN = re.compile(r"[a-z]+(?:[-'][a-z]+)*|[.,;:!?]")


def scene_words(captions: Iterable[str], *, min_count: int = 5, limit: int = 300) -> dict[str, int]:
    """Words for the whole picture: places, light, weather, activities. Word -> count, most frequent first.

    `captions` are those of the training split. Words seen fewer than `min_count` times are left out, and the `limit`
    most frequent are kept; equal counts go by the alphabet. Raises ValueError for captions that leave no word.
    """
    sentences = [_tokens(caption) for caption in captions]
    uses = Counter(token for tokens in sentences for token in tokens)
    places = _places(sentences, uses)
    counts = {word: count for word, count in uses.items() if word in SCENE or word in places}
    return _most_frequent(counts, "scene", min_count, limit)


def detail_words(captions: Iterable[str], *, min_count: int = 5, limit: int = 1000) -> dict[str, int]:
    """Words for a region: objects, and their colours, patterns, materials, sizes and counts. Word -> count as above.

    A scene word ("snow", "street") is no detail word unless it is an attribute too ("concrete", "wet").
    """
    sentences = [_tokens(caption) for caption in captions]
    uses = Counter(token for tokens in sentences for token in tokens)
    as_noun = Counter(
        token
        for tokens in sentences
        for before, token, after in zip(["", *tokens[:-1]], tokens, [*tokens[1:], "."], strict=True)
        if _opens_noun(before) and _closes_noun(after)
    )
    places = _places(sentences, uses)
    counts = {
        word: count
        for word, count in uses.items()
        if word in ATTRIBUTES or (word not in places and _is_object(word, as_noun[word] / count))
    }
    return _most_frequent(counts, "detail", min_count, limit)


def _tokens(caption: str) -> list[str]:
    return _TOKEN.findall(caption.lower())


def _places(sentences: list[list[str]], uses: Counter[str]) -> set[str]:
    """The structures that these captions mostly speak of as places."""
    located = Counter(token for tokens in sentences for token in _located(tokens) if token in STRUCTURES)
    return {word for word, count in located.items() if count >= PLACE_SHARE * uses[word]}


def _located(tokens: list[str]) -> Iterator[str]:
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
    if len(word) < 2 or word in FUNCTION or word in SCENE:
        return False
    verb = word in VERBS or word.endswith(("ing", "ed", "ly"))
    return word in STRUCTURES or noun_share >= (VERB_NOUN_SHARE if verb else NOUN_SHARE)


def _most_frequent(counts: dict[str, int], bank: str, min_count: int, limit: int) -> dict[str, int]:
    if min_count < 1 or limit < 1:
        raise ValueError(f"{bank} words: min_count and limit must be at least 1, got {min_count} and {limit}")
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept = {word: count for word, count in ranked if count >= min_count}
    if not kept:
        seen = f"the most frequent was seen {ranked[0][1]} times" if ranked else "none was seen at all"
        raise ValueError(f"no {bank} word stands {min_count} times in the captions ({seen}); lower min_count")
    return dict(list(kept.items())[:limit])
