"""Whether the difference of two arms is more than chance, and how far a score would move on other images."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_SCORES_AT_ONCE = 1_000_000
"""Scores drawn together: bounds memory to some 40 MB whatever the number of images."""


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
    images = list(per_image_a[0])
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
    return shifted_p(difference, resampled_means(difference[None], samples=samples, seed=seed)[:, 0])


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


def shifted_p(difference: NDArray[np.float64], means: NDArray[np.float64]) -> float:
    """The p of `paired_bootstrap` from per-image differences [N] and their resampled means [samples]."""
    observed = difference.mean()
    # Rounding must not decide whether a resample as far off as the observed mean counts.
    bound = abs(observed) - 1e-12 * np.abs(difference).max()
    return float((1 + np.sum(np.abs(means - observed) >= bound)) / (1 + len(means)))
