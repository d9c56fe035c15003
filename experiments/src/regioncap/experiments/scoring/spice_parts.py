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

    Only images whose references have such tuples count, in a part's score and in every draw. `images` is their order
    for the draws.
    """
    parts = [part for part in SPICE_PARTS if all(part in scores.spice_parts for scores in systems)]
    measured = {}
    for part in parts:
        each = np.array(
            [[scores.spice_parts_per_image[image].get(part, np.nan) for image in images] for scores in systems]
        )
        there = np.isfinite(each)
        drawn = resampled_means(np.concatenate([np.where(there, each, 0.0), there]), samples=samples, seed=seed)
        with np.errstate(invalid="ignore"):  # a part that few images have may be in none of the drawn ones
            replicates = drawn[:, : len(systems)] / drawn[:, len(systems) :]
        cells = []
        for row, scores in enumerate(systems):
            low, high = interval(replicates[:, row])
            p = None
            if row != baseline:
                both = there[row] & there[baseline]
                p = shifted_p((each[row] - each[baseline])[both], replicates[:, row] - replicates[:, baseline])
            cells.append(Measured(value=scores.spice_parts[part], low=low, high=high, p=p))
        measured[part] = tuple(cells)
    return measured
