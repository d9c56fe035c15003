import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from regioncap.decoder import MlpMappingConfig, Prefix, TransformerMappingConfig

B, N, M, D, H = 3, 4, 2, 6, 8
MLP = MlpMappingConfig(tokens=3)
TRANSFORMER = TransformerMappingConfig(tokens=3, expanded=2, layers=2, heads=4, ratio=1.5)
GUIDED = pytest.mark.parametrize("guided", [True, False])
BOTH = pytest.mark.parametrize("config", [MLP, TRANSFORMER], ids=["mlp", "transformer"])


def boundary(*, guided: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        "fused": torch.randn(B, D),
        "scene": torch.randn(B, D),
        "detail": torch.randn(B, D),
        "regions": torch.randn(B, N, D),
        "region_valid": torch.arange(N) < torch.tensor([[N], [N - 1], [1]]),
        "region_detail": torch.randn(B, N if guided else 0, D),
        "scene_tokens": torch.randn(B, M if guided else 0, D),
    }


def told(given: dict[str, torch.Tensor], b: int, guided: bool) -> list[float]:
    return [v for name in ("fused", "scene", "detail")[: 3 if guided else 1] for v in given[name][b].tolist()]


def linear(weight: torch.Tensor, bias: torch.Tensor, x: list[float]) -> list[float]:
    rows = zip(weight.tolist(), bias.tolist(), strict=True)
    return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in rows]


def layer_norm(norm: nn.LayerNorm, x: list[float]) -> list[float]:
    mean = sum(x) / len(x)
    spread = math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + 1e-5)
    rows = zip(x, norm.weight.tolist(), norm.bias.tolist(), strict=True)
    return [(v - mean) / spread * w + b for v, w, b in rows]


def attend(queries: list[list[float]], keys: list[list[float]], values: list[list[float]], heads: int):
    """Scaled dot-product attention, one query and one head at a time."""
    size = len(queries[0]) // heads
    for query in queries:
        heard: list[float] = []
        for part in (slice(head * size, (head + 1) * size) for head in range(heads)):
            scores = [sum(q * k for q, k in zip(query[part], key[part], strict=True)) / math.sqrt(size) for key in keys]
            weights = [math.exp(score - max(scores)) for score in scores]
            for channel in range(*part.indices(len(query))):
                heard.append(sum(w * v[channel] for w, v in zip(weights, values, strict=True)) / sum(weights))
        yield heard


def slow_transformer(network: nn.Module, config: TransformerMappingConfig, c: list[float]) -> list[list[float]]:
    """ClipCap, section 3.2, from the paper: numbers in lists, no tensor operation."""
    expand = network.expand[0]
    flat = linear(expand.weight, expand.bias, c)
    tokens = [flat[i * H : (i + 1) * H] for i in range(config.expanded)] + network.constants.tolist()
    for layer in network.layers:
        rested = [layer_norm(layer.norm1, token) for token in tokens]
        weights, biases = layer.self_attn.in_proj_weight.chunk(3), layer.self_attn.in_proj_bias.chunk(3)
        queries, keys, values = (
            [linear(w, b, token) for token in rested] for w, b in zip(weights, biases, strict=True)
        )
        project = layer.self_attn.out_proj
        heard = [linear(project.weight, project.bias, x) for x in attend(queries, keys, values, config.heads)]
        tokens = [[a + b for a, b in zip(token, x, strict=True)] for token, x in zip(tokens, heard, strict=True)]
        for token in tokens:
            hidden = linear(layer.linear1.weight, layer.linear1.bias, layer_norm(layer.norm2, token))
            out = linear(layer.linear2.weight, layer.linear2.bias, [max(0.0, v) for v in hidden])
            token[:] = [a + b for a, b in zip(token, out, strict=True)]
    return tokens[config.expanded :]


def trained(config: MlpMappingConfig | TransformerMappingConfig, *, guided: bool) -> nn.Module:
    """With every parameter moved, biases and norms too, as after training."""
    torch.manual_seed(2)
    stage = config.build(D, H, guided=guided)
    with torch.no_grad():
        for parameter in stage.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return stage.eval()


def test_defaults_are_the_published_ones():
    config = TransformerMappingConfig()
    assert (config.tokens, config.expanded, config.layers, config.heads) == (10, 10, 8, 8)
    mlp = MlpMappingConfig().build(512, 768, guided=False).network
    assert [tuple(p.shape) for p in mlp.parameters()] == [(3840, 512), (3840,), (7680, 3840), (7680,)]
    assert isinstance(mlp[1], nn.Tanh)


