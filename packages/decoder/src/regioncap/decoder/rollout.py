"""Captions drawn word by word, several of each image at once."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regioncap.decoder.found import Captions, Underway
from regioncap.decoder.greedy import check_finite
from regioncap.decoder.incremental import IncrementalGpt2

Choose = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Called with logits R V, tokens said R t, a number in [0, 1) for each row, and the rows' images: the words that come
next and log p of each."""


@torch.no_grad()
def draw_captions(
    decoder: IncrementalGpt2,
    prefix: Float[Tensor, "B P H"],
    valid: Bool[Tensor, "B P"],
    uniform: Float[Tensor, "B n T"],
    added: Float[Tensor, "B H"] | None = None,
    bias: Float[Tensor, "B V"] | None = None,
    temperature: float = 1.0,
) -> Captions:
    """n captions of each image, of T tokens at most, drawn from p(caption | image) itself and of each other apart.

    p is the softmax of logits / `temperature`, whose log `Gpt2Decoder.token_losses` gives for the same temperature.
    Unlike `search`, nothing is forbidden, cut off or drawn again: a policy gradient needs samples of what the decoder
    says, its special tokens and repeated captions among them. `uniform` in [0, 1) decides every word, by inverting the
    cumulative distribution, so what is drawn depends on no batch-mates and on no device's random numbers. In the order
    in which they were drawn; `scores` are log p of the captions. `added` and `bias` as in `Gpt2Decoder`.
    Raises ValueError if the positions do not suffice, or logits are no numbers.
    """
    needed = prefix.shape[1] + uniform.shape[2]
    if needed > decoder.positions:
        raise ValueError(
            f"a prefix of {prefix.shape[1]} slots and {uniform.shape[2]} drawn tokens take {needed} positions, the "
            f"decoder has {decoder.positions}: draw shorter captions or raise decoder.positions"
        )
    logits, state = decoder.prefill(prefix, valid, added, (), bias)
    begun = Underway(
        images=torch.arange(len(prefix), device=prefix.device),
        tokens=torch.zeros(len(prefix), 0, dtype=torch.long, device=prefix.device),
        log_probs=torch.zeros(len(prefix), 0, device=prefix.device),
        logits=logits,
        state=state,
    )
    return roll_out(decoder, begun, uniform, partial(_choose, temperature))


def roll_out(decoder: IncrementalGpt2, begun: Underway, uniform: Float[Tensor, "A n T"], choose: Choose) -> Captions:
    """n rows from each image's beginning, every word as `choose` says, until eos or T tokens.

    Images all of whose rows have ended leave the batch.
    """
    images, n, longest = uniform.shape
    device = begun.tokens.device
    tokens = torch.full((images, n, longest), decoder.pad, device=device)
    log_probs = torch.zeros(images, n, longest, device=device)
    open_ = torch.arange(images, device=device)  # A: places of the images that are not done
    over = torch.zeros(images * n, dtype=torch.bool, device=device)
    repeated = open_.repeat_interleave(n)
    logits, state = begun.logits[repeated], begun.state.rows(repeated)
    lengths = torch.full((images, n), longest, device=device)
    for at in range(longest):
        said = tokens[open_, :, :at].flatten(0, 1)
        word, log_p = choose(logits, said, uniform[open_, :, at].flatten(), begun.images[open_].repeat_interleave(n))
        tokens[open_, :, at] = word.masked_fill(over, decoder.pad).view(-1, n)
        log_probs[open_, :, at] = log_p.masked_fill(over, 0.0).view(-1, n)
        ends = (word == decoder.eos) & ~over
        lengths[open_] = torch.where(ends.view(-1, n), at + 1, lengths[open_])
        over = over | ends
        stay = (~over.view(-1, n).all(1)).nonzero()[:, 0]
        if not len(stay) or at + 1 == longest:
            break
        if len(stay) < len(open_):
            state, open_, over = state.images(stay), open_[stay], over.view(-1, n)[stay].flatten()
        rows = (stay[:, None] * n + torch.arange(n, device=device)).flatten()
        logits, state = decoder.step(tokens[open_, :, at].flatten(), state.rows(rows))
    used = int(lengths.max()) if lengths.numel() else 0
    return Captions(
        tokens=tokens[..., :used], lengths=lengths, scores=log_probs.sum(-1), log_probs=log_probs[..., :used]
    )


def _choose(temperature: float, logits: Tensor, said: Tensor, uniform: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """The word at which the cumulative probability passes `uniform`."""
    log_p = (logits / temperature).log_softmax(-1)
    check_finite(log_p.amax(-1), images, said.shape[1] + 1)
    cumulative = log_p.exp().cumsum(-1, dtype=torch.float64)
    level = uniform.to(torch.float64) * cumulative[:, -1]
    word = torch.searchsorted(cumulative, level[:, None], right=True).clamp(max=logits.shape[-1] - 1)
    return word[:, 0], log_p.gather(1, word)[:, 0]
