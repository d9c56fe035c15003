"""What a layer of graph attention needs of a graph, in two forms: matrices of each image, or lists of edges.

Both answer the same questions, so that the layer is written once. Matrices touch all N^2 pairs in a few large
products; lists touch the edges alone, with more to prepare. `relate` chooses.
"""

from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from regioncap.graph.dense import DenseRelations
from regioncap.graph.knn import KnnGraph
from regioncap.graph.lists import ListRelations

EdgeWeight = Literal["prior", "none"]
Form = Literal["auto", "dense", "lists"]

DENSE_UP_TO = 2**12
"""Pairs of a batch, B N^2, up to which matrices are faster than lists; docs/graph.md has the measurement."""


@runtime_checkable
class Relations(Protocol):
    """A graph over B images of N regions, ready for attention with H heads. P: its pairs, in its own order."""

    @property
    def padding(self) -> Bool[Tensor, "B N 1"] | None:
        """Slots that hold no region; None if there is none."""

    @property
    def geometry(self) -> Float[Tensor, "*P F"]:
        """`relative_geometry` of each pair; F = 0 without geometry."""

    def attend(
        self, features: Any, weight: Any, listener: Any, speaker: Any, *, bias: Any, dropout: float, activate: bool
    ) -> tuple[Any, Any, Any]:
        """Eqs. 7-9 for all heads.

            a_ij = softmax_j( LeakyReLU(listener . W v_i + speaker . W v_j) + log e_ij + bias_ij )
            heard_i = ELU( sum_j a_ij W v_j )

        `features`: v, B N D. `weight`: W, D D, the heads' maps below each other. `listener`, `speaker`: the halves of
        a, H D/H each. `bias`: P H or None. Without `activate` the ELU is left to the caller. Returns heard (B N D, the
        heads side by side), the shares a_ij, and the shares after dropout, with which heard is summed. A region
        without an edge hears nothing. The gradient cannot be differentiated again.
        """

    def hear_geometry(self, passed: Any) -> Float[Tensor, "B N H F"]:
        """sum_j a_ij phi_ij, by shares after dropout."""

    def matrices(self, shares: Any) -> Float[Tensor, "B H N N"]:
        """Shares as matrices of each image; 0 where no edge."""


def relate(
    graph: KnnGraph,
    boxes: Float[Tensor, "B N 4"],
    *,
    heads: int,
    edge_weight: EdgeWeight = "prior",
    geometry: bool = False,
    form: Form = "auto",
) -> Relations:
    """Make a graph ready for layers of `heads` heads; done once, shared by all layers.

    `edge_weight="prior"` adds log e_ij to the logits, `none` leaves eq. 7 to the letter. `geometry` says whether the
    layers read relative box geometry. `form="auto"` takes matrices up to `DENSE_UP_TO` pairs and lists beyond.
    """
    prior = edge_weight == "prior"
    if form == "dense" or (form == "auto" and graph.valid.numel() * graph.valid.shape[1] <= DENSE_UP_TO):
        return DenseRelations.of(graph, boxes, prior=prior, geometry=geometry)
    return ListRelations.of(graph, boxes, heads=heads, prior=prior, geometry=geometry)
