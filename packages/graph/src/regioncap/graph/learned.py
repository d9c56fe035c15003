"""Neighbours that are learned: query tokens look at the regions and say who belongs together.

The first line of future work of Wang et al. 2025 ("exploring BLIP-2's Q-Former to optimize graph neighborhood
selection"), for which the paper has no equations: these are ours.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from regioncap.graph.distance import TICK, Rows
from regioncap.graph.knn import Join, KnnGraph, check_regions
from regioncap.graph.neighbours import nearest

_WIDTH = 32
"""Channels in which tokens and regions meet."""


class LearnedNeighbours(nn.Module):
    """Join every region with the k others that Q query tokens connect it with most.

        t_q = token_q + sum_j softmax_j(token_q . key_j) key_j          tokens look at the image
        asks_i = softmax_q(ask_i . t_q),  answers_i = softmax_q(answer_i . t_q)
        s_ij = (asks_i . answers_j + answers_i . asks_j) / 2,   e_ij = s_ij / (s_ij + 1/Q)

    with keys, asks and answers linear in the region's features and box, and products over the root of their width. A
    token connects those who ask for it with those who answer to it, so that unlike regions can belong together. s_ij
    is symmetric; at chance, 1/Q, e_ij is a half, as for KNN. The k largest e_ij are picked, which has no gradient; the
    picked e_ij enter attention as its prior, which has: a neighbour that helps is pulled nearer, one that does not is
    pushed away until another takes its place.

    B images, N region slots, D channels. Raises ValueError for less than one token.
    """

    def __init__(self, dim: int, queries: int) -> None:
        super().__init__()
        if queries < 1:
            raise ValueError(f"graph.queries must be at least 1, got {queries}")
        self.tokens = nn.Parameter(torch.randn(queries, _WIDTH))
        self.look = nn.Linear(dim + 4, 3 * _WIDTH)

    def forward(
        self,
        regions: Float[Tensor, "B N D"],
        boxes: Float[Tensor, "B N 4"],
        valid: Bool[Tensor, "B N"],
        *,
        k: int,
        join: Join = "union",
        self_loops: bool = True,
    ) -> KnnGraph:
        """Pick the graph; `regions` are the adapted ones. Distances are 1 - e_ij. Raises as `knn_graph` does."""
        check_regions(regions, boxes, valid)
        asks, answers = self._meet(regions, boxes, valid)

        def distances(part: slice) -> Rows:
            ask, answer = asks[part].detach().double(), answers[part].detach().double()

            def rows(start: int, stop: int) -> Float[Tensor, "B R N"]:
                there = ask[:, start:stop] @ answer.mT
                back = answer[:, start:stop] @ ask.mT
                return (1 - self._weight((there + back) / 2)).mul_(1 / TICK).round_()

            return rows

        found = nearest(distances, valid, k)
        image = torch.arange(len(valid), device=valid.device)[:, None, None]
        near_answers, near_asks = answers[image, found.near], asks[image, found.near]  # B N K Q
        there, back = (asks[:, :, None] * near_answers).sum(-1), (answers[:, :, None] * near_asks).sum(-1)
        joined = found.exists & found.returned if join == "mutual" else found.exists
        return KnnGraph(
            near=found.near,
            weight=self._weight((there + back) / 2) * joined,
            distance=found.distance.float(),
            returned=found.returned,
            loops=valid if self_loops else torch.zeros_like(valid),
            valid=valid,
        )

    def _meet(
        self, regions: Float[Tensor, "B N D"], boxes: Float[Tensor, "B N 4"], valid: Bool[Tensor, "B N"]
    ) -> tuple[Float[Tensor, "B N Q"], Float[Tensor, "B N Q"]]:
        seen = torch.cat([regions, boxes.to(regions.dtype)], dim=-1).masked_fill(~valid[..., None], 0.0)
        keys, asks, answers = self.look(seen).chunk(3, dim=-1)
        scale = 1 / math.sqrt(_WIDTH)
        looks = (self.tokens @ keys.mT * scale).masked_fill(~valid[:, None], -1e30).softmax(-1)  # B Q N
        tokens = self.tokens + looks.to(keys.dtype) @ keys  # B Q C
        asks, answers = ((side @ tokens.mT * scale).float().softmax(-1) for side in (asks, answers))
        return asks, answers

    def _weight(self, affinity: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
        return affinity / (affinity + 1 / len(self.tokens))
