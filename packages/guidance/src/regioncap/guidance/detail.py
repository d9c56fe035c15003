"""Detail guidance: which objects and attributes a region shows (eq. 12)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor, nn

from regioncap.guidance.bank import KeywordBank
from regioncap.guidance.learned_scores import LearnedScores
from regioncap.guidance.similarity import StandardisedSimilarity
from regioncap.guidance.steering import BARRED, Steering, best_words, raised


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detail:
    """What detail guidance chose; zero where a region is padding. B images, N regions, m words each, D joint width."""

    regions: Float[Tensor, "B N D"]
    """W_local of eq. 12, per region; what the L1 of eq. 18 is taken of."""
    summary: Float[Tensor, "B D"]
    """Mean of W_local over the valid regions; zero for an image without one."""
    words: Int[Tensor, "B N m"]
    """Rows of the detail bank, best first."""
    weights: Float[Tensor, "B N m"]
    """Soft retrieval; sums to 1 over m."""
    tokens: Float[Tensor, "B N m D"]
    """What each word adds to W_local, times m: their mean over m is `regions`."""
    gate: Float[Tensor, "B N2 D"]
    """The sigmoid of eq. 12; N2 = 0 where there are no detail words."""
    gains: Float[Tensor, "B N W"] | None = None
    """What each region adds to the log-odds of every word, where scores are learned."""


class DetailGuidance(nn.Module):
    """Describe every region by the m detail words nearest to it, let through by a gate (eq. 12).

        q_i = W_q LayerNorm(V_i),    f_text_i = W_t sum_{w in top-m of s(q_i)} softmax( t s_w(q_i) ) e_w
        W_local_i = sigmoid( W_g [f ; f_text_i] ) * f_text_i

    s is standardised per word and joined by how frequent the word is (`StandardisedSimilarity`): its statistics follow
    the queries in training, like a BatchNorm's but never those of the batch alone, and stand still in evaluation. t is
    a learned temperature. Departs from the paper, which does not say how V_i finds its words: here by a learned query,
    for V_i need be no text vector. Where the bank is as wide as D, W_q starts as the identity (a V_i that does lie in
    text space finds its words at once) and W_t is it. With `learned` scores there is no W_q: q_i and s are those of a
    keyword head, which phrases taught what a region is called. m larger than the bank means all of it.
    """

    def __init__(
        self, bank: KeywordBank, dim: int, *, count: int, momentum: float, prior: float, learned: bool = False
    ) -> None:
        super().__init__()
        width = bank.width
        self.count = count
        self.similarity: StandardisedSimilarity | LearnedScores
        if learned:
            self.similarity = LearnedScores(bank)
        else:
            self.similarity = StandardisedSimilarity(bank, momentum=momentum, prior=prior)
            self.norm = nn.LayerNorm(dim, elementwise_affine=False)  # W_q follows
            self.query = nn.Linear(dim, width, bias=False)  # the statistics take off any mean
            if width == dim:
                nn.init.eye_(self.query.weight)
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.text = nn.Identity() if width == dim else nn.Linear(width, dim, bias=False)
        # W_g [f ; f_text] in two halves: f is the same for all regions of an image.
        self.gate_fused = nn.Linear(dim, dim)
        self.gate_text = nn.Linear(dim, dim, bias=False)

    def place(
        self,
        steering: Steering,
        regions: Float[Tensor, "B N D"],
        valid: Bool[Tensor, "B N"],
        queries: Float[Tensor, "B N E"] | None = None,
    ) -> Int8[Tensor, "B N W"]:
        """The edits region by region: an added word goes where it is likeliest, unless a region was named for it."""
        with torch.no_grad():
            scores = self.scores(regions, queries).masked_fill(~valid[..., None], BARRED)
        best = nn.functional.one_hot(scores.argmax(1), valid.shape[1]).movedim(-1, 1).to(torch.int8)  # B N W
        wanted = steering.detail[:, None]
        edits = torch.where(wanted > 0, best, wanted.expand_as(best))
        if steering.regions is None:
            return edits
        named = (steering.regions > 0).any(1, keepdim=True)  # B 1 W
        edits = torch.where(named & (wanted > 0), torch.zeros_like(edits), edits)
        return torch.where(steering.regions != 0, steering.regions, edits)

    def scores(self, regions: Float[Tensor, "B N D"], queries: Float[Tensor, "B N E"] | None) -> Float[Tensor, "B N W"]:
        """s of every word for every region."""
        return self.similarity.all(self._asked(regions, queries))

    def forward(
        self,
        fused: Float[Tensor, "B D"],
        regions: Float[Tensor, "B N D"],
        valid: Bool[Tensor, "B N"],
        queries: Float[Tensor, "B N E"] | None = None,
        edits: Int8[Tensor, "B N W"] | None = None,
        strength: float = 0.0,
    ) -> Detail:
        """Words, gate and W_local of every region; in training the hubness statistics move too.

        `queries` are what a keyword head says, needed by learned scores alone; `edits` add and drop words, see
        `Steering`.
        """
        query = self._asked(regions, queries)
        if self.training and isinstance(self.similarity, StandardisedSimilarity):
            self.similarity.update(query[valid])
        gains, of_all = None, None
        if isinstance(self.similarity, LearnedScores):
            gains = self.similarity.gains(query)  # an image's words want those of all words in any case
            of_all = gains + self.similarity.prior
        elif edits is not None:
            of_all = self.similarity.all(query)
        if of_all is None:
            chosen = self.similarity.nearest(query, self.count)
        elif edits is None:
            chosen = of_all.topk(min(self.count, of_all.shape[-1])).indices
        else:
            chosen = best_words(of_all, edits, strength, self.count)
        chosen = chosen.masked_fill(~valid[..., None], 0)
        told = None if edits is None else edits.gather(-1, chosen)
        scores = self.similarity.scores(query, chosen) * self.log_temperature.exp()
        weights = (scores if told is None else raised(scores, told, strength)).softmax(-1) * valid[..., None]  # B N m
        if told is not None:
            weights = weights.masked_fill(told < 0, 0)
        weighted = weights[..., None] * self.similarity.words[chosen]  # B N m E
        text = self.text(weighted.sum(-2))  # B N D
        gate = torch.sigmoid(self.gate_fused(fused)[:, None] + self.gate_text(text)) * valid[..., None]
        local = gate * text
        summary = local.sum(1) / valid.sum(1, keepdim=True).clamp(min=1)
        tokens = gate[..., None, :] * self.text(chosen.shape[-1] * weighted)
        return Detail(
            regions=local, summary=summary, words=chosen, weights=weights, tokens=tokens, gate=gate, gains=gains
        )

    def _asked(self, regions: Float[Tensor, "B N D"], queries: Float[Tensor, "B N E"] | None) -> Float[Tensor, "B N E"]:
        if isinstance(self.similarity, StandardisedSimilarity):
            query: Tensor = self.query(self.norm(regions))
            return query
        if queries is None:
            raise ValueError("these detail words are chosen by keyword heads: pass their queries")
        return queries
