import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regioncap.guidance import nearest
from regioncap.guidance.nearest import BLOCK, RoughKeys, nearest_keys


def by_hand(queries: torch.Tensor, keys: torch.Tensor, bias: torch.Tensor, count: int) -> torch.Tensor:
    """The best scores of each query, highest first, in float64."""
    scores = queries.double() @ keys.double().T + bias.double()
    return scores.sort(dim=1, descending=True).values[:, :count]


def scores_of(queries: torch.Tensor, keys: torch.Tensor, bias: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    assert all(len(set(row)) == len(row) for row in rows.tolist())
    return (queries.double() @ keys.double().T + bias.double()).gather(1, rows)


def drawn(queries: int, keys: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    lengths = 10 ** torch.rand(keys, 1, generator=generator)  # from 1 to 10
    return normal(queries, width), lengths * normal(keys, width), normal(keys)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 9), st.integers(1, 700), st.integers(1, 40), st.integers(1, 6), st.integers(0, 1000),
    st.sampled_from([0.0, 1e-3, 1.0, 1e3]), st.sampled_from([0.0, 1.0, 1e4]),
)  # fmt: skip
def test_the_rough_pass_leaves_out_no_word_that_belongs_to_the_best(rows, words, width, count, seed, shared, weight):
    queries, keys, bias = drawn(rows, words, width, seed)
    queries, bias = queries + shared, weight * bias
    count = min(count, words)
    found = RoughKeys.of(keys, bias).nearest(queries, count)
    wanted = by_hand(queries, keys, bias, count)
    tolerance = 1e-5 * float(queries.norm(dim=1).max() * keys.norm(dim=1).max() + bias.abs().max())
    torch.testing.assert_close(scores_of(queries, keys, bias, found), wanted, rtol=0, atol=tolerance)


def test_at_ten_thousand_words_the_found_are_those_of_a_full_comparison():
    queries, keys, bias = drawn(50, 10_000, 64)
    assert torch.equal(RoughKeys.of(keys, bias).nearest(queries, 4), nearest_keys(queries, keys, bias, 4))


def test_few_of_many_words_are_scored_anew(monkeypatch):
    queries, keys, bias = drawn(20, 10_000, 64)
    scored = []

    def count_pairs(self, queries, row, word):
        scored.append(len(row))
        return scores(self, queries, row, word)

    scores = RoughKeys._scores
    monkeypatch.setattr(RoughKeys, "_scores", count_pairs)
    RoughKeys.of(keys, bias).nearest(queries, 4)
    assert 4 <= sum(scored) / 20 < 100


@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_queries_and_keys_of_nothing_leave_the_bias_to_decide(bias):
    queries, keys = torch.zeros(3, 8), torch.zeros(5 * BLOCK + 1, 8)
    weights = bias * torch.arange(len(keys)).float()
    found = RoughKeys.of(keys, weights).nearest(queries, 2)
    assert found.max() < len(keys)
    assert not bias or found.tolist() == [[len(keys) - 1, len(keys) - 2]] * 3


def test_words_that_are_all_alike_are_compared_in_full(monkeypatch):
    queries = torch.randn(3, 8)
    keys = torch.ones(5 * BLOCK, 8)
    asked = []
    monkeypatch.setattr(nearest, "nearest_keys", lambda *arguments: asked.append(1) or nearest_keys(*arguments))
    assert RoughKeys.of(keys, torch.zeros(len(keys))).nearest(queries, 2).shape == (3, 2)
    assert asked


@pytest.mark.parametrize("limit", ["ROUGH_AT_ONCE", "PAIRS_AT_ONCE", "ROUNDED_AT_ONCE"])
def test_parts_join_to_the_same(monkeypatch, limit):
    queries, keys, bias = drawn(30, 1000, 16)
    whole = RoughKeys.of(keys, bias).nearest(queries, 3)
    monkeypatch.setattr(nearest, limit, 7 if limit != "ROUGH_AT_ONCE" else 7 * 1024)
    assert torch.equal(RoughKeys.of(keys, bias).nearest(queries, 3), whole)


def test_more_words_than_blocks_may_be_asked_for():
    queries, keys, bias = drawn(4, 3 * BLOCK, 8)
    assert torch.equal(RoughKeys.of(keys, bias).nearest(queries, 9), nearest_keys(queries, keys, bias, 9))
