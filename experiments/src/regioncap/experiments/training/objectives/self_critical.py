"""Self-critical training: captions that the captioner draws itself, made likelier the more they beat a baseline."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from regioncap.decoder import Captions, IncrementalGpt2, Prefix, SearchConfig, Wording, draw_captions, search
from regioncap.encoders import ImageFeatures
from regioncap.experiments.captioner import Captioner, Condition
from regioncap.experiments.metrics.cider_d import CiderDScorer
from regioncap.experiments.training.objectives.objective import Lessons, Losses, Objective, Targets

_END = "<end>"
"""Stands for the end of a caption; no normalised caption holds such a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCriticalConfig:
    """What is drawn, what it is measured by, and what it has to beat."""

    samples: int = 5
    """Captions drawn of each image in a step (K)."""
    baseline: Literal["others", "greedy"] = "others"
    """What a caption has to beat: the mean reward of its image's `others` (Luo 2020, arXiv 2003.09971), or that of
    what `greedy` search says, as in Rennie et al. 2017."""
    temperature: float = 0.5
    """Of the softmax that captions are drawn from and made likelier in. Search looks for the likeliest captions: below
    1, those near them are drawn, and they rather than the whole distribution are what gets better."""
    max_new_tokens: int = 30
    """Longest drawn caption, eos included."""
    end: Literal["word", "silent"] = "word"
    """Whether the end of a caption is a `word` of the reward. Where it is `silent`, n-grams do not miss the words that
    a cut caption lacks, and captions learn to end in "with a"."""
    generation_weight: float = 0.0
    """Weight of the cross-entropy of training captions (eq. 16), drawn as for it, beside the reward."""

    def __post_init__(self) -> None:
        least = 2 if self.baseline == "others" else 1
        if self.samples < least:
            raise ValueError(
                f"objective.samples must be at least {least} where objective.baseline is {self.baseline}, got "
                f"{self.samples}"
            )
        if not self.temperature > 0:
            raise ValueError(f"objective.temperature must be positive, got {self.temperature}")
        if self.max_new_tokens < 1:
            raise ValueError(f"objective.max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not self.generation_weight >= 0:
            raise ValueError(f"objective.generation_weight must not be negative, got {self.generation_weight}")

    def build(self, lessons: Lessons, dim: int) -> "SelfCritical":
        """The objective over these training captions; a captioner's width does not matter to it."""
        return SelfCritical(self, lessons)


class SelfCritical(Objective):
    """Raises the expected CIDEr-D of drawn captions (Rennie et al. 2017, arXiv 1612.00563).

        L = -1 / (B K) sum_bk (r_bk - base_bk) log p(c_bk | image b),   c_bk ~ p,   base_bk = mean_{j != k} r_bj
    so that dL/dtheta is, in expectation, -dE[r]/dtheta. r is CIDEr-D against the image's training captions, with
    document frequencies of all training captions. p is the softmax of logits / temperature, and captions are drawn
    from p itself: no nucleus, no forbidden words, repeated captions kept. The decoder's dropout is off for what is
    drawn and for log p alike; that before the prefix is as it was when the prefix was computed. The gradient goes
    through the prefix into graph and guidance. What is drawn is decided by the numbers in `targets`, whichever way a
    batch is split.
    Departs from the source: the baseline and the temperature (see `SelfCriticalConfig`).
    B images, K samples, T tokens.
    """

    def __init__(self, config: SelfCriticalConfig, lessons: Lessons) -> None:
        super().__init__()
        self.config = config
        self._captions, self._tokenizer = lessons.captions, lessons.tokenizer
        self._wording = Wording.of(lessons.tokenizer)
        self._end = f" {_END}" if config.end == "word" else ""
        self._reward = CiderDScorer(
            [[self._tokenizer.normalise(caption) + self._end for caption in own] for own in lessons.references]
        )

    @property
    def weights(self) -> Mapping[str, float]:
        """Term -> its weight in the sum."""
        weight = self.config.generation_weight
        return {"policy": 1.0} | ({"generation": weight} if weight else {})

    def targets(self, rows: Int[Tensor, "B"], captions: int, chance: torch.Generator) -> Targets:
        """Rows B, the random numbers that words are drawn by B K T and, for cross-entropy, tokens and mask B C T2."""
        uniform = torch.rand(len(rows), self.config.samples, self.config.max_new_tokens, generator=chance)
        if not self.config.generation_weight:
            return rows, uniform
        tokens, mask, _ = self._captions.pick(rows, captions, chance)
        return rows, uniform, tokens, mask

    def counts(self, images: ImageFeatures, targets: Targets) -> Mapping[str, int]:
        """Drawn captions, and tokens to be said."""
        counts = {"policy": targets[1].shape[0] * targets[1].shape[1]}
        return counts | ({"generation": int(targets[3][..., 1:].sum())} if self.config.generation_weight else {})

    def forward(self, captioner: Captioner, condition: Condition, targets: Targets) -> Losses:
        """The terms of a part of a batch, and what was drawn: rewards, lengths in tokens, share of different ones."""
        rows, uniform = targets[:2]
        prefix, decoder = condition.prefix, captioner.decoder
        with _without_dropout(decoder):
            drawn, baseline = self._draw(decoder.incremental(), prefix, uniform, rows)
            rewards = self._rewards(rows, drawn)
            tokens = torch.cat([drawn.tokens.new_full((*drawn.lengths.shape, 1), decoder.bos), drawn.tokens], dim=-1)
            mask = torch.arange(tokens.shape[-1], device=tokens.device) <= drawn.lengths[..., None]
            surprise = decoder.token_losses(
                prefix.embeddings, prefix.valid, tokens, mask, prefix.added, prefix.bias, self.config.temperature
            ).sum(-1)  # B K
        if baseline is None:
            baseline = (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
        terms = {"policy": ((rewards - baseline) * surprise).mean()}
        if self.config.generation_weight:
            terms["generation"] = captioner.generation_loss(prefix, *targets[2:]).float()
        different = [len({tuple(caption) for caption in own}) for own in drawn.tokens.tolist()]
        observed = {
            "reward.mean": rewards.mean().item(),
            "reward.baseline": baseline.mean().item(),
            "reward.best": rewards.amax(1).mean().item(),
            "drawn.length": drawn.lengths.float().mean().item(),
            "drawn.distinct": sum(different) / drawn.lengths.numel(),
        }
        return Losses(terms=terms, observed=observed)

    @torch.no_grad()
    def _draw(
        self, decoder: IncrementalGpt2, prefix: Prefix, uniform: Float[Tensor, "B K T"], rows: Int[Tensor, "B"]
    ) -> tuple[Captions, Float[Tensor, "B 1"] | None]:
        """What is drawn of each image, and the reward of what greedy search says where that is the baseline."""
        added = None if prefix.added is None else prefix.added.float()
        bias = None if prefix.bias is None else prefix.bias.float()
        seen = prefix.embeddings.float()
        with torch.autocast(seen.device.type, enabled=False):
            drawn = draw_captions(
                decoder, seen, prefix.valid, uniform.to(seen.device), added, bias, self.config.temperature
            )
            if self.config.baseline == "others":
                return drawn, None
            greedy = SearchConfig(beams=1, max_new_tokens=self.config.max_new_tokens)
            said = search(decoder, seen, prefix.valid, greedy, self._wording, added, None, bias)
        return drawn, self._rewards(rows, said)

    def _rewards(self, rows: Int[Tensor, "B"], captions: Captions) -> Float[Tensor, "B n"]:
        """CIDEr-D of captions for their images. Special tokens but for eos are words that no reference has."""
        said = [
            ids[:length]
            for own, lengths in zip(captions.tokens.tolist(), captions.lengths.tolist(), strict=True)
            for ids, length in zip(own, lengths, strict=True)
        ]
        images = rows.cpu().repeat_interleave(captions.lengths.shape[1]).numpy()
        scores = torch.from_numpy(self._reward.score(images, self._texts(said)))
        return scores.view(captions.lengths.shape).to(captions.tokens.device, torch.float32)

    def _texts(self, captions: Sequence[list[int]]) -> list[str]:
        eos = self._tokenizer.eos
        ended = [bool(ids) and ids[-1] == eos for ids in captions]
        texts = self._tokenizer.tokenizer.batch_decode(
            [ids[:-1] if end else ids for ids, end in zip(captions, ended, strict=True)],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        return [" ".join(text.split()) + (self._end if end else "") for text, end in zip(texts, ended, strict=True)]


@contextmanager
def _without_dropout(decoder: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while: gradients pass as in training."""
    was_training = decoder.training
    decoder.eval()
    try:
        yield
    finally:
        decoder.train(was_training)
