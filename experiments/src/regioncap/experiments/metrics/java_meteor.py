"""METEOR 1.5 (Denkowski and Lavie 2014) out of the pycocoevalcap wheel, in process."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jpype

_NORMALIZE_KEEP_PUNCTUATION = 2
"""METEOR's `-norm`. The other settings change the fourth digit."""


class Meteor:
    """METEOR with its tables loaded once; loading takes seconds and begins with `load`, in the background."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="meteor")
        self._count = threads
        self._scorers = self._threads.submit(self._load)

    def batch(self, references: Sequence[Sequence[str]], candidates: Sequence[str]) -> dict[str, Any]:
        """METEOR of each image's tokenized caption, and METEOR's statistics summed over the images."""
        scorers = self._scorers.result()
        size = -(-len(candidates) // len(scorers)) or 1
        parts = [
            self._threads.submit(_score, scorer, references[number * size :][:size], candidates[number * size :][:size])
            for number, scorer in enumerate(scorers)
        ]
        scores, total = [], jpype.JClass("edu.cmu.meteor.scorer.MeteorStats")()
        for part in parts:
            some, statistics = part.result()
            scores += some
            total.addStats(statistics)
        return {"scores": scores, "statistics": str(total.toString())}

    def corpus(self, statistics: Sequence[str]) -> float:
        """METEOR of a set from the statistics of its batches: it is made from sums and is no mean over images."""
        kind = jpype.JClass("edu.cmu.meteor.scorer.MeteorStats")
        total = kind()
        for line in statistics:
            total.addStats(kind(line))
        self._scorers.result()[0].computeMetrics(total)
        return float(total.score)

    def _load(self) -> list[Any]:
        configuration = jpype.JClass("edu.cmu.meteor.scorer.MeteorConfiguration")()
        configuration.setLanguage("en")
        configuration.setNormalization(_NORMALIZE_KEEP_PUNCTUATION)
        scorer = jpype.JClass("edu.cmu.meteor.scorer.MeteorScorer")
        first = scorer(configuration)
        return [first, *(scorer(first) for _ in range(self._count - 1))]  # copies that share the tables


def _score(scorer: Any, references: Sequence[Sequence[str]], candidates: Sequence[str]) -> tuple[list[float], Any]:
    strings, total = jpype.JClass("java.util.ArrayList"), jpype.JClass("edu.cmu.meteor.scorer.MeteorStats")()
    scores = []
    for captions, candidate in zip(references, candidates, strict=True):
        one = scorer.getMeteorStats(candidate, strings(captions))
        scorer.computeMetrics(one)
        scores.append(float(one.score))
        total.addStats(one)
    return scores, total
