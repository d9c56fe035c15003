from collections.abc import Callable
from typing import Any

import pytest
import torch

from regioncap.decoder import GatedWordBiasConfig
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.objectives.caption import ObjectiveConfig
from regioncap.experiments.training.phases import PhaseConfig, TrainConfig, parameter_groups, set_trainable

STILL = {"clip_head.log_scale", "clip_head.text_projection.weight", "clip_head.text_projection.bias"}
FIRST_LAYER = {"clip_head.image_layers.0.weight", "clip_head.image_layers.0.bias"}
LAST_LAYERS = {f"clip_head.image_layers.{layer}.{kind}" for layer in (1, 2) for kind in ("weight", "bias")}


def take_steps(captioner: Captioner, prepared: Prepared, optimizer: torch.optim.Optimizer, steps: int) -> None:
    captioner.train()
    rows = torch.arange(8)
    for _ in range(steps):
        condition = captioner.condition(*prepared.seen(rows))
        picked = prepared.captions.pick(rows, 2, torch.Generator().manual_seed(0))
        loss = ObjectiveConfig().build()(captioner, condition, *picked).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def moved(captioner: Captioner, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, parameter in captioner.named_parameters() if not torch.equal(parameter, before[name])}


def weights(captioner: Captioner) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in captioner.named_parameters()}


def optimizer_of(captioner: Captioner) -> torch.optim.AdamW:
    """As `train` builds it."""
    groups = parameter_groups(captioner, TrainConfig(weight_decay=0.5))
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"]
    return optimizer


def test_phases_move_what_they_name_and_not_a_bit_of_anything_else(
    make_captioner: Callable[[str], Captioner], prepared: Prepared
) -> None:
    captioner = make_captioner("+graph+guidance")
    optimizer = optimizer_of(captioner)
    everything = set(weights(captioner))
    everything -= {name for name in everything if name.startswith("keyword_heads.")}  # taught before
    decoder = {name for name in everything if name.startswith("decoder.model.")}

    set_trainable(captioner, PhaseConfig(decoder=False))
    start = weights(captioner)
    take_steps(captioner, prepared, optimizer, 2)
    assert moved(captioner, start) == everything - decoder - STILL - FIRST_LAYER - LAST_LAYERS

    set_trainable(captioner, PhaseConfig(clip_layers=2))
    middle = weights(captioner)
    take_steps(captioner, prepared, optimizer, 2)
    assert moved(captioner, middle) == everything - STILL - FIRST_LAYER

    # Moments and decay of what has trained before must not move it once it is frozen again.
    set_trainable(captioner, PhaseConfig(decoder=False))
    end = weights(captioner)
    take_steps(captioner, prepared, optimizer, 2)
    assert moved(captioner, end) == everything - decoder - STILL - FIRST_LAYER - LAST_LAYERS


def test_gate_of_the_word_bias_trains_though_gpt2_is_frozen(make_captioner: Callable[[str], Captioner]) -> None:
    captioner = make_captioner("+graph")
    captioner.decoder.word_bias = GatedWordBiasConfig().build(captioner.decoder.width)
    set_trainable(captioner, PhaseConfig(decoder=False))
    decoder = captioner.decoder.named_parameters()
    gate = {"word_bias.gate", "word_bias.gate_bias", "word_bias.log_scale"}
    assert {name for name, parameter in decoder if parameter.requires_grad} == gate
    undecayed = {
        id(p) for g in parameter_groups(captioner, TrainConfig()) if not g["weight_decay"] for p in g["params"]
    }
    assert {id(parameter) for parameter in captioner.decoder.word_bias.parameters()} <= undecayed


def test_head_stays_in_evaluation_mode_while_the_rest_trains(make_captioner: Callable[[str], Captioner]) -> None:
    captioner = make_captioner("+graph").train()
    assert captioner.decoder.training
    assert captioner.adapter.training
    assert not captioner.clip_head.training


@pytest.mark.parametrize("arm", ["+graph+guidance", "clipcap"])
def test_every_parameter_is_in_one_group(make_captioner: Callable[[str], Captioner], arm: str) -> None:
    captioner = make_captioner(arm)
    grouped = [id(parameter) for group in parameter_groups(captioner, TrainConfig()) for parameter in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in captioner.parameters()}


def test_matrices_decay_and_biases_norms_embeddings_and_scalars_do_not(
    make_captioner: Callable[[str], Captioner],
) -> None:
    """Read off the effect: under a gradient of zero AdamW moves a parameter by its decay alone."""
    captioner = make_captioner("+graph+guidance")
    optimizer = optimizer_of(captioner)
    with torch.no_grad():
        for parameter in captioner.parameters():
            parameter.add_(1.0)  # zero decays to zero
            parameter.grad = torch.zeros_like(parameter)
    before = weights(captioner)
    optimizer.step()
    decayed = moved(captioner, before)
    spared = (
        "norm",
        ".ln_",
        "wte",
        "wpe",
        "_type.",
        "log_temperature",
        "log_scale",
        "word_bias.gate",
        "keyword_score",
        "keyword_kind",
        "heads.mix",
    )
    wanted = {name for name in before if not name.endswith("bias") and not any(part in name for part in spared)}
    assert decayed == wanted
    assert len(wanted) > 10
    for name, parameter in captioner.named_parameters():
        if name in decayed:
            lr = 1.5e-4 if name.startswith("clip_head.") else 1.5e-3
            torch.testing.assert_close(parameter.detach(), before[name] * (1 - lr * 0.5), rtol=1e-6, atol=0)


def test_head_learns_at_its_own_rate(make_captioner: Callable[[str], Captioner]) -> None:
    captioner = make_captioner("+graph")
    head = {id(parameter) for parameter in captioner.clip_head.parameters()}
    for group in parameter_groups(captioner, TrainConfig(lr=0.01, clip_lr=0.25)):
        in_head = {id(parameter) in head for parameter in group["params"]}
        assert in_head == ({True} if group["peak"] == 0.0025 else {False})
        assert group["peak"] in (0.01, 0.0025)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PhaseConfig(share=1.5), r"a phase's share must lie in \[0, 1\], got 1\.5"),
        (lambda: PhaseConfig(clip_layers=-1), r"clip_layers must not be negative, got -1"),
        (lambda: TrainConfig(steps=0), r"train\.steps must be at least 1, got 0"),
        (lambda: TrainConfig(images_per_step=0), r"train\.images_per_step must be at least 1"),
        (lambda: TrainConfig(captions_per_image=0), r"train\.captions_per_image must be at least 1"),
        (lambda: TrainConfig(evaluations=0), r"train\.evaluations must be at least 1"),
        (lambda: TrainConfig(evaluation_images=0), r"train\.evaluation_images must be at least 1"),
        (lambda: TrainConfig(lr=0.0), r"train\.lr must be positive, got 0"),
        (lambda: TrainConfig(clip_norm=0.0), r"train\.clip_norm must be positive"),
        (lambda: TrainConfig(warmup=-1), r"train\.warmup must not be negative"),
        (lambda: TrainConfig(weight_decay=-1.0), r"train\.weight_decay must not be negative"),
        (lambda: TrainConfig(clip_lr=-1.0), r"train\.clip_lr must not be negative"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
