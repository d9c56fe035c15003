import inspect
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regioncap.graph import GEOMETRY, GraphAttention, KnnGraph, Metric, knn_graph, relate, spatial_distance
from regioncap.graph.knn import Join
from regioncap.graph.relations import Form

METRICS: list[Metric] = ["semantic", "spatial", "mixed", "random", "self"]
Regions = tuple[Tensor, Tensor, Tensor]


def random_regions(images: int, slots: int, width: int = 6, seed: int = 0) -> Regions:
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(images, slots, width, generator=draw)
    boxes = torch.rand(images, slots, 2, 2, generator=draw).sort(dim=2).values.flatten(2)
    return features, boxes, torch.ones(images, slots, dtype=torch.bool)


def distances(graph: KnnGraph) -> Tensor:
    """d_ij as matrices; all pairs if k is large enough."""
    return torch.zeros_like(graph.weights).scatter(2, graph.near, graph.distance)


def grid_boxes(cells: int) -> Tensor:
    steps = torch.arange(cells + 1) / cells
    rows = [[steps[x], steps[y], steps[x + 1], steps[y + 1]] for y in range(cells) for x in range(cells)]
    return torch.tensor(rows)[None]


def loop_graph(
    distance: Callable[[int, int], float], regions: list[int], slots: int, k: int, sigma: float | None
) -> Tensor:
    """Eqs. 4-5 one pair at a time, in Python floats, with self-loops."""
    near = {i: sorted((distance(i, j), j) for j in regions if j != i)[:k] for i in regions}
    edges = {(i, j) for i in regions for _, j in near[i]}
    edges |= {(j, i) for i, j in edges}
    if sigma is None and edges:
        sigma = sum(distance(i, j) for i, j in edges) / len(edges)
    weights = torch.zeros(slots, slots)
    for i, j in edges:
        weights[i, j] = math.exp(-(distance(i, j) ** 2) / sigma**2)
    for i in regions:
        weights[i, i] = 1.0
    return weights


def cosine_of(features: Tensor) -> Callable[[int, int], float]:
    rows = features.tolist()

    def distance(i: int, j: int) -> float:
        return 1 - sum(a * b for a, b in zip(rows[i], rows[j], strict=True)) / math.hypot(*rows[i]) / math.hypot(
            *rows[j]
        )

    return distance


@pytest.mark.parametrize("sigma", [None, 0.7])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_semantic_equals_the_equations(k: int, sigma: float | None) -> None:
    features, boxes, valid = random_regions(3, 9)
    valid[1, 4:] = False
    valid[2, [0, 3, 8]] = False
    graph = knn_graph(features, boxes, valid, k=k, sigma=sigma)
    for image in range(3):
        regions = valid[image].nonzero().flatten().tolist()
        expected = loop_graph(cosine_of(features[image]), regions, 9, k, sigma)
        torch.testing.assert_close(graph.weights[image], expected, atol=5e-5, rtol=0)
        for i in regions:
            wanted = sorted(cosine_of(features[image])(i, j) for j in regions if j != i)[:k]
            assert graph.distance[image, i, : len(wanted)].tolist() == pytest.approx(wanted, abs=1e-5)


def test_mixed_is_the_convex_combination() -> None:
    regions = random_regions(2, 7)
    semantic = distances(knn_graph(*regions, k=9, metric="semantic"))
    spatial = distances(knn_graph(*regions, k=9, metric="spatial"))
    mixed = distances(knn_graph(*regions, k=9, metric="mixed", mix=0.3))
    torch.testing.assert_close(mixed, 0.7 * semantic + 0.3 * spatial, atol=1e-5, rtol=0)


def test_spatial_reads_boxes_alone() -> None:
    features, boxes, valid = random_regions(2, 7)
    graph = knn_graph(features, boxes, valid, k=9, metric="spatial")
    expected = spatial_distance(boxes[:, :, None], boxes[:, None, :])
    torch.testing.assert_close(distances(graph), expected, atol=1e-5, rtol=0)
    again = knn_graph(torch.rand_like(features), boxes, valid, k=9, metric="spatial")
    assert torch.equal(graph.weights, again.weights)


