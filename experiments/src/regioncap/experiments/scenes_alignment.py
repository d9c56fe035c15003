"""Train a small BERT and a CLIP-style head together, over stored image vectors."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from regioncap.encoders import ClipHead, RetrievalRecall, TextEncoder, arithmetic, info_nce, retrieval_recall


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentConfig:
    """How text encoder and head learn; unlike `ContrastiveConfig`, the text encoder is trained too."""

    steps: int = 600
    """Optimiser steps."""
    batch_size: int = 160
    """Images a step; every other image of the step is a negative."""
    captions_per_image: int = 2
    """Captions drawn per image and step; capped at those there are."""
    learning_rate: float = 2e-3
    """AdamW's peak rate, after a linear warm-up over the first tenth of the steps and before a cosine to zero."""
    weight_decay: float = 0.1
    """AdamW's decay of weight matrices; biases, norms and the temperature do not decay."""
    seed: int = 0
    """Of the order of images, the captions drawn and dropout."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 2), ("captions_per_image", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"alignment.{name} must be at least {least}, got {getattr(self, name)}")
        if not self.learning_rate > 0.0:
            raise ValueError(f"alignment.learning_rate must be positive, got {self.learning_rate}")
        if self.weight_decay < 0.0:
            raise ValueError(f"alignment.weight_decay must not be negative, got {self.weight_decay}")


def train_alignment(
    text_encoder: TextEncoder,
    head: ClipHead,
    pooled: Float[Tensor, "n G"],
    captions: Sequence[Sequence[str]],
    config: AlignmentConfig,
    report: Callable[[int, Mapping[str, float]], None],
) -> None:
    """Train both in place by symmetric InfoNCE; leaves them in evaluation mode.

    `report` gets the step's number from 1 and its `loss`. Raises ValueError if a batch does not fill, or an image has
    no caption.
    """
    n = len(pooled)
    if n != len(captions) or n < config.batch_size:
        raise ValueError(
            f"alignment wants captions for every image and at least {config.batch_size} images (alignment.batch_size), "
            f"got {n} images and captions of {len(captions)}"
        )
    drawn = min(config.captions_per_image, min(len(own) for own in captions))
    if drawn < 1:
        raise ValueError("alignment wants a caption for every image, got an image without")
    parameters = [*text_encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config.steps))
    text_encoder.train()
    head.train()
    # The fused attention's backward in bfloat16 takes 2.4 times the whole step's time on a CPU.
    text_encoder.model.set_attn_implementation("eager")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        order = torch.empty(0, dtype=torch.long)
        for step in range(1, config.steps + 1):
            if len(order) < config.batch_size:
                order = torch.randperm(n)
            batch, order = order[: config.batch_size], order[config.batch_size :]
            texts = [captions[i][k] for i in batch.tolist() for k in torch.randperm(len(captions[i]))[:drawn].tolist()]
            with arithmetic("cpu", "bfloat16"):
                states = text_encoder(texts)
            embedded = head.embed_text(states.float()).view(len(batch), drawn, head.dim)
            loss = info_nce(head.embed_image(pooled[batch]), embedded, head.scale)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            report(step, {"loss": loss.item()})
    text_encoder.model.set_attn_implementation("sdpa")
    text_encoder.eval()
    head.eval()


@torch.no_grad()
def measure_alignment(
    text_encoder: TextEncoder, head: ClipHead, pooled: Float[Tensor, "n G"], captions: Sequence[Sequence[str]]
) -> RetrievalRecall:
    """Retrieval among all these images and all their captions."""
    owners = torch.tensor([i for i, own in enumerate(captions) for _ in own])
    texts = head.embed_text(text_encoder.embed([caption for own in captions for caption in own]))
    return retrieval_recall(head.embed_image(pooled), texts, owners)


def _rate(step: int, steps: int) -> float:
    warmup = max(1, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
