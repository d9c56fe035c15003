import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regioncap.graph import GRAPH_PRESETS, EnhancedRegions, NoGraphConfig, RegionGraphConfig, knn_graph, relate

Regions = tuple[Tensor, Tensor, Tensor, Tensor]
LITERAL = GRAPH_PRESETS["paper"]
METRICS = ["semantic", "spatial", "mixed", "random", "self", "learned"]


@pytest.fixture(params=["dense", "lists"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The form that the stage takes whatever the size."""
    monkeypatch.setattr("regioncap.graph.relations.DENSE_UP_TO", 10**9 if request.param == "dense" else 0)
    return str(request.param)


def random_regions(images: int = 3, slots: int = 10, seed: int = 0) -> Regions:
    draw = torch.Generator().manual_seed(seed)
    regions = torch.randn(images, slots, 8, generator=draw)
    raw = torch.randn(images, slots, 12, generator=draw)
    boxes = torch.rand(images, slots, 2, 2, generator=draw).sort(dim=2).values.flatten(2)
    return regions, raw, boxes, torch.ones(images, slots, dtype=torch.bool)


def run(config: RegionGraphConfig, inputs: Regions) -> EnhancedRegions:
    torch.manual_seed(11)
    enhanced: EnhancedRegions = config.build(8)(*inputs)
    return enhanced


def test_stage_runs_its_layers_over_the_graph_of_raw_features(form: str) -> None:
    regions, raw, boxes, valid = random_regions()
    stage = replace(LITERAL, k=2, heads=4).build(8)
    enhanced = stage(regions, raw, boxes, valid)
    graph = knn_graph(raw, boxes, valid, k=2)
    relations = relate(graph, boxes, heads=4, edge_weight="none")
    first = stage.layers[0](regions, relations)
    second = stage.layers[1](first.features, relations)
    assert torch.equal(enhanced.edges, graph.weights)
    assert torch.equal(enhanced.features, second.features)
    assert torch.equal(enhanced.attention, relations.matrices(second.shares))
    assert enhanced.attention.shape == (3, 4, 10, 10)


def test_form_follows_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = knn_graph(*random_regions()[1:])
    boxes = random_regions()[2]
    for limit, name in ((300, "DenseRelations"), (299, "ListRelations")):
        monkeypatch.setattr("regioncap.graph.relations.DENSE_UP_TO", limit)
        assert type(relate(graph, boxes, heads=2)).__name__ == name


CHANGES: dict[str, dict[str, Any]] = {
    "k": {"k": 2}, "metric": {"metric": "spatial"}, "join": {"join": "mutual"}, "sigma": {"sigma": 0.2},
    "mix": {"mix": 0.9}, "self_loops": {"self_loops": False}, "layers": {"layers": 1}, "heads": {"heads": 2},
    "edge_weight": {"edge_weight": "none"}, "geometry": {"geometry": "bias"}, "geometry_hidden": {"geometry_hidden": 5},
    "residual": {"residual": "none"}, "norm": {"norm": "none"}, "dropout": {"dropout": 0.3},
}  # fmt: skip


def test_queries_are_the_learned_metrics_tokens() -> None:
    stage = RegionGraphConfig(metric="learned", queries=5).build(8)
    assert len(stage.neighbours.tokens) == 5


@pytest.mark.parametrize("name", [field.name for field in fields(RegionGraphConfig) if field.name != "queries"])
def test_every_field_is_read(name: str) -> None:
    base = RegionGraphConfig(metric="mixed")
    inputs = random_regions()
    before, after = run(base, inputs).features, run(replace(base, **CHANGES[name]), inputs).features
    assert (before - after).abs().max() > 1e-4


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("base", [RegionGraphConfig(), LITERAL], ids=["default", "literal"])
def test_padding_and_batch_mates_change_nothing(base: RegionGraphConfig, metric: Any, form: str) -> None:
    if metric == "learned":
        base = replace(base, edge_weight="prior")
    inputs = random_regions()
    regions, raw, boxes, valid = inputs
    valid[1, [2, 7]] = False
    for tensor in (regions, raw, boxes):
        tensor[1, [2, 7]] = math.nan
    config = replace(base, metric=metric, k=3)
    together = run(config, inputs)
    kept = valid[1].nonzero().flatten()
    alone = run(config, (regions[1:2, kept], raw[1:2, kept], boxes[1:2, kept], valid[1:2, kept]))
    torch.testing.assert_close(together.features[1, kept], alone.features[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together.attention[1][:, kept][..., kept], alone.attention[0], atol=1e-5, rtol=1e-5)
    for padded in (together.features[~valid], together.edges[~valid], together.edges.mT[~valid]):
        assert not padded.any()
    assert not together.attention[1, :, [2, 7]].any()
    assert not together.attention[1][..., [2, 7]].any()


@pytest.mark.parametrize("metric", METRICS)
def test_permuting_regions_permutes_the_result(metric: Any, form: str) -> None:
    inputs, config = random_regions(), RegionGraphConfig(metric=metric)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(5))
    moved = run(config, tuple(tensor[:, order] for tensor in inputs))
    torch.testing.assert_close(moved.features, run(config, inputs).features[:, order], atol=1e-5, rtol=1e-5)


@given(
    images=st.integers(1, 3), slots=st.integers(1, 7), k=st.integers(1, 9), seed=st.integers(0, 10**6),
    metric=st.sampled_from(METRICS), join=st.sampled_from(["union", "mutual"]),
    kind=st.sampled_from(["any", "identical", "zero", "coarse"]), dense=st.booleans(),
)  # fmt: skip
@settings(deadline=None, max_examples=120)
def test_stage_properties(
    images: int, slots: int, k: int, seed: int, metric: Any, join: Any, kind: str, dense: bool
) -> None:
    """K >= N, N = 1, identical and zero features: finite, padding-proof, batch-proof, and permuted with the regions."""
    regions, raw, boxes, _ = random_regions(images, slots, seed)
    valid = torch.rand(images, slots, generator=torch.Generator().manual_seed(seed)) < 0.7
    if kind == "identical":
        regions, raw, boxes = (tensor[:1, :1].expand_as(tensor).clone() for tensor in (regions, raw, boxes))
    if kind == "zero":
        raw.zero_()
    if kind == "coarse":
        raw, boxes = raw.round(), (boxes * 2).round() / 2
    config = RegionGraphConfig(metric=metric, join=join, k=k)
    for tensor in (regions, raw, boxes):
        tensor[~valid] = math.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regioncap.graph.relations.DENSE_UP_TO", 10**9 if dense else 0)
        whole = run(config, (regions, raw, boxes, valid))
        assert whole.features.isfinite().all()
        assert not whole.features[~valid].any()
        shares = whole.attention.sum(-1)
        torch.testing.assert_close(shares, valid[:, None].expand_as(shares).float())
        kept = valid[0].nonzero().flatten()
        if kind == "any":  # with ties, which neighbour is taken depends on its place
            kept = kept[torch.randperm(len(kept), generator=torch.Generator().manual_seed(seed))]
        alone = run(config, tuple(tensor[:1, kept] for tensor in (regions, raw, boxes, valid)))
        torch.testing.assert_close(whole.features[0, kept], alone.features[0], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(whole.edges[0][kept][:, kept], alone.edges[0], atol=1e-6, rtol=1e-5)


def test_both_forms_are_equal_in_value_and_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    regions, raw, boxes, valid = random_regions(3, 40)
    valid[1, 30:] = False
    stage = RegionGraphConfig(metric="learned", heads=2).build(8)
    found = []
    for limit in (10**9, 0):
        monkeypatch.setattr("regioncap.graph.relations.DENSE_UP_TO", limit)
        given = regions.clone().requires_grad_()
        enhanced = stage(given, raw, boxes, valid)
        loss = (enhanced.features * torch.linspace(-1, 1, 8)).sum() + enhanced.attention.square().sum()
        found.append([enhanced.features, enhanced.attention, *torch.autograd.grad(loss, [given, *stage.parameters()])])
    for dense, listed in zip(*found, strict=True):
        torch.testing.assert_close(dense, listed, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("metric", "self_loops"),
    [(metric, loops) for metric in METRICS if metric != "self" for loops in (True, False)] + [("self", True)],
)
@pytest.mark.parametrize("slots", [0, 1, 2])
def test_few_or_no_regions_give_finite_values_and_gradients(
    metric: Any, self_loops: bool, slots: int, form: str
) -> None:
    regions, raw, boxes, valid = random_regions(2, slots)
    valid[1] = False
    stage = RegionGraphConfig(metric=metric, self_loops=self_loops).build(8)
    enhanced = stage(regions.requires_grad_(), raw, boxes, valid)
    assert enhanced.features.shape == (2, slots, 8)
    assert enhanced.features.isfinite().all()
    assert not enhanced.features[1].any()
    enhanced.features.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in [regions, *stage.parameters()])


def test_underflowing_kernel_keeps_its_edges() -> None:
    inputs = random_regions()
    enhanced = run(RegionGraphConfig(sigma=1e-9, self_loops=False), inputs)
    assert ((enhanced.edges > 0).sum(-1) >= 5).all()
    torch.testing.assert_close(enhanced.attention.sum(-1), torch.ones(3, 4, 10))
    assert enhanced.features.isfinite().all()


def test_self_control_passes_nothing_between_regions() -> None:
    regions, raw, boxes, valid = random_regions()
    config = RegionGraphConfig(metric="self")
    before = run(config, (regions, raw, boxes, valid)).features
    changed = regions.clone()
    changed[:, 0] += 1
    after = run(config, (changed, raw, boxes, valid)).features
    assert torch.equal(before[:, 1:], after[:, 1:])
    assert not torch.equal(before[:, 0], after[:, 0])


@pytest.mark.parametrize("metric", ["semantic", "learned"])
def test_every_parameter_gets_a_gradient(metric: Any, form: str) -> None:
    torch.manual_seed(0)
    stage = RegionGraphConfig(metric=metric).build(8)
    out = stage(*random_regions()).features
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for name, parameter in stage.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 1e-6, name


def test_controls_have_the_parameters_of_the_graph() -> None:
    sizes = {
        metric: [p.shape for p in RegionGraphConfig(metric=metric).build(8).parameters()]
        for metric in ("semantic", "random", "self")
    }
    assert sizes["semantic"] == sizes["random"] == sizes["self"]


def test_stage_learns_a_directed_relation() -> None:
    """Which region has the marked one directly to its left: features alone cannot say, a box relation can."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.rand(64, 6, 2, generator=draw) * 0.8 + 0.1
    boxes = torch.cat([centres - 0.05, centres + 0.05], dim=-1)
    marked = torch.zeros(64, 6, 8)
    marked[:, 0, 0] = 1
    wanted = (centres[:, :, 0] > centres[:, :1, 0]).float()
    torch.manual_seed(0)
    stage, read = RegionGraphConfig(k=5).build(8), torch.nn.Linear(8, 1)
    optimiser = torch.optim.Adam([*stage.parameters(), *read.parameters()], lr=0.02)
    raw, valid = torch.randn(64, 6, 4, generator=draw), torch.ones(64, 6, dtype=torch.bool)
    for _ in range(60):
        logits = read(stage(marked, raw, boxes, valid).features)[:, 1:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted[:, 1:])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert ((logits > 0) == (wanted[:, 1:] > 0)).float().mean() > 0.9


def test_no_graph_hands_the_regions_on() -> None:
    regions, raw, boxes, valid = random_regions()
    valid[0, 4:] = False
    regions[0, 4:] = math.nan
    stage = NoGraphConfig().build(8)
    enhanced = stage(regions, raw, boxes, valid)
    assert not list(stage.parameters())
    assert torch.equal(enhanced.features[valid], regions[valid])
    assert not enhanced.features[~valid].any()
    assert enhanced.edges.shape == (3, 10, 10)
    assert not enhanced.edges.any()
    assert enhanced.attention.shape == (3, 1, 10, 10)
    assert not enhanced.attention.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "graph.k must be at least 1, got 0"),
        ({"sigma": -1.0}, "graph.sigma must be above 0, got -1.0"),
        ({"mix": -0.1}, "graph.mix must lie in"),
        ({"metric": "self", "self_loops": False}, "graph.metric 'self'"),
        ({"metric": "nearest"}, "graph.metric must be one of semantic, .*, self, learned, got 'nearest'"),
        ({"metric": "learned", "edge_weight": "none"}, "graph.metric 'learned' learns through the prior"),
        ({"edge_weight": "both"}, "graph.edge_weight must be one of prior, none, got 'both'"),
        ({"queries": 0}, "graph.queries must be at least 1, got 0"),
        ({"join": "any"}, "graph.join must be one of union, mutual, got 'any'"),
        ({"geometry": "yes"}, "graph.geometry must be one of none, bias, message, got 'yes'"),
        ({"layers": 0}, "use NoGraphConfig"),
        ({"heads": 0}, "graph.heads and graph.geometry_hidden must be at least 1"),
        ({"dropout": 1.0}, "graph.dropout must lie in"),
    ],
)
def test_bad_settings_are_refused_when_written(settings: dict[str, Any], message: str) -> None:
    unchecked = RegionGraphConfig.__post_init__
    config = object.__new__(RegionGraphConfig)  # literal types are refused earlier by pytest's type checker
    for field in fields(RegionGraphConfig):
        object.__setattr__(config, field.name, settings.get(field.name, field.default))
    with pytest.raises(ValueError, match=message):
        unchecked(config)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"graph\.heads must divide the region width 8, got 3"):
        RegionGraphConfig(heads=3).build(8)
