import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch_geometric.nn import GATConv

from regioncap.graph import GEOMETRY, GraphAttention, KnnGraph, relate, relative_geometry
from regioncap.graph.relations import Form

FORMS: list[Form] = ["dense", "lists"]
DIM = 8


def random_graph(images: int = 2, slots: int = 6, seed: int = 0) -> tuple[KnnGraph, Tensor]:
    """A directed graph of any in-degree with boxes, so that a swap of i and j shows.

    Two slots of the last image are padding. Region 0 of the first image has no edge. Held as every region's list of all
    others, some of weight 0.
    """
    draw = torch.Generator().manual_seed(seed)
    valid = torch.ones(images, slots, dtype=torch.bool)
    valid[-1, -2:] = False
    near = torch.stack([torch.tensor([j for j in range(slots) if j != i]) for i in range(slots)]).expand(images, -1, -1)
    there = (valid[:, :, None] & valid[:, None, :]).gather(2, near)
    weight = torch.rand(near.shape, generator=draw).clamp_min(0.05)
    weight = weight * (torch.rand(near.shape, generator=draw) < 0.4) * there
    loops = valid & (torch.rand(valid.shape, generator=draw) < 0.7)
    loops[0, 0] = False
    weight[0, 0] = 0
    weight[0][near[0] == 0] = 0
    boxes = torch.rand(images, slots, 2, 2, generator=draw).sort(dim=2).values.flatten(2)
    graph = KnnGraph(
        near=near,
        weight=weight,
        distance=torch.zeros_like(weight),
        returned=torch.zeros_like(weight, dtype=torch.bool),
        loops=loops,
        valid=valid,
    )
    return graph, boxes


def undirected(graph: KnnGraph) -> KnnGraph:
    """`random_graph` as the matrices understand it: an edge of both directions has the greater weight."""
    weights = graph.weights.gather(2, graph.near)
    return KnnGraph(
        near=graph.near,
        weight=weights,
        distance=graph.distance,
        returned=torch.ones_like(graph.returned),
        loops=graph.loops,
        valid=graph.valid,
    )


def random_features(graph: KnnGraph, dim: int = DIM, seed: int = 1) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*graph.valid.shape, dim, generator=draw) * graph.valid[..., None]


def build(dim: int = DIM, **options: Any) -> GraphAttention:
    torch.manual_seed(7)
    return GraphAttention(dim, len(GEOMETRY), **options)


def loop_attention(
    layer: GraphAttention, features: Tensor, graph: KnnGraph, boxes: Tensor, prior: bool, residual: bool, norm: bool
) -> Tensor:
    """Eqs. 7-9 one region, head and neighbour at a time."""
    weights = graph.weights
    heads, width = layer.listener.shape
    out = []
    for b, i in [(b, i) for b in range(len(features)) for i in range(features.shape[1])]:
        if not graph.valid[b, i]:
            out.append(torch.zeros_like(features[b, i]))
            continue
        parts = []
        for h in range(heads):
            rows = layer.values.weight[h * width : (h + 1) * width]
            vector = torch.cat([layer.listener[h], layer.speaker[h]])
            scores, sent = [], []
            for j in weights[b, i].nonzero().flatten().tolist():
                score = functional.leaky_relu(vector @ torch.cat([rows @ features[b, i], rows @ features[b, j]]), 0.2)
                score = score + (math.log(weights[b, i, j]) if prior else 0.0)
                phi = relative_geometry(boxes[b, i], boxes[b, j]).to(features.dtype)
                if layer.bias is not None:
                    score = score + layer.bias.layers(phi)[h]
                message = rows @ features[b, j]
                scores.append(score)
                sent.append(message if layer.message is None else message + layer.message.map[h].T @ phi)
            shares = [score.exp() / sum(other.exp() for other in scores) for score in scores]
            nothing = features.new_zeros(width)
            parts.append(sum((share * one for share, one in zip(shares, sent, strict=True)), nothing))
        update = functional.elu(torch.cat(parts))
        update = features[b, i] + update if residual else update
        if norm:
            update = (update - update.mean()) / (update.var(correction=0) + 1e-5).sqrt()
        out.append(update)
    return torch.stack(out).view(features.shape)


