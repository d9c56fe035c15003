"""A graph as matrices of each image, for attention in a few large products."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from regioncap.graph.elu import elu_, elu_backward
from regioncap.graph.geometry import pair_geometry
from regioncap.graph.knn import KnnGraph
from regioncap.graph.logits import SLOPE, edge_logits
from regioncap.graph.padding import padding_of
from regioncap.graph.projection import project, project_backward


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseRelations:
    """See `relations.Relations`. B images, N regions, H heads, F pair channels; shares are B H N N."""

    padding: Bool[Tensor, "B N 1"] | None
    logits: Float[Tensor, "B 1 N N"]
    """The graph's part: see `edge_logits`."""
    lonely: Bool[Tensor, "B 1 N 1"] | None
    """Regions without any edge, padding too; None if each is known to have one."""
    geometry: Float[Tensor, "B N N F"]

    @staticmethod
    def of(graph: KnnGraph, boxes: Float[Tensor, "B N 4"], *, prior: bool, geometry: bool) -> "DenseRelations":
        """See `relations.relate`."""
        weights = graph.weights[:, None]
        padding = padding_of(graph.valid)
        joined = padding is None and graph.loops is graph.valid  # every slot has its self-loop
        without = boxes.new_zeros((*boxes.shape[:2], boxes.shape[1], 0))
        return DenseRelations(
            padding=padding,
            logits=edge_logits(weights, prior),
            lonely=None if joined else ~weights.any(-1, keepdim=True),
            geometry=pair_geometry(boxes, graph.valid) if geometry else without,
        )

    def attend(
        self,
        features: Float[Tensor, "B N D"],
        weight: Float[Tensor, "D D"],
        listener: Float[Tensor, "H C"],
        speaker: Float[Tensor, "H C"],
        *,
        bias: Float[Tensor, "B N N H"] | None,
        dropout: float,
        activate: bool,
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B H N N"], Float[Tensor, "B H N N"]]:
        """See `relations.Relations`."""
        logits = self.logits if bias is None else self.logits + bias.permute(0, 3, 1, 2)
        kept = None
        if dropout > 0:
            kept = functional.dropout(torch.ones_like(self.logits).repeat(1, len(listener), 1, 1), dropout)
        heard, shares = _Attend.apply(features, weight, listener, speaker, logits, kept, self.lonely, activate)
        return heard, shares, shares if kept is None else shares * kept

    def hear_geometry(self, passed: Float[Tensor, "B H N N"]) -> Float[Tensor, "B N H F"]:
        """See `relations.Relations`."""
        return passed.transpose(1, 2) @ self.geometry.to(passed.dtype)

    def matrices(self, shares: Float[Tensor, "B H N N"]) -> Float[Tensor, "B H N N"]:
        """See `relations.Relations`."""
        return shares


class _Attend(torch.autograd.Function):
    """A layer (eqs. 7-9) as one node of autograd; see `projection` for why. B images, N regions, D channels, H heads.

    Saved are the features, their values, the scores and the shares.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Float[Tensor, "B N D"],
        weight: Float[Tensor, "D D"],
        listener: Float[Tensor, "H C"],
        speaker: Float[Tensor, "H C"],
        logits: Float[Tensor, "B #H N N"],
        kept: Float[Tensor, "B H N N"] | None,
        lonely: Bool[Tensor, "B 1 N 1"] | None,
        activate: bool,
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B H N N"]]:
        images, slots, _ = features.shape
        heads = len(listener)
        values, vectors, halves = project(features.flatten(0, 1), weight, listener, speaker)
        listening, speaking = halves.view(images, slots, 2, heads).permute(2, 0, 3, 1)  # B H N each
        scores = listening[..., None] + speaking[:, :, None]  # B H N N
        shares = functional.leaky_relu(scores, SLOPE).add_(logits).softmax(-1)
        if lonely is not None:
            shares.masked_fill_(lonely, 0.0)
        passed = shares if kept is None else shares * kept
        heard = passed.to(values.dtype) @ _per_head(values, shares)
        out = heard.transpose(1, 2).reshape(features.shape)
        out = elu_(out) if activate else out
        ctx.save_for_backward(features, weight, values, vectors, scores, shares, kept, out if activate else None)
        ctx.set_materialize_grads(False)
        ctx.shared = logits.shape[1] == 1
        return out, shares

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Float[Tensor, "B N D"] | None, grad_shares: Float[Tensor, "B H N N"] | None
    ) -> tuple[Tensor | None, ...]:
        features, weight, values, vectors, scores, shares, kept, out = ctx.saved_tensors
        grad = torch.zeros_like(features) if grad is None else grad
        grad = _per_head(grad if out is None else elu_backward(grad, out), shares)
        grad_passed = (grad @ _per_head(values, shares).mT).to(shares.dtype)
        if kept is not None:
            grad_passed *= kept
        if grad_shares is not None:
            grad_passed += grad_shares
        passed = shares if kept is None else shares * kept
        grad_values = (passed.to(values.dtype).mT @ grad).transpose(1, 2).reshape(values.shape)

        grad_logits = torch.ops.aten._softmax_backward_data(grad_passed, shares, -1, shares.dtype)
        grad_scores = torch.ops.aten.leaky_relu_backward(grad_logits, scores, SLOPE, False)
        halves = torch.cat([grad_scores.sum(-1), grad_scores.sum(-2)], dim=1).mT  # B N 2H
        grads = project_backward(
            features.flatten(0, 1), weight, values, vectors, grad_values, halves.flatten(0, 1), ctx.needs_input_grad
        )
        grad_features = None if grads[0] is None else grads[0].view(features.shape)
        if ctx.shared:
            grad_logits = grad_logits.sum(1, keepdim=True) if ctx.needs_input_grad[4] else None
        return grad_features, *grads[1:], grad_logits, None, None, None


def _per_head(rows: Float[Tensor, "..."], shares: Float[Tensor, "B H N N"]) -> Float[Tensor, "B H N C"]:
    images, heads, slots, _ = shares.shape
    return rows.reshape(images, slots, heads, rows.shape[-1] // heads).transpose(1, 2)
