"""Greedy search: the best word, and the next."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regioncap.decoder.constraints import Constraints
from regioncap.decoder.found import Found, Underway
from regioncap.decoder.incremental import IncrementalGpt2


def greedy_search(
    decoder: IncrementalGpt2, begun: Underway, constrain: Constraints, found: Found, *, tokens: int, longest: int
) -> Underway:
    """Take the best word `tokens` times; captions that end or reach `longest` leave the batch and are found.

    Returns the images that are left. Raises ValueError where no word may come next, or logits are not numbers.
    """
    for _ in range(tokens):
        if not len(begun.images):
            break
        begun = _word(decoder, begun, constrain, found, longest)
    return begun


def _word(decoder: IncrementalGpt2, begun: Underway, constrain: Constraints, found: Found, longest: int) -> Underway:
    log_p = constrain(begun.logits.log_softmax(-1), begun.tokens)
    best, word = log_p.max(-1, keepdim=True)  # A 1
    check_finite(best[:, 0], begun.images, begun.tokens.shape[1] + 1)
    tokens = torch.cat([begun.tokens, word], dim=1)
    log_probs = torch.cat([begun.log_probs, best], dim=1)
    length = tokens.shape[1]
    over = (word[:, 0] == decoder.eos) | (length == longest)
    ended = begun.images[over]
    found.add(ended, tokens[over, None], log_probs[over, None], torch.full_like(ended, length)[:, None])
    stay = (~over).nonzero()[:, 0]
    images, tokens, log_probs, logits = (x[stay] for x in (begun.images, tokens, log_probs, begun.logits))
    state = begun.state
    if len(stay) < len(over):
        state = state.images(stay).rows(stay)
    if len(stay):
        logits, state = decoder.step(tokens[:, -1], state)
    return Underway(images=images, tokens=tokens, log_probs=log_probs, logits=logits, state=state)


def check_finite(best: Float[Tensor, " A"], images: Int[Tensor, " A"], word: int) -> None:
    """Raise ValueError naming the image whose best score is no number, or whose every word is forbidden."""
    if bool(torch.isfinite(best).all()):
        return
    at = int((~torch.isfinite(best)).nonzero()[0, 0])
    what = (
        "its logits are NaN: check the prefix, or the weights (a training that diverged?)"
        if bool(torch.isnan(best[at]))
        else "every word is forbidden: allow more of search.bad_words or search.no_repeat_ngram"
    )
    raise ValueError(f"image {int(images[at])} of the batch, word {word}: {what}")
