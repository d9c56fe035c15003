"""Adapters through both phases of training, a checkpoint, and back."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from regioncap.decoder import Gpt2DecoderConfig, LoraConfig
from regioncap.experiments.assemble import build_captioner
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from regioncap.experiments.config import Experiment
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.metrics import CaptionScorer, Scores
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.config import TrainConfig
from regioncap.experiments.training.engine import Trained
from regioncap.experiments.training.phases import PhaseConfig, parameter_groups, set_trainable
from regioncap.experiments.training.train import train


class NoScorer(CaptionScorer):
    """Where the curve's values do not matter."""

    def score(self, references: Any, candidates: Any, *arguments: Any, **settings: Any) -> Scores:
        return Scores(corpus={"CIDEr": 0.0}, per_image={}, missing={})


@pytest.fixture(scope="module")
def stored(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 that knows the study's words."""
    folder = tmp_path_factory.mktemp("stored") / "gpt2"
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(prepared.tokenizer), n_positions=64, n_embd=32, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapted(tiny: Experiment, stored: Path) -> Experiment:
    decoder = Gpt2DecoderConfig(weights=str(stored), dropout=0.0, lora=LoraConfig(rank=2, dropout=0.1))
    return replace(tiny, decoder=decoder, train=replace(tiny.train, steps=8, lr=1e-2))


@pytest.fixture(scope="module")
def outcome(adapted: Experiment, prepared: Prepared) -> Trained:
    return train(adapted, prepared, NoScorer())


def fresh(experiment: Experiment, prepared: Prepared) -> Captioner:
    return build_captioner(
        experiment,
        region_dim=prepared.train.region_dim,
        text_dim=prepared.text_dim,
        clip_head=prepared.clip_head,
        tokenizer=prepared.tokenizer,
        scene_bank=prepared.scene_bank,
        detail_bank=prepared.detail_bank,
    )


def checkpoint_of(experiment: Experiment, outcome: Trained, prepared: Prepared) -> Checkpoint:
    return Checkpoint.of(experiment, outcome.captioner, prepared)


@pytest.mark.parametrize("phase", [PhaseConfig(), PhaseConfig(decoder=False), PhaseConfig(clip_layers=2)])
def test_phases_free_the_adapters_and_never_what_they_adapt(
    adapted: Experiment, prepared: Prepared, phase: PhaseConfig
) -> None:
    captioner = fresh(adapted, prepared)
    set_trainable(captioner, phase)
    free = {name for name, p in captioner.decoder.named_parameters() if p.requires_grad}
    assert all(".lora_" in name for name in free)
    assert len(free) == (2 if phase.decoder else 0)
    assert all(p.requires_grad for p in captioner.prefix.parameters())


def test_training_moves_the_adapters_and_not_a_bit_of_the_stored_weights(
    adapted: Experiment, prepared: Prepared, outcome: Trained, stored: Path
) -> None:
    before = fresh(adapted, prepared).decoder.state_dict()
    moved = {n for n, tensor in outcome.captioner.decoder.state_dict().items() if not torch.equal(tensor, before[n])}
    assert moved == {name for name in before if ".lora_" in name}
    weights = GPT2LMHeadModel.from_pretrained(stored).transformer.wte.weight
    assert torch.equal(outcome.captioner.decoder.model.transformer.wte.weight, weights)


def test_parameters_that_train_are_counted_without_the_stored_ones(
    adapted: Experiment, prepared: Prepared, outcome: Trained
) -> None:
    everything = train(replace(adapted, decoder=replace(adapted.decoder, lora=LoraConfig())), prepared, NoScorer())
    frozen = sum(p.numel() for n, p in outcome.captioner.decoder.named_parameters() if ".lora_" not in n)
    adapters = sum(p.numel() for n, p in outcome.captioner.decoder.named_parameters() if ".lora_" in n)
    assert outcome.parameters == everything.parameters - frozen + adapters


def test_every_parameter_is_in_one_group(adapted: Experiment, prepared: Prepared) -> None:
    captioner = fresh(adapted, prepared)
    grouped = [id(p) for group in parameter_groups(captioner, (), TrainConfig()) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in captioner.parameters())


def test_checkpoint_says_the_same_where_the_stored_gpt2_is_gone(
    adapted: Experiment, prepared: Prepared, outcome: Trained, stored: Path, tmp_path: Path
) -> None:
    experiment = replace(adapted, decoder=replace(adapted.decoder, weights=str(tmp_path / "gone")))
    save_checkpoint(checkpoint_of(experiment, outcome, prepared), tmp_path / "checkpoint")
    loaded = load_checkpoint(tmp_path / "checkpoint")
    images = prepared.dev.images(torch.arange(8))
    one, other = (
        CaptionGenerator(c, prepared.tokenizer, adapted.search)(images, "abcdefgh")
        for c in (outcome.captioner, loaded.captioner)
    )
    assert one.texts == other.texts
    assert torch.equal(one.captions.scores, other.captions.scores)
    shutil.rmtree(tmp_path / "checkpoint" / "decoder")
    with pytest.raises(CheckpointError, match=r"decoder/config\.json"):
        load_checkpoint(tmp_path / "checkpoint")


def test_language_from_text_and_adapters_exclude_each_other(
    adapted: Experiment, prepared: Prepared, make_captioner: Callable[[str], Captioner]
) -> None:
    language = make_captioner("+graph").decoder.state_dict()
    with pytest.raises(ValueError, match=r"set language\.captions to None or decoder\.lora\.rank to 0"):
        train(adapted, prepared, NoScorer(), language=language)
