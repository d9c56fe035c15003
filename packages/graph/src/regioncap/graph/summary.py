"""A graph in figures."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from regioncap.graph.knn import KnnGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSummary:
    """What the graphs of some images are like. Self-loops count nowhere; 0 where there is nothing to average."""

    regions: float
    """Regions an image."""
    degree_mean: float
    """Neighbours a region."""
    degree_max: float
    """Neighbours of the region that has most: KNN graphs have hubs."""
    distance_mean: float
    """d_ij of an edge."""
    weight_mean: float
    """e_ij of an edge."""
    components: float
    """Connected components an image; a region without neighbours is one."""
    isolated: float
    """Share of the regions that have no neighbour."""


def summarise(graphs: Sequence[KnnGraph]) -> GraphSummary:
    """Summarise all images of all `graphs`; raises ValueError if there is none."""
    if not graphs:
        raise ValueError("there is no graph to summarise")
    degrees, distances, weights, components = [], [], [], 0
    for graph in graphs:
        edges = graph.edges()
        apart = (edges.weight > 0) & (edges.target != edges.source)
        target, source = edges.target[apart], edges.source[apart]
        degrees.append(torch.bincount(target, minlength=graph.valid.numel())[graph.valid.flatten()])
        distances.append(edges.distance[apart])
        weights.append(edges.weight[apart].detach())
        labels = _components(target, source, graph.valid.numel())
        components += len(labels[graph.valid.flatten()].unique())
    degree, distance, weight = torch.cat(degrees), torch.cat(distances), torch.cat(weights)
    images = sum(len(graph.valid) for graph in graphs)
    return GraphSummary(
        regions=len(degree) / max(images, 1),
        degree_mean=_mean(degree),
        degree_max=float(degree.max()) if len(degree) else 0.0,
        distance_mean=_mean(distance),
        weight_mean=_mean(weight),
        components=components / max(images, 1),
        isolated=_mean(degree == 0),
    )


def _mean(values: Tensor) -> float:
    return float(values.double().mean()) if len(values) else 0.0


def _components(target: Int[Tensor, " E"], source: Int[Tensor, " E"], nodes: int) -> Int[Tensor, " K"]:
    """The lowest number in each node's component: neighbours hand on the lowest they know until nothing changes."""
    label = torch.arange(nodes, device=target.device)
    while True:
        lower = label.scatter_reduce(0, target, label[source], "amin")
        lower = lower[lower]  # a label's own label is a shortcut, so that long chains take few rounds
        if torch.equal(lower, label):
            return label
        label = lower
