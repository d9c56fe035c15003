"""One call for all metrics of a set of captions, with per-image scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Float

from regioncap.experiments.cache import cache_folder
from regioncap.experiments.metrics.bleu import bleu
from regioncap.experiments.metrics.java_scores import CAPTION_S, JavaScores
from regioncap.experiments.metrics.java_worker import JavaWorker
from regioncap.experiments.metrics.measures import Measures
from regioncap.experiments.metrics.references import References, prepare_references, references_key
from regioncap.experiments.metrics.rouge import rouge_l
from regioncap.experiments.metrics.spice_models import GET_SPICE, find_spice_folder

METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE", "SUM")
"""In the order of the tables."""
SUMMED = ("BLEU-1", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE")
"""What SUM is the sum of, where it is there."""
BLEUS = METRICS[:4]
SPICE_PARTS = ("Object", "Attribute", "Relation", "Color", "Count", "Size")
"""Kinds of tuples that SPICE also scores apart."""


_FEW_FOR_CIDER = 100
"""Images below which CIDEr's document frequencies say more about the sample than about the captions."""

_HEAP_MB = 1000
"""METEOR's tables take 300 MB, SPICE's parser 250, and a parse of a long caption some 100 on each thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """Where the metrics find what they need."""

    spice_folder: Path | None = None
    """Folder with the two CoreNLP 3.6.0 jars for SPICE. None takes REGIONCAP_SPICE, else the folder that `regioncap
    metrics setup-spice` made; without any SPICE is n/a."""
    cache_folder: Path | None = None
    """Where tokenized references and SPICE's parses are kept between runs; None is `metrics` in the project's cache."""
    threads: int = 2
    """Threads that METEOR and SPICE use."""
    timeout_s: float = 600.0
    """Seconds in which a metric must start and answer, on top of a generous allowance for every caption. METEOR's first
    start on a new machine takes some 10 CPU-seconds, which can be minutes where twenty processes share a core."""

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"metrics.threads must be at least 1, got {self.threads}")
        if self.timeout_s <= 0:
            raise ValueError(f"metrics.timeout_s must be above 0 seconds, got {self.timeout_s}")

    def build(self) -> "CaptionScorer":
        """The scorer. Raises ValueError if a folder is named for SPICE that lacks its jars."""
        return CaptionScorer(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a set of captions scored, in fractions (the paper prints percent)."""

    corpus: Mapping[str, float]
    """Metric (of METRICS) -> score of the set; a metric in `missing` is not here."""
    per_image: Mapping[str, Mapping[str, float]]
    """Image -> metric -> score. BLEU, METEOR and hence SUM of the corpus are not the means of these."""
    missing: Mapping[str, str]
    """Metric -> why it is not there, and the way to get it."""
    warnings: tuple[str, ...] = ()
    """What makes the numbers mean less than they seem to, one line each."""
    spice_parts: Mapping[str, float] = field(default_factory=dict)
    """Kind of tuple (of SPICE_PARTS) -> SPICE of these tuples alone, the mean over the images whose references have
    one. Empty without SPICE."""
    spice_parts_per_image: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Image -> kind of tuple -> F; a kind that the image's references do not have is left out."""
    measures: Measures = field(default_factory=Measures)
    """What else was measured of these captions: see `Measuring`."""
    bleu_counts: Float[np.ndarray, "10 I"] | None = field(default=None, compare=False, repr=False)
    """What BLEU is made of (see `Bleu.count`), so that BLEU of other draws of the images can be computed."""

    @property
    def images(self) -> tuple[str, ...]:
        """The images, in the order of `array`."""
        return tuple(self.per_image)

    def of(self, metric: str) -> dict[str, float]:
        """Image -> score for one metric: what the paired bootstrap takes."""
        return {image: scores[metric] for image, scores in self.per_image.items()}

    def array(self, metric: str) -> Float[np.ndarray, " I"]:
        """The images' scores for one metric, in the order of `images`."""
        return np.array([scores[metric] for scores in self.per_image.values()])


