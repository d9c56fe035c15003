"""Keyword banks from captions whose phrases people have marked by what they speak of, as Flickr30k Entities has them.

Plummer et al. 2015 (arXiv 1505.04870) mark every noun phrase by a type. Phrases of the type scene make the scene words,
all others the detail words. Verbs stand outside of phrases, so what goes on in a picture the lexicon says.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from regioncap.guidance.caption_words import caption_words, captions_with, most_frequent
from regioncap.guidance.lexicon import ACTIVITIES, ATTRIBUTES, FUNCTION, SCENE, WEATHER
from regioncap.guidance.words import detail_counts, scene_counts

MARKED_SHARE = 0.5
"""Least share of the captions with a word that have it in a phrase: below, it is no name ("run", "covered", "high")."""
SCENE_SHARE = 0.75
"""Least share of a word's phrases that are scenes: a half would let in what stands before a place ("a monkey bar")."""
ENOUGH_MARKED = 0.5
"""Marked captions that must hold a word, for each caption that does: with fewer, their phrases say too little of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedCaption:
    """A caption and its phrases; phrases that name nothing to be seen belong to neither kind."""

    text: str
    """The caption without its marks."""
    scene: tuple[str, ...]
    """Phrases for where things are: "the snowy street"."""
    detail: tuple[str, ...]
    """Phrases for people, animals and things: "a red ball"."""


def phrase_words(
    marked: Iterable[MarkedCaption],
    captions: Iterable[str],
    *,
    min_count: int = 5,
    max_scene: int = 300,
    max_detail: int = 1000,
) -> tuple[dict[str, int], dict[str, int]]:
    """The scene words and the detail words of `captions`, by how `marked` captions use them; most frequent first.

    A scene word is one that mostly stands in phrases of scenes; other words of phrases are detail words. What the
    lexicon knows counts more: attributes ("wooden") describe a thing even if the thing is a bridge, so they are detail
    words; places, light, weather and activities are scene words even in "a soccer ball". Places and light are in both
    banks if phrases use them for things, too ("the sand", "a bright shirt"). Words that the marked captions hardly have
    (marks may come with corrected spelling) go by part of speech, as in `words.py`.

    Both kinds of captions are those of the training split and may be the same ones; counts are over `captions`, since
    these are what a captioner learns to say. Words in fewer than `min_count` of them are left out, and the `max_scene`
    and `max_detail` most frequent ones are kept. Raises ValueError for captions that leave a bank without a word.
    """
    sentences = [caption_words(caption) for caption in captions]
    uses = captions_with(sentences)
    phrases = _PhraseUses.of(marked)
    by_phrase = {word for word, count in uses.items() if phrases.captions[word] >= ENOUGH_MARKED * count}
    named = {word for word in by_phrase if phrases.is_name(word)}
    scene = {word for word in named if phrases.is_scene(word) and word not in ATTRIBUTES - SCENE}
    scene |= (by_phrase & SCENE) | (scene_counts(sentences).keys() - by_phrase)
    detail = {word for word in named if not phrases.is_scene(word) and word not in ACTIVITIES | WEATHER}
    detail |= (by_phrase & (ATTRIBUTES - SCENE)) | (detail_counts(sentences).keys() - by_phrase)
    return (
        most_frequent({word: uses[word] for word in scene}, "scene", min_count=min_count, limit=max_scene),
        most_frequent({word: uses[word] for word in detail}, "detail", min_count=min_count, limit=max_detail),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _PhraseUses:
    """Word -> the marked captions that hold it at all, in a phrase, and in a phrase of either kind."""

    captions: Counter[str]
    phrases: Counter[str]
    scene: Counter[str]
    detail: Counter[str]

    @classmethod
    def of(cls, marked: Iterable[MarkedCaption]) -> "_PhraseUses":
        sentences, scenes, details = [], [], []
        for caption in marked:
            sentences.append(caption_words(caption.text))
            scenes.append([word for phrase in caption.scene for word in caption_words(phrase)])
            details.append([word for phrase in caption.detail for word in caption_words(phrase)])
        return cls(
            captions=captions_with(sentences),
            phrases=captions_with(scene + detail for scene, detail in zip(scenes, details, strict=True)),
            scene=captions_with(scenes),
            detail=captions_with(details),
        )

    def is_name(self, word: str) -> bool:
        if len(word) < 2 or not word[0].isalpha() or (word in FUNCTION and word not in ATTRIBUTES):
            return False
        return self.phrases[word] >= MARKED_SHARE * self.captions[word]

    def is_scene(self, word: str) -> bool:
        return self.scene[word] >= SCENE_SHARE * (self.scene[word] + self.detail[word])