@GUIDED
def test_mlp_is_a_tanh_layer_of_half_the_prefix(guided: bool):
    stage, given = trained(MLP, guided=guided), boundary(guided=guided)
    out = stage(**given)
    first, _, last, _ = stage.network
    assert first.out_features == MLP.tokens * H // 2
    for b in range(B):
        hidden = [math.tanh(v) for v in linear(first.weight, first.bias, told(given, b, guided))]
        want = torch.tensor(linear(last.weight, last.bias, hidden))
        torch.testing.assert_close(out.embeddings[b].flatten(), want, rtol=1e-5, atol=1e-5)


@GUIDED
@pytest.mark.parametrize("grad", [True, False], ids=["with gradients", "without"])
def test_transformer_is_the_papers_in_slow_loops(guided: bool, grad: bool):
    """Without gradients PyTorch takes another path through its layers."""
    stage, given = trained(TRANSFORMER, guided=guided), boundary(guided=guided)
    with torch.set_grad_enabled(grad):
        out = stage(**given)
    for b in range(B):
        want = torch.tensor(slow_transformer(stage.network, TRANSFORMER, told(given, b, guided)))
        torch.testing.assert_close(out.embeddings[b], want, rtol=1e-4, atol=1e-4)


def test_layers_and_constants_start_apart():
    network = TRANSFORMER.build(D, H, guided=False).network
    first, second = (dict(layer.named_parameters()) for layer in network.layers)
    assert not torch.equal(first["linear1.weight"], second["linear1.weight"])
    assert len({tuple(row) for row in network.constants.tolist()}) == TRANSFORMER.tokens


def test_permuting_constants_permutes_the_prefix():
    stage, given = trained(TRANSFORMER, guided=False), boundary(guided=False)
    order = torch.tensor([2, 0, 1])
    before = stage(**given).embeddings
    with torch.no_grad():
        stage.network.constants.copy_(stage.network.constants[order])
    torch.testing.assert_close(stage(**given).embeddings, before[:, order], rtol=1e-4, atol=1e-5)


@BOTH
@GUIDED
def test_slots_are_real_and_batch_mates_change_nothing(config, guided: bool):
    stage, given = trained(config, guided=guided), boundary(guided=guided)
    out = stage(**given)
    assert isinstance(out, Prefix)
    assert out.slots == (("fused", config.tokens),)
    assert out.valid.all()
    assert out.added is None
    for b in range(B):
        alone = stage(**{name: x[b : b + 1] for name, x in given.items()})
        torch.testing.assert_close(alone.embeddings[0], out.embeddings[b], rtol=1e-4, atol=1e-5)


@BOTH
@GUIDED
def test_only_the_image_vector_and_guidance_are_read(config, guided: bool):
    stage, given = trained(config, guided=guided), boundary(guided=guided)
    other = given | {name: given[name] + 1.0 for name in ("regions", "region_detail", "scene_tokens")}
    assert torch.equal(stage(**given).embeddings, stage(**other).embeddings)
    changed = stage(**(given | {"scene": given["scene"] + 1.0})).embeddings
    assert torch.equal(stage(**given).embeddings, changed) == (not guided)


@BOTH
@GUIDED
def test_gradient_reaches_every_parameter(config, guided: bool):
    stage = config.build(D, H, guided=guided)
    out = stage(**boundary(guided=guided)).embeddings
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in stage.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("config", "change"),
    [
        (MLP, {"tokens": 4}),
        *((TRANSFORMER, change) for change in ({"tokens": 4}, {"expanded": 3}, {"layers": 1}, {"ratio": 2.0})),
    ],
)
def test_every_field_is_read(config, change: dict[str, object]):
    def shapes(config) -> list[torch.Size]:
        return [p.shape for p in config.build(D, H, guided=False).parameters()]

    assert shapes(replace(config, **change)) != shapes(config)


def test_heads_are_read():
    def outcome(heads: int) -> torch.Tensor:
        return trained(replace(TRANSFORMER, heads=heads), guided=False)(**boundary(guided=False)).embeddings

    assert not torch.allclose(outcome(2), outcome(4))


def test_bad_input_is_named():
    for name in ("tokens", "expanded", "layers", "heads"):
        with pytest.raises(ValueError, match=rf"prefix\.{name} must be at least 1, got 0"):
            TransformerMappingConfig(**{name: 0})
    with pytest.raises(ValueError, match=r"prefix\.tokens must be at least 1, got -2"):
        MlpMappingConfig(tokens=-2)
    with pytest.raises(ValueError, match=r"prefix\.ratio must be above 0, got 0\.0"):
        TransformerMappingConfig(ratio=0.0)
    with pytest.raises(
        ValueError, match=r"prefix\.heads must divide the decoder's width, got 3 heads for a width of 8"
    ):
        TransformerMappingConfig(heads=3).build(D, H, guided=False)
