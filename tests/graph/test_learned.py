import pytest
import torch
from torch import Tensor

from regioncap.graph import KnnGraph, LearnedNeighbours

Regions = tuple[Tensor, Tensor, Tensor]


def random_regions(images: int = 2, slots: int = 9) -> Regions:
    draw = torch.Generator().manual_seed(0)
    boxes = torch.rand(images, slots, 2, 2, generator=draw).sort(dim=2).values.flatten(2)
    valid = torch.ones(images, slots, dtype=torch.bool)
    valid[-1, 6:] = False
    return torch.randn(images, slots, 8, generator=draw), boxes, valid


def build(queries: int = 4) -> LearnedNeighbours:
    torch.manual_seed(3)
    return LearnedNeighbours(8, queries)


def loop_weights(chooser: LearnedNeighbours, regions: Tensor, box: Tensor) -> Tensor:
    """e_ij of all pairs of one image's real regions, one at a time."""
    parts = [chooser.look(torch.cat([region, corners])).chunk(3) for region, corners in zip(regions, box, strict=True)]
    tokens = []
    for token in chooser.tokens:
        looks = torch.stack([token @ key / 32**0.5 for key, _, _ in parts]).softmax(0)
        tokens.append(token + sum(look * key for look, (key, _, _) in zip(looks, parts, strict=True)))
    asks = [torch.stack([ask @ token / 32**0.5 for token in tokens]).softmax(0) for _, ask, _ in parts]
    answers = [torch.stack([answer @ token / 32**0.5 for token in tokens]).softmax(0) for *_, answer in parts]
    weights = torch.zeros(len(parts), len(parts))
    for i in range(len(parts)):
        for j in range(len(parts)):
            affinity = (asks[i] @ answers[j] + answers[i] @ asks[j]) / 2
            weights[i, j] = affinity / (affinity + 1 / len(tokens))
    return weights


def test_picks_and_weights_equal_a_loop() -> None:
    regions, boxes, valid = random_regions()
    chooser = build()
    graph: KnnGraph = chooser(regions, boxes, valid, k=3)
    for image, count in enumerate((9, 6)):
        wanted = loop_weights(chooser, regions[image, :count], boxes[image, :count]).detach()
        apart = wanted.masked_fill(torch.eye(count, dtype=torch.bool), -1)
        assert torch.equal(graph.near[image, :count], apart.topk(3).indices)
        picked = torch.zeros(count, count, dtype=torch.bool).scatter(1, graph.near[image, :count], True)
        expected = wanted * (picked | picked.T) + torch.eye(count)
        torch.testing.assert_close(graph.weights[image, :count, :count].detach(), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(graph.distance[image, :count], 1 - apart.topk(3).values, atol=1e-5, rtol=0)
    assert not graph.weights[1, 6:].any()
    assert torch.equal(graph.weights, graph.weights.mT)


@pytest.mark.parametrize("self_loops", [True, False])
def test_mutual_and_self_loops(self_loops: bool) -> None:
    regions = random_regions()
    union, mutual = (
        build()(*regions, k=2, join=join, self_loops=self_loops).weights > 0 for join in ("union", "mutual")
    )
    assert (union | ~mutual).all()
    assert mutual.sum() < union.sum()
    assert torch.equal(union.diagonal(dim1=1, dim2=2), regions[2] & self_loops)


def test_neighbours_follow_what_the_loss_rewards() -> None:
    """Each region holds a key, and is to hear from the one region with the same key on its other side."""
    draw = torch.Generator().manual_seed(0)
    keys = torch.eye(6)[torch.stack([torch.randperm(6, generator=draw) for _ in range(32)])]
    regions = torch.cat([keys, torch.zeros(32, 6, 2)], dim=-1)
    partner = (keys.argmax(-1)[:, :, None] + keys.argmax(-1)[:, None, :]) == 5  # 0-5, 1-4, 2-3
    boxes, valid = torch.zeros(32, 6, 4), torch.ones(32, 6, dtype=torch.bool)
    chooser = build(queries=6)
    optimiser = torch.optim.Adam(chooser.parameters(), lr=0.05)

    def hits() -> float:
        graph = chooser(regions, boxes, valid, k=1)
        return float(partner.gather(2, graph.near).float().mean())

    before = hits()
    for _ in range(150):
        weights = chooser(regions, boxes, valid, k=5, self_loops=False).weights
        loss = -(weights * partner).sum((1, 2)).div(weights.sum((1, 2))).log().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert before < 0.5
    assert hits() > 0.95


def test_broken_regions_and_no_tokens_are_refused() -> None:
    regions, boxes, valid = random_regions()
    regions[0, 2, 1] = torch.nan
    with pytest.raises(ValueError, match="region 2 of image 0 has NaN"):
        build()(regions, boxes, valid, k=2)
    with pytest.raises(ValueError, match="queries must be at least 1, got 0"):
        build(0)
