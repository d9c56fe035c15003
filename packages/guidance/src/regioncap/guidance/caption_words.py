"""How a caption is cut into the words that the keyword banks count, and which of the counted ones a bank keeps.

Words stay as they are written, in lower case: "dog" and "dogs" are two words, since the number is something to be seen.
Small numbers are spelt ("2 dogs" are "two dogs"), as most captions spell them. Where captions have `<num>` in the place
of numbers, it is a number like others and no word of a bank.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

_TOKEN = re.compile(r"<num>|[a-z]+(?:[-'][a-z]+)*|\d+|[.,;:!?]")
_SPELT = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def caption_words(caption: str) -> list[str]:
    """The words of a caption in order; marks that end a phrase stay, as tokens of their own."""
    return [_spell(token) for token in _TOKEN.findall(caption.lower())]


def captions_with(captions: Iterable[Iterable[str]]) -> Counter[str]:
    """Word -> the number of captions, given as words, that hold it."""
    return Counter(word for words in captions for word in set(words))


def most_frequent(counts: Mapping[str, int], bank: str, *, min_count: int, limit: int) -> dict[str, int]:
    """The `limit` most frequent words of those that stand `min_count` times, most frequent first, then by the alphabet.

    Raises ValueError, naming the `bank`, where no word is left.
    """
    if min_count < 1 or limit < 1:
        raise ValueError(f"{bank} words: min_count and limit must be at least 1, got {min_count} and {limit}")
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept = {word: count for word, count in ranked if count >= min_count}
    if not kept:
        seen = f"the most frequent was seen {ranked[0][1]} times" if ranked else "none was seen at all"
        raise ValueError(f"no {bank} word stands {min_count} times in the captions ({seen}); lower min_count")
    return dict(list(kept.items())[:limit])


def _spell(token: str) -> str:
    return _SPELT[int(token)] if token.isdecimal() and int(token) < len(_SPELT) else token
