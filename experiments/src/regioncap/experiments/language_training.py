"""A decoder learns its language: next-token prediction on captions alone, with a measure on held-out text.

It can be killed at any moment: the same call goes on from its last checkpoint, to the same weights.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from regioncap.decoder import CaptionTokenizer, EncodedCaptions, Gpt2Decoder, Gpt2DecoderConfig
from regioncap.encoders import arithmetic
from regioncap.encoders.quiet import quiet_transformers
from regioncap.experiments.progress import track
from regioncap.experiments.training.captions import batches
from regioncap.experiments.training.schedule import learning_rate_factor

Report = Callable[[int, Mapping[str, float]], None]
"""Called with (optimiser step, values)."""

_PER_ROW = 8
"""Captions that share a row: a row of several wastes less on padding than rows of one, which are as long as the longest
caption of the batch. Captions of a row are blind to each other."""
_FARTHEST = 128
"""Longest shift of positions: as many slots as a prefix may have."""
_SAVE_EVERY = 100
_REPORT_EVERY = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageTrainingConfig:
    """How long and how fast a decoder learns from text."""

    steps: int = 1500
    """Optimiser steps of `batch` captions; fewer if held-out perplexity stops falling."""
    batch: int = 128
    """Captions a step."""
    lr: float = 1.5e-3
    """Peak learning rate; warm-up and cosine."""
    held_out: float = 0.02
    """Share of the text's pictures that perplexity is measured on and nothing is learned from."""
    evaluations: int = 10
    """Measurements over the run, evenly spaced; the weights of the best one are kept."""
    patience: int = 3
    """Training ends after this many measurements in a row without a lower perplexity."""
    seed: int = 0
    """Seeds the weights, the order, dropout and which pictures are held out."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "evaluations", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"language.{name} must be at least 1, got {getattr(self, name)}")
        if self.lr <= 0:
            raise ValueError(f"language.lr must be positive, got {self.lr}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"language.held_out must be a share between 0 and 1, got {self.held_out}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Perplexity:
    """exp of the mean -log p, on held-out text; the end of a caption counts as a word and as a token."""

    word: float
    """Per word, so that tokenizers with pieces of words compare. Unknown words count as the unknown word, which is easy
    to guess: compare vocabularies of words with care."""
    token: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageResult:
    """What came of the training."""

    decoder: Gpt2Decoder
    """With the weights of the best measurement, in evaluation mode."""
    best_step: int
    steps: int
    """Steps that were made."""
    before: Perplexity
    after: Perplexity
    history: tuple[Mapping[str, int | float], ...]
    """A measurement each: step, perplexity.word, perplexity.token, and the mean loss since the one before."""
    cpu_s: float
    """CPU seconds, measurements included, over all the calls it took."""


def train_language(
    config: LanguageTrainingConfig,
    decoder: Gpt2DecoderConfig,
    tokenizer: CaptionTokenizer,
    max_tokens: int,
    train: Sequence[str],
    held_out: Sequence[str],
    state: Path,
    report: Report = lambda step, values: None,
) -> LanguageResult:
    """Train a decoder on `train` without any prefix; `state` is the file of the checkpoint.

    Captions are cut to `max_tokens`; held-out ones are not, but those that exceed the decoder's positions are left out.

    In use a prefix stands before a caption, as long as the captioner makes it. So every step shifts its captions by a
    random number of positions: else the position embeddings behind the prefix would be met untrained.
    Deterministic in `config.seed` on one machine and thread count, killed and resumed or not. The caller answers for
    `state` belonging to these very arguments. Raises ValueError when the loss is not finite.
    """
    torch.manual_seed(config.seed)
    with quiet_transformers():
        model = decoder.build(len(tokenizer), bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad).train()
    encoded = tokenizer.encode(train, max_tokens=min(max_tokens, model.positions))
    test = _HeldOut(tokenizer, held_out, model.positions)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    run = _Run(model, optimizer, state)
    measured_at = {round(config.steps * (i + 1) / config.evaluations) for i in range(config.evaluations)}
    if run.load():
        print(f"{state}: goes on from step {run.step} of {config.steps}", flush=True)
    else:
        report(0, run.measured(test(model)))

    order = islice(batches(len(encoded.tokens), config.batch, config.steps, config.seed), run.step, None)
    said = track(order, description="learn language", total=config.steps, completed=run.step, says=lambda: run.in_words)
    for rows in said:
        if run.measurements_since_best >= config.patience:
            break
        step, started = run.step, time.process_time()
        factor = learning_rate_factor(step, config.steps, warmup=100, schedule="cosine", steps_per_epoch=1)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * factor
        batch = _in_rows(EncodedCaptions(tokens=encoded.tokens[rows], mask=encoded.mask[rows]), _PER_ROW)
        shift = int(torch.randint(min(model.positions - batch[0].shape[-1], _FARTHEST) + 1, ()))
        with arithmetic("cpu", "bfloat16"), _shifted(model, shift):
            loss = model.loss(*_no_prefix(model, len(batch[0])), *batch)
        if not torch.isfinite(loss):
            raise ValueError(f"the loss is {loss.item()} at step {step}; lower language.lr (now {config.lr})")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        run.stepped(loss.item(), time.process_time() - started)
        if run.step % _REPORT_EVERY == 0:
            report(run.step, {"loss": run.loss, "lr": config.lr * factor})
        if run.step in measured_at:
            started = time.process_time()
            values = run.measured(test(model))
            run.cpu_s += time.process_time() - started
            report(run.step, values)
        if run.step in measured_at or run.step % _SAVE_EVERY == 0:
            run.save()
    return run.result()


class _Run:
    """All that a killed training needs to go on: weights, optimiser, random numbers, and how far it was."""

    def __init__(self, model: Gpt2Decoder, optimizer: torch.optim.Optimizer, file: Path) -> None:
        self.model, self.optimizer, self.file = model, optimizer, file
        self.step = 0
        self.cpu_s = 0.0
        self.history: list[dict[str, int | float]] = []
        self.best: dict[str, Tensor] = {}
        self.losses: list[float] = []  # since the last measurement

    @property
    def loss(self) -> float:
        """Mean since the last measurement, or up to it if no step was made since."""
        return sum(self.losses) / len(self.losses) if self.losses else self.history[-1].get("loss", math.nan)

    @property
    def best_at(self) -> int:
        """Index of the measurement of lowest perplexity."""
        return min(range(len(self.history)), key=lambda i: self.history[i]["perplexity.token"])

    @property
    def measurements_since_best(self) -> int:
        return len(self.history) - 1 - self.best_at

    @property
    def in_words(self) -> str:
        return f"loss {self.loss:.3f}  held-out perplexity {self.history[-1]['perplexity.word']:.1f} per word"

    def stepped(self, loss: float, cpu_s: float) -> None:
        self.step += 1
        self.losses.append(loss)
        self.cpu_s += cpu_s

    def measured(self, perplexity: Perplexity) -> dict[str, float]:
        """Note a measurement and keep the weights if it is the best so far; returns what was noted."""
        values = {"perplexity.word": perplexity.word, "perplexity.token": perplexity.token}
        if self.losses:
            values["loss"] = self.loss
        self.history.append({"step": self.step, **values})
        self.losses = []
        if self.measurements_since_best == 0:
            self.best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        return values

    def save(self) -> None:
        """Replace the checkpoint in one move: a kill leaves the old one or the new one, never half of one."""
        kept: dict[str, Any] = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        kept |= {"random": torch.get_rng_state(), "step": self.step, "cpu_s": self.cpu_s}
        kept |= {"history": self.history, "best": self.best, "losses": self.losses}
        partial = self.file.with_name(self.file.name + ".partial")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            torch.save(kept, stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self.file)

    def load(self) -> bool:
        """Go back to where the checkpoint was written; False if there is none. A broken file is a ValueError."""
        if not self.file.is_file():
            return False
        try:
            kept = torch.load(self.file, weights_only=True)
            self.model.load_state_dict(kept["model"])
            self.optimizer.load_state_dict(kept["optimizer"])
        except (RuntimeError, KeyError, EOFError, ValueError, OSError) as error:
            raise ValueError(f"{self.file} cannot be read ({error}): remove it to begin anew") from error
        torch.set_rng_state(kept["random"])
        self.step, self.cpu_s = kept["step"], kept["cpu_s"]
        self.history, self.best, self.losses = kept["history"], kept["best"], kept["losses"]
        return True

    def result(self) -> LanguageResult:
        self.model.load_state_dict(self.best)
        best = self.history[self.best_at]
        before, after = (
            Perplexity(word=values["perplexity.word"], token=values["perplexity.token"])
            for values in (self.history[0], best)
        )
        return LanguageResult(
            decoder=self.model.eval(),
            best_step=int(best["step"]),
            steps=self.step,
            before=before,
            after=after,
            history=tuple(self.history),
            cpu_s=self.cpu_s,
        )


class _HeldOut:
    """Perplexity on captions that nothing was learned from."""

    def __init__(self, tokenizer: CaptionTokenizer, captions: Sequence[str], positions: int) -> None:
        encoded = tokenizer.encode(captions, max_tokens=positions)
        whole = encoded.tokens.gather(1, encoded.mask.sum(1, keepdim=True) - 1)[:, 0] == tokenizer.eos
        if not whole.any():
            raise ValueError(f"every held-out caption is longer than {positions} tokens: raise decoder.positions")
        kept = whole.nonzero()[:, 0].tolist()
        self.words = sum(len(tokenizer.normalise(captions[i]).split()) + 1 for i in kept)
        self.batches = [
            _in_rows(EncodedCaptions(tokens=encoded.tokens[rows], mask=encoded.mask[rows]), _PER_ROW)
            for rows in torch.tensor(kept).split(256)
        ]

    @torch.no_grad()
    def __call__(self, model: Gpt2Decoder) -> Perplexity:
        model.eval()
        total, count = 0.0, 0
        for tokens, mask in self.batches:
            losses = model.token_losses(*_no_prefix(model, len(tokens)), tokens, mask)
            total += losses.double().sum().item()
            count += int(mask[..., 1:].sum())
        model.train()
        return Perplexity(word=math.exp(total / self.words), token=math.exp(total / count))


def _in_rows(captions: EncodedCaptions, per_row: int) -> tuple[Int[Tensor, "B C T"], Bool[Tensor, "B C T"]]:
    """Captions `per_row` to a row, cut to the longest of them; empty ones fill the last row."""
    used = int(captions.mask.sum(1).max())
    missing = -len(captions.tokens) % per_row
    tokens, mask = (F.pad(x[:, :used], (0, 0, 0, missing)) for x in (captions.tokens, captions.mask))
    return tokens.unflatten(0, (-1, per_row)), mask.unflatten(0, (-1, per_row))


def _no_prefix(model: Gpt2Decoder, rows: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(rows, 0, model.width), torch.zeros(rows, 0, dtype=torch.bool)


@contextmanager
def _shifted(model: Gpt2Decoder, by: int) -> Iterator[None]:
    """Positions counted from `by` instead of 0."""
    hook = model.model.transformer.wpe.register_forward_pre_hook(lambda module, inputs: (inputs[0] + by,))
    try:
        yield
    finally:
        hook.remove()
