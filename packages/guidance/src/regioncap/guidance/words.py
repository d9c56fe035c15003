"""Which words of the training captions go into the keyword banks: scene words and detail words.

Part of speech needs no model here: captions are short and plain. A word is taken for a noun by where it stands (after a
determiner, number, adjective or preposition, and before something that ends a noun phrase) in a good share of its
uses; what nouns are places, and what adjectives are colours, small lexicons say (`lexicon.py`). Words stay as they are
written in the captions, in lower case: "dog" and "dogs" are two words, since the count is something to be seen.
"""

import re
from collections import Counter
from collections.abc import Iterable

from regioncap.guidance.lexicon import ATTRIBUTES, COUNTS, DETERMINERS, FUNCTION, PREPOSITIONS, SCENE, VERBS

NOUN_SHARE = 0.2
"""Least share of a word's uses in a noun's place for it to count as a noun."""
VERB_NOUN_SHARE = 0.6
"""The same for a word whose form is a verb's: "swing" and "plants" may still be objects."""

_NOUN_OPENERS = DETERMINERS | PREPOSITIONS | ATTRIBUTES | COUNTS | SCENE | {"and"}
_TOKEN = re.compile(r"[a-z]+(?:[-'][a-z]+)*|[.,;:!?]")


def scene_words(captions: Iterable[str], *, min_count: int = 5, limit: int = 300) -> dict[str, int]:
    """Words for the whole picture: places, light, weather, activities. Word -> count, most frequent first.

    `captions` are those of the training split. Words seen fewer than `min_count` times are left out, and the `limit`
    most frequent are kept; equal counts go by the alphabet. Raises ValueError for captions that leave no word.
    """
    counts = Counter(token for caption in captions for token in _tokens(caption) if token in SCENE)
    return _most_frequent(counts, "scene", min_count, limit)


def detail_words(captions: Iterable[str], *, min_count: int = 5, limit: int = 1000) -> dict[str, int]:
    """Words for a region: objects, and their colours, patterns, materials, sizes and counts. Word -> count as above.

    A word that is also a scene word ("snow", "wall") is left to the scene bank unless it names a material or colour.
    """
    uses: Counter[str] = Counter()
    as_noun: Counter[str] = Counter()
    for caption in captions:
        tokens = _tokens(caption)
        uses.update(tokens)
        as_noun.update(
            token
            for before, token, after in zip(["", *tokens], tokens, [*tokens[1:], "."], strict=False)
            if _opens_noun(before) and _closes_noun(after)
        )
    counts = {word: count for word, count in uses.items() if _is_detail(word, as_noun[word] / count)}
    return _most_frequent(counts, "detail", min_count, limit)


def _tokens(caption: str) -> list[str]:
    return _TOKEN.findall(caption.lower())


def _opens_noun(before: str) -> bool:
    return before in _NOUN_OPENERS or before.endswith("ing")


def _closes_noun(after: str) -> bool:
    return not after.isalpha() or after in FUNCTION or after in VERBS or after.endswith(("ing", "ed"))


def _is_detail(word: str, noun_share: float) -> bool:
    if word in ATTRIBUTES or word in COUNTS:
        return True
    if len(word) < 2 or not word[0].isalpha() or word in FUNCTION or word in SCENE:
        return False
    verb = word in VERBS or word.endswith(("ing", "ed", "ly"))
    return noun_share >= (VERB_NOUN_SHARE if verb else NOUN_SHARE)


def _most_frequent(counts: dict[str, int], bank: str, min_count: int, limit: int) -> dict[str, int]:
    if min_count < 1 or limit < 1:
        raise ValueError(f"{bank} words: min_count and limit must be at least 1, got {min_count} and {limit}")
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept = {word: count for word, count in ranked if count >= min_count}
    if not kept:
        seen = f"the most frequent was seen {ranked[0][1]} times" if ranked else "none was seen at all"
        raise ValueError(f"no {bank} word stands {min_count} times in the captions ({seen}); lower min_count")
    return dict(list(kept.items())[:limit])
