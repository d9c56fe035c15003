import math
from copy import deepcopy

import pytest
import torch

from regioncap.guidance import KeywordBank, StandardisedSimilarity
from regioncap.guidance.nearest import ROUGH_FROM


def bank(embeddings: torch.Tensor, counts: tuple[int, ...] = ()) -> KeywordBank:
    words = tuple(f"word{row}" for row in range(len(embeddings)))
    return KeywordBank(words=words, counts=counts or (1,) * len(words), embeddings=embeddings)


def plain(embeddings: torch.Tensor, momentum: float = 0.1) -> StandardisedSimilarity:
    """Without a prior: nearness alone."""
    return StandardisedSimilarity(bank(embeddings), momentum=momentum, prior=0.0)


def queries(count: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator) @ torch.randn(width, width, generator=generator) + 1


def z_scores(similarity: StandardisedSimilarity, fitted: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """Each word's plain similarity to the queries, less its mean and over its deviation, word by word."""
    columns = []
    for word in similarity.words:
        known = torch.stack([query @ word for query in fitted]) / math.sqrt(len(word))
        columns.append((asked @ word / math.sqrt(len(word)) - known.mean()) / known.std(unbiased=False))
    return torch.stack(columns, dim=1)


def test_fitted_scores_are_each_words_z_scores_over_the_queries():
    torch.manual_seed(0)
    similarity = plain(torch.randn(9, 6))
    fitted, asked = queries(40, 6), queries(5, 6, seed=1)
    similarity.fit(fitted)
    everything = torch.arange(9).expand(5, 9)
    expected = z_scores(similarity, fitted, asked)
    torch.testing.assert_close(similarity.scores(asked, everything), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(similarity.nearest(asked, 4), expected.topk(4).indices)


def test_unfitted_scores_are_plain_similarity():
    torch.manual_seed(0)
    similarity = plain(torch.randn(9, 6))
    asked = queries(3, 6)
    expected = asked @ similarity.words.T / math.sqrt(6)
    torch.testing.assert_close(similarity.scores(asked, torch.arange(9).expand(3, 9)), expected)
    assert torch.equal(similarity.nearest(asked, 9), expected.argsort(descending=True))


def test_words_are_centred_and_scaled_and_a_single_word_survives():
    torch.manual_seed(0)
    raw = torch.randn(9, 6) + 5
    words = plain(raw).words
    torch.testing.assert_close(words.norm(dim=1), torch.full((9,), math.sqrt(6)))
    centred = raw - raw.mean(0)
    torch.testing.assert_close(torch.cosine_similarity(words, centred), torch.ones(9))
    alone = plain(raw[:1]).words
    torch.testing.assert_close(torch.cosine_similarity(alone, raw[:1]), torch.ones(1))


def test_fitting_takes_the_lead_from_a_hub():
    torch.manual_seed(0)
    width, images = 16, 200
    hub = torch.zeros(width)
    hub[0] = 1.0
    topics = torch.eye(width)[1:9]
    # Every image leans to the hub's direction more than to its own topic, as images of one domain do.
    asked = 1.0 * hub + 0.6 * topics[torch.arange(images) % 8] + 0.05 * torch.randn(images, width)
    similarity = plain(torch.cat([hub[None], topics]))
    assert (similarity.nearest(asked, 1) == 0).float().mean() > 0.9
    similarity.fit(asked)
    nearest = similarity.nearest(asked, 1)[:, 0]
    assert (nearest == 0).float().mean() < 0.05
    assert (nearest == 1 + torch.arange(images) % 8).float().mean() > 0.9


def test_updates_average_at_first_and_then_follow_by_momentum():
    similarity = plain(torch.eye(4), 0.4)
    batches = [queries(20, 4, seed) for seed in range(4)]
    means = [batch.mean(0) for batch in batches]
    similarity.update(batches[0])
    similarity.update(batches[1])
    torch.testing.assert_close(similarity.mean, (means[0] + means[1]) / 2)
    expected = (means[0] + means[1]) / 2
    for batch, mean in zip(batches[2:], means[2:], strict=True):
        similarity.update(batch)
        expected = 0.6 * expected + 0.4 * mean
    torch.testing.assert_close(similarity.mean, expected)


def test_fitting_forgets_what_was_known():
    similarity, fresh = (plain(torch.eye(4)) for _ in range(2))
    similarity.update(queries(20, 4, seed=1))
    similarity.fit(queries(20, 4))
    fresh.fit(queries(20, 4))
    for name, value in fresh.state_dict().items():
        assert torch.equal(similarity.state_dict()[name], value), name


def test_too_few_queries_change_nothing_and_cannot_be_fitted():
    similarity = plain(torch.eye(4))
    before = {name: value.clone() for name, value in similarity.state_dict().items()}
    similarity.update(torch.ones(1, 4))
    similarity.update(torch.ones(0, 4))
    assert all(torch.equal(before[name], value) for name, value in similarity.state_dict().items())
    with pytest.raises(ValueError, match="at least two queries, got 1"):
        similarity.fit(torch.ones(1, 4))


def test_queries_that_are_all_alike_leave_finite_scores():
    similarity = plain(torch.eye(4))
    similarity.fit(torch.ones(10, 4))
    scores = similarity.scores(torch.ones(1, 4), torch.arange(4)[None])
    assert torch.isfinite(scores).all()


def test_a_word_along_which_queries_hardly_vary_keeps_small_scores():
    torch.manual_seed(0)
    fitted = torch.randn(500, 4) * torch.tensor([1.0, 1.0, 1.0, 1e-4])
    similarity = plain(torch.eye(4))
    similarity.words.copy_(2 * torch.eye(4))
    similarity.fit(fitted)
    scores = similarity.scores(fitted, torch.arange(4).expand(500, 4))
    assert scores[:, 3].abs().max() < 0.01
    torch.testing.assert_close(scores[:, :3].std(0, unbiased=False), torch.ones(3))


def test_frequent_words_lead_among_equals_as_much_as_the_prior_weighs():
    embeddings, asked = torch.eye(4)[:3], torch.zeros(1, 4)
    counts = (2, 200, 20)
    weighed = StandardisedSimilarity(bank(embeddings, counts), momentum=0.1, prior=0.5)
    assert weighed.nearest(asked, 3).tolist() == [[1, 2, 0]]
    scores = weighed.scores(asked, torch.arange(3)[None])[0]
    torch.testing.assert_close(scores, 0.5 * torch.log(torch.tensor(counts) / 74))
    near = 4 * weighed.words[:1]
    assert weighed.nearest(near, 1).item() == 0


def test_words_added_to_the_bank_leave_all_others_scores_as_they_were_and_have_their_own_z_scores():
    torch.manual_seed(0)
    known = bank(torch.randn(9, 6) + 2, tuple(range(1, 10)))
    more = known.with_words(["new", "newer"], lambda words: torch.randn(len(words), 6))
    one = StandardisedSimilarity(known, momentum=0.1, prior=0.5)
    two = StandardisedSimilarity(more, momentum=0.1, prior=0.5)
    fitted, asked = queries(40, 6), queries(5, 6, seed=1)
    one.fit(fitted)
    two.load_state_dict(one.state_dict())
    rows = torch.arange(9).expand(5, 9)
    torch.testing.assert_close(two.scores(asked, rows), one.scores(asked, rows))
    rows = torch.tensor([[9, 10]]).expand(5, 2)
    prior = 0.5 * math.log(1 / 5)  # as if one caption held them
    torch.testing.assert_close(two.scores(asked, rows), z_scores(two, fitted, asked)[:, 9:] + prior)


LARGE = ROUGH_FROM + 5


def full(similarity: StandardisedSimilarity, asked: torch.Tensor, count: int) -> torch.Tensor:
    everything = similarity.scores(asked, torch.arange(len(similarity.words)).expand(*asked.shape[:-1], -1))
    return everything.topk(count, dim=-1).indices


@pytest.fixture(scope="module")
def large() -> StandardisedSimilarity:
    torch.manual_seed(0)
    counts = tuple(torch.randint(1, 1000, (LARGE,)).tolist())
    similarity = StandardisedSimilarity(bank(torch.randn(LARGE, 24), counts), momentum=0.1, prior=0.5).eval()
    similarity.fit(queries(200, 24))
    return similarity


def test_a_large_bank_is_searched_exactly_in_evaluation_and_in_training(large):
    asked = queries(12, 24, seed=1).view(3, 4, 24)
    wanted = full(large, asked, 4)
    assert torch.equal(large.nearest(asked, 4), wanted)
    assert large._rough is not None
    assert torch.equal(deepcopy(large).train().nearest(asked, 4), wanted)
    assert large.nearest(asked[:, :0], 4).shape == (3, 0, 4)


def test_the_search_is_in_float32_under_autocast(large):
    asked = queries(12, 24, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(large.nearest(asked, 4), full(large, asked, 4))


def test_a_query_that_is_not_finite_disturbs_no_other(large):
    asked = queries(4, 24, seed=1)
    noisy = torch.cat([asked, torch.full((1, 24), float("nan")), torch.full((1, 24), float("inf"))])
    found = large.nearest(noisy, 4)
    assert torch.equal(found[:4], large.nearest(asked, 4))
    assert found.min() >= 0
    assert found.max() < LARGE


def test_the_search_follows_the_statistics_wherever_they_come_from(large):
    moved = deepcopy(large)
    asked = queries(6, 24, seed=1)
    before = moved.nearest(asked, 4)
    moved.update(7 * queries(50, 24, seed=2) - 3)
    after = moved.nearest(asked, 4)
    assert torch.equal(after, full(moved, asked, 4))
    assert not torch.equal(after, before)
    moved.fit(queries(200, 24))
    assert torch.equal(moved.nearest(asked, 4), before)
    moved.update(7 * queries(50, 24, seed=2) - 3)
    moved.nearest(asked, 4)
    moved.load_state_dict(large.state_dict())
    assert torch.equal(moved.nearest(asked, 4), before)


def test_a_state_holds_nothing_of_the_size_of_the_bank_and_one_of_version_0_1_0_loads(large):
    state = large.state_dict()
    assert state.keys() == {"mean", "covariance", "updates"}
    again = deepcopy(large)
    again.load_state_dict(state | {"deviation": torch.ones(LARGE)})
    assert torch.equal(again.deviation, large.deviation)


def test_where_the_embeddings_lie_in_memory_changes_no_digit():
    """A bank that is mapped from a file may begin anywhere; products of matrices differ by that."""
    torch.manual_seed(0)
    shifted = torch.randn(1 + 333 * 24)[1:].view(333, 24)
    one, two = plain(shifted), plain(shifted.clone())
    for similarity in (one, two):
        similarity.fit(queries(200, 24))
    for name, value in one.named_buffers():
        assert torch.equal(value, two.get_buffer(name)), name
