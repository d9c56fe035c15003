from dataclasses import replace

import pytest
import torch
from torch import nn

from regioncap.decoder import FusedPrefixConfig, Prefix, TokenPrefixConfig

B, N, M, D, H = 3, 4, 2, 6, 8
BOTH = pytest.mark.parametrize("config", [FusedPrefixConfig(hidden=16), TokenPrefixConfig(hidden=16)])
GUIDED = pytest.mark.parametrize("guided", [True, False])


def boundary(*, guided: bool, regions: int = N) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    valid = torch.arange(regions) < torch.tensor([[regions], [regions - 1], [1]])
    return {
        "fused": torch.randn(B, D),
        "scene": torch.randn(B, D),
        "detail": torch.randn(B, D),
        "regions": torch.randn(B, regions, D) * valid[..., None],
        "region_valid": valid,
        "region_detail": torch.randn(B, regions if guided else 0, D),
        "scene_tokens": torch.randn(B, M if guided else 0, D),
    }


def read_linear(layer: nn.Linear, x: list[float]) -> list[float]:
    return [
        sum(w * v for w, v in zip(row, x, strict=True)) + b
        for row, b in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]


def slow_norm(x: list[float], scale: torch.Tensor, kind: torch.Tensor) -> list[float]:
    mean = sum(x) / len(x)
    spread = (sum((v - mean) ** 2 for v in x) / len(x) + 1e-5) ** 0.5
    return [(v - mean) / spread * s + k for v, s, k in zip(x, scale.tolist(), kind.tolist(), strict=True)]


@GUIDED
def test_fused_tokens_are_the_mlp_of_equation_14(guided: bool):
    stage, given = FusedPrefixConfig(tokens=3, hidden=16).build(D, H, guided=guided), boundary(guided=guided)
    out = stage(**given)
    first, _, second, _ = stage.mlp
    for b in range(B):
        c = [v for name in ("fused", "scene", "detail")[: 3 if guided else 1] for v in given[name][b].tolist()]
        hidden = nn.functional.gelu(torch.tensor(read_linear(first, c))).tolist()
        torch.testing.assert_close(out.embeddings[b].flatten(), torch.tensor(read_linear(second, hidden)))
    assert out.valid.all()
    assert out.valid.shape == (B, 3)


@GUIDED
def test_region_and_word_tokens_follow_their_equations(guided: bool):
    stage, given = TokenPrefixConfig(tokens=2, hidden=16).build(D, H, guided=guided), boundary(guided=guided)
    out = stage(**given)
    assert out.embeddings.shape == (B, 2 + N + (M if guided else 0), H)
    assert torch.equal(out.valid[:, 2 : 2 + N], given["region_valid"])
    for b in range(B):
        for i in range(N):
            told = given["regions"][b, i].tolist() + (given["region_detail"][b, i].tolist() if guided else [])
            want = slow_norm(read_linear(stage.region, told), stage.region_type.scale, stage.region_type.kind)
            want = want if given["region_valid"][b, i] else [0.0] * H
            torch.testing.assert_close(out.embeddings[b, 2 + i], torch.tensor(want))
        for j in range(M if guided else 0):
            x = read_linear(stage.word, given["scene_tokens"][b, j].tolist())
            want = slow_norm(x, stage.word_type.scale, stage.word_type.kind)
            torch.testing.assert_close(out.embeddings[b, 2 + N + j], torch.tensor(want))


@BOTH
@GUIDED
def test_gradient_reaches_every_parameter(config: FusedPrefixConfig | TokenPrefixConfig, guided: bool):
    stage = config.build(D, H, guided=guided)
    out = stage(**boundary(guided=guided))
    (out.embeddings * torch.randn_like(out.embeddings)).sum().backward()
    for name, parameter in stage.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@BOTH
@GUIDED
def test_padding_and_batch_mates_change_nothing(config: FusedPrefixConfig | TokenPrefixConfig, guided: bool):
    stage, given = config.build(D, H, guided=guided), boundary(guided=guided)
    whole = stage(**given)
    spoilt = dict(given, regions=given["regions"] + 9.0 * ~given["region_valid"][..., None])
    assert torch.equal(stage(**spoilt).embeddings, whole.embeddings)
    for b in range(B):
        alone = stage(**{name: x[b : b + 1] for name, x in given.items()})
        torch.testing.assert_close(alone.embeddings[0], whole.embeddings[b])
    assert (whole.embeddings[~whole.valid] == 0).all()


@GUIDED
def test_permuting_regions_permutes_their_tokens(guided: bool):
    stage, given = TokenPrefixConfig(hidden=16).build(D, H, guided=guided), boundary(guided=guided)
    order = torch.tensor([2, 0, 3, 1])
    mixed = dict(given, regions=given["regions"][:, order], region_valid=given["region_valid"][:, order])
    if guided:
        mixed["region_detail"] = given["region_detail"][:, order]
    straight, permuted = stage(**given), stage(**mixed)
    torch.testing.assert_close(permuted.embeddings[:, 1 : 1 + N], straight.embeddings[:, 1 : 1 + N][:, order])
    torch.testing.assert_close(permuted.embeddings[:, 0], straight.embeddings[:, 0])


@BOTH
@GUIDED
def test_no_regions_and_no_words_just_work(config: FusedPrefixConfig | TokenPrefixConfig, guided: bool):
    stage, given = config.build(D, H, guided=guided), boundary(guided=guided)
    empty = dict(
        given,
        regions=torch.zeros(B, 0, D),
        region_valid=torch.zeros(B, 0, dtype=torch.bool),
        region_detail=torch.zeros(B, 0, D),
        scene_tokens=torch.zeros(B, 0, D),
    )
    out = stage(**empty)
    assert isinstance(out, Prefix)
    assert out.embeddings.shape == (B, 1, H)


@BOTH
def test_every_field_is_read(config: FusedPrefixConfig | TokenPrefixConfig):
    def shapes(c: FusedPrefixConfig | TokenPrefixConfig) -> list[torch.Size]:
        return [p.shape for p in c.build(D, H, guided=True).parameters()]

    assert shapes(replace(config, tokens=2)) != shapes(config)
    assert shapes(replace(config, hidden=17)) != shapes(config)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"prefix\.tokens must be at least 1, got 0"):
        FusedPrefixConfig(tokens=0)
    with pytest.raises(ValueError, match=r"prefix\.hidden must be at least 1, got 0"):
        TokenPrefixConfig(hidden=0)
    with pytest.raises(ValueError, match="guided=False and got 4 detail vectors"):
        TokenPrefixConfig().build(D, H, guided=False)(**boundary(guided=True))
    with pytest.raises(ValueError, match="guided=True and got 0 detail vectors"):
        TokenPrefixConfig().build(D, H, guided=True)(**boundary(guided=False))
