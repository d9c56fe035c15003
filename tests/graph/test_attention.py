import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch_geometric.nn import GATConv

from regioncap.graph import GraphAttention

PAIR_DIM = 5
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def random_inputs(images: int = 2, slots: int = 6, dim: int = 8, seed: int = 0) -> Inputs:
    """Directed weights with self-loops, so that a swap of i and j shows; two padded slots in the last image."""
    draw = torch.Generator().manual_seed(seed)
    valid = torch.ones(images, slots, dtype=torch.bool)
    valid[-1, -2:] = False
    pairs = valid[:, :, None] & valid[:, None, :]
    kept = (torch.rand(images, slots, slots, generator=draw) < 0.5) | torch.eye(slots, dtype=torch.bool)
    weights = torch.rand(images, slots, slots, generator=draw).clamp_min(0.05) * (kept & pairs)
    geometry = torch.randn(images, slots, slots, PAIR_DIM, generator=draw) * pairs[..., None]
    features = torch.randn(images, slots, dim, generator=draw) * valid[..., None]
    return features, weights, geometry, valid


def build(dim: int = 8, **options: Any) -> GraphAttention:
    torch.manual_seed(7)
    return GraphAttention(dim, PAIR_DIM, **options)


def loop_attention(layer: GraphAttention, inputs: Inputs, prior: bool, residual: bool, norm: bool) -> Tensor:
    """Eqs. 7-9 one region, head and neighbour at a time."""
    features, weights, geometry, valid = inputs
    heads, width = layer.listener.shape
    out = torch.zeros_like(features)
    for b, i in valid.nonzero().tolist():
        neighbours = weights[b, i].nonzero().flatten().tolist()
        parts = []
        for h in range(heads):
            rows = layer.values.weight[h * width : (h + 1) * width]
            vector = torch.cat([layer.listener[h], layer.speaker[h]])
            scores = []
            for j in neighbours:
                score = functional.leaky_relu(vector @ torch.cat([rows @ features[b, i], rows @ features[b, j]]), 0.2)
                score = score + (math.log(weights[b, i, j]) if prior else 0.0)
                if layer.bias is not None:
                    score = score + layer.bias.layers(geometry[b, i, j])[h]
                scores.append(score)
            shares = [score.exp() / sum(other.exp() for other in scores) for score in scores]
            heard = torch.zeros(width)
            for share, j in zip(shares, neighbours, strict=True):
                sent = rows @ features[b, j]
                if layer.message is not None:
                    sent = sent + layer.message.map[h].T @ geometry[b, i, j]
                heard = heard + share * sent
            parts.append(heard)
        update = functional.elu(torch.cat(parts))
        update = features[b, i] + update if residual else update
        if norm:
            update = (update - update.mean()) / (update.var(correction=0) + 1e-5).sqrt()
        out[b, i] = update
    return out


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("geometry", ["none", "bias", "message"])
@pytest.mark.parametrize(("edge_weight", "residual", "norm"), [("none", "none", "none"), ("prior", "add", "layer")])
def test_layer_equals_the_equations(heads: int, geometry: Any, edge_weight: Any, residual: Any, norm: Any) -> None:
    layer = build(heads=heads, geometry=geometry, edge_weight=edge_weight, residual=residual, norm=norm)
    inputs = random_inputs()
    expected = loop_attention(layer, inputs, edge_weight == "prior", residual == "add", norm == "layer")
    attended = layer(*inputs)
    torch.testing.assert_close(attended.features, expected, atol=1e-5, rtol=1e-4)
    sums = attended.attention.sum(-1)
    torch.testing.assert_close(sums, inputs[3][:, None].expand_as(sums).float())
    assert not attended.attention[(inputs[1] == 0)[:, None].expand_as(attended.attention)].any()


@pytest.mark.parametrize("heads", [1, 4])
def test_layer_equals_pyg_in_value_and_gradient(heads: int) -> None:
    features, weights, geometry, valid = random_inputs(3, 7, 16)
    layer = build(16, heads=heads, edge_weight="none")
    peer = GATConv(16, 16 // heads, heads=heads, add_self_loops=False, bias=False)
    with torch.no_grad():
        peer.lin.weight.copy_(layer.values.weight)
        peer.att_dst.copy_(layer.listener)
        peer.att_src.copy_(layer.speaker)
    image, i, j = weights.nonzero(as_tuple=True)
    mine, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
    ours = layer(mine, weights, geometry, valid).features
    flat = peer(theirs.flatten(0, 1), torch.stack([image * 7 + j, image * 7 + i]))
    expected = functional.elu(flat).unflatten(0, (3, 7))
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)

    seen = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2))
    (ours * seen).sum().backward()
    (expected * seen).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(layer.values.weight.grad, peer.lin.weight.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(layer.listener.grad, peer.att_dst.grad[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(layer.speaker.grad, peer.att_src.grad[0], atol=1e-5, rtol=1e-4)


def test_prior_makes_attention_proportional_to_the_edge_weight() -> None:
    features, weights, geometry, valid = random_inputs()
    plain = build(edge_weight="none")(features, weights, geometry, valid).attention
    weighted = build(edge_weight="prior")(features, weights, geometry, valid).attention
    expected = plain * weights[:, None]
    expected = expected / expected.sum(-1, keepdim=True).clamp_min(1e-9)
    torch.testing.assert_close(weighted, expected)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_rows_without_an_edge_hear_nothing(norm: Any) -> None:
    features, _, geometry, valid = random_inputs()
    features.requires_grad_()
    layer = build(heads=2, geometry="message", norm=norm)
    attended = layer(features, torch.zeros(2, 6, 6), geometry, valid)
    assert not attended.attention.any()
    assert not attended.features.any()
    attended.features.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in [features, *layer.parameters()])


@pytest.mark.parametrize("geometry", ["none", "bias", "message"])
def test_every_parameter_gets_a_gradient(geometry: Any) -> None:
    layer = build(heads=2, geometry=geometry, residual="add", norm="layer")
    out = layer(*random_inputs(4)).features
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 1e-6, name


def test_dropout_acts_in_training_alone() -> None:
    inputs = random_inputs()
    layer = build(dropout=0.5)
    torch.manual_seed(0)
    dropped = layer(*inputs)
    kept = layer.eval()(*inputs)
    assert not torch.allclose(dropped.features, kept.features)
    assert torch.equal(dropped.attention, kept.attention)
    assert torch.equal(kept.features, build()(*inputs).features)


def test_bf16_autocast_is_close_and_finite() -> None:
    inputs = random_inputs(2, 20, 32)
    layer = build(32, heads=4, geometry="message", residual="add", norm="layer")
    exact = layer(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rough = layer(*inputs)
    assert rough.attention.dtype == torch.float32
    torch.testing.assert_close(rough.attention, exact.attention, atol=0.01, rtol=0)
    torch.testing.assert_close(rough.features.float(), exact.features, atol=0.05, rtol=0)
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
