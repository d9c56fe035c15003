"""The two phases of training as data: what moves in each, and at which rate."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from regioncap.experiments.captioner import Captioner


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseConfig:
    """One phase. Adapter, graph, fusion, guidance, prefix, the gate of the word bias and the text projection train in
    every phase."""

    share: float = 0.5
    """Share of all training steps; the phases' shares add up to 1."""
    decoder: bool = True
    """Whether GPT-2 trains, or its adapters where it has some (`decoder.lora`). The paper freezes a pre-trained one in
    phase 1; one that starts from random weights has to learn its language in both."""
    clip_layers: int = 0
    """Last layers of the CLIP-style head that train (the paper: 0, then 2)."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"a phase's share must lie in [0, 1], got {self.share}")
        if self.clip_layers < 0:
            raise ValueError(f"a phase's clip_layers must not be negative, got {self.clip_layers}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Length, batches and optimiser of training, over both phases."""

    steps: int = 1300
    """Optimiser steps of both phases together."""
    images_per_step: int = 16
    captions_per_image: int = 5
    """Captions of an image in a step; its prefix is computed once for all of them."""
    lr: float = 1.5e-3
    """Peak learning rate of AdamW."""
    clip_lr: float = 0.1
    """Learning rate of the CLIP-style head's unfrozen layers, as a factor of `lr`."""
    schedule: Literal["cosine", "step"] = "cosine"
    """`cosine` to zero after the warm-up, or `step`: x 0.9 per epoch, as Table 2."""
    warmup: int = 100
    """Steps of linear warm-up."""
    weight_decay: float = 0.05
    """Decay of weight matrices; biases, norms and embeddings do not decay."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm at most."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """`bf16` runs matrix products under autocast."""
    evaluations: int = 6
    """Dev evaluations over the run, evenly spaced, the last one at the end."""
    evaluation_images: int = 200
    """Dev images that the curve is drawn from; the study's table uses all."""

    def __post_init__(self) -> None:
        for name in ("steps", "images_per_step", "captions_per_image", "evaluations", "evaluation_images"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "clip_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"train.{name} must be positive, got {getattr(self, name)}")
        for name in ("warmup", "weight_decay", "clip_lr"):
            if getattr(self, name) < 0:
                raise ValueError(f"train.{name} must not be negative, got {getattr(self, name)}")


def set_trainable(captioner: Captioner, phase: PhaseConfig) -> None:
    """Freeze and unfreeze parameters as the phase says."""
    captioner.requires_grad_(True)
    captioner.keyword_heads.requires_grad_(False)
    captioner.clip_head.requires_grad_(False)
    for parameter in captioner.clip_head.last_layers(phase.clip_layers):
        parameter.requires_grad_(True)
    captioner.decoder.requires_grad_(False)
    for parameter in captioner.decoder.trained():
        parameter.requires_grad_(phase.decoder)
    captioner.decoder.word_bias.requires_grad_(True)


def parameter_groups(captioner: Captioner, train: TrainConfig) -> list[dict[str, Any]]:
    """Groups for AdamW over every parameter: (stages | CLIP-style head) x (decays | does not).

    Those that a phase freezes have no gradient, and AdamW passes over them; so one optimiser serves both phases and
    keeps its moments from the first to the second. `peak` is the group's learning rate at schedule factor 1.
    """
    undecayed = {
        id(parameter)
        for module in captioner.modules()
        if isinstance(module, nn.LayerNorm | nn.Embedding)
        for parameter in module.parameters(recurse=False)
    }
    head = {id(parameter) for parameter in captioner.clip_head.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in captioner.parameters():
        decays = parameter.ndim > 1 and id(parameter) not in undecayed
        groups.setdefault((id(parameter) in head, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "peak": train.lr * (train.clip_lr if in_head else 1.0),
            "weight_decay": train.weight_decay if decays else 0.0,
        }
        for (in_head, decays), parameters in groups.items()
    ]
