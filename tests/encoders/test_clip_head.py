import math
from dataclasses import replace

import pytest
import torch

from regioncap.encoders import ClipHeadConfig

BASE = ClipHeadConfig(layers=2, hidden=7)


def build(config=BASE):
    torch.manual_seed(0)
    return config.build(5, 6, 4)


def test_embeds_as_written():
    head = build()
    pooled, text = torch.randn(3, 5), torch.randn(2, 6)
    first, last = head.image_layers
    for row, g in zip(pooled, head.embed_image(pooled), strict=True):
        hidden = [0.5 * z * (1 + math.erf(z / math.sqrt(2))) for z in (first.weight @ row + first.bias).tolist()]
        raw = last.weight @ torch.tensor(hidden) + last.bias
        torch.testing.assert_close(g, raw / raw.norm())
    raw = text @ head.text_projection.weight.T + head.text_projection.bias
    torch.testing.assert_close(head.embed_text(text), raw / raw.norm(dim=1, keepdim=True))


def test_one_layer_is_linear():
    head = build(ClipHeadConfig())
    pooled = torch.randn(3, 5)
    raw = pooled @ head.image_layers[0].weight.T + head.image_layers[0].bias
    torch.testing.assert_close(head.embed_image(pooled), raw / raw.norm(dim=1, keepdim=True))


def test_every_parameter_gets_a_gradient():
    head = build()
    (head.scale * head.embed_image(torch.randn(3, 5)) @ head.embed_text(torch.randn(2, 6)).T).pow(2).sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_every_field_is_read():
    assert [tuple(p.shape) for p in build().image_layers.parameters()] == [(7, 5), (7,), (4, 7), (4,)]
    assert len(build(replace(BASE, layers=3)).image_layers) == 3
    assert build(replace(BASE, hidden=9)).image_layers[0].out_features == 9
    assert build(replace(BASE, temperature=0.5)).scale.item() == pytest.approx(2.0)
    dropping = build(replace(BASE, dropout=0.5))
    pooled = torch.randn(3, 5)
    assert not torch.equal(dropping.embed_image(pooled), dropping.embed_image(pooled))
    assert torch.equal(dropping.eval().embed_image(pooled), build().embed_image(pooled))


def test_scale_stays_finite():
    head = build()
    head.log_scale.data.fill_(50.0)
    assert head.scale.item() == 100.0


def test_last_layers_count_from_the_end():
    head = build(replace(BASE, layers=3))
    assert head.last_layers(0) == []
    assert [id(p) for p in head.last_layers(1)] == [id(p) for p in head.image_layers[2].parameters()]
    assert len(head.last_layers(2)) == 4
    assert len(head.last_layers(9)) == 6
    with pytest.raises(ValueError, match="must not be negative"):
        head.last_layers(-1)


@pytest.mark.parametrize(
    "wrong", [{"layers": 0}, {"hidden": 0}, {"dropout": 1.0}, {"temperature": 0.0}, {"temperature": float("nan")}]
)
def test_bad_config_is_named(wrong):
    with pytest.raises(ValueError, match=rf"clip_head\.{next(iter(wrong))} must"):
        ClipHeadConfig(**wrong)
