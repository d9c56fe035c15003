"""The text tower of a CLIP: keywords into the space of images."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regioncap.encoders.text import embed_distinct


class ClipText(nn.Module):
    """Text vectors before the projection, which `ClipTail.embed_text` has. L texts, T channels."""

    def __init__(self, model: Any, tokenizer: Any, positions: int) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.positions = positions
        # SigLIP's tower ends in a linear head over the last position, padding or not: it was trained on full-length
        # texts alone. CLIP reads the end-of-text token, behind which nothing matters.
        self.padding = "max_length" if hasattr(model, "head") else True

    @property
    def dim(self) -> int:
        """Channels of a text vector."""
        return int(self.model.head.out_features if hasattr(self.model, "head") else self.model.config.hidden_size)

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> Float[Tensor, "L T"]:
        """Embed `texts` in one batch; longer ones than the tower has positions are cut."""
        if not texts:
            return torch.zeros(0, self.dim, device=self.model.device)
        tokens = self.tokenizer(
            list(texts), padding=self.padding, truncation=True, max_length=self.positions, return_tensors="pt"
        )
        vectors: Tensor = self.model(**tokens.to(self.model.device)).pooler_output
        return vectors.float()

    @torch.no_grad()
    def embed(
        self, texts: Sequence[str], *, batch_size: int = 64, progress: Callable[[int], None] = lambda done: None
    ) -> Float[Tensor, "L T"]:
        """Embed many texts, in order; see `TextEncoder.embed`."""
        return embed_distinct(self, texts, dim=self.dim, batch_size=batch_size, progress=progress)
