"""Captions from prefixes: greedy for the first tokens, then beam search."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import NoRepeatNGramLogitsProcessor

from regioncap.decoder.gpt2 import Gpt2Decoder
from regioncap.decoder.state import DecoderState

_NEVER = -1.0e9  # as in transformers: finite, so that sums of it with log-probabilities stay ordered


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """How captions are looked for."""

    greedy_tokens: int = 3
    """Tokens taken greedily before the beams open (n); 0 is plain beam search."""
    beams: int = 3
    """Beams after that (k); 1 is plain greedy search."""
    max_new_tokens: int = 30
    """Longest caption, eos included."""
    min_new_tokens: int = 1
    """eos is not allowed before this many tokens."""
    length_penalty: float = 1.0
    """A caption of n tokens, eos included, scores log p / n ** length_penalty: above 0 favours long ones."""
    no_repeat_ngram: int = 0
    """No n-gram of this many tokens appears twice in a caption; 0 allows all."""

    def __post_init__(self) -> None:
        for name, least in (("greedy_tokens", 0), ("beams", 1), ("max_new_tokens", 1), ("min_new_tokens", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"search.{name} must be at least {least}, got {getattr(self, name)}")
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"search.min_new_tokens is {self.min_new_tokens}, "
                f"more than search.max_new_tokens, {self.max_new_tokens}: lower the one or raise the other"
            )
        if self.no_repeat_ngram < 0:
            raise ValueError(f"search.no_repeat_ngram must be at least 0, got {self.no_repeat_ngram}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Captions:
    """The best caption found for each image. B images, T tokens of the longest."""

    tokens: Int[Tensor, "B T"]
    """With eos where the caption ended by itself; pad behind."""
    lengths: Int[Tensor, " B"]
    """Tokens of each caption, eos included."""
    scores: Float[Tensor, " B"]
    """Sum of `log_probs` / lengths ** length_penalty: what the search maximised."""
    log_probs: Float[Tensor, "B T"]
    """log p of each token given those before it; 0 behind the end. Their mean is a confidence."""


@torch.no_grad()
def search(
    decoder: Gpt2Decoder,
    prefix: Float[Tensor, "B P H"],
    valid: Bool[Tensor, "B P"],
    config: SearchConfig,
    suppress: Sequence[int] = (),
    added: Float[Tensor, "B H"] | None = None,
) -> Captions:
    """Find a caption for each prefix: `greedy_tokens` greedily, then by `beams`; ids in `suppress` are never said.

    `added` joins the embedding of every word, see `Gpt2Decoder`.

    With greedy_tokens=0 this is transformers' beam search (early_stopping=False) token for token, with beams=1 its
    greedy search. A hybrid caption is scored as a whole: its greedy tokens count in the sum and in the length, and one
    that ends among them is final. An image whose caption is found leaves the batch; nothing depends on batch-mates.
    Raises ValueError if the decoder is in training mode, the positions do not suffice, or the vocabulary is too small
    for the beams.
    """
    _check(decoder, prefix, config, suppress)
    decoder = decoder.merged()
    found = _Found(decoder.pad, len(prefix), config, prefix.device)
    constrain = _Constraints(decoder.eos, tuple(suppress), config)
    logits, state = decoder.prefill(prefix, valid, added)
    written = _Written(
        images=torch.arange(len(prefix), device=prefix.device),
        tokens=torch.zeros(len(prefix), 0, dtype=torch.long, device=prefix.device),
        log_probs=torch.zeros(len(prefix), 0, device=prefix.device),
        logits=logits.float(),
        state=state,
    )
    greedy_tokens = config.max_new_tokens if config.beams == 1 else min(config.greedy_tokens, config.max_new_tokens)
    for _ in range(greedy_tokens):
        written = _greedy_token(decoder, written, constrain, config, found)
        if not len(written.images):
            return found.captions()
    _beams(decoder, written, constrain, config, found)
    return found.captions()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """The captions of A images while there is one each."""

    images: Int[Tensor, " A"]
    tokens: Int[Tensor, "A t"]
    log_probs: Float[Tensor, "A t"]
    logits: Float[Tensor, "A V"]
    state: DecoderState


class _Found:
    """Collects the captions of the batch as they are found."""

    def __init__(self, pad: int, images: int, config: SearchConfig, device: torch.device) -> None:
        self._length_penalty = config.length_penalty
        self._tokens = torch.full((images, config.max_new_tokens), pad, device=device)
        self._log_probs = torch.zeros(images, config.max_new_tokens, device=device)
        self._lengths = torch.zeros(images, dtype=torch.long, device=device)

    def add(
        self,
        images: Int[Tensor, " A"],
        tokens: Int[Tensor, "A t"],
        log_probs: Float[Tensor, "A t"],
        lengths: Int[Tensor, " A"],
    ) -> None:
        self._tokens[images, : tokens.shape[1]] = tokens
        self._log_probs[images, : tokens.shape[1]] = log_probs
        self._lengths[images] = lengths

    def captions(self) -> Captions:
        longest = int(self._lengths.max())
        return Captions(
            tokens=self._tokens[:, :longest],
            lengths=self._lengths,
            scores=self._log_probs.sum(1) / self._lengths**self._length_penalty,
            log_probs=self._log_probs[:, :longest],
        )


class _Constraints:
    """Sets the scores of words that may not come next to -inf."""

    def __init__(self, eos: int, suppress: tuple[int, ...], config: SearchConfig) -> None:
        self._eos, self._suppress, self._least = eos, list(suppress), config.min_new_tokens
        self._ngram = NoRepeatNGramLogitsProcessor(config.no_repeat_ngram) if config.no_repeat_ngram else None

    def __call__(self, scores: Float[Tensor, "R V"], tokens: Int[Tensor, "R t"]) -> Float[Tensor, "R V"]:
        scores = scores.clone()
        scores[:, self._suppress] = -torch.inf
        if tokens.shape[1] < self._least:
            scores[:, self._eos] = -torch.inf
        return scores if self._ngram is None else self._ngram(tokens, scores)


def _greedy_token(
    decoder: Gpt2Decoder, written: _Written, constrain: _Constraints, config: SearchConfig, found: _Found
) -> _Written:
    word = constrain(written.logits, written.tokens).argmax(-1, keepdim=True)  # A 1
    tokens = torch.cat([written.tokens, word], dim=1)
    log_probs = torch.cat([written.log_probs, written.logits.log_softmax(-1).gather(1, word)], dim=1)
    length = tokens.shape[1]
    over = (word[:, 0] == decoder.eos) | (length == config.max_new_tokens)
    found.add(written.images[over], tokens[over], log_probs[over], torch.full_like(written.images[over], length))
    stay = (~over).nonzero()[:, 0]
    images, tokens, log_probs, logits = (x[stay] for x in (written.images, tokens, log_probs, written.logits))
    state = written.state
    if len(stay) < len(over):
        state = state.images(stay).rows(stay)
    if len(stay):
        logits, state = decoder.step(tokens[:, -1], state)
    return _Written(images=images, tokens=tokens, log_probs=log_probs, logits=logits.float(), state=state)


def _beams(
    decoder: Gpt2Decoder, written: _Written, constrain: _Constraints, config: SearchConfig, found: _Found
) -> None:
    """Beam search on from `written`. A images still open, k beams, t tokens so far.

    Each step ranks the 2k best continuations over all beams: those among the first k that end compete for k places of
    finished captions, the best k that go on are the next beams. An image is done when its best open beam, were it to
    end now, could not displace its worst finished caption.
    """
    k, penalty = config.beams, config.length_penalty
    images, state = written.images, written.state
    tokens, log_probs, logits = (
        x[:, None].expand(-1, k, -1) for x in (written.tokens, written.log_probs, written.logits)
    )  # A k t, A k t, A k V
    state = state.rows(torch.arange(len(images), device=images.device).repeat_interleave(k))
    scores = log_probs.sum(-1) + torch.tensor([0.0] + [_NEVER] * (k - 1), device=images.device)  # A k, all alike so far
    done_tokens, done_log_probs = tokens, log_probs
    done_lengths = torch.zeros_like(scores, dtype=torch.long)
    done_scores = torch.full_like(scores, _NEVER)
    done = torch.zeros_like(scores, dtype=torch.bool)

    for length in range(tokens.shape[-1] + 1, config.max_new_tokens + 1):
        log_p = logits.log_softmax(-1)
        allowed = constrain(log_p.flatten(0, 1), tokens.flatten(0, 1)).view_as(log_p)
        best, place = (allowed + scores[..., None]).flatten(1).topk(2 * k)  # A 2k
        parent, word = place // log_p.shape[-1], place % log_p.shape[-1]
        tokens = torch.cat([_take(tokens, parent), word[..., None]], dim=-1)  # A 2k t
        log_probs = torch.cat([_take(log_probs, parent), log_p.flatten(1).gather(1, place)[..., None]], dim=-1)

        over = (word == decoder.eos) | (length == config.max_new_tokens)
        closing = over & (torch.arange(2 * k, device=over.device) < k)
        done_scores, chosen = torch.cat([done_scores, best / length**penalty + ~closing * _NEVER], 1).topk(k)
        done = torch.cat([done, closing], 1).gather(1, chosen)
        done_lengths = torch.cat([done_lengths, torch.full_like(place, length)], 1).gather(1, chosen)
        done_tokens = _take(torch.cat([F.pad(done_tokens, (0, 1), value=decoder.pad), tokens], 1), chosen)
        done_log_probs = _take(torch.cat([F.pad(done_log_probs, (0, 1)), log_probs], 1), chosen)

        scores, chosen = (best + over * _NEVER).topk(k)
        tokens, log_probs, parent = _take(tokens, chosen), _take(log_probs, chosen), parent.gather(1, chosen)

        to_beat = torch.where(done, done_scores.min(1, keepdim=True).values, _NEVER)
        is_open = (scores[:, :1] / length**penalty > to_beat).any(1) & (length < config.max_new_tokens)
        if not is_open.all():
            left = ~is_open
            found.add(images[left], done_tokens[left, 0], done_log_probs[left, 0], done_lengths[left, 0])
            stay = is_open.nonzero()[:, 0]
            if not len(stay):
                return
            state, parent = state.images(stay), parent[stay]
            images, tokens, log_probs, scores = (x[stay] for x in (images, tokens, log_probs, scores))
            done, done_scores, done_lengths = (x[stay] for x in (done, done_scores, done_lengths))
            done_tokens, done_log_probs = done_tokens[stay], done_log_probs[stay]
            kept_rows = stay[:, None] * k + parent
        else:
            kept_rows = torch.arange(len(images), device=images.device)[:, None] * k + parent
        logits, state = decoder.step(tokens[..., -1].flatten(), state.rows(kept_rows.flatten()))
        logits = logits.float().view(-1, k, logits.shape[-1])


def _check(decoder: Gpt2Decoder, prefix: Tensor, config: SearchConfig, suppress: Sequence[int]) -> None:
    if decoder.training:
        raise ValueError("the decoder is in training mode, where dropout falsifies a search: call eval() first")
    needed = prefix.shape[1] + config.max_new_tokens
    if needed > decoder.positions:
        raise ValueError(
            f"a prefix of {prefix.shape[1]} slots and search.max_new_tokens={config.max_new_tokens} take {needed} "
            f"positions, the decoder has {decoder.positions}: shorten them or raise decoder.positions"
        )
    words = decoder.vocab_size - len(set(suppress))
    if 2 * config.beams > words:
        raise ValueError(
            f"search.beams={config.beams} needs {2 * config.beams} words to choose from, "
            f"the vocabulary leaves {words}: use fewer beams"
        )


def _take(x: Float[Tensor, "A k t"] | Int[Tensor, "A k t"], chosen: Int[Tensor, "A q"]) -> Tensor:
    """The chosen beams of each image."""
    return x.take_along_dim(chosen[..., None], dim=1)
