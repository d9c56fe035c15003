"""Systems scored on the same images, side by side: every metric with its interval and its p."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regioncap.experiments.metrics import BLEUS, METRICS, SUMMED, Scores, bleu
from regioncap.experiments.scoring.measured import Measured, interval
from regioncap.experiments.scoring.spice_parts import measure_parts
from regioncap.experiments.statistics import resampled_means, shifted_p


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One system's captions and what they scored."""

    name: str
    file: Path
    captions: Mapping[str, str]
    """Image -> caption."""
    scores: Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All systems on all metrics."""

    references: Mapping[str, Sequence[str]]
    """Image -> references, in the order of the file."""
    systems: tuple[System, ...]
    metrics: tuple[str, ...]
    """Of METRICS, those that were asked for and could be computed."""
    missing: Mapping[str, str]
    """Metric that was asked for -> why it is not there."""
    baseline: int
    """Which of the systems the others are compared with."""
    measured: Mapping[str, tuple[Measured, ...]]
    """Metric -> one a system."""
    parts: Mapping[str, tuple[Measured, ...]]
    """Part of SPICE -> one a system; empty without SPICE."""
    per_image: Mapping[str, NDArray[np.float64]]
    """Metric -> scores [systems, images], images in the order of the references."""
    samples: int
    seed: int


def compare(
    references: Mapping[str, Sequence[str]],
    systems: Sequence[System],
    *,
    metrics: Sequence[str] = METRICS,
    baseline: int = 0,
    samples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Intervals by the percentile bootstrap over images, and p of each system against the baseline.

    All systems and metrics share the draws. What an interval is of:

    - ROUGE-L, CIDEr, SPICE: the mean over the drawn images. CIDEr's document frequencies stay those of the whole set.
    - BLEU: the drawn images' n-gram counts are added up and BLEU is made from them (`Bleu.count`).
    - METEOR: the drawn images' mean, moved to the corpus score: METEOR of a corpus is no mean, and its counts are not
      kept.
    - Parts of SPICE: the mean over those of the drawn images whose references have such tuples.
    - SUM: the sum of its parts, draw by draw.

    p is of the same draws: the paired bootstrap test of the difference of two such scores, for means that of
    `paired_bootstrap`. Images are drawn in the order of their names, so that of a file changes nothing. `metrics` that
    no system could be scored on end up in `missing`.
    Raises ValueError if not one of `metrics` could be computed.
    """
    first = systems[0].scores
    by_name = sorted(range(len(first.images)), key=first.images.__getitem__)
    order = [first.images[index] for index in by_name]
    metrics = [metric for metric in METRICS if metric in metrics]
    computed = [metric for metric in METRICS if metric in first.corpus]
    present = tuple(metric for metric in metrics if metric in computed)
    if not present:
        raise ValueError("; ".join(f"no {metric}: {why}" for metric, why in first.missing.items() if metric in metrics))
    each = np.array([[system.scores.array(metric)[by_name] for metric in computed] for system in systems])
    counts = np.array([_bleu_counts(system.scores)[:, by_name] for system in systems])
    drawn = draw(np.concatenate([each, counts], axis=1), samples, seed)
    replicates = [
        corpus_replicates(system.scores.corpus, computed, each[row], drawn[:, row], counts[row])
        for row, system in enumerate(systems)
    ]

    def measure(metric: str, row: int) -> Measured:
        low, high = interval(replicates[row][metric])
        value, p = systems[row].scores.corpus[metric], None
        if row != baseline:
            difference = value - systems[baseline].scores.corpus[metric]
            p = shifted_p(difference, replicates[row][metric] - replicates[baseline][metric])
        return Measured(value=value, low=low, high=high, p=p)

    return Comparison(
        references=references,
        systems=tuple(systems),
        metrics=present,
        missing={metric: why for metric, why in first.missing.items() if metric in metrics},
        baseline=baseline,
        measured={metric: tuple(measure(metric, row) for row in range(len(systems))) for metric in present},
        parts=measure_parts([system.scores for system in systems], order, baseline=baseline, samples=samples, seed=seed)
        if "SPICE" in present
        else {},
        per_image={metric: np.array([system.scores.array(metric) for system in systems]) for metric in present},
        samples=samples,
        seed=seed,
    )


def metrics_to_score(metrics: Sequence[str]) -> tuple[str, ...]:
    """What the scorer must be asked for so that `metrics` can be compared: SUM's interval needs its summands."""
    wanted = {*metrics, *(SUMMED if "SUM" in metrics else ())}
    return tuple(metric for metric in METRICS if metric in wanted)


def draw(values: NDArray[np.float64], samples: int, seed: int) -> NDArray[np.float64]:
    """Resampled means [samples, systems, columns] of values [systems, columns, images], all of the same draws."""
    systems, columns, images = values.shape
    return resampled_means(values.reshape(-1, images), samples=samples, seed=seed).reshape(samples, systems, columns)


def corpus_replicates(
    corpus: Mapping[str, float],
    computed: Sequence[str],
    each: NDArray[np.float64],
    drawn: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """Metric -> corpus score of every draw, for one system; without `counts` BLEU is treated as METEOR is.

    `each` [metrics, images] and `counts` [10 or none, images] are what the draws [samples, metrics + counts] are of.
    METEOR is moved by what separates its mean from its corpus score; for the others that is nothing.
    """
    here = dict(zip(computed, each.mean(axis=1), strict=True))
    there = dict(zip(computed, drawn.T[: len(computed)], strict=True))
    if len(counts):
        here |= dict(zip(BLEUS, bleu(counts.sum(axis=1)), strict=True))
        there |= dict(zip(BLEUS, bleu(each.shape[1] * drawn.T[len(computed) :]), strict=True))
    moved = {metric: there[metric] + (corpus[metric] - here[metric]) for metric in computed if metric != "SUM"}
    if "SUM" in computed:
        moved["SUM"] = np.sum([moved[metric] for metric in SUMMED if metric in moved], axis=0)
    return moved


def _bleu_counts(scores: Scores) -> NDArray[np.float64]:
    """BLEU's counts [10, images]; none where BLEU was not asked for."""
    return np.empty((0, len(scores.images))) if scores.bleu_counts is None else scores.bleu_counts
