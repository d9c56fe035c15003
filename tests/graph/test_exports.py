import importlib
from collections.abc import Callable

import networkx
import pytest
import torch
from torch import Tensor

from regioncap.graph import KnnGraph, knn_graph, to_networkx, to_pyg, to_sparse


@pytest.fixture
def features() -> Tensor:
    return torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def graph(features: Tensor) -> KnnGraph:
    boxes = torch.tensor([0.0, 0.0, 0.5, 0.5]).expand(3, 8, 4)
    valid = torch.ones(3, 8, dtype=torch.bool)
    valid[1, [0, 3]] = False
    valid[2] = False
    return knn_graph(features, boxes, valid, k=2)


def test_sparse_is_the_dense_adjacency(graph: KnnGraph) -> None:
    sparse = to_sparse(graph)
    assert sparse.is_coalesced()
    assert torch.equal(sparse.to_dense(), graph.weights)
    assert sparse.values().all()


def test_pyg_batch_has_the_real_regions_and_their_edges(graph: KnnGraph, features: Tensor) -> None:
    batch = to_pyg(graph, features)
    assert batch.num_graphs == 3
    for image in range(3):
        data = batch[image]
        assert torch.equal(data.x, features[image, graph.valid[image]])
        assert torch.equal(data.slot, graph.valid[image].nonzero().flatten())
        dense = torch.zeros(8, 8)
        source, target = data.slot[data.edge_index]
        dense[target, source] = data.edge_weight
        assert torch.equal(dense, graph.weights[image])
    assert batch.validate()


def test_networkx_graph_has_weights_and_distances(graph: KnnGraph) -> None:
    for image in range(3):
        drawn = to_networkx(graph, image)
        assert sorted(drawn.nodes) == graph.valid[image].nonzero().flatten().tolist()
        if drawn.number_of_edges():
            matrix = networkx.to_numpy_array(drawn, nodelist=range(8) if image == 0 else sorted(drawn.nodes))
            kept = graph.valid[image]
            assert torch.equal(torch.tensor(matrix).float(), graph.weights[image][kept][:, kept])
    for i, j, edge in to_networkx(graph).edges(data=True):
        assert edge["distance"] == pytest.approx(_distance(graph, i, j), abs=1e-6)


def _distance(graph: KnnGraph, i: int, j: int) -> float:
    if i == j:
        return 0.0
    found = torch.zeros(8, 8).scatter(1, graph.near[0], graph.distance[0])
    return max(found[i, j].item(), found[j, i].item())


@pytest.mark.parametrize(
    ("call", "module", "extra"),
    [
        (lambda graph, features: to_pyg(graph, features), "torch_geometric", "pyg"),
        (lambda graph, features: to_networkx(graph), "networkx", "networkx"),
    ],
)
def test_missing_library_says_what_to_install(
    graph: KnnGraph,
    features: Tensor,
    call: Callable[[KnnGraph, Tensor], object],
    module: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.import_module

    def absent(name: str, package: str | None = None) -> object:
        if name.startswith(module):
            raise ModuleNotFoundError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ImportError, match=rf"pip install 'regioncap-graph\[{extra}\]'"):
        call(graph, features)


def test_graph_without_images_or_regions() -> None:
    for images, slots in ((0, 3), (2, 0)):
        empty = knn_graph(torch.zeros(images, slots, 2), torch.zeros(images, slots, 4), torch.ones(images, slots) > 0)
        assert to_sparse(empty).shape == (images, slots, slots)
        assert len(to_sparse(empty).values()) == 0
    assert not to_networkx(empty).nodes