class CaptionScorer:
    """BLEU-1..4, METEOR, ROUGE-L, CIDEr, SPICE and SUM with pycocoevalcap's numbers (Chen et al. 2015).

        SUM = BLEU-1 + BLEU-4 + METEOR + ROUGE-L + CIDEr + SPICE     (Table 5; without SPICE over the others, Table 6)

    Departs from pycocoevalcap in three things: a caption without words scores METEOR 0 (there it takes the last
    reference for the caption), references without words are left out, and a line break inside a caption is a space.

    Owns a process with a Java machine of its own that tokenizes and holds METEOR and SPICE, each from the moment that
    it is first asked for. References are tokenized, counted and parsed once and kept by content, between calls and
    between runs. Use it as a context manager and keep one for all arms of a study. `close` frees its memory; a later
    call starts it anew.
    """

    def __init__(self, config: MetricsConfig | None = None) -> None:
        self.config = config or MetricsConfig()
        spice = find_spice_folder(self.config.spice_folder)
        self._has_spice = spice is not None
        self._folder = (self.config.cache_folder or cache_folder() / "metrics").resolve()
        self._worker = JavaWorker(
            "metrics",
            "regioncap.experiments.metrics.metric_process",
            {
                "heap_mb": _HEAP_MB,
                "threads": self.config.threads,
                "spice_folder": None if spice is None else str(spice.resolve()),
                "store_folder": str(self._folder),
            },
        )
        self._references: References | None = None
        self._not_kept: str | None = None

    def warm_up(self, metrics: Sequence[str] = METRICS) -> None:
        """Start the worker without waiting, so that METEOR and SPICE load while the caller does something else."""
        if not self._worker.busy:
            self._worker.send("prepare", self.config.timeout_s, metrics=self._wanted(metrics))

    def score(
        self,
        references: Mapping[str, Sequence[str]],
        candidates: Mapping[str, str],
        metrics: Sequence[str] = METRICS,
        *,
        progress: bool = False,
    ) -> Scores:
        """Score one caption for every image against the image's references.

        `metrics` are those to compute: SUM is of those that are, and METEOR's seconds of loading are saved without it.
        `progress` shows a bar; leave it off inside another one. Raises ValueError if a metric is unknown or an image
        has a caption but no references or the other way round, and JavaWorkerError if the worker dies twice, hangs or
        fails.
        """
        wanted = self._wanted(metrics)
        _check(references, candidates)
        if self._worker.busy:
            self._worker.receive()
        self._worker.call("prepare", self.config.timeout_s, metrics=wanted)
        truth = self._prepare(references)
        # In a call of its own, as pycocoevalcap does: the tokenizer looks across the end of a line.
        tested = self._tokenize([candidates[image] for image in truth.images])

        java = JavaScores(self._worker, truth, tested, wanted, self.config.timeout_s)
        corpus, each, bleu_counts = _in_numpy(truth, tested, wanted)
        java.finish(progress=progress)
        corpus |= java.corpus
        each |= java.each
        missing = {}
        if "CIDEr" in wanted and len(truth.images) == 1:
            missing["CIDEr"] = "CIDEr weighs words by how few images share them: it needs two images at the least"
            del corpus["CIDEr"], each["CIDEr"]
        if not self._has_spice and ("SPICE" in metrics or "SUM" in metrics):
            missing["SPICE"] = GET_SPICE
        warnings = self._warnings(truth, tested, corpus, missing, java.problem)
        if "SUM" in metrics:
            summed = [metric for metric in SUMMED if metric in corpus]
            corpus["SUM"] = sum(corpus[metric] for metric in summed)
            each["SUM"] = np.sum([each[metric] for metric in summed], axis=0)
            if len(summed) < len(SUMMED):
                warnings.append(f"SUM is {' + '.join(summed)}: {' and '.join(missing)} is missing")
        present = [metric for metric in METRICS if metric in metrics and metric in corpus]
        columns = [each[metric].tolist() for metric in present]
        return Scores(
            corpus={metric: corpus[metric] for metric in present},
            per_image={
                image: dict(zip(present, values, strict=True))
                for image, *values in zip(truth.images, *columns, strict=True)
            },
            missing=missing,
            warnings=tuple(warnings),
            bleu_counts=bleu_counts,
            spice_parts=_means_of_parts(java.parts),
            spice_parts_per_image=dict(zip(truth.images, java.parts, strict=True)) if java.parts else {},
        )

    def close(self) -> None:
        """End the worker and free its memory."""
        self._worker.close()

    def __enter__(self) -> "CaptionScorer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wanted(self, metrics: Sequence[str]) -> list[str]:
        """The metrics to compute for `metrics`: SUM needs its summands."""
        unknown = [metric for metric in metrics if metric not in METRICS]
        if unknown or not metrics:
            raise ValueError(f"metrics must be some of {', '.join(METRICS)}, got {', '.join(unknown) or 'none'}")
        named = {*metrics, *(SUMMED if "SUM" in metrics else ())} - {"SUM"}
        return [metric for metric in METRICS if metric in named and (metric != "SPICE" or self._has_spice)]

    def _prepare(self, references: Mapping[str, Sequence[str]]) -> References:
        """The references ready to be scored against; those of the last call are at hand."""
        if self._references is None or self._references.key != references_key(references):
            self._references, self._not_kept = prepare_references(
                references, self._tokenize, self._folder / "references"
            )
        return self._references

    def _tokenize(self, captions: Sequence[str]) -> list[str]:
        timeout_s = self.config.timeout_s + CAPTION_S["METEOR"] * len(captions)
        tokens: list[str] = self._worker.call("tokenize", timeout_s, captions=captions)
        return tokens

    def _warnings(
        self,
        truth: References,
        tested: Sequence[str],
        corpus: Mapping[str, float],
        missing: Mapping[str, str],
        problem: str | None,
    ) -> list[str]:
        warnings = []
        if truth.blank:
            warnings.append(
                f"{truth.blank} of {truth.blank + len(truth.captions)} references hold no word and were left out"
            )
        empty = sum(not caption for caption in tested)
        if empty:
            warnings.append(f"{empty} of {len(tested)} captions hold no word and score 0")
        if "CIDEr" in corpus and len(truth.images) < _FEW_FOR_CIDER:
            warnings.append(
                f"CIDEr's word weights come from {len(truth.images)} images only: compare it within this set alone"
            )
        if self._not_kept:
            problem = problem or f"tokenized references cannot be kept in {self._folder} ({self._not_kept})"
        if problem:
            warnings.append(f"{problem}; every run does that work anew: set metrics.cache_folder or REGIONCAP_CACHE")
        return warnings


