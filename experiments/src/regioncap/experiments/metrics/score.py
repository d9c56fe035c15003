"""One call for all metrics of a set of captions, with per-image scores."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from regioncap.experiments.cache import cache_folder
from regioncap.experiments.metrics.java_worker import JavaWorker
from regioncap.experiments.metrics.ngram import ngram_scores

METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE", "SUM")

_SUMMED = ("BLEU-1", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE")

_SPICE_JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")

_GET_SPICE = (
    f"SPICE needs CoreNLP 3.6.0, which no wheel holds: put {' and '.join(_SPICE_JARS)} (Maven coordinate "
    "edu.stanford.nlp:stanford-corenlp:3.6.0, the second with classifier 'models') into a folder and name it with "
    "--metrics.spice-folder or the environment variable REGIONCAP_SPICE"
)

_FEW_FOR_CIDER = 100
"""Images below which CIDEr's document frequencies say more about the sample than about the captions."""

_METEOR_HEAP_MB = 512
_SPICE_HEAP_MB = 700
_METEOR_CAPTION_S = 0.05
_SPICE_CAPTION_S = 1.0
"""Seconds per caption added to the timeout: ten times and more what a busy core was seen to need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """Where the metrics find what they need."""

    spice_folder: Path | None = None
    """Folder with the two CoreNLP 3.6.0 jars for SPICE. None reads REGIONCAP_SPICE; without both SPICE is n/a."""
    cache_folder: Path | None = None
    """Where SPICE keeps its parses between runs; None is `spice` in the project's cache folder."""
    spice_threads: int = 2
    """Threads that parse for SPICE."""
    timeout_s: float = 180.0
    """Seconds in which a metric must start and answer, on top of a generous allowance for every caption."""

    def __post_init__(self) -> None:
        if self.spice_threads < 1:
            raise ValueError(f"metrics.spice_threads must be at least 1, got {self.spice_threads}")
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

    def of(self, metric: str) -> dict[str, float]:
        """Image -> score for one metric: what the paired bootstrap takes."""
        return {image: scores[metric] for image, scores in self.per_image.items()}


