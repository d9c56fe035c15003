import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from regioncap.decoder import GatedWordBiasConfig
from regioncap.encoders import ClipLoraConfig
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from regioncap.experiments.config import Experiment
from regioncap.experiments.metrics import CaptionScorer
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.config import TrainConfig
from regioncap.experiments.training.length import with_steps
from regioncap.experiments.training.objectives.caption import CaptionObjectiveConfig
from regioncap.experiments.training.phases import PhaseConfig, PhasePlan, parameter_groups, set_trainable
from regioncap.experiments.training.train import train

STILL = {"clip_head.log_scale", "clip_head.text_projection.weight", "clip_head.text_projection.bias"}
FIRST_LAYER = {"clip_head.image_layers.0.weight", "clip_head.image_layers.0.bias"}
LAST_LAYERS = {f"clip_head.image_layers.{layer}.{kind}" for layer in (1, 2) for kind in ("weight", "bias")}


def take_steps(captioner: Captioner, prepared: Prepared, optimizer: torch.optim.Optimizer, steps: int) -> None:
    captioner.train()
    rows = torch.arange(8)
    for _ in range(steps):
        condition = captioner.condition(*prepared.seen(rows))
        picked = prepared.captions.pick(rows, 2, torch.Generator().manual_seed(0))
        objective = CaptionObjectiveConfig().build(prepared.lessons, captioner.dim)
        terms = objective(captioner, condition, picked).terms
        loss = torch.stack([objective.weights[name] * terms[name] for name in terms]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def moved(captioner: Captioner, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, parameter in captioner.named_parameters() if not torch.equal(parameter, before[name])}


def weights(captioner: Captioner) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in captioner.named_parameters()}


def optimizer_of(captioner: Captioner) -> torch.optim.AdamW:
    """As training builds it."""
    return torch.optim.AdamW(parameter_groups(captioner, (), TrainConfig(weight_decay=0.5)), betas=(0.9, 0.98))


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
        id(p) for g in parameter_groups(captioner, (), TrainConfig()) if not g["weight_decay"] for p in g["params"]
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
    grouped = [
        id(parameter) for group in parameter_groups(captioner, (), TrainConfig()) for parameter in group["params"]
    ]
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
            torch.testing.assert_close(parameter.detach(), before[name] * (1 - 1.5e-3 * 0.5), rtol=1e-6, atol=0)


def test_groups_are_head_decoder_and_stages(make_captioner: Callable[[str], Captioner]) -> None:
    captioner = make_captioner("+graph")
    own = nn.Linear(2, 2)
    named = {id(parameter): name for name, parameter in captioner.named_parameters()}
    named |= {id(parameter): "own" for parameter in own.parameters()}
    found: dict[str, set[str]] = {}
    for group in parameter_groups(captioner, own.parameters(), TrainConfig()):
        found.setdefault(group["name"], set()).update(named[id(parameter)] for parameter in group["params"])
    assert found["clip_head"] == {name for name in named.values() if name.startswith("clip_head.")}
    assert found["decoder"] == {name for name in named.values() if name.startswith("decoder.model.")}
    assert found["stages"] == set(named.values()) - found["clip_head"] - found["decoder"]


TWO = {"first": PhaseConfig(share=0.3), "second": PhaseConfig(share=0.7, lr=0.5, decoder_lr=0.2, clip_lr=0.25)}


def test_rates_are_a_phases_own_for_every_group() -> None:
    plan = PhasePlan(**TWO, train=TrainConfig(steps=10, lr=0.01, warmup=0, schedule="step"), steps_per_epoch=100)
    assert [plan.at(step) is plan.first for step in range(10)] == [True] * 3 + [False] * 7
    assert [step for step in range(10) if plan.begins(step)] == [0, 3]
    assert [plan.lr(0, group) for group in ("stages", "decoder", "clip_head")] == pytest.approx([0.01, 0.01, 0.001])
    assert [plan.lr(3, group) for group in ("stages", "decoder", "clip_head")] == pytest.approx([0.005, 0.001, 0.00125])


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_a_phase_may_have_a_schedule_that_begins_with_it(schedule: Literal["cosine", "step"]) -> None:
    train = TrainConfig(steps=40, lr=0.01, warmup=2)
    alone = PhasePlan(
        first=PhaseConfig(share=1.0, schedule=schedule),
        second=PhaseConfig(share=0.0),
        train=replace(train, steps=20),
        steps_per_epoch=7,
    )
    both = PhasePlan(
        first=PhaseConfig(share=0.5, schedule=schedule),
        second=PhaseConfig(share=0.5, schedule=schedule),
        train=train,
        steps_per_epoch=7,
    )
    for step in range(20):
        assert both.lr(step, "stages") == both.lr(20 + step, "stages") == alone.lr(step, "stages")
    assert both.lr(20, "stages") == 0.005  # the warm-up's first of two steps
    whole = PhasePlan(first=PhaseConfig(), second=PhaseConfig(), train=train, steps_per_epoch=7)
    assert whole.lr(20, "stages") == pytest.approx(0.01 * 0.5 * (1 + math.cos(math.pi * 18 / 38)))


