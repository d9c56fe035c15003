"""How far apart neighbours are in a data set: the scale on which sigma is searched."""

import torch

from regioncap.experiments.config import Experiment
from regioncap.experiments.prepare import Prepared
from regioncap.graph import RegionGraphConfig, knn_graph, summarise

_IMAGES = 100


def mean_neighbour_distance(experiment: Experiment, prepared: Prepared) -> float | None:
    """Mean d_ij over the edges of the first dev images, to three digits; None where no kernel is used.

    With `graph.sigma` None every image takes its own such mean as sigma.
    """
    graph = experiment.graph
    if not isinstance(graph, RegionGraphConfig) or graph.metric == "self" or graph.metric == "learned":
        return None
    regions = prepared.dev.images(torch.arange(min(_IMAGES, len(prepared.dev)))).regions
    found = knn_graph(
        regions.features.float(), regions.boxes, regions.valid, k=graph.k, metric=graph.metric, mix=graph.mix,
        join=graph.join, self_loops=graph.self_loops,
    )  # fmt: skip
    distance = summarise([found]).distance_mean
    return float(f"{distance:.3g}") if distance > 0 else None
