"""The two phases of training as data: what moves in each, for how long, and at which rate."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from regioncap.encoders.clip_lora import adapters_of
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.training.config import TrainConfig
from regioncap.experiments.training.schedule import learning_rate_factor

Stage = Literal["adapter", "graph", "fusion", "guidance", "prefix", "text_projection"]
"""Stages that no phase of the paper freezes."""
Group = Literal["stages", "decoder", "clip_head"]
"""Parameters with a learning rate of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseConfig:
    """One phase. What it does not freeze trains: adapter, graph, fusion, guidance, prefix, the gate of the word bias
    and the text projection; the decoder and the CLIP-style head as it says."""

    share: float = 0.5
    """Share of all training steps; the phases' shares add up to 1."""
    epochs: float | None = None
    """Length in passes over the training images, in the place of `share` and `train.steps`; both phases say it or
    none."""
    frozen: tuple[Stage, ...] = ()
    """Stages that stand still."""
    decoder: bool = True
    """Whether GPT-2 trains, or its adapters where it has some (`decoder.lora`). The paper freezes a pre-trained one in
    phase 1; one that starts from random weights has to learn its language in both."""
    clip_layers: int = 0
    """Last layers of the CLIP-style head that train (the paper: 0, then 2), or their adapters where it has some
    (`clip_lora`)."""
    lr: float = 1.0
    """Peak learning rate of this phase, as a factor of `train.lr`."""
    decoder_lr: float = 1.0
    """That of GPT-2, as a further factor."""
    clip_lr: float = 0.1
    """That of the CLIP-style head's layers, as a further factor."""
    schedule: Literal["run", "cosine", "step"] = "run"
    """`run`: `train.schedule` over both phases. `cosine`, `step`: its own, which begins with the phase, warm-up
    included."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"a phase's share must lie in [0, 1], got {self.share}")
        if self.epochs is not None and self.epochs < 0:
            raise ValueError(f"a phase's epochs must not be negative, got {self.epochs}")
        if self.clip_layers < 0:
            raise ValueError(f"a phase's clip_layers must not be negative, got {self.clip_layers}")
        for name in ("lr", "decoder_lr", "clip_lr"):
            if getattr(self, name) < 0:
                raise ValueError(f"a phase's {name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePlan:
    """Which phase each step belongs to, and the learning rates there."""

    first: PhaseConfig
    second: PhaseConfig
    train: TrainConfig
    steps_per_epoch: int

    @property
    def boundary(self) -> int:
        """Steps of the first phase."""
        return round(self.train.steps * self.first.share)

    def at(self, step: int) -> PhaseConfig:
        """The phase that a step (from 0) belongs to."""
        return self.first if step < self.boundary else self.second

    def begins(self, step: int) -> bool:
        """Whether a step is the first of its phase."""
        return step in (0, self.boundary)

    def lr(self, step: int, group: Group) -> float:
        """The learning rate of a group of parameters at a step."""
        phase, train = self.at(step), self.train
        schedule, begin, length = train.schedule, 0, train.steps
        if phase.schedule != "run":
            schedule = phase.schedule
            begin, length = (0, self.boundary) if phase is self.first else (self.boundary, train.steps - self.boundary)
        factor = learning_rate_factor(
            step - begin, length, warmup=train.warmup, schedule=schedule, steps_per_epoch=self.steps_per_epoch
        )
        own = {"stages": 1.0, "decoder": phase.decoder_lr, "clip_head": phase.clip_lr}[group]
        return train.lr * phase.lr * own * factor


def check_phases(phase1: PhaseConfig, phase2: PhaseConfig) -> None:
    """Raises ValueError where two phases are not the halves of one training."""
    if (phase1.epochs is None) != (phase2.epochs is None):
        raise ValueError(
            f"phase1.epochs is {phase1.epochs} and phase2.epochs {phase2.epochs}: give both, or neither and train.steps"
        )
    if phase1.epochs is not None and phase1.epochs + (phase2.epochs or 0) == 0:
        raise ValueError("phase1.epochs and phase2.epochs are both 0: give one of them some")
    if phase1.epochs is None and abs(phase1.share + phase2.share - 1) > 1e-6:
        raise ValueError(f"phase1.share and phase2.share must add up to 1, got {phase1.share} and {phase2.share}")


def set_trainable(captioner: Captioner, phase: PhaseConfig) -> None:
    """Freeze and unfreeze parameters as the phase says."""
    captioner.requires_grad_(True)
    captioner.keyword_heads.requires_grad_(False)
    for stage in phase.frozen:
        captioner.get_submodule(stage).requires_grad_(False)
    captioner.clip_head.requires_grad_(False)
    adapters = {id(parameter) for parameter in adapters_of(captioner.clip_head)}
    for parameter in captioner.clip_head.last_layers(phase.clip_layers):
        parameter.requires_grad_(not adapters or id(parameter) in adapters)
    captioner.decoder.requires_grad_(False)
    for parameter in captioner.decoder.trained():
        parameter.requires_grad_(phase.decoder)
    captioner.decoder.word_bias.requires_grad_(True)


def parameter_groups(captioner: Captioner, others: Iterable[nn.Parameter], train: TrainConfig) -> list[dict[str, Any]]:
    """Groups for AdamW over every parameter: (stages | decoder | CLIP-style head) x (decays | does not).

    Those that a phase freezes have no gradient, and AdamW passes over them; so one optimiser serves both phases and
    keeps its moments from the first to the second. `others` are an objective's own and count as a stage's.
    """
    undecayed = {
        id(parameter)
        for module in captioner.modules()
        if isinstance(module, nn.LayerNorm | nn.Embedding)
        for parameter in module.parameters(recurse=False)
    }
    head = {id(parameter) for parameter in captioner.clip_head.parameters()}
    decoder = {id(parameter) for parameter in captioner.decoder.model.parameters()}
    groups: dict[tuple[Group, bool], list[nn.Parameter]] = {}
    for parameter in (*captioner.parameters(), *others):
        decays = parameter.ndim > 1 and id(parameter) not in undecayed
        name: Group = "clip_head" if id(parameter) in head else "decoder" if id(parameter) in decoder else "stages"
        groups.setdefault((name, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "name": name,
            "lr": train.lr,  # AdamW wants one; `PhasePlan.lr` sets it anew at every step
            "weight_decay": train.weight_decay if decays else 0.0,
        }
        for (name, decays), parameters in groups.items()
    ]
