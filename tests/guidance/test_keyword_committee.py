"""A committee of keyword heads: the mean of its members, whoever sits where."""

import pytest
import torch

from regioncap.guidance import KeywordBank, KeywordCommittee, KeywordHeads, KeywordHeadsConfig, KeywordInputs
from regioncap.guidance.learned_scores import LearnedScores

B, N, G, R, E, W = 3, 4, 6, 5, 8, 11


def bank() -> KeywordBank:
    generator = torch.Generator().manual_seed(0)
    words = tuple(f"w{number}" for number in range(W))
    return KeywordBank(words=words, counts=(1,) * W, embeddings=torch.randn(W, E, generator=generator))


def member(seed: int) -> KeywordHeads:
    torch.manual_seed(seed)
    heads = KeywordHeadsConfig(hidden=16).build(G, R, bank(), bank()).eval()
    with torch.no_grad():
        heads.mix.fill_(seed)
    return heads


@pytest.fixture
def inputs() -> KeywordInputs:
    generator = torch.Generator().manual_seed(0)
    valid = torch.ones(B, N, dtype=torch.bool)
    valid[1, 2:] = False
    return KeywordInputs(
        pooled=torch.randn(B, G, generator=generator),
        regions=torch.randn(B, N, R, generator=generator) * valid[..., None],
        boxes=torch.rand(B, N, 2, 2, generator=generator).sort(dim=2).values.flatten(2) * valid[..., None],
        valid=valid,
    )


@torch.no_grad()
def test_a_word_gains_the_mean_of_what_it_gains_by_each(inputs: KeywordInputs) -> None:
    members, scores = [member(seed) for seed in range(3)], LearnedScores(bank())
    said = KeywordCommittee(members)(inputs)
    for name in ("scene", "detail", "regions"):
        each = torch.stack([scores.gains(getattr(heads(inputs), name)) for heads in members])
        torch.testing.assert_close(scores.gains(getattr(said, name)), each.mean(0))
    torch.testing.assert_close(said.mix, torch.full((B,), 1.0))
    assert not said.regions[1, 2:].any()


@torch.no_grad()
def test_the_order_of_members_changes_nothing_and_a_member_alone_is_itself(inputs: KeywordInputs) -> None:
    members = [member(seed) for seed in range(3)]
    one, other = KeywordCommittee(members)(inputs), KeywordCommittee(members[::-1])(inputs)
    torch.testing.assert_close(one.detail, other.detail)
    alone = KeywordCommittee(members[:1])(inputs)
    assert torch.equal(alone.regions, members[0](inputs).regions)


def test_a_committee_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least one, got none"):
        KeywordCommittee([])
