"""A graph for other libraries: torch.sparse, PyTorch Geometric, networkx. The last two are imported when asked for."""

import importlib
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regioncap.graph.knn import KnnGraph


def to_sparse(graph: KnnGraph) -> Float[Tensor, "B N N"]:
    """The weighted adjacency of each image as one coalesced sparse COO tensor: `graph.weights` without its zeros."""
    edges = graph.edges()
    slots = max(graph.valid.shape[1], 1)
    real = edges.weight > 0
    target, source, weight = edges.target[real], edges.source[real], edges.weight[real]
    index = torch.stack([target // slots, target % slots, source % slots])
    shape = (*graph.valid.shape, graph.valid.shape[1])
    return torch.sparse_coo_tensor(index, weight, shape).coalesce()


def to_pyg(graph: KnnGraph, features: Float[Tensor, "B N D"]) -> Any:
    """A `torch_geometric.data.Batch` with one `Data` an image: x, edge_index (2 E, source then target), edge_weight.

    Padding is left out, so that nodes are numbered among the real regions; `slot` says where each one was.
    Raises ImportError if torch_geometric is missing.
    """
    data = _need("torch_geometric.data", "pyg")
    edges = graph.edges()
    real = edges.weight > 0
    slots = graph.valid.shape[1]
    items = []
    for image, valid in enumerate(graph.valid):
        own = real & (edges.target // max(slots, 1) == image)
        number = valid.cumsum(0) - 1
        ends = torch.stack([edges.source[own], edges.target[own]]) - image * slots
        items.append(
            data.Data(
                x=features[image, valid],
                edge_index=number[ends],
                edge_weight=edges.weight[own],
                slot=valid.nonzero().flatten(),
            )
        )
    return data.Batch.from_data_list(items)


def to_networkx(graph: KnnGraph, image: int = 0) -> Any:
    """The graph of one image as a `networkx.Graph`: its regions by slot, edges with `weight` and `distance`.

    Self-loops are kept. Raises ImportError if networkx is missing.
    """
    networkx = _need("networkx", "networkx")
    edges = graph.edges()
    slots = graph.valid.shape[1]
    drawn = networkx.Graph()
    drawn.add_nodes_from(graph.valid[image].nonzero().flatten().tolist())
    own = (edges.weight > 0) & (edges.target // max(slots, 1) == image)
    columns = (edges.target[own] % slots, edges.source[own] % slots, edges.weight[own], edges.distance[own])
    for i, j, weight, distance in zip(*(column.tolist() for column in columns), strict=True):
        drawn.add_edge(i, j, weight=weight, distance=distance)
    return drawn


def _need(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is not installed: pip install 'regioncap-graph[{extra}]'") from error
