from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regioncap.encoders import (
    ClipHead,
    ClipHeadConfig,
    SmallBertConfig,
    TextEncoder,
    TextEncoderConfig,
    build_small_bert,
)
from regioncap.experiments.scenes_alignment import AlignmentConfig, measure_alignment, train_alignment

COLOURS = ("red", "blue", "green", "pink", "grey", "white", "black", "brown")
CAPTIONS = [(f"a {a} cat on {b} grass", f"{b} grass and a {a} cat") for a in COLOURS for b in COLOURS]
CONFIG = AlignmentConfig(steps=3, batch_size=16)


def pictures() -> torch.Tensor:
    """The two colours, one-hot, of each caption, through a fixed random map."""
    eyes = torch.eye(8)
    facts = torch.stack([torch.cat([eyes[a], eyes[b]]) for a in range(8) for b in range(8)])
    return facts @ torch.randn(16, 24, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def towers(tmp_path: Path) -> tuple[TextEncoder, ClipHead]:
    build_small_bert((text for own in CAPTIONS for text in own), SmallBertConfig(layers=1, width=32), tmp_path)
    text_encoder = TextEncoderConfig(weights=str(tmp_path)).build()
    torch.manual_seed(0)
    return text_encoder, ClipHeadConfig(layers=2, hidden=32).build(24, text_encoder.dim, 16)


def weights(towers: tuple[TextEncoder, ClipHead]) -> list[torch.Tensor]:
    return [parameter.detach().clone() for tower in towers for parameter in tower.parameters()]


def test_images_find_their_captions_after_training(towers) -> None:
    before = measure_alignment(*towers, pictures(), CAPTIONS)
    losses = []
    config = replace(CONFIG, steps=150, batch_size=64, learning_rate=5e-3)
    train_alignment(*towers, pictures(), CAPTIONS, config, lambda _, values: losses.append(values["loss"]))
    after = measure_alignment(*towers, pictures(), CAPTIONS)
    assert len(losses) == 150
    assert before.image_to_text[1] < 0.2
    assert after.image_to_text[1] > 0.8
    assert not any(tower.training for tower in towers)


def test_both_towers_learn_every_parameter(towers) -> None:
    before = weights(towers)
    train_alignment(*towers, pictures(), CAPTIONS, replace(CONFIG, weight_decay=0.0), lambda *_: None)
    assert all(not torch.equal(a, b) for a, b in zip(before, weights(towers), strict=True))


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 4},
        {"batch_size": 8},
        {"captions_per_image": 1},
        {"learning_rate": 1e-2},
        {"weight_decay": 5.0},
        {"seed": 1},
    ],
)
def test_every_field_changes_the_training(towers, change: dict[str, object]) -> None:
    start = [{name: value.clone() for name, value in tower.state_dict().items()} for tower in towers]
    results = []
    for config in (CONFIG, CONFIG, replace(CONFIG, **change)):
        for tower, state in zip(towers, start, strict=True):
            tower.load_state_dict(state)
        train_alignment(*towers, pictures(), CAPTIONS, config, lambda *_: None)
        results.append(weights(towers))
    plain, again, other = results
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(plain, other, strict=True))


def test_too_few_images_or_captions_are_refused(towers) -> None:
    with pytest.raises(ValueError, match="at least 65 images"):
        train_alignment(*towers, pictures(), CAPTIONS, replace(CONFIG, batch_size=65), lambda *_: None)
    with pytest.raises(ValueError, match="captions of 63"):
        train_alignment(*towers, pictures(), CAPTIONS[1:], CONFIG, lambda *_: None)
    with pytest.raises(ValueError, match="an image without"):
        train_alignment(*towers, pictures(), [*CAPTIONS[1:], ()], CONFIG, lambda *_: None)


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch_size": 1}, {"learning_rate": 0.0}, {"weight_decay": -1.0}])
def test_bad_config_names_the_field(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"alignment\.{next(iter(change))}"):
        replace(CONFIG, **change)
