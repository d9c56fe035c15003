"""What separates two runs, metric by metric and image by image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regioncap.experiments.comparing.runs import Run, SeedRun
from regioncap.experiments.metrics import BLEUS, METRICS, SUMMED
from regioncap.experiments.scoring.compare import corpus_replicates, draw
from regioncap.experiments.scoring.measured import interval
from regioncap.experiments.statistics import PerImage, Spread, resampled_seeds, shifted_p


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One metric of the two runs, in fractions; differences are run minus base."""

    base: Spread
    run: Spread
    difference: float
    """Of the means over seeds."""
    interval: tuple[float, float] | None
    """Of other images and the same training runs; None where it cannot be computed."""
    over_seeds: tuple[float, float] | None
    """Of other images and other seeds; None with one seed on both sides, or without `interval`."""
    p: float
    """Two-sided paired bootstrap, of the draws that `interval` is of; without one of the mean of per-image scores."""
    by_seed: tuple[float, ...]
    """The difference of each seed that both sides have; empty where they have different ones."""
    per_image: PerImage


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """Two runs on the same images."""

    base: Run
    run: Run
    images: tuple[str, ...]
    """In the order of the base's file."""
    effects: Mapping[str, Effect]
    """Metric -> effect, in the order of the tables."""
    gains: Mapping[str, NDArray[np.float64]]
    """Metric -> per image how much the run gains over the base, means over seeds; in the order of `images`."""
    spans: Mapping[str, tuple[tuple[float, float], tuple[float, float]] | None]
    """Metric -> intervals over images of base and run."""
    missing: Mapping[str, str]
    """Metric that cannot be compared -> why."""
    samples: int
    seed: int

    @property
    def paired(self) -> bool:
        """Whether both sides have the same seeds."""
        return self.base.numbers == self.run.numbers


def compare_runs(
    base: Run,
    run: Run,
    *,
    bleu_counts: Sequence[NDArray[np.float64]] | None = None,
    samples: int = 10_000,
    seed: int = 0,
) -> RunComparison:
    """Means, spreads, difference with intervals, p and effect per image, for every metric that both runs have.

    All seeds of both runs share the draws of images. A draw's score is that of `scoring.compare`: BLEU is made from the
    drawn images' counts, METEOR is the drawn mean moved to the corpus score, the others are means. `bleu_counts` hold
    `Scores.bleu_counts` [10, images] of every seed, first the base's, then the run's, images in the order of the base's
    file; without them BLEU and SUM get no interval, as that of a mean of per-image BLEU would be too narrow, and their
    p is of those means.

    Raises ValueError if the runs are of different images or references, or have no metric in common.
    """
    _same_truth(base, run)
    seeds = (*base.seeds, *run.seeds)
    metrics, missing = _common(base, run)
    names = base.names
    by_name = sorted(range(len(names)), key=names.__getitem__)
    each = np.array([[_column(own, metric, names) for metric in metrics] for own in seeds])  # seeds metrics images
    counts = np.empty((len(seeds), 0, len(names))) if bleu_counts is None else np.stack(list(bleu_counts))
    drawn = draw(np.concatenate([each, counts], axis=1)[:, :, by_name], samples, seed)
    replicates = [
        corpus_replicates(own.scores.corpus, metrics, each[row], drawn[:, row], counts[row])
        for row, own in enumerate(seeds)
    ]
    split = len(base.seeds)
    paired = base.numbers == run.numbers
    effects, gains, spans = {}, {}, {}
    for column, metric in enumerate(metrics):
        gains[metric] = each[split:, column].mean(axis=0) - each[:split, column].mean(axis=0)
        values = [own.scores.corpus[metric] for own in seeds]
        before, after = Spread(values=tuple(values[:split])), Spread(values=tuple(values[split:]))
        told = bleu_counts is not None or metric not in (*BLEUS, "SUM")
        corpus = np.stack([own[metric] for own in replicates], axis=1)  # samples seeds
        old, new = corpus[:, :split], corpus[:, split:]
        difference = after.mean - before.mean
        moved = new.mean(axis=1) - old.mean(axis=1)
        of_means = drawn[:, split:, column].mean(axis=1) - drawn[:, :split, column].mean(axis=1)
        effects[metric] = Effect(
            base=before,
            run=after,
            difference=difference,
            interval=interval(moved) if told else None,
            over_seeds=_over_seeds(old, new, paired, seed) if told and len(seeds) > 2 else None,
            p=shifted_p(difference, moved) if told else shifted_p(float(gains[metric].mean()), of_means),
            by_seed=tuple(b - a for a, b in zip(before.values, after.values, strict=True)) if paired else (),
            per_image=PerImage.of(gains[metric]),
        )
        spans[metric] = (interval(old.mean(axis=1)), interval(new.mean(axis=1))) if told else None
    return RunComparison(
        base=base,
        run=run,
        images=names,
        effects=effects,
        gains=gains,
        spans=spans,
        missing=missing,
        samples=samples,
        seed=seed,
    )


def most_changed(comparison: RunComparison, metric: str, most: int) -> tuple[list[int], list[int]]:
    """Positions of at most `most` images that gain most, and of as many that lose most; ties in the file's order."""
    gains = comparison.gains[metric]
    order = np.argsort(-gains, kind="stable")
    up = [int(at) for at in order[:most] if gains[at] > 0]
    down = [int(at) for at in np.argsort(gains, kind="stable")[:most] if gains[at] < 0]
    return up, down


def _column(own: SeedRun, metric: str, names: Sequence[str]) -> list[float]:
    return [own.scores.per_image[name][metric] for name in names]


def _over_seeds(old: NDArray[np.float64], new: NDArray[np.float64], paired: bool, seed: int) -> tuple[float, float]:
    """Seeds that both sides have are drawn together, others apart."""
    if paired:
        return interval(resampled_seeds(new - old, seed=seed))
    return interval(resampled_seeds(new, seed=seed) - resampled_seeds(old, seed=seed + 1))


def _common(base: Run, run: Run) -> tuple[list[str], dict[str, str]]:
    metrics = [metric for metric in METRICS if metric in base.metrics and metric in run.metrics]
    missing = {}
    for metric in METRICS:
        without = [own.name for own in (base, run) if metric not in own.metrics]
        if without:
            reasons = [own.scores.missing.get(metric) for own in (*base.seeds, *run.seeds)]
            missing[metric] = next(filter(None, reasons), f"scored without it: {', '.join(without)}")
    if "SUM" in metrics and len({tuple(m for m in SUMMED if m in own.metrics) for own in (base, run)}) > 1:
        metrics.remove("SUM")
        missing["SUM"] = "the two are sums of different metrics"
    if not metrics:
        raise ValueError(f"{base.place} and {run.place} have no metric in common; score them again with the same ones")
    return metrics, missing


def _same_truth(base: Run, run: Run) -> None:
    odd = sorted(set(base.names) ^ set(run.names))
    if odd:
        raise ValueError(
            f"{base.place} and {run.place} are of different images, such as '{odd[0]}' (of {len(odd)}); "
            "only captions of the same split can be compared"
        )
    if base.images and run.images:
        for name in base.names:
            if base.images[name].captions != run.images[name].captions:
                raise ValueError(
                    f"{base.place} and {run.place} were scored against different references of '{name}': "
                    "they are of different data sets"
                )
