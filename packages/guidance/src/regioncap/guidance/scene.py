"""Scene guidance: what the whole picture is about (eq. 11)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor, nn

from regioncap.guidance.bank import KeywordBank
from regioncap.guidance.learned_scores import LearnedScores
from regioncap.guidance.similarity import StandardisedSimilarity
from regioncap.guidance.steering import best_words, raised


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """What scene guidance chose. B images, M scene words, D joint width."""

    summary: Float[Tensor, "B D"]
    """W_global of eq. 11."""
    tokens: Float[Tensor, "B M D"]
    """The chosen words' vectors, each times M x its weight: equal weights leave them as they are."""
    words: Int[Tensor, "B M"]
    """Rows of the scene bank, best first."""
    weights: Float[Tensor, "B M"]
    """Softmax of eq. 11; sums to 1."""


class SceneGuidance(nn.Module):
    """Choose the M scene words nearest to the image and weigh them by what was fused from it (eq. 11).

        E = the M bank words nearest to g,    W_global = softmax( q E^T / sqrt(D) ) E,    q = W_q LayerNorm(f)

    Departs from the paper: (a) q instead of f: f is no text vector and of any length, and its plain products with the
    words leave the softmax flat; W_q starts as the identity; (b) E are the bank's vectors less their mean, at norm
    sqrt(D); (c) nearness to g is standardised per word and joined by how frequent the word is
    (`StandardisedSimilarity`), with statistics set once by `calibrate`; (d) with `learned` scores, nearness to g gives
    way to the log-odds s that keyword heads give a word, for the choice and, times a learned t, within the softmax:
    what is likelier weighs more before f has its say. M larger than the bank means all of it. The choice itself has no
    gradient; the weights carry it to f.
    """

    def __init__(self, bank: KeywordBank, *, count: int, prior: float, learned: bool = False) -> None:
        super().__init__()
        dim = bank.width
        self.count = count
        self.similarity: StandardisedSimilarity | LearnedScores
        if learned:
            self.similarity = LearnedScores(bank)
            self.log_temperature = nn.Parameter(torch.zeros(()))
        else:
            self.similarity = StandardisedSimilarity(bank, momentum=1.0, prior=prior)
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)  # W_q follows
        self.query = nn.Linear(dim, dim, bias=False)
        nn.init.eye_(self.query.weight)

    def calibrate(self, g_train: Float[Tensor, "n D"]) -> None:
        """Set the hubness statistics from the global vectors of the training images; learned scores have none."""
        if isinstance(self.similarity, StandardisedSimilarity):
            self.similarity.fit(_near_one(g_train))

    def forward(
        self,
        fused: Float[Tensor, "B D"],
        g: Float[Tensor, "B D"],
        queries: Float[Tensor, "B D"] | None = None,
        edits: Int8[Tensor, "B W"] | None = None,
        strength: float = 0.0,
    ) -> Scene:
        """Words, weights and W_global of every image.

        `queries` are what a keyword head says, needed by learned scores alone; `edits` add and drop words, see
        `Steering`.
        """
        asked = self._asked(g, queries)
        if edits is None:
            chosen = self.similarity.nearest(asked, self.count)
        else:
            chosen = best_words(self.similarity.all(asked), edits, strength, self.count)
        words = self.similarity.words[chosen]  # B M D
        query = self.query(self.norm(fused)).float()
        logits = (query[:, None] * words).sum(-1) / math.sqrt(words.shape[-1])
        told = None if edits is None else edits.gather(1, chosen)
        if isinstance(self.similarity, LearnedScores):
            logits = logits + self.similarity.scores(asked, chosen) * self.log_temperature.exp()
        weights = (logits if told is None else raised(logits, told, strength)).softmax(-1)
        if told is not None:
            weights = weights.masked_fill(told < 0, 0)
        weighted = weights[..., None] * words
        return Scene(summary=weighted.sum(1), tokens=chosen.shape[1] * weighted, words=chosen, weights=weights)

    def nearest(self, g: Float[Tensor, "B D"], queries: Float[Tensor, "B D"] | None, count: int) -> Int[Tensor, "B c"]:
        """The `count` likeliest words of each image, whatever M."""
        return self.similarity.nearest(self._asked(g, queries), count)

    def _asked(self, g: Float[Tensor, "B D"], queries: Float[Tensor, "B D"] | None) -> Float[Tensor, "B D"]:
        if isinstance(self.similarity, StandardisedSimilarity):
            return _near_one(g)
        if queries is None:
            raise ValueError("these scene words are chosen by keyword heads: pass their queries")
        return queries


def _near_one(g: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
    # Of unit norm, g has tiny coordinates; near 1 they suit the statistics there are before `calibrate`.
    return g * math.sqrt(g.shape[1])
