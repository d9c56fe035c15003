"""What is done in the captions: forms of verbs, as words of the whole picture.

"jumps", "jumping" and "wearing" stand in more captions than most nouns do, and no phrase of a thing or a place holds
them. The lexicon's activities ("running", "soccer") are scene words in any case; these are all the others.
"""

from collections.abc import Iterable

from regioncap.guidance.caption_words import caption_words, captions_with, most_frequent
from regioncap.guidance.lexicon import FUNCTION, SCENE, VERBS
from regioncap.guidance.words import detail_counts

EMPTY = frozenset({"is", "are", "have", "do", "does", "get", "gets"})
"""Verbs that tell nothing of what is done."""


def action_words(captions: Iterable[str], *, min_count: int = 5, limit: int = 300) -> dict[str, int]:
    """Forms of verbs that are no scene words yet. Word -> captions with it, most frequent first.

    Verbs are those of the lexicon and what ends in -ing, unless captions use it as a noun ("clothing", "a swing").
    `captions` are those of the training split. Words seen fewer than `min_count` times are left out, and the `limit`
    most frequent are kept. Raises ValueError for captions that leave no word.
    """
    sentences = [caption_words(caption) for caption in captions]
    nouns = detail_counts(sentences).keys()
    counts = {
        word: count
        for word, count in captions_with(sentences).items()
        if (word in VERBS or word.endswith("ing")) and word not in FUNCTION | SCENE | EMPTY and word not in nouns
    }
    return most_frequent(counts, "action", min_count=min_count, limit=limit)
