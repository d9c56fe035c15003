"""Language before images: the decoder's first training, on text alone.

The paper's GPT-2 comes with its language learned; a small one that starts from random weights can learn it from a
file of captions of other pictures. The vocabulary stays that of the training captions.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from regioncap.decoder import CaptionTokenizer, Gpt2DecoderConfig
from regioncap.experiments.captions import batches
from regioncap.experiments.config_io import to_dict
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.progress import track
from regioncap.experiments.schedule import learning_rate_factor

_MAX_TOKENS = 32
"""Longer captions are cut; 1 % of Flickr30k's are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageConfig:
    """Next-word prediction on captions of other pictures, before any image is seen."""

    captions: Path | None = None
    """Text file, a caption a line (`name.jpg#k<TAB>caption` is read too). None: the decoder starts from random
    weights and learns its language with the images."""
    steps: int = 1500
    """Optimiser steps of `batch` captions."""
    batch: int = 128
    lr: float = 1.5e-3
    """Peak learning rate; warm-up and cosine."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.lr <= 0:
            raise ValueError(
                f"language.steps and .batch must be at least 1 and .lr positive, got {self.steps}, {self.batch}, "
                f"{self.lr}"
            )

    def weights(
        self, decoder: Gpt2DecoderConfig, tokenizer: CaptionTokenizer, train_captions: Sequence[str], cache: Path
    ) -> Path | None:
        """A safetensors file of decoder weights, made now unless `cache` holds it already; None without captions.

        Captions that occur in the training captions are fine; the file must hold none of dev or test, which nobody
        but its owner can see to. Raises DataError if the file is missing or holds no caption.
        """
        if self.captions is None:
            return None
        if not self.captions.is_file():
            raise DataError(f"{self.captions}: no such file; --language.captions wants a text file, a caption a line")
        text = self.captions.read_bytes()
        parts = [to_dict(self), to_dict(decoder), len(tokenizer), hashlib.sha256(text).hexdigest(), *train_captions]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]
        file = cache / "language" / f"{key}.safetensors"
        if not file.exists():
            lines = text.decode(errors="replace").splitlines()
            captions = [line.split("\t", 1)[-1].strip() for line in lines]
            captions = [caption for caption in captions if caption]
            if not captions:
                raise DataError(f"{self.captions} holds no caption; wanted a caption a line")
            weights = learn_language(self, decoder, tokenizer, captions)
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial")
            save_file(weights, partial)
            partial.rename(file)
        return file


def learn_language(
    config: LanguageConfig, decoder: Gpt2DecoderConfig, tokenizer: CaptionTokenizer, captions: Sequence[str]
) -> dict[str, Tensor]:
    """Train a decoder on `captions` without any prefix and return its weights."""
    torch.manual_seed(config.seed)
    model = decoder.build(len(tokenizer), bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad).train()
    encoded = tokenizer.encode(captions, max_tokens=_MAX_TOKENS)
    tokens, mask = encoded.tokens, encoded.mask
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, betas=(0.9, 0.98))
    order = batches(len(tokens), config.batch, config.steps, config.seed)
    for step, rows in enumerate(track(order, description="learn language", total=config.steps)):
        factor = learning_rate_factor(step, config.steps, warmup=100, schedule="cosine", steps_per_epoch=1)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * factor
        used = int(mask[rows].any(dim=0).nonzero().max()) + 1
        with torch.autocast("cpu", torch.bfloat16):
            nothing = torch.zeros(len(rows), 0, model.width)
            loss = model.loss(
                nothing, torch.zeros(len(rows), 0, dtype=torch.bool), tokens[rows, None, :used], mask[rows, None, :used]
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    # Tied weights share storage, which safetensors refuses: a copy of each is small and plain to read.
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def load_language(file: Path) -> Mapping[str, Tensor]:
    """Weights written by `LanguageConfig.weights`."""
    weights: Mapping[str, Tensor] = load_file(file)
    return weights