def score_captions(
    references: Mapping[str, Sequence[str]], candidates: Mapping[str, str], metrics: Sequence[str] = METRICS
) -> Scores:
    """Score captions once: `CaptionScorer` for those who have a single set, with a progress bar.

    `references` are image -> captions, `candidates` image -> caption; raises what `CaptionScorer.score` raises.
    """
    with CaptionScorer() as scorer:
        return scorer.score(references, candidates, metrics, progress=True)


def _in_numpy(
    truth: References, candidates: Sequence[str], metrics: Sequence[str]
) -> tuple[dict[str, float], dict[str, Float[np.ndarray, " I"]], Float[np.ndarray, "10 I"] | None]:
    """BLEU, ROUGE-L and CIDEr-D: of the set and of each image, by metric; and BLEU's counts."""
    tested = truth.index.number(candidates)
    counts = truth.index.count(tested)
    corpus: dict[str, float] = {}
    each: dict[str, Float[np.ndarray, " I"]] = {}
    bleu_counts = None
    if any(metric in BLEUS for metric in metrics):
        bleu_counts = truth.bleu.count(tested, counts)
        of_set, of_images = bleu(bleu_counts.sum(axis=1)), bleu(bleu_counts)
        corpus |= {name: float(of_set[order]) for order, name in enumerate(BLEUS) if name in metrics}
        each |= {name: of_images[order] for order, name in enumerate(BLEUS) if name in metrics}
    if "ROUGE-L" in metrics:
        each["ROUGE-L"] = rouge_l(truth.tokens, tested, truth.image)
    if "CIDEr" in metrics:
        each["CIDEr"] = truth.cider.score(counts)
    means = {name: float(each[name].mean()) for name in ("ROUGE-L", "CIDEr") if name in each}
    return corpus | means, each, bleu_counts


def _means_of_parts(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    values = {kind: [image[kind] for image in parts if kind in image] for kind in SPICE_PARTS}
    return {kind: float(np.mean(scores)) for kind, scores in values.items() if scores}


def _check(references: Mapping[str, Sequence[str]], candidates: Mapping[str, str]) -> None:
    if not references:
        raise ValueError("there are no images to score: references are empty")
    for image, group in references.items():
        if isinstance(group, str):
            raise ValueError(f"the references of image '{image}' must be a list of captions, got one string")
    _refuse([image for image in candidates if image not in references], "a caption, but no references")
    _refuse([image for image, group in references.items() if not group], "an empty list of references")
    _refuse([image for image in references if image not in candidates], "references, but no caption")


def _refuse(images: list[str], what: str) -> None:
    if images:
        more = f" (and {len(images) - 1} more)" if len(images) > 1 else ""
        raise ValueError(f"image '{images[0]}'{more} has {what}; every image to score needs a caption and references")
