"""What captions are like: their lengths, their words, and those that look wrong."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from regioncap.decoder import normalise
from regioncap.experiments.data.dataset import CaptionedImage

MIN_COUNTS = (1, 2, 3, 5, 10)
_FOREIGN_SHARE = 0.2
"""Letters outside a to z, of all letters, from which on a text is hardly English: "café" has a quarter of one word."""
_FOREIGN_WORDS = 2
"""Words of other languages, none of English beside them, from which on a text is hardly English."""
_ENGLISH = frozenset(
    ("a", "an", "the", "and", "of", "in", "on", "with", "at", "is", "are", "to", "by", "for", "from", "his", "her")
)
_FOREIGN = frozenset(
    word
    for words in (
        ("der", "das", "ein", "eine", "einem", "einen", "und", "mit", "auf", "ist", "im", "dem", "den", "von", "zwei"),
        ("les", "une", "des", "et", "dans", "sur", "avec", "est", "deux"),
        ("el", "los", "las", "una", "con", "del", "por", "dos", "il", "lo", "di", "che", "della", "sono", "uno"),
        ("na", "um", "uma", "com", "em", "het", "een", "van", "op", "met", "zijn"),
    )
    for word in words
)
"""Small words of German, French, Spanish, Italian, Portuguese and Dutch that are none of English."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What a vocabulary of the words seen at least `min_count` times in training knows."""

    min_count: int
    words: int
    train: float
    """Share of the words of the training captions, every use counted."""
    dev: float | None
    """The same of the dev captions; None where there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OddCaption:
    """A caption that looks wrong."""

    image: str
    caption: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionHealth:
    """The captions of all splits."""

    lengths: Mapping[int, int]
    """Words -> captions with so many, as the decoder counts words; in ascending order."""
    coverage: tuple[Coverage, ...]
    most_frequent: tuple[tuple[str, int], ...]
    """The training captions' words and their uses."""
    odd: tuple[OddCaption, ...]
    repeated: int
    """Captions that their own image has already."""


def caption_health(splits: Mapping[str, Sequence[CaptionedImage]], dev: str | None, *, numbers: bool) -> CaptionHealth:
    """Look at every caption; `numbers` as `normalise` takes it, `dev` is the split that choices are made on."""
    lengths: Counter[int] = Counter()
    words: dict[str, Counter[str]] = {split: Counter() for split in splits}
    odd: list[OddCaption] = []
    repeated = 0
    for split, images in splits.items():
        for image in images:
            clean = [normalise(caption, numbers=numbers) for caption in image.captions]
            repeated += len(clean) - len(set(clean))
            for caption, text in zip(image.captions, clean, strict=True):
                said = text.split()
                lengths[len(said)] += 1
                words[split].update(said)
                why = _oddity(caption, said)
                if why:
                    odd.append(OddCaption(image=image.name, caption=caption, why=why))
    learned = words.get("train", Counter())
    return CaptionHealth(
        lengths=dict(sorted(lengths.items())),
        coverage=tuple(_coverage(learned, words[dev] if dev else None)),
        most_frequent=tuple(learned.most_common(20)),
        odd=tuple(odd),
        repeated=repeated,
    )


def _coverage(learned: Counter[str], dev: Counter[str] | None) -> Iterable[Coverage]:
    for least in MIN_COUNTS:
        known = {word for word, count in learned.items() if count >= least}
        yield Coverage(
            min_count=least,
            words=len(known),
            train=_share(learned, known),
            dev=None if dev is None else _share(dev, known),
        )


def _share(counts: Counter[str], known: set[str]) -> float:
    return sum(count for word, count in counts.items() if word in known) / max(1, counts.total())


def _oddity(caption: str, words: Sequence[str]) -> str:
    """Why a caption looks wrong; "" if it does not."""
    if not words:
        return "no words"
    letters = [sign for sign in caption if sign.isalpha()]
    if not letters:
        return "no letters"
    if sum(not sign.isascii() for sign in letters) > _FOREIGN_SHARE * len(letters):
        return "hardly English: letters"
    if not _ENGLISH & set(words) and len(_FOREIGN & set(words)) >= _FOREIGN_WORDS:
        return "hardly English: words"
    return "an address" if re.search(r"https?://|www\.", caption) else ""
