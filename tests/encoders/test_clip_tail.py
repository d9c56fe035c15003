from dataclasses import replace

import pytest
import torch

from regioncap.encoders import ClipEncoderConfig, ClipTailConfig

SMALL = ClipTailConfig(
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


def build(config=SMALL, dim=6):
    torch.manual_seed(0)
    tail = config.build(
        config.tokens * config.width if config.layers else config.width, 7 if config.projected else 8, dim
    )
    with torch.no_grad():
        for parameter in tail.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return tail


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_half_precision_storage_keeps_the_embedding(request, kind):
    folder = request.getfixturevalue(f"{kind}_folder")
    encoder = ClipEncoderConfig(weights=str(folder), trainable_layers=2).build()
    pixels = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    whole = ClipEncoderConfig(weights=str(folder)).build().embed_image(pixels)
    stored = encoder.pool(pixels).half().float()
    torch.testing.assert_close(encoder.tail.embed_image(stored), whole, atol=2e-3, rtol=0)
    assert torch.cosine_similarity(encoder.tail.embed_image(stored), whole).min() > 1 - 1e-5


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, readout="attention", projected=False)])
def test_every_parameter_gets_a_gradient_and_last_layers_are_those_that_act(config):
    tail = build(config, dim=6 if config.projected else 8)
    pooled, text = torch.randn(3, 40), torch.randn(2, 7 if config.projected else 8)
    (tail.scale * tail.embed_image(pooled) @ tail.embed_text(text).T).pow(2).sum().backward()
    for name, parameter in tail.named_parameters():
        assert parameter.grad is not None, name
    image_side = {name for name, _ in tail.named_parameters()} - {"log_scale", "text_projection.weight"}
    named = {id(parameter): name for name, parameter in tail.named_parameters()}
    assert {named[id(parameter)] for parameter in tail.last_layers(2)} == image_side
    assert {named[id(parameter)] for parameter in tail.last_layers(1)} == {
        name for name in image_side if not name.startswith("readout.blocks.0.")
    }
    assert tail.last_layers(0) == []


def test_more_layers_than_it_holds_cannot_be_unfrozen():
    with pytest.raises(ValueError, match=r"3 CLIP layers cannot be unfrozen, .* leave 2 .*: give the CLIP encoder"):
        build().last_layers(3)
    with pytest.raises(ValueError, match="must not be negative"):
        build().last_layers(-1)


def test_many_images_are_embedded_in_parts():
    tail, pooled = build(), torch.randn(150, 40)
    with torch.no_grad():
        parts = tail.embed_image(pooled)
    torch.testing.assert_close(parts, tail.embed_image(pooled).detach(), atol=1e-6, rtol=0)


def test_without_layers_the_projection_is_all_of_it():
    tail, pooled = build(replace(SMALL, layers=0)), torch.randn(3, 8)
    raw = pooled @ tail.image_projection.weight.T
    torch.testing.assert_close(tail.embed_image(pooled), raw / raw.norm(dim=1, keepdim=True))


def test_scale_is_the_exponential_and_stays_finite():
    tail = build()
    tail.log_scale.data.fill_(2.0)
    assert tail.scale.item() == pytest.approx(7.389, abs=1e-3)
    tail.log_scale.data.fill_(50.0)
    assert tail.scale.item() == 100.0


def test_every_field_is_read():
    pooled = torch.randn(2, 40)
    same = build().embed_image(pooled)
    for change in ({"heads": 4}, {"activation": "gelu"}, {"epsilon": 1.0}):
        assert not torch.equal(same, build(replace(SMALL, **change)).embed_image(pooled)), change
    assert build(replace(SMALL, hidden=9)).readout.blocks[0].widen.out_features == 9
    assert build(replace(SMALL, readout="attention")).readout.pool is not None
    assert build(replace(SMALL, projected=False), dim=8).embed_text(torch.eye(8)).equal(torch.eye(8))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"layers": -1}, "clip_tail.layers must be at least 0"),
        ({"tokens": 0}, "clip_tail.tokens must be at least 1"),
        ({"heads": 3}, "clip_tail.heads must divide"),
        ({"activation": "sine"}, "clip_tail.activation must be one of"),
    ],
)
def test_bad_config_is_named(wrong, said):
    with pytest.raises(ValueError, match=said):
        replace(SMALL, **wrong)


def test_widths_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="takes 40 activations an image, got 41"):
        SMALL.build(41, 7, 6)
    with pytest.raises(ValueError, match="no projections: dim must be 8, got 6"):
        replace(SMALL, projected=False).build(40, 8, 6)
