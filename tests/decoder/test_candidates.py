import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regioncap.decoder.candidates import best_words


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 3), words=st.integers(10, 3000), count=st.integers(1, 10), seed=st.integers(0, 10**6))
def test_values_and_places_are_those_of_topk(rows: int, words: int, count: int, seed: int):
    scores = torch.randn(rows, words, generator=torch.Generator().manual_seed(seed))
    values, places = best_words(scores, count)
    assert torch.equal(values, scores.topk(count).values)
    assert torch.equal(scores.gather(1, places), values)
    assert all(len(set(row)) == count for row in places.tolist())


@pytest.mark.parametrize("best", [range(64 * 40, 64 * 40 + 9), range(1000, 1005)])  # behind the blocks; in one block
def test_best_words_that_stand_together_are_all_found(best: range):
    scores = torch.zeros(2, 3, 64 * 40 + 9)
    scores[..., best] = torch.arange(1.0, len(best) + 1)
    values, places = best_words(scores, 5)
    assert values[1, 2].tolist() == [float(len(best) - i) for i in range(5)]
    assert places[1, 2].tolist() == [best[-1] - i for i in range(5)]


def test_forbidden_words_come_last():
    scores = torch.full((1, 4000), -torch.inf)
    scores[0, [7, 3999]] = torch.tensor([1.0, 2.0])
    values, places = best_words(scores, 4)
    assert places[0, :2].tolist() == [3999, 7]
    assert torch.isneginf(values[0, 2:]).all()
