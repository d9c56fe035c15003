"""A graph as matrices of each image, for attention in a few large products."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from regioncap.graph.geometry import pair_geometry
from regioncap.graph.knn import KnnGraph
from regioncap.graph.logits import SLOPE, edge_logits, score_matrix, unpack_scores
from regioncap.graph.padding import padding_of


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseRelations:
    """See `relations.Relations`. B images, N regions, H heads, F pair channels; shares are B H N N."""

    padding: Bool[Tensor, "B N 1"] | None
    logits: Float[Tensor, "B 1 N N"]
    """The graph's part: see `edge_logits`."""
    lonely: Bool[Tensor, "B 1 N 1"]
    """Regions without any edge, padding too."""
    geometry: Float[Tensor, "B N N F"]

    @staticmethod
    def of(graph: KnnGraph, boxes: Float[Tensor, "B N 4"], *, prior: bool, geometry: bool) -> "DenseRelations":
        """See `relations.relate`."""
        weights = graph.weights[:, None]
        without = boxes.new_zeros((*boxes.shape[:2], boxes.shape[1], 0))
        return DenseRelations(
            padding=padding_of(graph.valid),
            logits=edge_logits(weights, prior),
            lonely=~weights.any(-1, keepdim=True),
            geometry=pair_geometry(boxes, graph.valid) if geometry else without,
        )

    def attend(
        self,
        values: Float[Tensor, "B N D"],
        listener: Float[Tensor, "H C"],
        speaker: Float[Tensor, "H C"],
        bias: Float[Tensor, "B N N H"] | None,
        dropout: float,
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B H N N"], Float[Tensor, "B H N N"]]:
        """See `relations.Relations`."""
        logits = self.logits if bias is None else self.logits + bias.permute(0, 3, 1, 2)
        kept = None
        if dropout > 0:
            kept = functional.dropout(torch.ones_like(self.logits).repeat(1, len(listener), 1, 1), dropout)
        heard, shares = _Attend.apply(values, listener, speaker, logits, kept, self.lonely)  # type: ignore[no-untyped-call]
        return heard, shares, shares if kept is None else shares * kept

    def hear_geometry(self, passed: Float[Tensor, "B H N N"]) -> Float[Tensor, "B N H F"]:
        """See `relations.Relations`."""
        return passed.transpose(1, 2) @ self.geometry.to(passed.dtype)

    def matrices(self, shares: Float[Tensor, "B H N N"]) -> Float[Tensor, "B H N N"]:
        """See `relations.Relations`."""
        return shares


class _Attend(torch.autograd.Function):
    """Eqs. 7-9 between the linear map and the ELU: scores, softmax over each row, weighted sum.

    The gradient is written by hand because a dozen operations with a node of autograd each take longer than their
    arithmetic at this size. Saved are values, shares and scores.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Float[Tensor, "B N D"],
        listener: Float[Tensor, "H C"],
        speaker: Float[Tensor, "H C"],
        logits: Float[Tensor, "B #H N N"],
        kept: Float[Tensor, "B H N N"] | None,
        lonely: Bool[Tensor, "B 1 N 1"],
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B H N N"]]:
        heads = len(listener)
        matrix = score_matrix(listener, speaker).to(values.dtype)
        halves = (values @ matrix).to(logits.dtype).mT  # B 2H N: listening, speaking
        scores = halves[:, :heads, :, None] + halves[:, heads:, None, :]  # B H N N
        shares = functional.leaky_relu(scores, SLOPE).add_(logits).softmax(-1).masked_fill_(lonely, 0.0)
        passed = shares if kept is None else shares * kept
        heard = _beside(passed.to(values.dtype) @ _per_head(values, heads))
        ctx.save_for_backward(values, listener, matrix, scores, shares, kept)
        ctx.set_materialize_grads(False)
        ctx.shared = logits.shape[1] == 1
        return heard, shares

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(
        ctx: Any, grad: Float[Tensor, "B N D"] | None, grad_shares: Float[Tensor, "B H N N"] | None
    ) -> tuple[Tensor | None, ...]:
        values, listener, matrix, scores, shares, kept = ctx.saved_tensors
        heads = len(listener)
        grad = _per_head(torch.zeros_like(values) if grad is None else grad, heads)
        grad_passed = (grad @ _per_head(values, heads).mT).to(shares.dtype)
        if kept is not None:
            grad_passed *= kept
        if grad_shares is not None:
            grad_passed += grad_shares
        passed = shares if kept is None else shares * kept
        grad_values = _beside(passed.to(values.dtype).mT @ grad).contiguous()

        grad_logits = torch.ops.aten._softmax_backward_data(grad_passed, shares, -1, shares.dtype)
        grad_scores = torch.ops.aten.leaky_relu_backward(grad_logits, scores, SLOPE, False)
        halves = torch.cat([grad_scores.sum(-1), grad_scores.sum(-2)], dim=1).to(values.dtype).mT  # B N 2H
        flat = halves.flatten(0, 1)
        grad_values.view(-1, values.shape[2]).addmm_(flat, matrix.mT)
        grad_listener, grad_speaker = unpack_scores(values.flatten(0, 1).mT @ flat, listener)
        if ctx.shared:
            grad_logits = grad_logits.sum(1, keepdim=True) if ctx.needs_input_grad[3] else None
        return grad_values, grad_listener, grad_speaker, grad_logits, None, None


def _per_head(values: Float[Tensor, "B N D"], heads: int) -> Float[Tensor, "B H N C"]:
    return values.unflatten(-1, (heads, -1)).transpose(1, 2)


def _beside(rows: Float[Tensor, "B H N C"]) -> Float[Tensor, "B N D"]:
    return rows.transpose(1, 2).flatten(2)
