"""How likely each bank word is by what keyword heads say: frequency first, then the evidence of the image."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regioncap.guidance.bank import KeywordBank
from regioncap.guidance.keyword_heads import gain_scale
from regioncap.guidance.similarity import centred


class LearnedScores(nn.Module):
    """Log-odds that a caption holds a word.

        s_w(q) = log( p_w / (1 - p_w) ) + q . k_w / sqrt(E)
    p_w is the share of training captions (for regions: phrases) with the word; the second term, the gain, is what the
    image adds to it. Heads and bank words meet as in `StandardisedSimilarity`: `words` are the bank's vectors e_w less
    their mean, of norm sqrt(E). A frequent hub has its lead in p_w, where it belongs, and the gain is free of it. The
    keys k_w, by which words are found, are the same vectors, or where teaching the heads has moved them (`set_keys`).

    The bank is frozen and saved apart; keys and the log-odds of p_w are buffers. Words that were added since
    (`KeywordBank.with_words`) count as frequent as the rarest and lie where the text encoder has them. W words, E
    width, Q queries, k chosen words.
    """

    words: Tensor
    keys: Tensor
    seen: Tensor
    prior: Tensor

    def __init__(self, bank: KeywordBank) -> None:
        super().__init__()
        seen = torch.tensor(bank.counts) > 0
        self.register_buffer("seen", seen, persistent=False)
        self.register_buffer("words", centred(bank.embeddings.detach().float(), seen), persistent=False)
        self.register_buffer("keys", self.words.clone())
        self.register_buffer("prior", torch.zeros(len(bank)))

    @torch.no_grad()
    def set_shares(self, shares: Float[Tensor, " W"]) -> None:
        """Say how large p_w is of each word."""
        self.prior.copy_(log_odds(shares))

    @torch.no_grad()
    def set_keys(self, keys: Float[Tensor, "W E"]) -> None:
        """Say where heads that have learned it look for each word."""
        self.keys.copy_(keys)

    def gains(self, queries: Float[Tensor, "*Q E"]) -> Float[Tensor, "*Q W"]:
        """What each query adds to each word's log-odds."""
        return nn.functional.linear(queries.float() * gain_scale(self.keys.shape[1]), self.keys)

    def all(self, queries: Float[Tensor, "*Q E"]) -> Float[Tensor, "*Q W"]:
        """s_w of every word."""
        return self.gains(queries) + self.prior

    @torch.no_grad()
    def nearest(self, queries: Float[Tensor, "*Q E"], count: int) -> Int[Tensor, "*Q k"]:
        """The `count` words of the highest s_w, highest first; the whole bank where it holds fewer."""
        return self.all(queries).topk(min(count, len(self.words)), dim=-1).indices

    def scores(self, queries: Float[Tensor, "*Q E"], chosen: Int[Tensor, "*Q k"]) -> Float[Tensor, "*Q k"]:
        """s_w of the chosen words, in float32, differentiable in the queries."""
        raw = (queries.float()[..., None, :] * self.keys[chosen]).sum(-1)
        return raw * gain_scale(self.keys.shape[1]) + self.prior[chosen]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        stored = state_dict.get(f"{prefix}prior")
        if stored is not None and len(stored) == int(self.seen.sum()) < len(self.prior):
            added = stored.min().expand(len(self.prior) - len(stored))
            state_dict[f"{prefix}prior"] = torch.cat([stored, added])
            keys = state_dict[f"{prefix}keys"]
            state_dict[f"{prefix}keys"] = torch.cat([keys, self.words[len(keys) :].to(keys)])
        super()._load_from_state_dict(state_dict, prefix, *rest)


def image_gains(
    image: Float[Tensor, "B W"], regions: Float[Tensor, "B N W"], valid: Bool[Tensor, "B N"], mix: Float[Tensor, " B"]
) -> Float[Tensor, "B W"]:
    """What an image adds to the log-odds of each detail word: the gain of its own query, and `mix` times that of its
    best region's."""
    if not regions.shape[1]:
        return image
    best = regions.masked_fill(~valid[..., None], -torch.inf).amax(1)
    return image + mix[:, None] * best.masked_fill(~valid.any(1, keepdim=True), 0)


def log_odds(shares: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """log p / (1 - p); shares of 0 and 1 count as a millionth less extreme."""
    return shares.float().clamp(1e-6, 1 - 1e-6).logit()