def gradients(out: Tensor, wanted: list[Tensor]) -> list[Tensor]:
    seen = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(out.dtype)
    return list(torch.autograd.grad((out * seen).sum(), wanted, retain_graph=True))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("geometry", ["none", "bias", "message"])
@pytest.mark.parametrize(("edge_weight", "residual", "norm"), [("none", "none", "none"), ("prior", "add", "layer")])
def test_layer_equals_the_equations_in_value_and_gradient(
    form: Form, heads: int, geometry: Any, edge_weight: Any, residual: Any, norm: Any
) -> None:
    """In float64, so that it is the equations that are compared and not the rounding."""
    graph, boxes = random_graph()
    graph = undirected(graph)
    layer = build(heads=heads, geometry=geometry, residual=residual, norm=norm).double()
    features = random_features(graph).double().requires_grad_()
    expected = loop_attention(
        layer, features, graph, boxes.double(), edge_weight == "prior", residual == "add", norm == "layer"
    )
    relations = relate(
        graph, boxes.double(), heads=heads, edge_weight=edge_weight, geometry=geometry != "none", form=form
    )
    attended = layer(features, relations)
    torch.testing.assert_close(attended.features, expected, atol=1e-6, rtol=1e-6)
    parameters = [features, *(p for name, p in layer.named_parameters() if not name.startswith("norm"))]
    for got, wanted in zip(gradients(attended.features, parameters), gradients(expected, parameters), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)
    attention = relations.matrices(attended.shares)
    torch.testing.assert_close(attention.sum(-1), (graph.weights > 0).any(-1)[:, None].expand(-1, heads, -1).double())
    assert not attention[(graph.weights == 0)[:, None].expand_as(attention)].any()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("heads", [1, 4])
