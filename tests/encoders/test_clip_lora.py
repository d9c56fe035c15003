"""Adapters in a head: they begin by changing nothing, train alone, and can be merged away."""

import pytest
import torch

from regioncap.encoders import ClipHeadConfig, ClipLoraConfig, ClipTailConfig
from regioncap.encoders.clip_lora import adapters_of, without_adapters
from regioncap.encoders.image_text_head import ImageTextHead

TAIL = ClipTailConfig(
    layers=2,
    tokens=5,
    width=8,
    heads=2,
    hidden=12,
    activation="quick_gelu",
    epsilon=1e-5,
    readout="class",
    projected=True,
)


@pytest.fixture(params=["head", "tail"])
def head(request: pytest.FixtureRequest) -> ImageTextHead:
    torch.manual_seed(0)
    if request.param == "head":
        return ClipHeadConfig(layers=3, hidden=8).build(40, 7, 6).eval()
    return TAIL.build(40, 7, 6).eval()


def test_fresh_adapters_change_nothing_and_alone_are_free(head: ImageTextHead) -> None:
    pooled = torch.randn(4, 40)
    before = head.embed_image(pooled).detach()
    ClipLoraConfig(rank=2).adapt(head)
    assert torch.equal(head.embed_image(pooled), before)
    free = {id(parameter) for parameter in head.parameters() if parameter.requires_grad}
    assert free == {id(parameter) for parameter in adapters_of(head)}
    assert len(free) == (6 if hasattr(head, "image_layers") else 16)


def test_a_trained_head_says_the_same_without_its_adapters(head: ImageTextHead) -> None:
    names = set(head.state_dict())
    ClipLoraConfig(rank=2, alpha=5.0).adapt(head)
    with torch.no_grad():
        for parameter in adapters_of(head):
            parameter.add_(0.3 * torch.randn_like(parameter))
    pooled = torch.randn(4, 40)
    adapted = head.embed_image(pooled)
    plain = without_adapters(head)
    assert set(plain.state_dict()) == names
    torch.testing.assert_close(plain.embed_image(pooled), adapted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(head.embed_image(pooled), adapted)  # the head itself keeps them
    assert without_adapters(plain) is plain


def test_the_scale_is_alpha_over_rank(head: ImageTextHead) -> None:
    ClipLoraConfig(rank=2, alpha=5.0).adapt(head)
    layer = head.image_layers[0] if hasattr(head, "image_layers") else head.readout.blocks[0].out
    a, b = (next(iter(side.values())).weight for side in (layer.lora_A, layer.lora_B))
    torch.nn.init.normal_(b)
    x = torch.randn(3, a.shape[1])
    wanted = torch.nn.functional.linear(x, layer.base_layer.weight + 5.0 / 2 * b @ a, layer.base_layer.bias)
    torch.testing.assert_close(layer(x), wanted, atol=1e-5, rtol=1e-4)


def test_rank_zero_and_a_second_time_do_nothing(head: ImageTextHead) -> None:
    ClipLoraConfig().adapt(head)
    assert adapters_of(head) == []
    ClipLoraConfig(rank=1).adapt(head)
    parameters = list(head.parameters())
    ClipLoraConfig(rank=3).adapt(head)
    assert [id(parameter) for parameter in head.parameters()] == [id(parameter) for parameter in parameters]


def test_what_cannot_be_adapted_is_refused() -> None:
    with pytest.raises(ValueError, match=r"clip_lora\.rank must not be negative, got -1"):
        ClipLoraConfig(rank=-1)
    with pytest.raises(ValueError, match=r"clip_lora\.alpha must be positive, got 0"):
        ClipLoraConfig(alpha=0.0)
    bare = ClipTailConfig(**{**{name: getattr(TAIL, name) for name in TAIL.__slots__}, "layers": 0}).build(8, 7, 6)
    with pytest.raises(
        ValueError, match="this head holds no layer that trains: give the CLIP encoder trainable_layers"
    ):
        ClipLoraConfig(rank=1).adapt(bare)