class CaptionScorer:
    """BLEU-1..4, METEOR, ROUGE-L, CIDEr, SPICE and SUM with pycocoevalcap's numbers (Chen et al. 2015).

        SUM = BLEU-1 + BLEU-4 + METEOR + ROUGE-L + CIDEr + SPICE     (Table 5; without SPICE over the others, Table 6)

    Departs from pycocoevalcap in three things: a caption without words scores METEOR 0 (there it takes the last
    reference for the caption), references without words are left out, and a line break inside a caption is a space.

    Owns two Java processes, METEOR's (0.5 GB resident) and SPICE's (0.25 GB with parses cached, else up to 0.9), that
    start with the first need or with `warm_up` and stay until `close`. Use it as a context manager and keep one for
    all arms of a study: loading METEOR takes 5 s and more. `close` frees their memory; a later call starts them anew.
    """

    def __init__(self, config: MetricsConfig | None = None) -> None:
        self.config = config or MetricsConfig()
        self._meteor = JavaWorker(
            "METEOR", "regioncap.experiments.metrics.meteor_process", {"heap_mb": _METEOR_HEAP_MB}
        )
        self._spice = _spice_worker(self.config)

    def warm_up(self) -> None:
        """Start METEOR's worker without waiting, so that it loads while the caller does something else.

        SPICE's is not started: with known captions it needs a second, and until then it would only hold memory.
        """
        self._meteor.start()

    def score(self, references: Mapping[str, Sequence[str]], candidates: Mapping[str, str]) -> Scores:
        """Score one caption for every image against the image's references.

        Raises ValueError if an image has a caption but no references or the other way round, and JavaWorkerError if
        METEOR or SPICE dies twice, hangs or fails.
        """
        _check(references, candidates)
        truth, tested, warnings = self._tokenize(references, candidates)
        arguments = {"references": list(truth.values()), "candidates": list(tested.values())}
        captions = len(tested) + sum(len(group) for group in truth.values())
        self._meteor.send("meteor", self.config.timeout_s + _METEOR_CAPTION_S * captions, **arguments)
        if self._spice is not None:
            self._spice.send("spice", self.config.timeout_s + _SPICE_CAPTION_S * captions, **arguments)
        corpus, each = ngram_scores(truth, tested)
        missing: dict[str, str] = {}
        meteor = self._meteor.receive()
        corpus["METEOR"], each["METEOR"] = meteor["corpus"], meteor["per_image"]
        if self._spice is not None:
            each["SPICE"] = self._spice.receive()
            corpus["SPICE"] = float(np.mean(each["SPICE"]))
        else:
            missing["SPICE"] = _GET_SPICE
        if len(truth) == 1:
            missing["CIDEr"] = "CIDEr weighs words by how few images share them: it needs two images at the least"
            del corpus["CIDEr"], each["CIDEr"]
        elif len(truth) < _FEW_FOR_CIDER:
            warnings.append(
                f"CIDEr's word weights come from {len(truth)} images only: compare it within this set alone"
            )
        summed = [metric for metric in _SUMMED if metric in corpus]
        if len(summed) < len(_SUMMED):
            warnings.append(f"SUM is {' + '.join(summed)}: {' and '.join(missing)} is missing")
        corpus["SUM"] = sum(corpus[metric] for metric in summed)
        each["SUM"] = np.sum([each[metric] for metric in summed], axis=0).tolist()
        present = [metric for metric in METRICS if metric in corpus]
        return Scores(
            corpus={metric: corpus[metric] for metric in present},
            per_image={image: {metric: each[metric][index] for metric in present} for index, image in enumerate(truth)},
            missing=missing,
            warnings=tuple(warnings),
        )

    def close(self) -> None:
        """End the workers and free their memory."""
        self._meteor.close()
        if self._spice is not None:
            self._spice.close()

    def __enter__(self) -> "CaptionScorer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _tokenize(
        self, references: Mapping[str, Sequence[str]], candidates: Mapping[str, str]
    ) -> tuple[dict[str, list[str]], dict[str, str], list[str]]:
        """References and candidates as tokens, in the same order of images, and warnings about wordless captions."""
        flat = [caption for group in references.values() for caption in group]
        timeout_s = self.config.timeout_s + _METEOR_CAPTION_S * len(flat)
        # In two calls, as pycocoevalcap does: the tokenizer looks across the end of a line.
        lines = iter(self._meteor.call("tokenize", timeout_s, captions=flat))
        tokens = self._meteor.call("tokenize", timeout_s, captions=[candidates[image] for image in references])
        tested = dict(zip(references, tokens, strict=True))
        truth = {image: [line for line in (next(lines) for _ in group) if line] for image, group in references.items()}
        _refuse([image for image, group in truth.items() if not group], "references, but not a word in any of them")
        warnings = []
        blank = len(flat) - sum(len(group) for group in truth.values())
        if blank:
            warnings.append(f"{blank} of {len(flat)} references hold no word and were left out")
        empty = sum(not caption for caption in tested.values())
        if empty:
            warnings.append(f"{empty} of {len(tested)} captions hold no word and score 0")
        return truth, tested, warnings


def _spice_worker(config: MetricsConfig) -> JavaWorker | None:
    named = os.environ.get("REGIONCAP_SPICE")
    folder = config.spice_folder or (Path(named) if named else None)
    if folder is None:
        return None
    for jar in _SPICE_JARS:
        if not (folder / jar).is_file():
            raise ValueError(f"{folder} does not hold {jar}, which SPICE needs. {_GET_SPICE}")
    settings = {
        "spice_folder": str(folder.resolve()),
        "cache_folder": str((config.cache_folder or cache_folder() / "spice").resolve()),
        "heap_mb": _SPICE_HEAP_MB,
        "threads": config.spice_threads,
    }
    return JavaWorker("SPICE", "regioncap.experiments.metrics.spice_process", settings)


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
