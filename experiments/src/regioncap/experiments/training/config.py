"""Length, batches, optimiser, evaluations and safety of training."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What holds in every phase; `PhaseConfig` has what differs from one to the next."""

    steps: int = 1300
    """Optimiser steps of both phases together; where phases count epochs, these decide."""
    images_per_step: int = 16
    """Images of an optimiser step, over all processes and accumulated parts together: how many they are changes
    nothing in what is learned."""
    captions_per_image: int = 5
    """Captions of an image in a step; its prefix is computed once for all of them."""
    accumulate: int = 1
    """Parts that a process takes its images of a step in, one after the other: a part's memory, a step's gradient."""
    lr: float = 1.5e-3
    """Peak learning rate of AdamW; phases have factors for it."""
    schedule: Literal["cosine", "step"] = "cosine"
    """`cosine` to zero after the warm-up, or `step`: x 0.9 per epoch, as Table 2."""
    warmup: int = 100
    """Steps of linear warm-up."""
    weight_decay: float = 0.05
    """Decay of weight matrices; biases, norms and embeddings do not decay."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm at most."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    """`bf16` and `fp16` run matrix products in half precision; `fp16` needs a GPU, and `bf16` is float32 on a
    processor that has no bfloat16."""
    device: Literal["auto", "cpu"] = "auto"
    """`auto`: a GPU where there is one."""
    compile: bool = False
    """Let torch.compile rewrite the step. It compiles for minutes, so not for a short run (docs/training.md)."""
    ema: float = 0.0
    """Decay per step of an exponential moving average of the weights, which then is what is evaluated and kept, such as
    0.999; 0 averages nothing."""
    evaluations: int = 6
    """Dev evaluations over the run, evenly spaced, the last one at the end."""
    evaluation_images: int = 200
    """Dev images that the curve is drawn from; the study's table uses all."""
    patience: int = 0
    """Training stops after so many evaluations in a row without a better dev CIDEr; 0 never stops early."""
    keep: Literal["last", "best"] = "last"
    """Which weights are the result: the last ones, or those of the evaluation of best dev CIDEr."""
    explode: float = 20.0
    """Training stops when the loss is so many times as high as that of the first step; 0 lets it go on unless it is no
    finite number."""
    save_every: int = 100
    """Steps between two saved states, from which a killed training goes on; one is saved at every evaluation too."""

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "images_per_step",
            "captions_per_image",
            "accumulate",
            "evaluations",
            "evaluation_images",
            "save_every",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "clip_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"train.{name} must be positive, got {getattr(self, name)}")
        for name in ("warmup", "weight_decay", "patience", "explode"):
            if getattr(self, name) < 0:
                raise ValueError(f"train.{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"train.ema must lie in [0, 1), got {self.ema}")
        if self.accumulate > self.images_per_step:
            raise ValueError(
                f"train.accumulate must not exceed train.images_per_step {self.images_per_step}, got {self.accumulate}"
            )
