"""Whether the difference of two arms is more than chance, and how far a score would move on other images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

_SCORES_AT_ONCE = 1_000_000
"""Scores drawn together: bounds memory to some 40 MB whatever the number of images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One metric of one side over its seeds, in fractions."""

    values: tuple[float, ...]
    """One a seed."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.values)

    @property
    def std(self) -> float:
        """Sample standard deviation over the seeds; 0 with one."""
        return stdev(self.values) if len(self.values) > 1 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PerImage:
    """The effect on single images: how many gain and lose, and how steady the gain is."""

    better: int
    worse: int
    equal: int
    size: float
    """Mean difference in units of the differences' standard deviation (Cohen's d for pairs); 0 where all are alike."""

    @classmethod
    def of(cls, difference: NDArray[np.float64]) -> "PerImage":
        """From the differences of at least one image. What rounding alone tells apart counts as equal."""
        scale = 1e-12 * max(1.0, float(np.abs(difference).max()))
        better, worse = int(np.sum(difference > scale)), int(np.sum(difference < -scale))
        spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
        return cls(
            better=better,
            worse=worse,
            equal=len(difference) - better - worse,
            size=float(difference.mean()) / spread if spread > scale else 0.0,
        )


def paired_bootstrap(
    per_image_a: Sequence[Mapping[str, float]],
    per_image_b: Sequence[Mapping[str, float]],
    *,
    samples: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p that arms a and b score the same on images like these.

        d_i = mean_seeds a_i - mean_seeds b_i,   p = (1 + #{ |mean(d*) - mean(d)| >= |mean(d)| }) / (1 + samples)

    where d* are as many images drawn from d with replacement: the bootstrap test with the differences shifted to the
    null hypothesis of no difference (Efron and Tibshirani 1993, sec. 16.4). Each argument holds one mapping of image
    to score per seed. Images are what is resampled and seeds are averaged first, so p speaks of other images and the
    same training runs; the spread over seeds is the table's to tell. Metrics that are no means over images
    (BLEU, METEOR) enter with their per-image scores.
    Raises ValueError if an arm has no seeds, the images differ, or samples is below 1.
    """
    if not per_image_a or not per_image_b:
        raise ValueError("paired_bootstrap needs the per-image scores of at least one seed on each side")
    images = sorted(per_image_a[0])  # so that the order of a file changes nothing
    if not images:
        raise ValueError("paired_bootstrap needs at least one image")
    for scores in [*per_image_a, *per_image_b]:
        odd = sorted(set(images) ^ set(scores))
        if odd:
            raise ValueError(
                f"paired_bootstrap compares the same images: '{odd[0]}' (of {len(odd)} such) lacks a score in a run"
            )
    mean_a, mean_b = (
        np.mean([[scores[image] for image in images] for scores in arm], axis=0) for arm in (per_image_a, per_image_b)
    )
    difference = mean_a - mean_b
    if not np.isfinite(difference).all():
        raise ValueError(f"the scores of image '{images[int(np.argmin(np.isfinite(difference)))]}' are not finite")
    means = resampled_means(difference[None], samples=samples, seed=seed)[:, 0]
    return shifted_p(float(difference.mean()), means, rounding=1e-12 * float(np.abs(difference).max()))


def resampled_means(values: NDArray[np.float64], *, samples: int = 10_000, seed: int = 0) -> NDArray[np.float64]:
    """Means of `values` [K, N] over N images drawn with replacement, [samples, K].

    The K rows share each draw, so differences, ratios and sums of columns are resampled as pairs. The same seed, number
    of images and number of samples draw the same images whatever the values. Memory does not grow with N.
    Raises ValueError if there are no images or samples is below 1.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    images = values.shape[1]
    if not images:
        raise ValueError("a bootstrap needs at least one image")
    generator = np.random.default_rng(seed)
    means = np.empty((samples, len(values)))
    at_once = max(1, _SCORES_AT_ONCE // images)
    for start in range(0, samples, at_once):
        draws = min(at_once, samples - start)
        chosen = generator.integers(images, size=(draws, images))
        chosen += images * np.arange(draws)[:, None]
        # How often each image was drawn: one matrix product then serves all rows.
        times = np.bincount(chosen.ravel(), minlength=draws * images).reshape(draws, images)
        means[start : start + draws] = times.astype(np.float64) @ values.T / images
    return means


def resampled_seeds(replicates: NDArray[np.float64], *, seed: int = 0) -> NDArray[np.float64]:
    """Draws that speak of other training runs too: [samples, seeds] -> [samples].

    `replicates` are of images drawn with replacement, a column a seed. For every draw as many seeds are drawn with
    replacement and their columns averaged: images and seeds are resampled apart, as they are crossed (the pigeonhole
    bootstrap, Owen 2007, Annals of Applied Statistics 1(2)). Few seeds still say little: with S of them the variance
    between seeds comes out (S-1)/S of its unbiased estimate.
    """
    samples, seeds = replicates.shape
    chosen = np.random.default_rng([seed, seeds]).integers(seeds, size=(samples, seeds))
    return np.asarray(np.take_along_axis(replicates, chosen, axis=1).mean(axis=1))


def shifted_p(observed: float, replicates: NDArray[np.float64], *, rounding: float = 1e-12) -> float:
    """The p of `paired_bootstrap` from a difference of two scores and its values on resampled images [samples].

    The scores may be of any kind that the images determine, such as a corpus BLEU. `rounding` must not decide whether
    a resample as far off as what was observed counts.
    """
    return float((1 + np.sum(np.abs(replicates - observed) >= abs(observed) - rounding)) / (1 + len(replicates)))
