"""SPICE by kind of tuple: how well objects, attributes, relations, colours, counts and sizes are told."""

from collections.abc import Sequence

import numpy as np

from regioncap.experiments.metrics import SPICE_PARTS, Scores
from regioncap.experiments.scoring.measured import Measured, interval
from regioncap.experiments.statistics import resampled_means, shifted_p


def measure_parts(
    systems: Sequence[Scores], images: Sequence[str], *, baseline: int, samples: int, seed: int
) -> dict[str, tuple[Measured, ...]]:
    """Part -> one measurement a system, for the parts that any reference has.

    Only images whose references have such tuples count, in a part's score and in every draw. Draws take the images by
    name, as `paired_bootstrap` does: their order in `images` changes nothing.
    """
    images = sorted(images)
    parts = [part for part in SPICE_PARTS if all(part in scores.spice_parts for scores in systems)]
    if not parts:
        return {}
    each = np.array(
        [
            [[scores.spice_parts_per_image[image].get(part, np.nan) for image in images] for scores in systems]
            for part in parts
        ]
    )
    there = np.isfinite(each)
    # All parts at once: of 40,504 images, drawing takes most of the time.
    rows = np.stack([np.where(there, each, 0.0), there]).reshape(-1, len(images))
    drawn = resampled_means(rows, samples=samples, seed=seed).reshape(samples, 2, len(parts), len(systems))
    with np.errstate(invalid="ignore"):  # a part that few images have may be in none of the drawn ones
        replicates = drawn[:, 0] / drawn[:, 1]
    measured = {}
    for column, part in enumerate(parts):
        cells = []
        for row, scores in enumerate(systems):
            low, high = interval(replicates[:, column, row])
            p = None
            if row != baseline:
                p = shifted_p(
                    scores.spice_parts[part] - systems[baseline].spice_parts[part],
                    replicates[:, column, row] - replicates[:, column, baseline],
                )
            cells.append(Measured(value=scores.spice_parts[part], low=low, high=high, p=p))
        measured[part] = tuple(cells)
    return measured
