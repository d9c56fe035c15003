from dataclasses import replace

import pytest
import torch
from torch import nn

from regioncap.decoder import FusedPrefixConfig, Prefix

B, N, M, D, H = 3, 4, 2, 6, 8
GUIDED = pytest.mark.parametrize("guided", [True, False])
PAPER = FusedPrefixConfig(hidden=16)
ADDED = replace(PAPER, injection="every_position")
BOTH = pytest.mark.parametrize("config", [PAPER, ADDED], ids=["prefix", "every_position"])


def boundary(*, guided: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    valid = torch.arange(N) < torch.tensor([[N], [N - 1], [1]])
    return {
        "fused": torch.randn(B, D),
        "scene": torch.randn(B, D),
        "detail": torch.randn(B, D),
        "regions": torch.randn(B, N, D) * valid[..., None],
        "region_valid": valid,
        "region_detail": torch.randn(B, N if guided else 0, D),
        "scene_tokens": torch.randn(B, M if guided else 0, D),
    }


def read_linear(layer: nn.Linear, x: list[float]) -> list[float]:
    return [
        sum(w * v for w, v in zip(row, x, strict=True)) + b
        for row, b in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]


def slow_mlp(stage: nn.Module, given: dict[str, torch.Tensor], b: int, guided: bool) -> torch.Tensor:
    first, _, second, _ = stage.mlp
    c = [v for name in ("fused", "scene", "detail")[: 3 if guided else 1] for v in given[name][b].tolist()]
    hidden = nn.functional.gelu(torch.tensor(read_linear(first, c))).tolist()
    return torch.tensor(read_linear(second, hidden))


def test_the_defaults_are_the_papers():
    assert FusedPrefixConfig().tokens == 1
    assert FusedPrefixConfig().injection == "prefix"


@GUIDED
def test_fused_tokens_are_the_mlp_of_equation_14(guided: bool):
    stage, given = replace(PAPER, tokens=3).build(D, H, guided=guided), boundary(guided=guided)
    out = stage(**given)
    for b in range(B):
        torch.testing.assert_close(out.embeddings[b].flatten(), slow_mlp(stage, given, b, guided))
    assert out.valid.all()
    assert out.valid.shape == (B, 3)
    assert out.added is None
    assert out.slots == (("fused", 3),)


@GUIDED
def test_every_position_gets_the_vector_of_equation_14_and_nothing_stands_before_the_caption(guided: bool):
    stage, given = ADDED.build(D, H, guided=guided), boundary(guided=guided)
    out = stage(**given)
    assert out.embeddings.shape == (B, 0, H)
    assert out.valid.shape == (B, 0)
    assert out.slots == ()
    for b in range(B):
        torch.testing.assert_close(out.added[b], slow_mlp(stage, given, b, guided))


def test_what_is_added_starts_at_a_tenth_of_the_token_it_would_be():
    """From the same random numbers."""
    torch.manual_seed(0)
    added = ADDED.build(D, H, guided=True)(**boundary(guided=True)).added
    torch.manual_seed(0)
    token = PAPER.build(D, H, guided=True)(**boundary(guided=True)).embeddings[:, 0]
    torch.testing.assert_close(added, 0.1 * token)


@BOTH
@GUIDED
def test_gradient_reaches_every_parameter(config: FusedPrefixConfig, guided: bool):
    stage = config.build(D, H, guided=guided)
    out = stage(**boundary(guided=guided))
    told = out.embeddings if out.added is None else out.added
    (told * torch.randn_like(told)).sum().backward()
    for name, parameter in stage.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@BOTH
@GUIDED
def test_padding_and_batch_mates_change_nothing(config: FusedPrefixConfig, guided: bool):
    stage, given = config.build(D, H, guided=guided), boundary(guided=guided)
    whole = stage(**given)
    for b in range(B):
        alone = stage(**{name: x[b : b + 1] for name, x in given.items()})
        torch.testing.assert_close(alone.embeddings[0], whole.embeddings[b])
        if whole.added is not None:
            torch.testing.assert_close(alone.added[0], whole.added[b])


@BOTH
@GUIDED
def test_no_regions_and_no_words_just_work(config: FusedPrefixConfig, guided: bool):
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
    assert out.embeddings.shape == (B, 1 if out.added is None else 0, H)


def test_every_field_is_read():
    def shapes(config: FusedPrefixConfig) -> list[torch.Size]:
        return [p.shape for p in config.build(D, H, guided=True).parameters()]

    assert shapes(replace(PAPER, tokens=2)) != shapes(PAPER)
    assert shapes(replace(PAPER, hidden=17)) != shapes(PAPER)
    given = boundary(guided=True)
    assert ADDED.build(D, H, guided=True)(**given).added is not None


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"prefix\.tokens must be at least 1, got 0"):
        FusedPrefixConfig(tokens=0)
    with pytest.raises(ValueError, match=r"prefix\.hidden must be at least 1, got 0"):
        FusedPrefixConfig(hidden=0)
    with pytest.raises(ValueError, match=r"every_position adds one vector .*prefix\.tokens is 4: set it to 1"):
        FusedPrefixConfig(tokens=4, injection="every_position")
