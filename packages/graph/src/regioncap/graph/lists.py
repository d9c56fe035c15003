"""A graph as lists of edges (PyG's form), for attention that touches edges alone.

PyG's message passing writes what every edge carries, E x D numbers, several times over in each direction. Here an
embedding bag adds up the rows that a region listens to as it reads them, so that nothing of that size exists: the
forward sum, its gradient for the values (the same sum over the reversed edges) and its gradient for the shares (one
dot product an edge) each read rows and write only their result.

A head is a node of its own: node (i, h) listens to the nodes (j, h), so that H heads are one graph of B N H nodes with
one list, sorted by listener, and the softmax is over segments of that list.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from regioncap.graph.elu import elu_, elu_backward
from regioncap.graph.geometry import relative_geometry
from regioncap.graph.knn import Edges, KnnGraph
from regioncap.graph.logits import FORBIDDEN, SLOPE, edge_logits
from regioncap.graph.padding import padding_of
from regioncap.graph.projection import project, project_backward


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRelations:
    """See `relations.Relations`. B images, N regions, H heads, E edges, F pair channels; shares are E H in a row.

    Every list but `logits` and `geometry` is over the E H entries of the graph of heads; L is their number.
    """

    padding: Bool[Tensor, "B N 1"] | None
    edges: Edges
    images: int
    slots: int
    heads: int
    logits: Float[Tensor, " E"]
    """The graph's part: see `edge_logits`."""
    geometry: Float[Tensor, "E F"]
    listens: Int[Tensor, " L"]
    """Node (i, h) as number i H + h; ascending."""
    speaks: Int[Tensor, " L"]
    """Node (j, h)."""
    entry: Int[Tensor, " L"]
    """Edge and head as number e H + h."""
    starts: Int[Tensor, " M"]
    """Where each listener's entries start, and the end of the list: M = B N H + 1."""
    reverse: Int[Tensor, " L"]
    """The entries in ascending order of their speaker."""
    reverse_starts: Int[Tensor, " M"]

    @staticmethod
    def of(
        graph: KnnGraph, boxes: Float[Tensor, "B N 4"], *, heads: int, prior: bool, geometry: bool
    ) -> "ListRelations":
        """See `relations.relate`."""
        edges = graph.edges()
        head = torch.arange(heads, device=boxes.device, dtype=torch.int32)  # half the memory traffic of int64
        speaks = (edges.source.int()[:, None] * heads + head).flatten()
        listens, entry = (edges.target.int()[:, None] * heads + head).flatten().sort(stable=True)
        speaks = speaks.index_select(0, entry)
        speakers, reverse = speaks.sort(stable=True)
        nodes = torch.arange(graph.valid.numel() * heads + 1, device=boxes.device, dtype=torch.int32)
        phi = boxes.new_zeros((len(edges.target), 0))
        if geometry:
            flat = boxes.masked_fill(~graph.valid[..., None], 0.0).flatten(0, 1)
            phi = relative_geometry(flat.index_select(0, edges.target), flat.index_select(0, edges.source))
        return ListRelations(
            padding=padding_of(graph.valid),
            edges=edges,
            images=boxes.shape[0],
            slots=boxes.shape[1],
            heads=heads,
            logits=edge_logits(edges.weight, prior),
            geometry=phi,
            listens=listens,
            speaks=speaks,
            entry=entry,
            starts=torch.searchsorted(listens, nodes, out_int32=True),
            reverse=reverse,
            reverse_starts=torch.searchsorted(speakers, nodes, out_int32=True),
        )

    def attend(
        self,
        features: Float[Tensor, "B N D"],
        weight: Float[Tensor, "D D"],
        listener: Float[Tensor, "H C"],
        speaker: Float[Tensor, "H C"],
        *,
        bias: Float[Tensor, "E H"] | None,
        dropout: float,
        activate: bool,
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, " L"], Float[Tensor, " L"]]:
        """See `relations.Relations`. Raises ValueError for another number of heads than the lists were made for."""
        if len(listener) != self.heads:
            raise ValueError(f"the relations were made for {self.heads} heads, the layer has {len(listener)}")
        logits = self.logits[:, None].expand(-1, self.heads) if bias is None else self.logits[:, None] + bias
        logits = logits.flatten().index_select(0, self.entry)
        kept = None if dropout == 0 else functional.dropout(torch.ones_like(logits), dropout)
        lists = (self.listens, self.speaks, self.starts, self.reverse, self.reverse_starts)
        heard, shares = _Attend.apply(features, weight, listener, speaker, logits, kept, activate, *lists)
        return heard, shares, shares if kept is None else shares * kept

    def hear_geometry(self, passed: Float[Tensor, " L"]) -> Float[Tensor, "B N H F"]:
        """See `relations.Relations`."""
        edge = (self.entry // self.heads).int()
        heard: Tensor = functional.embedding_bag(
            edge, self.geometry.to(passed.dtype), self.starts[:-1], mode="sum", per_sample_weights=passed
        )
        return heard.view(self.images, self.slots, self.heads, self.geometry.shape[1])

    def matrices(self, shares: Float[Tensor, " L"]) -> Float[Tensor, "B H N N"]:
        """See `relations.Relations`."""
        by_edge = torch.zeros_like(shares).scatter(0, self.entry, shares).view(-1, self.heads)
        dense = by_edge.new_zeros((self.images * self.slots, self.slots, self.heads))
        # Adds, because entries of weight 0 may name a pair twice.
        dense = dense.index_put((self.edges.target, self.edges.source % max(self.slots, 1)), by_edge, accumulate=True)
        matrices: Tensor = dense.view(self.images, self.slots, self.slots, self.heads).permute(0, 3, 1, 2)
        return matrices


class _Attend(torch.autograd.Function):
    """A layer (eqs. 7-9) as one node of autograd; see `projection` for why. B images, N regions, D channels, H heads.

    The gradient of a gather adds rows one at a time on a CPU; here the entries of a listener, or in `reverse` order of
    a speaker, are neighbours in memory and are added up as segments. Saved are the features, their values, the scores
    and the shares.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Float[Tensor, "B N D"],
        weight: Float[Tensor, "D D"],
        listener: Float[Tensor, "H C"],
        speaker: Float[Tensor, "H C"],
        logits: Float[Tensor, " L"],
        kept: Float[Tensor, " L"] | None,
        activate: bool,
        listens: Int[Tensor, " L"],
        speaks: Int[Tensor, " L"],
        starts: Int[Tensor, " M"],
        reverse: Int[Tensor, " L"],
        reverse_starts: Int[Tensor, " M"],
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, " L"]]:
        values, vectors, halves = project(features.flatten(0, 1), weight, listener, speaker)
        listening, speaking = halves.view(-1, 2, len(listener)).unbind(1)  # B N H each
        scores = listening.flatten().index_select(0, listens)
        scores += speaking.flatten().index_select(0, speaks)
        raised = functional.leaky_relu(scores, SLOPE).add_(logits)
        # A listener whose entries are all forbidden is shifted by less than FORBIDDEN, so that their shares become 0.
        highest = _segments(raised, starts, "max").clamp_min_(FORBIDDEN / 10)
        shares = raised.sub_(highest.index_select(0, listens)).exp_()
        total = _segments(shares, starts, "sum").clamp_min_(torch.finfo(shares.dtype).tiny)
        shares = shares.div_(total.index_select(0, listens))
        passed = shares if kept is None else shares * kept
        out = _bag(passed, values.view(-1, listener.shape[1]), speaks, starts).view(features.shape)
        out = elu_(out) if activate else out
        ctx.save_for_backward(
            features,
            weight,
            values,
            vectors,
            scores,
            shares,
            kept,
            out if activate else None,
            listens,
            speaks,
            starts,
            reverse,
            reverse_starts,
        )
        ctx.set_materialize_grads(False)
        return out, shares

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Float[Tensor, "B N D"] | None, grad_shares: Float[Tensor, " L"] | None
    ) -> tuple[Tensor | None, ...]:
        features, weight, values, vectors, scores, shares, kept, out, *lists = ctx.saved_tensors
        listens, speaks, starts, reverse, reverse_starts = lists
        heads = len(vectors) // 2
        rows = values.view(-1, values.shape[1] // heads)
        grad = torch.zeros_like(features) if grad is None else grad
        grad = (grad if out is None else elu_backward(grad, out)).contiguous().view(rows.shape)
        # One dot product an entry; this is what embedding_bag's own gradient calls.
        grad_passed = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            grad, rows, speaks, starts[:-1], listens, 0, -1
        ).to(shares.dtype)
        passed = shares if kept is None else shares * kept
        back = listens.index_select(0, reverse)
        grad_values = _bag(passed.index_select(0, reverse), grad, back, reverse_starts).view(values.shape)

        if kept is not None:
            grad_passed *= kept
        if grad_shares is not None:
            grad_passed += grad_shares
        grad_logits = grad_passed.mul_(shares)
        mean = _segments(grad_logits, starts, "sum").index_select(0, listens)
        grad_logits = grad_logits.addcmul_(shares, mean, value=-1)
        grad_scores = torch.where(scores > 0, grad_logits, SLOPE * grad_logits)
        grad_listening = _segments(grad_scores, starts, "sum").view(-1, heads)
        grad_speaking = _segments(grad_scores.index_select(0, reverse), reverse_starts, "sum").view(-1, heads)
        halves = torch.cat([grad_listening, grad_speaking], dim=1)
        grads = project_backward(
            features.flatten(0, 1), weight, values, vectors, grad_values, halves, ctx.needs_input_grad
        )
        grad_features = None if grads[0] is None else grads[0].view(features.shape)
        return grad_features, *grads[1:], grad_logits, *[None] * 7


def _segments(entries: Float[Tensor, " L"], starts: Int[Tensor, " M"], reduce: str) -> Float[Tensor, " K"]:
    # `unsafe` leaves out a check of the offsets that would make a GPU wait.
    return torch.segment_reduce(entries, reduce, offsets=starts, axis=0, unsafe=True)


def _bag(
    shares: Float[Tensor, " L"], rows: Float[Tensor, "K C"], which: Int[Tensor, " L"], starts: Int[Tensor, " M"]
) -> Float[Tensor, "K C"]:
    weights = shares.to(rows.dtype)
    return functional.embedding_bag(which, rows, starts[:-1], mode="sum", per_sample_weights=weights)
