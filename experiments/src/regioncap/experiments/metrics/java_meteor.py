"""METEOR 1.5 (Denkowski and Lavie 2014) out of the pycocoevalcap wheel, in process."""

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import jpype
import numpy as np
from jaxtyping import Bool

from regioncap.experiments.metrics.java_process import wheel_folder
from regioncap.experiments.metrics.paraphrases import ParaphraseTable

_NO_NORMALIZE = 0
"""METEOR's setting for captions that went through its normalizer before. Each caption does so once, in `meet`, and not
once for every caption that it is compared with: that was half of METEOR's time."""
_KEEP_PUNCTUATION = True
"""METEOR's `-norm` as caption evaluation sets it. Without punctuation the fourth digit differs."""
_ENGLISH = 0
"""METEOR's number for the language."""
_PLAIN = re.compile(r"[a-z ]*")
"""What METEOR's normalizer leaves as it is."""


class Meteor:
    """METEOR with the paraphrases that the captions which it has met can match.

    New captions bring theirs, so what is scored never depends on what was scored before. `meet` all captions of a set
    first, so that METEOR reads its tables once and not for every batch.
    """

    def __init__(self, threads: int, store_folder: Path, work_folder: Path) -> None:
        self._count = threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="meteor")
        self._excerpt = work_folder / "paraphrases.gz"
        self._met: set[str] = set()
        self._odd: dict[str, str] = {}
        """Captions that METEOR's normalizer changes -> what it makes of them."""
        self._phrases: Bool[np.ndarray, " F"] | None = None
        self._pairs = -1
        self._scorers: list[Any] = []
        self._lock = Lock()
        source = wheel_folder() / "meteor" / "data" / "paraphrase-en.gz"
        self._table = self._threads.submit(ParaphraseTable.open, source, store_folder)

    def meet(self, captions: Sequence[str]) -> None:
        """Begin to get the paraphrases for these captions, without waiting for it."""
        self._threads.submit(self._meet, captions)

    def batch(self, references: Sequence[Sequence[str]], candidates: Sequence[str]) -> dict[str, Any]:
        """METEOR of each image's tokenized caption, and METEOR's statistics summed over the images."""
        self._meet([*candidates, *(caption for group in references for caption in group)])
        references = [[self._odd.get(caption, caption) for caption in group] for group in references]
        candidates = [self._odd.get(caption, caption) for caption in candidates]
        size = -(-len(candidates) // self._count)
        parts = [
            self._threads.submit(_score, scorer, references[number * size :][:size], candidates[number * size :][:size])
            for number, scorer in enumerate(self._scorers)
        ]
        scores, total = [], jpype.JClass("edu.cmu.meteor.scorer.MeteorStats")()
        for part in parts:
            some, statistics = part.result()
            scores += some
            total.addStats(statistics)
        return {"scores": scores, "statistics": str(total.toString())}

    def corpus(self, statistics: Sequence[str]) -> float:
        """METEOR of a set from the statistics of its batches: it is made from sums and is no mean over images."""
        self._meet([])
        kind = jpype.JClass("edu.cmu.meteor.scorer.MeteorStats")
        total = kind()
        for line in statistics:
            total.addStats(kind(line))
        self._scorers[0].computeMetrics(total)
        return float(total.score)

    def _meet(self, captions: Iterable[str]) -> None:
        with self._lock:
            new = set(captions) - self._met
            if self._scorers and not new:
                return
            table = self._table.result()
            self._odd |= {caption: _normalized(caption) for caption in new if not _PLAIN.fullmatch(caption)}
            phrases = table.phrases_in([self._odd.get(caption, caption) for caption in new])
            if self._phrases is not None:
                phrases |= self._phrases
            pairs = table.among(phrases)
            if len(pairs) != self._pairs:  # phrases that have no paraphrase here leave METEOR as it is
                try:
                    self._excerpt.write_bytes(table.text(pairs))
                except OSError as error:
                    raise OSError(
                        f"METEOR needs room for its table ({error}); set TMPDIR to a folder with some"
                    ) from error
                self._scorers, self._pairs = self._load(), len(pairs)
            self._met |= new
            self._phrases = phrases

    def _load(self) -> list[Any]:
        configuration = jpype.JClass("edu.cmu.meteor.scorer.MeteorConfiguration")()
        configuration.setLanguage("en")
        configuration.setNormalization(_NO_NORMALIZE)
        configuration.setParaFileURL(jpype.JClass("java.io.File")(str(self._excerpt)).toURI().toURL())
        scorer = jpype.JClass("edu.cmu.meteor.scorer.MeteorScorer")
        first = scorer(configuration)
        return [first, *(scorer(first) for _ in range(self._count - 1))]  # copies that share the tables


def _normalized(caption: str) -> str:
    """What METEOR compares in the place of a caption, in lower case as Java has it."""
    normalizer = jpype.JClass("edu.cmu.meteor.util.Normalizer")
    return str(normalizer.normalizeLine(caption, _ENGLISH, _KEEP_PUNCTUATION).toLowerCase())


def _score(scorer: Any, references: Sequence[Sequence[str]], candidates: Sequence[str]) -> tuple[list[float], Any]:
    strings, total = jpype.JClass("java.util.ArrayList"), jpype.JClass("edu.cmu.meteor.scorer.MeteorStats")()
    scores = []
    for captions, candidate in zip(references, candidates, strict=True):
        one = scorer.getMeteorStats(candidate, strings(captions))
        scorer.computeMetrics(one)
        scores.append(float(one.score))
        total.addStats(one)
    return scores, total
