"""Captions on their way, and those that are found."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regioncap.decoder.state import DecoderState


@dataclass(frozen=True, slots=True, kw_only=True)
class Captions:
    """What a search found for each image, best first. B images, n captions of each, T tokens of the longest."""

    tokens: Int[Tensor, "B n T"]
    """With eos where the caption ended by itself; pad behind."""
    lengths: Int[Tensor, "B n"]
    """Tokens of each caption, eos included; 0 where an image has fewer than n different ones."""
    scores: Float[Tensor, "B n"]
    """Sum of `log_probs` / lengths ** length_penalty: what a beam search maximises; -inf where there is no caption."""
    log_probs: Float[Tensor, "B n T"]
    """log p of each token given those before it; 0 behind the end."""

    @property
    def confidence(self) -> Float[Tensor, "B n"]:
        """The geometric mean of the tokens' probabilities, in [0, 1]; 0 where there is no caption."""
        mean = self.log_probs.sum(-1) / self.lengths.clamp(min=1)
        return mean.exp() * (self.lengths > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Underway:
    """The captions of A images while there is one each: t tokens so far, and the logits of the next."""

    images: Int[Tensor, " A"]
    """Places in the batch."""
    tokens: Int[Tensor, "A t"]
    log_probs: Float[Tensor, "A t"]
    logits: Float[Tensor, "A V"]
    state: DecoderState


class Found:
    """Collects the captions of a batch as they are found, at most n of each image."""

    def __init__(
        self, *, images: int, captions: int, longest: int, pad: int, length_penalty: float, device: torch.device
    ) -> None:
        self._length_penalty = length_penalty
        self._tokens = torch.full((images, captions, longest), pad, device=device)
        self._log_probs = torch.zeros(images, captions, longest, device=device)
        self._lengths = torch.zeros(images, captions, dtype=torch.long, device=device)

    def add(
        self,
        images: Int[Tensor, " A"],
        tokens: Int[Tensor, "A m t"],
        log_probs: Float[Tensor, "A m t"],
        lengths: Int[Tensor, "A m"],
    ) -> None:
        """The captions of some images, best first, m of each; pad and 0 behind their ends."""
        m, t = tokens.shape[1:]
        self._tokens[images, :m, :t] = tokens
        self._log_probs[images, :m, :t] = log_probs
        self._lengths[images, :m] = lengths

    def captions(self) -> Captions:
        """All of them."""
        longest = int(self._lengths.max()) if self._lengths.numel() else 0
        total = self._log_probs.sum(-1) / self._lengths.clamp(min=1) ** self._length_penalty
        return Captions(
            tokens=self._tokens[..., :longest],
            lengths=self._lengths,
            scores=total.masked_fill(self._lengths == 0, -torch.inf),
            log_probs=self._log_probs[..., :longest],
        )