def test_frozen_stages_stand_still_and_the_others_do_not(make_captioner: Callable[[str], Captioner]) -> None:
    captioner = make_captioner("+graph+guidance")
    for stage in ("adapter", "graph", "fusion", "guidance", "prefix", "text_projection"):
        set_trainable(captioner, PhaseConfig(frozen=(stage,)))
        still = {name.split(".")[0] for name, parameter in captioner.named_parameters() if not parameter.requires_grad}
        assert still == {stage, "clip_head", "keyword_heads"}


def test_adapters_of_the_head_train_in_the_place_of_its_layers(
    tiny: Experiment, prepared: Prepared, scorer: CaptionScorer, tmp_path: Path
) -> None:
    """LoRA on CLIP as a phase: it moves in the second, its layers in neither; a checkpoint says the same."""
    experiment = replace(tiny, clip_lora=ClipLoraConfig(rank=2), train=replace(tiny.train, lr=1e-2))
    assert experiment.phase2.clip_layers == 2
    trained = train(experiment, prepared, scorer)
    before = prepared.clip_head.state_dict()
    head = trained.captioner.clip_head
    adapters = {name: tensor for name, tensor in head.state_dict().items() if ".lora_B" in name}
    moved = {name for name, tensor in adapters.items() if tensor.abs().sum() > 0}
    assert {name.split(".lora_")[0] for name in moved} == {"image_layers.1", "image_layers.2"}
    assert {name.split(".lora_")[0] for name in adapters} == {f"image_layers.{i}" for i in range(3)}
    for name, tensor in before.items():
        if name.startswith("image_layers"):
            layer, kind = name.rsplit(".", 1)
            assert torch.equal(head.state_dict()[f"{layer}.base_layer.{kind}"], tensor)
    checkpoint = Checkpoint.of(experiment, trained.captioner, prepared)
    save_checkpoint(checkpoint, tmp_path / "checkpoint")
    loaded = load_checkpoint(tmp_path / "checkpoint").captioner
    pooled = prepared.dev.pooled(torch.arange(4))
    assert torch.equal(loaded.embed_image(pooled), trained.captioner.embed_image(pooled))


def test_epochs_become_steps_of_the_data_set(tiny: Experiment) -> None:
    experiment = replace(tiny, phase1=PhaseConfig(epochs=1.5), phase2=PhaseConfig(epochs=3.0, clip_layers=2))
    found = with_steps(experiment, images=24)  # 6 steps of 4 images each
    assert found.train.steps == 27
    plan = PhasePlan(first=found.phase1, second=found.phase2, train=found.train, steps_per_epoch=6)
    assert plan.boundary == 9
    assert found.phase2.clip_layers == 2
    assert with_steps(found, images=24) is found
    with pytest.raises(ValueError, match=r"phase1\.epochs is 2\.0 and phase2\.epochs None: give both"):
        replace(tiny, phase1=PhaseConfig(epochs=2.0))
    with pytest.raises(ValueError, match="are both 0"):
        replace(tiny, phase1=PhaseConfig(epochs=0.0), phase2=PhaseConfig(epochs=0.0))
    with pytest.raises(ValueError, match=r"phase1\.share and phase2\.share must add up to 1, got 0\.3 and 0\.5"):
        replace(tiny, phase1=PhaseConfig(share=0.3), phase2=PhaseConfig(share=0.5))


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
        (lambda: PhaseConfig(clip_lr=-1.0), r"clip_lr must not be negative"),
        (lambda: PhaseConfig(epochs=-1.0), r"epochs must not be negative, got -1"),
        (lambda: TrainConfig(accumulate=0), r"train\.accumulate must be at least 1"),
        (lambda: TrainConfig(accumulate=17), r"train\.accumulate must not exceed train\.images_per_step 16, got 17"),
        (lambda: TrainConfig(ema=1.0), r"train\.ema must lie in \[0, 1\), got 1"),
        (lambda: TrainConfig(save_every=0), r"train\.save_every must be at least 1"),
        (lambda: TrainConfig(patience=-1), r"train\.patience must not be negative"),
        (lambda: TrainConfig(explode=-1.0), r"train\.explode must not be negative"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
