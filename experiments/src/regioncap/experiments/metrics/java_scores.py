"""METEOR and SPICE of a set of captions from the worker, batch by batch."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from regioncap.experiments.metrics.java_worker import JavaWorker
from regioncap.experiments.metrics.references import References
from regioncap.experiments.progress import track

IN_JAVA = ("METEOR", "SPICE")

IMAGES_AT_ONCE = 250
"""Images of one call: what the progress bar moves by, and what is done again when a worker was killed."""

CAPTION_S = {"METEOR": 0.05, "SPICE": 1.0}
"""Seconds per caption added to the timeout: ten times and more what a busy core was seen to need."""


class JavaScores:
    """Scores in the making: the first batch is on its way when this is built, the rest goes in `finish`.

    So the caller can compute the metrics that need no Java in between.
    """

    def __init__(
        self,
        worker: JavaWorker,
        references: References,
        candidates: Sequence[str],
        metrics: Sequence[str],
        timeout_s: float,
    ) -> None:
        self._worker, self._references, self._candidates = worker, references, candidates
        self._metrics = [metric for metric in IN_JAVA if metric in metrics]
        self._timeout_s = timeout_s
        self._starts = range(0, len(candidates) if self._metrics else 0, IMAGES_AT_ONCE)
        self.corpus: dict[str, float] = {}
        self.each: dict[str, Float[np.ndarray, " I"]] = {}
        self.parts: list[dict[str, float]] = []
        """SPICE by kind of tuple, one mapping an image; empty without SPICE."""
        self.problem: str | None = None
        """Why SPICE's parses are not kept; None if they are."""
        if "METEOR" in self._metrics:
            worker.call("meet", timeout_s, captions=[*candidates, *references.captions])
        if self._starts:
            self._send(0)

    def finish(self, *, progress: bool) -> None:
        """Wait for all batches; then `corpus`, `each`, `parts` and `problem` are there. Raises JavaWorkerError."""
        answers = []
        names = ", ".join(self._metrics)
        starts = track(self._starts, description=names, total=len(self._starts)) if progress else self._starts
        for start in starts:
            answers.append(self._worker.receive())
            if start + IMAGES_AT_ONCE < len(self._candidates):
                self._send(start + IMAGES_AT_ONCE)
        if "METEOR" in self._metrics:
            meteor = [answer["METEOR"] for answer in answers]
            statistics = [part["statistics"] for part in meteor]
            self.corpus["METEOR"] = self._worker.call("meteor_corpus", self._timeout_s, statistics=statistics)
            self.each["METEOR"] = np.array([score for part in meteor for score in part["scores"]])
        if "SPICE" in self._metrics:
            images: list[dict[str, float]] = [image for answer in answers for image in answer["SPICE"]]
            self.each["SPICE"] = np.array([image.pop("All") for image in images])
            self.corpus["SPICE"] = float(self.each["SPICE"].mean())
            self.parts, self.problem = images, answers[-1]["problem"]

    def _send(self, start: int) -> None:
        end = min(start + IMAGES_AT_ONCE, len(self._candidates))
        references = self._references.of_images(start, end)
        captions = end - start + sum(len(group) for group in references)
        allowance = captions * sum(CAPTION_S[metric] for metric in self._metrics)
        self._worker.send(
            "score",
            self._timeout_s + allowance,
            metrics=self._metrics,
            references=references,
            candidates=self._candidates[start:end],
        )
