"""Scene guidance: what the whole picture is about (eq. 11)."""

import math
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from regioncap.guidance.similarity import StandardisedSimilarity


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """What scene guidance chose. B images, M scene words, D joint width."""

    summary: Float[Tensor, "B D"]
    """W_global of eq. 11."""
    tokens: Float[Tensor, "B M D"]
    """The chosen words' vectors, each times M x its weight: equal weights leave them as they are."""
    words: Int[Tensor, "B M"]
    """Rows of the scene bank, nearest to g first."""
    weights: Float[Tensor, "B M"]
    """Softmax of eq. 11; sums to 1."""


class SceneGuidance(nn.Module):
    """Choose the M scene words nearest to the image and weigh them by what was fused from it (eq. 11).

        E = the M bank words nearest to g,    W_global = softmax( q E^T / sqrt(D) ) E,    q = W_q LayerNorm(f)

    Departs from the paper: (a) q instead of f: f is no text vector and of any length, and its plain products with the
    words leave the softmax flat; (b) E are the bank's vectors less their mean, at norm sqrt(D); (c) nearness to g is
    standardised per word (`StandardisedSimilarity`), with statistics set once by `calibrate`. M larger than the bank
    means all of it. The choice itself has no gradient; the weights carry it to f.
    """

    def __init__(self, embeddings: Float[Tensor, "W D"], count: int) -> None:
        super().__init__()
        dim = embeddings.shape[1]
        self.count = count
        self.similarity = StandardisedSimilarity(embeddings, momentum=1.0)
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)  # W_q follows
        self.query = nn.Linear(dim, dim, bias=False)

    def calibrate(self, g_train: Float[Tensor, "n D"]) -> None:
        """Set the hubness statistics from the global vectors of the training images."""
        self.similarity.fit(g_train)

    def forward(self, fused: Float[Tensor, "B D"], g: Float[Tensor, "B D"]) -> Scene:
        """Words, weights and W_global of every image."""
        chosen = self.similarity.nearest(g, self.count)
        words = self.similarity.words[chosen]  # B M D
        query = self.query(self.norm(fused)).float()
        logits = (query[:, None] * words).sum(-1) / math.sqrt(words.shape[-1])
        weights = logits.softmax(-1)
        weighted = weights[..., None] * words
        return Scene(summary=weighted.sum(1), tokens=chosen.shape[1] * weighted, words=chosen, weights=weights)
