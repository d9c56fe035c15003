"""Beam search over many images at once, one group of beams an image or several that avoid each other."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regioncap.decoder.candidates import best_words
from regioncap.decoder.constraints import Constraints
from regioncap.decoder.found import Found, Underway
from regioncap.decoder.greedy import check_finite
from regioncap.decoder.incremental import IncrementalGpt2

EarlyStopping = Literal["heuristic", "first", "never"]

_NEVER = -1.0e9  # as in transformers: finite, so that sums of it with log-probabilities stay ordered


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamRules:
    """How a beam search ranks and when it ends; `SearchConfig` explains them."""

    beams: int
    captions: int
    longest: int
    length_penalty: float
    early_stopping: EarlyStopping
    diversity: float

    @property
    def groups(self) -> int:
        """Groups of beams for each image: one for each caption where they are to differ."""
        return self.captions if self.diversity else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """k beams of each of A images, and the k best captions that ended, best first. t tokens so far."""

    tokens: Int[Tensor, "A k t"]
    log_probs: Float[Tensor, "A k t"]
    scores: Float[Tensor, "A k"]
    """Summed log-probabilities of the open beams; of a group that heeds no other, best first."""
    ended: Bool[Tensor, "A k"]
    """Which of the places for ended captions are taken."""
    ended_tokens: Int[Tensor, "A k t"]
    ended_log_probs: Float[Tensor, "A k t"]
    ended_lengths: Int[Tensor, "A k"]
    ended_scores: Float[Tensor, "A k"]

    def of(self, stay: Int[Tensor, " S"]) -> "_Group":
        """The same for some of the images."""
        return _Group(**{name: getattr(self, name)[stay] for name in self.__slots__})


def beam_search(
    decoder: IncrementalGpt2, begun: Underway, constrain: Constraints, found: Found, rules: BeamRules
) -> None:
    """Go on by beams from what is begun until the best `captions` of every image are found.

    Each step ranks the 2k best continuations over a group's k beams: those among the first k that end compete for k
    places of ended captions, the best k that go on are the next beams. An image is done when no group can improve,
    and leaves the batch. A images still open, G groups, k beams, t tokens, V words.
    """
    k, groups_per_image = rules.beams, rules.groups
    images, state = begun.images, begun.state
    groups = [_first(begun, k)] * groups_per_image
    logits = begun.logits[:, None, None]  # A G 1 V: the beams of a group are still one
    if groups_per_image > 1:
        logits = logits.expand(-1, groups_per_image, -1, -1)
    still_open = torch.ones(len(images), groups_per_image, dtype=torch.bool, device=images.device)
    for length in range(begun.tokens.shape[1] + 1, rules.longest + 1):
        # At the first step a group has one beam, whose continuations all k choose from.
        beams = logits.shape[2]
        log_p = logits.log_softmax(-1)
        said = torch.stack([group.tokens[:, :beams] for group in groups], 1)  # A G k t
        log_p = constrain(log_p.flatten(0, 2), said.flatten(0, 2)).view_as(log_p)
        cost = torch.zeros_like(log_p[:, 0, 0]) if groups_per_image > 1 else None  # A V
        parents = []
        for g, group in enumerate(groups):
            groups[g], parent, words = _advance(
                group, log_p[:, g], cost if g else None, still_open[:, g], rules, images, decoder
            )
            parents.append(parent)
            if cost is not None:
                cost.scatter_add_(1, words, (still_open[:, g, None] * rules.diversity).expand_as(words))
        still_open &= torch.stack([_can_improve(group, rules, length) for group in groups], 1)

        # Rows of the decoder are in the order image, group, beam; before the first step there is one an image.
        first = length == begun.tokens.shape[1] + 1
        stay = still_open.any(1).nonzero()[:, 0]
        of_group = torch.arange(groups_per_image, device=images.device)[:, None] * (0 if first else k)
        of_image = stay[:, None, None] * (1 if first else groups_per_image * k)
        rows = of_image + of_group + torch.stack(parents, 1)[stay]  # S G k
        if len(stay) < len(images):
            left = (~still_open.any(1)).nonzero()[:, 0]
            found.add(images[left], *_best([group.of(left) for group in groups], rules.captions, decoder.pad))
            if not len(stay):
                return
            images, still_open, state = images[stay], still_open[stay], state.images(stay)
            groups = [group.of(stay) for group in groups]
        words = torch.stack([group.tokens[..., -1] for group in groups], 1)  # S G k
        logits, state = decoder.step(words.flatten(), state.rows(rows.flatten()))
        logits = logits.view(len(images), groups_per_image, k, -1)


def _first(begun: Underway, beams: int) -> _Group:
    """All beams alike, but only the first counts."""
    tokens, log_probs = (x[:, None].expand(-1, beams, -1) for x in (begun.tokens, begun.log_probs))
    dead = torch.tensor([0.0] + [_NEVER] * (beams - 1), device=tokens.device)
    scores = log_probs.sum(-1) + dead
    return _Group(
        tokens=tokens,
        log_probs=log_probs,
        scores=scores,
        ended=torch.zeros_like(scores, dtype=torch.bool),
        ended_tokens=tokens,
        ended_log_probs=log_probs,
        ended_lengths=torch.zeros_like(scores, dtype=torch.long),
        ended_scores=torch.full_like(scores, _NEVER),
    )


def _advance(
    group: _Group,
    log_p: Float[Tensor, "A b V"],
    cost: Float[Tensor, "A V"] | None,
    is_open: Bool[Tensor, " A"],
    rules: BeamRules,
    images: Int[Tensor, " A"],
    decoder: IncrementalGpt2,
) -> tuple[_Group, Int[Tensor, "A k"], Int[Tensor, "A k"]]:
    """A token further: the next group, which beam each of its beams continues, and the words it says in passing.

    `cost` decides which continuations are taken, while scores stay log-probabilities.
    """
    k, beams = rules.beams, log_p.shape[1]
    ranked, words = best_words(log_p if cost is None else log_p - cost[:, None], 2 * k)  # A b 2k
    ranked, place = (ranked + group.scores[:, :beams, None]).flatten(1).topk(2 * k)  # A 2k
    check_finite(ranked[:, 0], images, group.tokens.shape[-1] + 1)
    parent, word = place // (2 * k), words.flatten(1).gather(1, place)
    of_word = log_p.flatten(1).gather(1, parent * log_p.shape[-1] + word)
    scores = ranked if cost is None else ranked + cost.gather(1, word)
    tokens = torch.cat([_take(group.tokens, parent), word[..., None]], dim=-1)  # A 2k t
    log_probs = torch.cat([_take(group.log_probs, parent), of_word[..., None]], dim=-1)

    length = tokens.shape[-1]
    over = (word == decoder.eos) | (length == rules.longest)
    closing = over & (torch.arange(2 * k, device=over.device) < k) & is_open[:, None]
    final = scores / length**rules.length_penalty + ~closing * _NEVER
    ended_scores, chosen = torch.cat([group.ended_scores, final], 1).topk(k)
    lengths = torch.cat([group.ended_lengths, torch.full_like(place, length)], 1)
    ended_tokens = torch.cat([F.pad(group.ended_tokens, (0, 1), value=decoder.pad), tokens], 1)
    ended_log_probs = torch.cat([F.pad(group.ended_log_probs, (0, 1)), log_probs], 1)

    going = (ranked + over * _NEVER).topk(k).indices
    further = _Group(
        tokens=_take(tokens, going),
        log_probs=_take(log_probs, going),
        scores=(scores + over * _NEVER).gather(1, going),
        ended=torch.cat([group.ended, closing], 1).gather(1, chosen),
        ended_tokens=_take(ended_tokens, chosen),
        ended_log_probs=_take(ended_log_probs, chosen),
        ended_lengths=lengths.gather(1, chosen),
        ended_scores=ended_scores,
    )
    return further, parent.gather(1, going), word[:, :k]


def _can_improve(group: _Group, rules: BeamRules, length: int) -> Bool[Tensor, " A"]:
    """Whether an open beam could still displace an ended caption, as `early_stopping` estimates it."""
    if length == rules.longest:
        return torch.zeros(len(group.scores), dtype=torch.bool, device=group.scores.device)
    hoped = rules.longest if rules.early_stopping == "never" and rules.length_penalty > 0 else length
    to_beat = torch.where(group.ended, group.ended_scores.min(1, keepdim=True).values, _NEVER)
    can: Bool[Tensor, " A"] = (group.scores.amax(1, keepdim=True) / hoped**rules.length_penalty > to_beat).any(1)
    if rules.early_stopping == "first":
        can &= ~group.ended.all(1)
    return can


def _best(
    groups: list[_Group], captions: int, pad: int
) -> tuple[Int[Tensor, "A n t"], Float[Tensor, "A n t"], Int[Tensor, "A n"]]:
    """The captions to return: the best of the only group, or of each group its best that no earlier group has."""
    if len(groups) == 1:
        only = groups[0]
        return only.ended_tokens[:, :captions], only.ended_log_probs[:, :captions], only.ended_lengths[:, :captions]
    tokens, log_probs, lengths, scores, ended = (
        torch.stack([getattr(group, name) for group in groups], 1)
        for name in ("ended_tokens", "ended_log_probs", "ended_lengths", "ended_scores", "ended")
    )  # A G k ...
    repeated = ~ended
    for image, of_image in enumerate(tokens.tolist()):
        taken: set[tuple[int, ...]] = set()
        for g, of_group in enumerate(of_image):
            repeated[image, g] |= torch.tensor([tuple(caption) in taken for caption in of_group], device=ended.device)
            if not bool(repeated[image, g].all()):
                taken.add(tuple(of_group[int((~repeated[image, g]).nonzero()[0, 0])]))
    # The places of a group are in the order of their scores: the first that is no repetition is its best.
    best, pick = scores.masked_fill(repeated, 2 * _NEVER).max(2)  # A G
    order = best.sort(1, descending=True).indices
    missing = repeated.all(2).gather(1, order)
    lengths = lengths.gather(2, pick[..., None])[..., 0].gather(1, order).masked_fill(missing, 0)
    tokens, log_probs = (_take(x.take_along_dim(pick[..., None, None], 2)[:, :, 0], order) for x in (tokens, log_probs))
    return tokens.masked_fill(missing[..., None], pad), log_probs * ~missing[..., None], lengths


def _take(x: Float[Tensor, "A k t"] | Int[Tensor, "A k t"], chosen: Int[Tensor, "A q"]) -> Tensor:
    """The chosen beams of each image."""
    return x.take_along_dim(chosen[..., None], dim=1)