@pytest.mark.parametrize("cells", [4, 7])
@pytest.mark.parametrize("k", [2, 4, 5])
def test_ties_on_a_grid_go_to_the_lower_index(cells: int, k: int) -> None:
    boxes = grid_boxes(cells)
    count = cells * cells
    graph = knn_graph(torch.randn(1, count, 3), boxes, torch.ones(1, count, dtype=torch.bool), k=k, metric="spatial")

    def in_cells(i: int, j: int) -> float:  # exact integers under the roots, so that ties are ties
        x, y = abs(i % cells - j % cells), abs(i // cells - j // cells)
        return (math.sqrt(x * x + y * y) + math.sqrt(max(x - 1, 0) ** 2 + max(y - 1, 0) ** 2)) / cells / math.sqrt(8)

    expected = loop_graph(in_cells, list(range(count)), count, k, None)
    assert torch.equal(graph.weights[0] > 0, expected > 0)
    torch.testing.assert_close(graph.weights[0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("slots", [6, 33, 64])
def test_identical_features_tie_everywhere(slots: int) -> None:
    features = torch.randn(1, 1, 37, generator=torch.Generator().manual_seed(1)).expand(2, slots, 37)
    _, boxes, valid = random_regions(2, slots)
    graph = knn_graph(features, boxes, valid, k=2)
    assert distances(graph).abs().max() == 0
    nearest = [{0, 1, 2} - {i} if i < 3 else {0, 1} for i in range(slots)]
    expected = torch.eye(slots)
    for i in range(slots):
        for j in sorted(nearest[i])[:2]:
            expected[i, j] = expected[j, i] = 1.0
    assert torch.equal(graph.weights, expected.expand(2, -1, -1))


def test_zero_vectors_are_far_from_everything() -> None:
    features, boxes, valid = random_regions(1, 5)
    features[0, 2:4] = 0
    graph = knn_graph(features, boxes, valid, k=4)
    assert graph.weights.isfinite().all()
    assert (distances(graph)[0, 2, [0, 1, 3, 4]] == 1).all()


@given(
    images=st.integers(1, 3), slots=st.integers(0, 9), k=st.integers(1, 11), seed=st.integers(0, 10**6),
    metric=st.sampled_from(METRICS), sigma=st.sampled_from([None, 1e-6, 0.3, 50.0]), coarse=st.booleans(),
)  # fmt: skip
@settings(deadline=None, max_examples=150)
def test_graph_properties(
    images: int, slots: int, k: int, seed: int, metric: Metric, sigma: float | None, coarse: bool
) -> None:
    features, boxes, _ = random_regions(images, slots, width=3, seed=seed)
    if coarse:  # many ties and zero vectors
        features, boxes = features.round(), (boxes * 2).round() / 2
    valid = torch.rand(images, slots, generator=torch.Generator().manual_seed(seed)) < 0.7
    graph = knn_graph(features, boxes, valid, k=k, metric=metric, sigma=sigma)
    assert torch.equal(graph.weights, graph.weights.mT)
    both = (distances(graph) > 0) & (distances(graph).mT > 0)
    assert torch.equal(distances(graph)[both], distances(graph).mT[both])
    assert ((graph.weights >= 0) & (graph.weights <= 1)).all()
    pairs = valid[:, :, None] & valid[:, None, :]
    assert not graph.weights[~pairs].any()
    assert (graph.weights.diagonal(dim1=1, dim2=2) == valid.float()).all()
    degree = (graph.weights > 0).sum(-1) - valid.int()
    others = valid.sum(-1, keepdim=True) - 1
    least = torch.zeros_like(others) if metric == "self" else others.clamp(min=0, max=k)
    assert (degree >= least)[valid].all()
    assert graph.weights[graph.weights > 0].log().isfinite().all()


@pytest.mark.parametrize("metric", METRICS)
def test_padding_and_batch_mates_change_nothing(metric: Metric) -> None:
    features, boxes, valid = random_regions(3, 8, width=50)
    valid[0, 6:] = False
    features[0, 6:], boxes[0, 6:] = math.nan, math.inf
    together = knn_graph(features, boxes, valid, k=2, metric=metric)
    alone = knn_graph(features[:1, :6], boxes[:1, :6], valid[:1, :6], k=2, metric=metric)
    assert torch.equal(together.weights[0, :6, :6], alone.weights[0])
    assert torch.equal(distances(together)[0, :6, :6], distances(alone)[0])
    assert not together.weights[0, 6:].any()
    assert not together.weights[0, :, 6:].any()
    assert torch.equal(together.valid, valid)


@pytest.mark.parametrize("metric", METRICS)
def test_permuting_regions_permutes_the_graph(metric: Metric) -> None:
    features, boxes, valid = random_regions(2, 12)
    valid[0, 3] = False
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    graph = knn_graph(features, boxes, valid, k=3, metric=metric)
    moved = knn_graph(features[:, order], boxes[:, order], valid[:, order], k=3, metric=metric)
    torch.testing.assert_close(moved.weights, graph.weights[:, order][:, :, order])


def weights_on_edges(graph: KnnGraph) -> Tensor:
    return graph.weight[graph.weight > 0]


def test_random_metric_is_a_fair_control() -> None:
    regions = random_regions(64, 30)
    graph = knn_graph(*regions, metric="random")
    assert torch.equal(graph.weights, knn_graph(*regions, metric="random").weights)
    semantic = knn_graph(*regions, metric="semantic")
    full, full_semantic = (distances(knn_graph(*regions, k=29, metric=metric)) for metric in ("random", "semantic"))
    assert not torch.equal(graph.weights > 0, semantic.weights > 0)
    drawn = full[:, *torch.triu_indices(30, 30, offset=1)].flatten()
    at = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    torch.testing.assert_close(drawn.quantile(at), at, atol=0.02, rtol=0)
    off_diagonal = ~torch.eye(30, dtype=torch.bool)
    both = torch.stack([full[:, off_diagonal].flatten(), full_semantic[:, off_diagonal].flatten()])
    assert both.corrcoef()[0, 1].abs() < 0.03
    assert weights_on_edges(graph).mean() == pytest.approx(weights_on_edges(semantic).mean().item(), abs=0.1)
    assert weights_on_edges(graph).std() == pytest.approx(weights_on_edges(semantic).std().item(), abs=0.15)


def test_random_metric_tells_equal_features_apart_by_box() -> None:
    _, boxes, valid = random_regions(1, 10)
    graph = knn_graph(torch.ones(1, 10, 4), boxes, valid, k=9, metric="random")
    assert distances(graph)[0, 0, 1:].unique().numel() == 9
    same = knn_graph(-torch.zeros(1, 10, 4), boxes, valid, metric="random")
    assert torch.equal(same.weights, knn_graph(torch.zeros(1, 10, 4), boxes, valid, metric="random").weights)


def test_self_metric_has_self_loops_only() -> None:
    features, boxes, valid = random_regions(1, 4)
    valid[0, 3] = False
    assert torch.equal(knn_graph(features, boxes, valid, metric="self").weights[0], torch.diag(valid[0].float()))


def test_without_self_loops_a_lone_region_has_no_edge() -> None:
    features, boxes, valid = random_regions(2, 5)
    valid[1, 1:] = False
    graph = knn_graph(features, boxes, valid, self_loops=False)
    assert not graph.weights.diagonal(dim1=1, dim2=2).any()
    assert not graph.weights[1].any()
    assert graph.weights[0].any()


def test_no_gradient_flows_through_the_graph() -> None:
    features, boxes, valid = random_regions(1, 5)
    assert not knn_graph(features.requires_grad_(), boxes, valid).weights.requires_grad


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["features", "boxes"])
def test_broken_values_are_refused_by_name(where: str, value: float) -> None:
    features, boxes, valid = random_regions(2, 5)
    (features if where == "features" else boxes)[1, 3, 2] = value
    with pytest.raises(ValueError, match="region 3 of image 1 has NaN or infinite"):
        knn_graph(features, boxes, valid)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"sigma": 0.0}, "sigma must be above 0, got 0.0"),
        ({"sigma": math.nan}, "sigma must be above 0, got nan"),
        ({"mix": 1.5}, r"mix must lie in \[0, 1\]"),
        ({"metric": "self", "self_loops": False}, "needs graph.self_loops=True"),
        ({"join": "either"}, "join must be one of union, mutual, got 'either'"),
        ({"metric": "nearest"}, "metric must be one of semantic, spatial, mixed, random, self, got 'nearest'"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    unchecked = inspect.unwrap(knn_graph)  # past the type checker that pytest installs
    with pytest.raises(ValueError, match=message):
        unchecked(*random_regions(1, 3), **settings)


def test_arguments_of_different_slots_are_refused() -> None:
    features, boxes, valid = random_regions(2, 5)
    unchecked = inspect.unwrap(knn_graph)  # past the type checker that pytest installs
    with pytest.raises(ValueError, match=r"wanted \(B, N, R\), \(B, N, 4\) and \(B, N\)"):
        unchecked(features, boxes[:, :4], valid)


@pytest.mark.parametrize("metric", ["semantic", "spatial", "mixed", "random"])
def test_mutual_keeps_what_both_sides_list(metric: Metric) -> None:
    features, boxes, valid = random_regions(3, 12)
    valid[0, 5:] = False
    graph = knn_graph(features, boxes, valid, k=3, metric=metric, join="mutual", sigma=0.5)
    union = knn_graph(features, boxes, valid, k=3, metric=metric, sigma=0.5)
    listed = torch.zeros(3, 12, 12, dtype=torch.bool).scatter(2, union.near, union.weight > 0)
    expected = (listed & listed.mT) | torch.eye(12, dtype=torch.bool) & valid[:, None]
    assert torch.equal(graph.weights > 0, expected)
    assert torch.equal(graph.weights, union.weights * expected)
    assert (graph.weights > 0).sum() < (union.weights > 0).sum()


@pytest.mark.parametrize("join", ["union", "mutual"])
@pytest.mark.parametrize("self_loops", [True, False])
def test_list_of_edges_is_the_matrices(join: Join, self_loops: bool) -> None:
    features, boxes, valid = random_regions(3, 9)
    valid[1, [0, 4, 8]] = False
    graph = knn_graph(features, boxes, valid, k=2, join=join, self_loops=self_loops)
    edges = graph.edges()
    assert (edges.weight > 0).all()
    assert (edges.target.diff() >= 0).all()
    assert torch.equal(edges.target // 9, edges.source // 9)
    assert len(edges.target) == (graph.weights > 0).sum()
    dense = torch.zeros(27, 9).index_put((edges.target, edges.source % 9), edges.weight)
    assert torch.equal(dense.view(3, 9, 9), graph.weights)
    apart = edges.target != edges.source
    lengths = torch.zeros(27, 9).index_put((edges.target[apart], edges.source[apart] % 9), edges.distance[apart])
    joined = torch.maximum(distances(graph), distances(graph).mT) * (graph.weights > 0)
    assert torch.equal(lengths.view(3, 9, 9), joined * ~torch.eye(9, dtype=torch.bool))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, boxes, valid = random_regions(5, 23)
    valid[2, 20:] = False
    whole = {metric: knn_graph(features, boxes, valid, k=3, metric=metric) for metric in METRICS}
    monkeypatch.setattr("regioncap.graph.neighbours._BLOCK", 2 * 23 * 23)
    grouped = {metric: knn_graph(features, boxes, valid, k=3, metric=metric) for metric in METRICS}
    monkeypatch.setattr("regioncap.graph.neighbours._BLOCK", 5 * 23)
    monkeypatch.setattr("regioncap.graph.neighbours._LEAST_ROWS", 1)
    rows = {metric: knn_graph(features, boxes, valid, k=3, metric=metric) for metric in METRICS}
    for metric in METRICS:
        assert torch.equal(grouped[metric].weights, whole[metric].weights)
        assert torch.equal(rows[metric].weights, whole[metric].weights)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: whether the host waits shows on one alone")
@pytest.mark.parametrize("form", ["dense", "lists"])
def test_nothing_waits_for_the_gpu(form: Form) -> None:
    features, boxes, valid = (tensor.cuda() for tensor in random_regions(2, 40, width=64))
    layer = GraphAttention(64, len(GEOMETRY), heads=4, geometry="message", residual="add", norm="layer").cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        graph = knn_graph(features, boxes, valid)
        relations = relate(graph, boxes, heads=4, geometry=True, form=form)
        layer(features, relations).features.square().sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
