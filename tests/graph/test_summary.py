import networkx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regioncap.graph import KnnGraph, NoGraphConfig, knn_graph, summarise, to_networkx


def random_graph(seed: int, slots: int, k: int, join: str = "union") -> KnnGraph:
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(3, slots, 4, generator=draw)
    boxes = torch.rand(3, slots, 2, 2, generator=draw).sort(dim=2).values.flatten(2)
    valid = torch.rand(3, slots, generator=draw) < 0.8
    return knn_graph(features, boxes, valid, k=k, join=join)  # type: ignore[arg-type]


@given(
    seed=st.integers(0, 1000), slots=st.integers(1, 25), k=st.integers(1, 3), join=st.sampled_from(["union", "mutual"])
)
@settings(deadline=None, max_examples=60)
def test_summary_is_what_networkx_counts(seed: int, slots: int, k: int, join: str) -> None:
    graph = random_graph(seed, slots, k, join)
    summary = summarise([graph])
    drawn = [to_networkx(graph, image) for image in range(3)]
    for one in drawn:
        one.remove_edges_from(list(networkx.selfloop_edges(one)))
    degrees = [degree for one in drawn for _, degree in one.degree]
    edges = [data for one in drawn for *_, data in one.edges(data=True)]
    assert summary.regions == pytest.approx(len(degrees) / 3)
    assert summary.degree_max == max(degrees, default=0)
    assert summary.degree_mean == pytest.approx(sum(degrees) / max(len(degrees), 1))
    assert summary.isolated == pytest.approx(degrees.count(0) / max(len(degrees), 1))
    assert summary.components == pytest.approx(sum(networkx.number_connected_components(one) for one in drawn) / 3)
    for name in ("distance", "weight"):
        mean = sum(edge[name] for edge in edges) / max(len(edges), 1)
        assert getattr(summary, f"{name}_mean") == pytest.approx(mean, abs=1e-6)


def test_several_batches_are_summarised_together() -> None:
    one, other = random_graph(1, 10, 2), random_graph(2, 20, 1)
    both, first, second = summarise([one, other]), summarise([one]), summarise([other])
    assert both.components == pytest.approx((first.components + second.components) / 2)
    assert both.degree_max == max(first.degree_max, second.degree_max)


def test_graph_without_edges() -> None:
    regions = torch.zeros(2, 3, 4)
    enhanced = NoGraphConfig().build(4)(regions, regions, regions, torch.ones(2, 3, dtype=torch.bool))
    summary = summarise([enhanced.graph])
    assert (summary.components, summary.isolated, summary.degree_mean, summary.weight_mean) == (3.0, 1.0, 0.0, 0.0)


def test_nothing_to_summarise_is_refused() -> None:
    with pytest.raises(ValueError, match="no graph"):
        summarise([])