def test_layer_equals_pyg_in_value_and_gradient(form: Form, heads: int) -> None:
    graph, boxes = random_graph(3, 7)
    graph = undirected(graph)
    layer = build(16, heads=heads)
    peer = GATConv(16, 16 // heads, heads=heads, add_self_loops=False, bias=False)
    with torch.no_grad():
        peer.lin.weight.copy_(layer.values.weight)
        peer.att_dst.copy_(layer.listener)
        peer.att_src.copy_(layer.speaker)
    image, i, j = graph.weights.nonzero(as_tuple=True)
    mine, theirs = (random_features(graph, 16).requires_grad_() for _ in range(2))
    ours = layer(mine, relate(graph, boxes, heads=heads, edge_weight="none", form=form)).features
    flat = peer(theirs.flatten(0, 1), torch.stack([image * 7 + j, image * 7 + i]))
    expected = functional.elu(flat).unflatten(0, (3, 7))
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)
    got = gradients(ours, [mine, layer.values.weight, layer.listener, layer.speaker])
    wanted = gradients(expected, [theirs, peer.lin.weight, peer.att_dst, peer.att_src])
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other.view(one.shape), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("heads", [1, 2])
def test_gradient_is_the_derivative(form: Form, heads: int) -> None:
    """Of every input, the edge weights too, by finite differences."""
    graph, boxes = random_graph(2, 4)
    layer = build(4, heads=heads, geometry="message", residual="add").double()
    kept = graph.weight > 0

    def run(features: Tensor, weight: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        named = dict(zip(dict(layer.named_parameters()), parameters, strict=True))
        weighted = KnnGraph(
            near=graph.near,
            weight=torch.where(kept, weight, 0.0),
            distance=graph.distance.double(),
            returned=graph.returned,
            loops=graph.loops,
            valid=graph.valid,
        )
        relations = relate(weighted, boxes.double(), heads=heads, geometry=True, form=form)
        attended = torch.func.functional_call(layer, named, (features, relations))
        return attended.features, relations.matrices(attended.shares)

    features = random_features(graph, 4).double().requires_grad_()
    inputs = (features, graph.weight.double().requires_grad_(), *layer.parameters())
    assert torch.autograd.gradcheck(run, inputs, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_prior_makes_attention_proportional_to_the_edge_weight(form: Form) -> None:
    graph, boxes = random_graph()
    graph = undirected(graph)
    layer, features = build(heads=2), random_features(graph)
    plain, weighted = (
        relations.matrices(layer(features, relations).shares)
        for relations in (relate(graph, boxes, heads=2, edge_weight=kind, form=form) for kind in ("none", "prior"))
    )
    expected = plain * graph.weights[:, None]
    expected = expected / expected.sum(-1, keepdim=True).clamp_min(1e-9)
    torch.testing.assert_close(weighted, expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_regions_without_an_edge_hear_nothing(form: Form, norm: Any) -> None:
    graph, boxes = random_graph()
    lonely = KnnGraph(
        near=graph.near,
        weight=torch.zeros_like(graph.weight),
        distance=graph.distance,
        returned=graph.returned,
        loops=torch.zeros_like(graph.loops),
        valid=graph.valid,
    )
    features = random_features(graph).requires_grad_()
    layer = build(heads=2, geometry="message", norm=norm)
    relations = relate(lonely, boxes, heads=2, geometry=True, form=form)
    attended = layer(features, relations)
    assert not relations.matrices(attended.shares).any()
    assert not attended.features.any()
    attended.features.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in [features, *layer.parameters()])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("geometry", ["none", "bias", "message"])
def test_every_parameter_gets_a_gradient(form: Form, geometry: Any) -> None:
    graph, boxes = random_graph(4)
    layer = build(heads=2, geometry=geometry, residual="add", norm="layer")
    out = layer(random_features(graph), relate(graph, boxes, heads=2, geometry=geometry != "none", form=form)).features
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 1e-6, name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("geometry", ["none", "message"])
def test_dropout_acts_in_training_alone_and_keeps_the_mean(form: Form, geometry: Any) -> None:
    graph, boxes = random_graph()
    features = random_features(graph)
    relations = relate(graph, boxes, heads=2, geometry=geometry != "none", form=form)
    layer = build(heads=2, dropout=0.5, geometry=geometry)
    torch.manual_seed(0)
    dropped = layer(features, relations)
    kept = layer.eval()(features, relations)
    assert not torch.allclose(dropped.features, kept.features)
    assert torch.equal(dropped.shares, kept.shares)
    assert torch.equal(kept.features, build(heads=2, geometry=geometry)(features, relations).features)
    layer.train()
    parts = (features, layer.values.weight, layer.listener, layer.speaker)
    passed = [relations.attend(*parts, bias=None, dropout=0.5, activate=False)[0].detach() for _ in range(2000)]
    whole = relations.attend(*parts, bias=None, dropout=0.0, activate=False)[0]
    torch.testing.assert_close(torch.stack(passed).mean(0), whole.detach(), atol=0.1, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_bf16_autocast_is_close_and_finite(form: Form) -> None:
    graph, boxes = random_graph(2, 20)
    features = random_features(graph, 32)
    layer = build(32, heads=4, geometry="message", residual="add", norm="layer")
    relations = relate(graph, boxes, heads=4, geometry=True, form=form)
    exact = layer(features, relations)
    with torch.autocast("cpu", torch.bfloat16):
        rough = layer(features, relations)
    assert rough.shares.dtype == torch.float32
    torch.testing.assert_close(rough.shares, exact.shares, atol=0.01, rtol=0)
    torch.testing.assert_close(rough.features.float(), exact.features, atol=0.06, rtol=0)
    rough.features.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads must divide the region width 8, got 3"),
        ({"heads": 0}, "must be at least 1"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_lists_for_another_number_of_heads_are_refused() -> None:
    graph, boxes = random_graph()
    with pytest.raises(ValueError, match="made for 4 heads, the layer has 2"):
        build(heads=2)(random_features(graph), relate(graph, boxes, heads=4, form="lists"))
