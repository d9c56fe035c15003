"""Train a CLIP-style head on stored features by symmetric InfoNCE, and measure retrieval."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from regioncap.encoders.clip_head import ClipHead


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastiveConfig:
    """How a `ClipHead` is trained."""

    epochs: int = 30
    """Passes over the images."""
    batch_size: int = 512
    """Images a step; every other image of the step is a negative."""
    captions_per_image: int = 1
    """Captions drawn per image and step; capped at those there are."""
    learning_rate: float = 1e-3
    """AdamW's peak rate, after a linear warm-up over the first tenth of the steps and before a cosine to zero."""
    weight_decay: float = 0.1
    """AdamW's decay of weight matrices; biases and the temperature do not decay."""
    seed: int = 0
    """Of the order of images, the captions drawn and dropout."""

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 2), ("captions_per_image", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"contrastive.{name} must be at least {least}, got {getattr(self, name)}")
        if not self.learning_rate > 0.0:
            raise ValueError(f"contrastive.learning_rate must be positive, got {self.learning_rate}")
        if self.weight_decay < 0.0:
            raise ValueError(f"contrastive.weight_decay must not be negative, got {self.weight_decay}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalRecall:
    """Recall at several depths, as fractions: k -> share of queries with a right answer among the first k."""

    image_to_text: Mapping[int, float]
    text_to_image: Mapping[int, float]


def train_clip_head(
    head: ClipHead,
    pooled: Float[Tensor, "n G"],
    text: Float[Tensor, "n C T"],
    config: ContrastiveConfig,
    report: Callable[[int, Mapping[str, float]], None] = lambda epoch, values: None,
) -> None:
    """Train `head` in place so that an image lies near its own captions and far from those of other images.

    The same seed gives the same head, whatever the caller's random state, which is left as it was. `report` gets the
    epoch's number from 1 and its mean `loss` and `temperature`. n images, C captions each: an image with fewer repeats
    some. Raises ValueError for fewer than two images.
    """
    n, captions = text.shape[:2]
    if n < 2:
        raise ValueError(f"contrastive training needs at least 2 images, got {n}")
    # Batches of equal size within one image: a small last batch would have few negatives, or none.
    batches = max(1, round(n / config.batch_size))
    total = batches * config.epochs
    optimizer = _optimizer(head, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, total))
    drawn = min(config.captions_per_image, captions)
    was_training = head.training
    head.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        for epoch in range(1, config.epochs + 1):
            losses = []
            for batch in torch.randperm(n).tensor_split(batches):
                choice = torch.rand(len(batch), captions).topk(drawn).indices  # B c
                images = head.embed_image(pooled[batch])
                texts = head.embed_text(text[batch.unsqueeze(1), choice].flatten(0, 1)).view(-1, drawn, head.dim)
                loss = info_nce(images, texts, head.scale)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
            report(epoch, {"loss": sum(losses) / len(losses), "temperature": 1.0 / head.scale.item()})
    head.train(was_training)


def info_nce(
    images: Float[Tensor, "B D"], texts: Float[Tensor, "B c D"], scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Return the symmetric InfoNCE loss of B images with c captions each, both L2-normalised.

        s_i,jk = scale * g_i . t_jk
        image to text: mean_{i,k} -log( exp s_i,ik / (exp s_i,ik + sum_{j != i, l} exp s_i,jl) )
        text to image: mean_{i,k} -log( exp s_i,ik / sum_j exp s_j,ik )
    Departs from CLIP, which has one caption an image: captions of one image are never each other's negatives. The
    paper names CLIP's loss and then writes the cosine (eq. 17); that one is an objective of the captioner.
    """
    if len(images) < 2:
        raise ValueError(f"InfoNCE needs at least 2 images for a negative, got {len(images)}")
    logits = scale * torch.einsum("id,jkd->ijk", images, texts)  # B B c
    own = torch.eye(len(images), dtype=torch.bool, device=images.device)
    positive = logits[own]  # B c
    negatives = logits.masked_fill(own.unsqueeze(-1), -torch.inf).flatten(1).logsumexp(1)  # B
    image_to_text = (torch.logaddexp(positive, negatives.unsqueeze(1)) - positive).mean()
    text_to_image = (logits.logsumexp(0) - positive).mean()
    return 0.5 * (image_to_text + text_to_image)


def retrieval_recall(
    images: Float[Tensor, "n D"],
    texts: Float[Tensor, "L D"],
    owners: Int[Tensor, " L"],
    depths: Sequence[int] = (1, 5, 10),
) -> RetrievalRecall:
    """Return recall at `depths` in both directions, among all `texts` and all `images` given.

    Text l describes image `owners[l]`. An image finds its text if any of its captions is among the first k; a wrong
    candidate that ties with the right one counts as before it. Every image must own a text.
    """
    similarity = images @ texts.T  # n L
    own = owners.unsqueeze(0) == torch.arange(len(images), device=owners.device).unsqueeze(1)  # n L
    if not bool(own.any(1).all()):
        raise ValueError(f"image {int((~own.any(1)).nonzero()[0])} owns no text: every image needs one to be found")
    wrong = similarity.masked_fill(own, -torch.inf)
    best = similarity.masked_fill(~own, -torch.inf).amax(1, keepdim=True)  # n 1
    image_rank = (wrong >= best).sum(1)
    text_rank = (wrong >= similarity[owners, torch.arange(len(texts))]).sum(0)
    return RetrievalRecall(
        image_to_text={k: (image_rank < k).float().mean().item() for k in depths},
        text_to_image={k: (text_rank < k).float().mean().item() for k in depths},
    )


def _optimizer(head: ClipHead, config: ContrastiveConfig) -> torch.optim.AdamW:
    matrices: list[nn.Parameter] = [p for p in head.parameters() if p.ndim > 1]
    vectors: list[nn.Parameter] = [p for p in head.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def _rate(step: int, total: int) -> float:
    """Return the share of the peak rate at a step: linear warm-up over the first tenth, then a cosine to zero."""
    warmup = max(1, total // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
