"""Teaching keyword heads by the words of training captions, and of the phrases of human boxes."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regioncap.guidance.bank import KeywordBank
from regioncap.guidance.keyword_heads import KeywordHeads, KeywordHeadsConfig, KeywordInputs, KeywordQueries
from regioncap.guidance.keyword_targets import KeywordTargets
from regioncap.guidance.learned_scores import LearnedScores, image_gains

Read = Callable[[Int[Tensor, "B"]], KeywordInputs]
"""Features of the images in these rows."""
Report = Callable[[int, Mapping[str, float]], None]
"""Called after every epoch, counted from 1, with its mean losses."""

CALIBRATION_IMAGES = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordTrainingConfig:
    """How keyword heads are taught."""

    heads: KeywordHeadsConfig = field(default_factory=KeywordHeadsConfig)
    keys: Literal["text", "learned"] = "text"
    """Where in text space a word is looked for: where the text encoder has it, or where it is `learned` to tell it from
    others best. Words that are added later lie where the text encoder has them."""
    epochs: int = 4
    """Passes over the training images."""
    batch_size: int = 64
    """Images a step."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """`bf16` runs matrix products under autocast, where the processor has bfloat16."""
    learning_rate: float = 2e-3
    """AdamW's peak rate, after a linear warm-up over the first tenth of the steps and before a cosine to zero."""
    weight_decay: float = 0.01
    folds: int = 4
    """Folds of cross-fitting: what a training image's captioner is told comes from heads that never saw the image."""
    seed: int = 0
    """Of the weights, the order of images and dropout."""

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("folds", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"keywords.{name} must be at least {least}, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"keywords.learning_rate must be positive, got {self.learning_rate}")
        if self.weight_decay < 0:
            raise ValueError(f"keywords.weight_decay must not be negative, got {self.weight_decay}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeywordShares:
    """How frequent each word is in training, to which the heads' evidence is added, and where heads look for it."""

    scene: Float[Tensor, " Ws"]
    detail: Float[Tensor, " Wd"]
    regions: Float[Tensor, " Wd"]
    scene_keys: Float[Tensor, "Ws E"] | None = None
    """Where words of the scene bank have been learned to lie; None for where the text encoder has them."""
    detail_keys: Float[Tensor, "Wd F"] | None = None
    """The same for the detail bank, of images and of regions."""

    @classmethod
    def of(
        cls, targets: KeywordTargets, scene_words: int, detail_words: int, regions_per_image: float
    ) -> "KeywordShares":
        """The mean shares. Without phrases a word of an image is one of a region with 1 / (regions per image)."""
        detail = targets.detail.mean(detail_words)
        if targets.regions is None:
            regions = detail / max(1.0, regions_per_image)
        else:
            regions = targets.regions.shares.mean(detail_words)
        return cls(scene=targets.scene.mean(scene_words), detail=detail, regions=regions)


class KeywordTeacher:
    """Teaches heads on images by rows; one teacher serves the folds and the heads for new images.

        L = sum_w BCE(s_w, y_w) for scene words + detail words + region words,   s_w of `LearnedScores`
    y_w is the share of an image's captions that hold w. A region that matches a human box learns from the box's
    phrases; where no phrase has a box, a word of the image must be one of some region (noisy-or, Fang et al. 2015):
    p_w = 1 - prod_i (1 - sigmoid(s_iw)). n images, N regions.
    """

    def __init__(
        self, config: KeywordTrainingConfig, read: Read, targets: KeywordTargets, banks: tuple[KeywordBank, KeywordBank]
    ) -> None:
        if len(targets.scene) < 2:
            raise ValueError(f"keyword heads need at least 2 training images, got {len(targets.scene)}")
        self.config, self.targets = config, targets
        self._read, self._banks = read, banks
        some = torch.arange(len(targets.scene))[:: max(1, len(targets.scene) // CALIBRATION_IMAGES)]
        self._some = read(some)
        regions = self._some.valid.sum(1).float().mean().item()
        self._shares = KeywordShares.of(targets, len(banks[0]), len(banks[1]), regions)
        self._scene, self._detail, self._regions = (LearnedScores(bank) for bank in (*banks, banks[1]))
        self._regions.keys = self._detail.keys
        for scores, shares in zip(
            (self._scene, self._detail, self._regions),
            (self._shares.scene, self._shares.detail, self._shares.regions),
            strict=True,
        ):
            scores.set_shares(shares)

    @property
    def shares(self) -> KeywordShares:
        """How frequent words are, and their keys as far as they have been learned by now."""
        if self.config.keys == "text":
            return self._shares
        return replace(self._shares, scene_keys=self._scene.keys.clone(), detail_keys=self._detail.keys.clone())

    def teach_all(self) -> Iterator[KeywordHeads]:
        """Heads for new images, then those of each fold, which did not see its images.

        Heads of folds look for words where those for new images learned to, or a word would lie elsewhere for each of
        them. They start from weights of their own: the keys came to fit those that the first ones started from, and
        with them what these learned by heart.
        """
        everything = torch.arange(len(self.targets.scene))
        fold = fold_of(everything, self.config.folds)
        yield self.teach(everything, learn_keys=self.config.keys == "learned")
        for number in range(self.config.folds):
            yield self.teach((fold != number).nonzero()[:, 0], start=number + 1)

    def teach(
        self,
        rows: Int[Tensor, " n"],
        report: Report = lambda epoch, losses: None,
        *,
        learn_keys: bool = False,
        start: int = 0,
    ) -> KeywordHeads:
        """Heads fitted on the images in `rows`, in evaluation mode. The caller's random state stays as it was.

        `learn_keys` moves the keys with them, for all heads taught later; each `start` has first weights of its own.
        """
        config = self.config
        keys = [self._scene.keys, self._detail.keys] if learn_keys else []
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(config.seed + start)
            pooled, regions = self._some.pooled.shape[-1], self._some.regions.shape[-1]
            heads = config.heads.build(pooled, regions, *self._banks)
            heads.calibrate(self._some)
            groups = [
                {"params": [*heads.parameters()], "weight_decay": config.weight_decay},
                {"params": [key.requires_grad_() for key in keys], "weight_decay": 0.0},
            ]
            optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
            # A processor without bfloat16 emulates it, in many times the time.
            half = config.precision == "bf16" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
            batches = max(1, len(rows) // config.batch_size)
            total = batches * config.epochs
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, total))
            for epoch in range(1, config.epochs + 1):
                sums: dict[str, float] = {}
                for batch in rows[torch.randperm(len(rows))].tensor_split(batches):
                    with torch.autocast("cpu", torch.bfloat16, enabled=half):
                        losses = self._losses(heads, batch)
                    optimizer.zero_grad(set_to_none=True)
                    torch.stack(list(losses.values())).sum().backward()
                    optimizer.step()
                    schedule.step()
                    for name, loss in losses.items():
                        sums[name] = sums.get(name, 0.0) + loss.item() / batches
                report(epoch, sums)
        for key in keys:
            key.requires_grad_(False)
        return heads.eval().requires_grad_(False)

    def _losses(self, heads: KeywordHeads, batch: Int[Tensor, "B"]) -> dict[str, Float[Tensor, ""]]:
        inputs = self._read(batch)
        said = heads(inputs)
        targets = self.targets
        scene = targets.scene.dense(batch, len(self._banks[0]))
        detail = targets.detail.dense(batch, len(self._banks[1]))
        of_regions = self._regions.gains(said.regions)  # B N W
        of_image = image_gains(self._detail.gains(said.detail), of_regions, inputs.valid, said.mix)
        return {
            "scene": _bce(self._scene.all(said.scene), scene),
            "detail": _bce(of_image + self._detail.prior, detail),
            "regions": self._region_loss(of_regions + self._regions.prior, inputs.valid, batch, detail),
        }

    def _region_loss(
        self,
        scores: Float[Tensor, "B N W"],
        valid: Bool[Tensor, "B N"],
        batch: Int[Tensor, "B"],
        detail: Float[Tensor, "B W"],
    ) -> Float[Tensor, ""]:
        if self.targets.regions is None:
            absent = F.softplus(scores) * valid[..., None]  # -log(1 - p), B N W
            nowhere = absent.sum(1).clamp(min=1e-6)
            somewhere = torch.log(-torch.expm1(-nowhere))
            return -(detail * somewhere - (1 - detail) * nowhere).sum(-1).mean()
        place = self.targets.regions.at(batch, valid.shape[1])
        shares = self.targets.regions.shares
        named = shares.any_of(place) & valid
        if not bool(named.any()):
            return scores.sum() * 0
        wanted = shares.dense(place[named], len(self._banks[1]))
        return _bce(scores[named], wanted)


def fold_of(rows: Int[Tensor, " n"], folds: int) -> Int[Tensor, " n"]:
    """The fold of these training images: image i belongs to fold i mod `folds`."""
    return rows % folds


def held_out_queries(heads: Sequence[KeywordHeads], folds: Int[Tensor, "B"], inputs: KeywordInputs) -> KeywordQueries:
    """What each image's own heads say of it: `heads[f]` never saw the images of fold f."""
    parts = {int(fold): (folds == fold).nonzero()[:, 0] for fold in folds.unique()}
    said = {fold: heads[fold](_rows(inputs, rows)) for fold, rows in parts.items()}
    order = torch.cat(list(parts.values())).argsort()
    scene, detail, regions, mix = (
        torch.cat([getattr(own, name) for own in said.values()])[order]
        for name in ("scene", "detail", "regions", "mix")
    )
    return KeywordQueries(scene=scene, detail=detail, regions=regions, mix=mix)


def _rows(inputs: KeywordInputs, rows: Int[Tensor, "b"]) -> KeywordInputs:
    return KeywordInputs(
        pooled=inputs.pooled[rows], regions=inputs.regions[rows], boxes=inputs.boxes[rows], valid=inputs.valid[rows]
    )


def _bce(scores: Float[Tensor, "n W"], shares: Float[Tensor, "n W"]) -> Float[Tensor, ""]:
    """Summed over the words, so that a large bank does not water down the few that are right."""
    return F.binary_cross_entropy_with_logits(scores, shares, reduction="sum") / len(scores)


def _rate(step: int, total: int) -> float:
    """Share of the peak rate: linear warm-up over the first tenth, then a cosine to zero."""
    warmup = max(1, total // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
