from dataclasses import replace

import pytest
import torch

from regioncap.experiments.arms import baseline, no_edges
from regioncap.experiments.config import Experiment
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.tuning.neighbour_distance import mean_neighbour_distance
from regioncap.graph import RegionGraphConfig


def test_the_mean_is_over_the_edges_of_the_dev_images(tiny: Experiment, prepared: Prepared) -> None:
    """Semantic distance by loops over every pair of regions (eqs. 3 and 4)."""
    k = 2
    regions = prepared.dev.images(torch.arange(len(prepared.dev))).regions
    distances = []
    for features, valid in zip(regions.features.double(), regions.valid, strict=True):
        own = features[valid]
        near = []
        for i, a in enumerate(own):
            others = [(float(1 - torch.cosine_similarity(a, b, dim=0)), j) for j, b in enumerate(own) if j != i]
            near.append({j: distance for distance, j in sorted(others)[:k]})
        for i, mine in enumerate(near):
            for j, distance in mine.items():
                distances.append(distance)
                if i not in near[j]:  # the other direction of an edge that its neighbour does not list
                    distances.append(distance)
    experiment = replace(tiny, graph=RegionGraphConfig(k=k, metric="semantic"))
    assert distances
    assert mean_neighbour_distance(experiment, prepared) == pytest.approx(sum(distances) / len(distances), rel=5e-3)


def test_without_a_kernel_there_is_no_distance(tiny: Experiment, prepared: Prepared) -> None:
    for arm in (baseline, no_edges):
        assert mean_neighbour_distance(arm(tiny), prepared) is None
