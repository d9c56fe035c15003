"""Which bank words suit a query best, without the hubs that raw similarity always finds."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regioncap.guidance.bank import KeywordBank
from regioncap.guidance.nearest import ROUGH_FROM, RoughKeys, nearest_keys

# A word along which the queries hardly vary would win or lose by noise alone: its deviation counts as at least this
# share of the bank's (root mean square).
LEAST_DEVIATION = 0.1
WORDS_AT_ONCE = 4096
"""Words whose deviation is taken at a time: a large bank need not be held once more."""


class StandardisedSimilarity(nn.Module):
    """Similarity of queries to bank words, each word measured against how near queries are to it on average.

        s_w(q) = (q - mean) . e_w / (sqrt(E) sd_w) + beta log(count_w / mean count),
        sd_w = sqrt(e_w^T C e_w / E),    mean, C of all queries

    The first term is the z-score of q . e_w over the queries: a hub, near to every query, has a high mean and loses its
    lead. But it makes a rare word as likely as a frequent one, which is wrong of captions: the second puts that right,
    as a prior does a likelihood (beta = `prior`). With a linear CLIP-style head on Flickr8k, beta from 0 to 0.75 takes
    the precision at 5 of words for g, against those of an image's captions (dev), from 0.13 to 0.23 in the scene bank
    and to 0.39 in the detail bank.

    Statistics are kept of the queries rather than of the words, so that they cost nothing per word and hold for words
    that are not in the bank yet. Until they are set, mean 0 and C = I leave sd_w = 1 for every word.

    `words` are the bank's embeddings less their mean, scaled to norm sqrt(E): what all words share tells none apart,
    and coordinates near 1 are what the 1/sqrt(D) of eq. 11 expects of its keys (unit vectors would leave the softmax
    flat). The bank is frozen; mean and C are buffers, saved with the module's state; the words are saved with the bank,
    and sd follows from both. So a state also fits a bank to which words were added since (`KeywordBank.with_words`):
    these have no part in what all words share and are as likely as a word of one caption. W words, E width, Q queries,
    k chosen words.
    """

    words: Tensor
    prior: Tensor
    mean: Tensor
    covariance: Tensor
    deviation: Tensor
    seen: Tensor
    keys: Tensor
    updates: Tensor

    def __init__(self, bank: KeywordBank, *, momentum: float, prior: float) -> None:
        super().__init__()
        size, width = len(bank), bank.width
        counts = torch.tensor(bank.counts, dtype=torch.float32)
        seen = counts > 0  # words that were added since belong neither to the mean nor to the statistics
        self.momentum = momentum
        self.register_buffer("seen", seen, persistent=False)
        self.register_buffer("words", centred(bank.embeddings.detach().float(), seen), persistent=False)
        self.register_buffer("prior", prior * (counts.clamp(min=1) / counts[seen].mean()).log(), persistent=False)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("covariance", torch.eye(width))
        self.register_buffer("deviation", torch.ones(size), persistent=False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.register_buffer("keys", self.words / math.sqrt(width), persistent=False)
        self._rough: RoughKeys | None = None
        self._follow()  # to the last digit what a state that is loaded gives

    @torch.no_grad()
    def fit(self, queries: Float[Tensor, "Q E"]) -> None:
        """Set the statistics to those of these queries. Raises ValueError for fewer than two queries."""
        if len(queries) < 2:
            raise ValueError(f"hubness statistics need at least two queries, got {len(queries)}; give all of train")
        self.updates.zero_()
        self.update(queries)

    @torch.no_grad()
    def update(self, queries: Float[Tensor, "Q E"]) -> None:
        """Move the statistics towards those of these queries: the plain average of the first updates, then by momentum.

        Fewer than two queries say nothing of a spread and change nothing.
        """
        if len(queries) < 2:
            return
        rate = max(self.momentum, 1 / (int(self.updates) + 1))
        with torch.autocast(queries.device.type, enabled=False):
            queries = queries.float()
            mean = queries.mean(0)
            centred = queries - mean
            self.mean.lerp_(mean, rate)
            self.covariance.lerp_(centred.T @ centred / len(queries), rate)
            self._follow()
        self.updates += 1

    @torch.no_grad()
    def nearest(self, queries: Float[Tensor, "*Q E"], count: int) -> Int[Tensor, "*Q k"]:
        """The `count` words of the highest s_w, highest first; the whole bank where it holds fewer.

        No gradient and no score leaves this full comparison: `scores` gives those of the chosen few, so that the
        backward pass does not depend on the size of the bank. Exact, for any bank: see `nearest.py` for how large ones
        are searched. A query that is not finite gets any words.
        """
        count = min(count, len(self.keys))
        with torch.autocast(queries.device.type, enabled=False):
            centred = (queries.float() - self.mean).flatten(0, -2)
            return self._search(centred, count).view(*queries.shape[:-1], count)

    def all(self, queries: Float[Tensor, "*Q E"]) -> Float[Tensor, "*Q W"]:
        """s_w of every word."""
        return nn.functional.linear(queries.float() - self.mean, self.keys, self.prior)

    def scores(self, queries: Float[Tensor, "*Q E"], chosen: Int[Tensor, "*Q k"]) -> Float[Tensor, "*Q k"]:
        """s_w of the chosen words, in float32, differentiable in the queries."""
        centred = (queries.float() - self.mean)[..., None, :]
        raw = (centred * self.words[chosen]).sum(-1) / math.sqrt(self.words.shape[1])
        return raw / self.deviation[chosen] + self.prior[chosen]

    def _search(self, centred: Float[Tensor, "Q E"], count: int) -> Int[Tensor, "Q k"]:
        # Statistics that move with every step would have the keys rounded for a single search.
        if self.training or len(self.keys) < ROUGH_FROM or centred.device.type != "cpu" or len(centred) == 0:
            return nearest_keys(centred, self.keys, self.prior, count)
        if self._rough is None:
            self._rough = RoughKeys.of(self.keys, self.prior)
        return self._rough.nearest(centred.nan_to_num(0, posinf=0, neginf=0), count)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state_dict.pop(f"{prefix}deviation", None)  # versions up to 0.1.0 saved it
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._follow()

    def _follow(self) -> None:
        """Bring what follows from the statistics up to date with them."""
        parts = self.words.split(WORDS_AT_ONCE)
        variance = torch.cat([((part @ self.covariance) * part).sum(-1) for part in parts]) / self.words.shape[1]  # W
        floor = LEAST_DEVIATION**2 * variance[self.seen].mean()
        self.deviation.copy_(variance.clamp(min=floor.clamp(min=1e-12)).sqrt())
        torch.div(self.words, math.sqrt(self.words.shape[1]) * self.deviation[:, None], out=self.keys)
        self._rough = None


def centred(embeddings: Float[Tensor, "W E"], seen: Bool[Tensor, " W"]) -> Float[Tensor, "W E"]:
    """Embeddings less the mean of those `seen`, at norm sqrt(E): what all words share tells none apart."""
    known = embeddings if bool(seen.all()) else embeddings[seen]
    # The mean of a single word is the word: less its mean nothing would be left of it.
    centred = embeddings - known.mean(0) if len(known) > 1 else embeddings.clone()
    return centred.mul_(math.sqrt(embeddings.shape[1]) / centred.norm(dim=-1, keepdim=True).clamp(min=1e-12))
