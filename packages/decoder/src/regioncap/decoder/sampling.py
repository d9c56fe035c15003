"""Nucleus sampling (Holtzman et al. 2020): words drawn from the smallest set that holds most of the probability."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regioncap.decoder.candidates import best_words
from regioncap.decoder.constraints import Constraints
from regioncap.decoder.found import Found, Underway
from regioncap.decoder.greedy import check_finite
from regioncap.decoder.incremental import IncrementalGpt2
from regioncap.decoder.rollout import roll_out

_LIKELY = 256
"""The nucleus is looked for among so many words first; a flat distribution sorts all of them."""

_ROUNDS = 8
"""Draws until an image has n different captions; after that it has fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingRules:
    """How words are drawn; `SearchConfig` explains them."""

    captions: int
    longest: int
    temperature: float
    top_p: float
    length_penalty: float
    seed: int


def sample(
    decoder: IncrementalGpt2,
    begun: Underway,
    constrain: Constraints,
    found: Found,
    rules: SamplingRules,
    keys: Sequence[int],
) -> None:
    """Draw `captions` different captions of every image.

    What is drawn depends on the seed and the image's key alone, so neither the batch nor its order changes a caption.
    Of n captions those that repeat another are drawn again, up to eight times; the best by score comes first.
    """
    drawn: dict[int, dict[tuple[int, ...], list[float]]] = {int(image): {} for image in begun.images}
    for round_ in range(_ROUNDS if rules.captions > 1 else 1):
        short = [i for i, image in enumerate(begun.images.tolist()) if len(drawn[image]) < rules.captions]
        if not short:
            break
        _round(decoder, _of(begun, short), constrain, rules, keys, round_, drawn)
    for image, captions in drawn.items():
        ranked = sorted(captions.items(), key=lambda item: -sum(item[1]) / len(item[0]) ** rules.length_penalty)
        ranked = ranked[: rules.captions]
        longest = max(len(tokens) for tokens, _ in ranked)
        device = begun.images.device
        found.add(
            torch.tensor([image], device=device),
            torch.tensor(
                [[[*tokens] + [decoder.pad] * (longest - len(tokens)) for tokens, _ in ranked]], device=device
            ),
            torch.tensor([[values + [0.0] * (longest - len(values)) for _, values in ranked]], device=device),
            torch.tensor([[len(tokens) for tokens, _ in ranked]], device=device),
        )


def nucleus(
    log_p: Float[Tensor, "R V"], top_p: float, uniform: Float[Tensor, " R"]
) -> tuple[Int[Tensor, " R"], Int[Tensor, " R"]]:
    """Draw a word per row from its nucleus by inverting the cumulative distribution at `uniform` in [0, 1).

    The nucleus holds the likeliest words until their probability reaches `top_p`, the one that reaches it included.
    `log_p` need not be normalised. Returns the words and the sizes of the nuclei.
    """
    log_p = log_p - log_p.logsumexp(-1, keepdim=True)
    words, sizes = torch.empty_like(uniform, dtype=torch.long), torch.empty_like(uniform, dtype=torch.long)
    values, places = best_words(log_p, min(_LIKELY, log_p.shape[-1]))
    flat = values.exp().sum(-1) < top_p
    for rows, (ranked, at) in (
        ((~flat).nonzero()[:, 0], (values, places)),
        (flat.nonzero()[:, 0], log_p[flat].sort(descending=True)),
    ):
        if not len(rows):
            continue
        if len(ranked) != len(rows):
            ranked, at = ranked[rows], at[rows]
        cumulative = ranked.exp().cumsum(-1)  # r c
        size = (cumulative < top_p).sum(-1).clamp(max=cumulative.shape[-1] - 1) + 1
        mass = cumulative.gather(1, size[:, None] - 1)
        drawn = (cumulative <= uniform[rows, None] * mass).sum(-1).minimum(size - 1)
        words[rows], sizes[rows] = at.gather(1, drawn[:, None])[:, 0], size
    return words, sizes


def _of(begun: Underway, rows: list[int]) -> Underway:
    at = torch.tensor(rows, device=begun.images.device)
    return Underway(
        images=begun.images[at],
        tokens=begun.tokens[at],
        log_probs=begun.log_probs[at],
        logits=begun.logits[at],
        state=begun.state.images(at).rows(at),
    )


def _round(
    decoder: IncrementalGpt2,
    begun: Underway,
    constrain: Constraints,
    rules: SamplingRules,
    keys: Sequence[int],
    round_: int,
    drawn: dict[int, dict[tuple[int, ...], list[float]]],
) -> None:
    """One more caption for each of n rows per image."""
    images = begun.images
    uniform = torch.stack([_uniform(rules, keys[int(image)], round_) for image in images]).to(images.device)  # A n T

    def choose(logits: Tensor, said: Tensor, level: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
        log_p = constrain(logits.log_softmax(-1), said)
        check_finite(log_p.amax(-1), of, said.shape[1] + 1)
        word, _ = nucleus(log_p / rules.temperature, rules.top_p, level)
        return word, log_p.gather(1, word[:, None])[:, 0]

    captions = roll_out(decoder, begun, uniform, choose)
    for image, *rows in zip(
        images.tolist(), captions.tokens.tolist(), captions.log_probs.tolist(), captions.lengths.tolist(), strict=True
    ):
        for said, values, end in zip(*rows, strict=True):
            if len(drawn[image]) < rules.captions:
                drawn[image].setdefault(tuple(said[:end]), values[:end])


def _uniform(rules: SamplingRules, key: int, round_: int) -> Float[Tensor, "n T"]:
    """Random numbers of one image: the same on every device and in every batch."""
    digest = hashlib.sha256(f"{rules.seed} {key} {round_}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
    return torch.rand(rules.captions, rules.longest, generator=generator)
