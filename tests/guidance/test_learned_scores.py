"""Log-odds by keyword heads: frequency plus evidence, exact search, added words."""

import math

import pytest
import torch

from regioncap.guidance import KeywordBank, LearnedScores
from regioncap.guidance.learned_scores import image_gains

W, E = 7, 6


def bank(words: int = W, width: int = E) -> KeywordBank:
    generator = torch.Generator().manual_seed(words)
    return KeywordBank(
        words=tuple(f"w{number}" for number in range(words)),
        counts=(2,) * words,
        embeddings=torch.randn(words, width, generator=generator),
    )


def taught(words: int = W, width: int = E) -> LearnedScores:
    scores = LearnedScores(bank(words, width))
    scores.set_shares(torch.rand(words, generator=torch.Generator().manual_seed(1)) * 0.3 + 0.01)
    return scores.eval()


def test_scores_are_log_odds_of_the_share_plus_the_product() -> None:
    scores, own = taught(), bank()
    shares = torch.rand(W, generator=torch.Generator().manual_seed(1)) * 0.3 + 0.01
    query = torch.randn(3, E)
    centred = own.embeddings - own.embeddings.mean(0)
    for row in range(3):
        for word in range(W):
            unit = centred[word] / centred[word].norm()
            p = shares[word].item()
            wanted = math.log(p / (1 - p)) + float(query[row] @ unit)  # 1 / sqrt(E) meets the norm sqrt(E)
            assert scores.all(query)[row, word].item() == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_chosen_scores_are_those_of_all_and_carry_gradient_to_the_query() -> None:
    scores = taught()
    query = torch.randn(2, 3, E, requires_grad=True)
    chosen = scores.nearest(query, 3)
    torch.testing.assert_close(scores.scores(query, chosen), scores.all(query).gather(-1, chosen))
    scores.scores(query, chosen).sum().backward()
    assert query.grad is not None
    assert query.grad.abs().min() > 0


def test_the_nearest_are_the_highest_and_a_small_bank_is_taken_whole() -> None:
    scores, query = taught(), torch.randn(4, E)
    assert torch.equal(scores.nearest(query, 3), scores.all(query).topk(3).indices)
    assert scores.nearest(query, 100).shape == (4, W)


def test_an_image_gains_what_its_best_region_says_in_the_measure_of_the_mix() -> None:
    scores = taught()
    image, regions = torch.randn(2, E), torch.randn(2, 3, E)
    valid = torch.tensor([[True, True, False], [False, False, False]])
    mix = torch.tensor([0.5, 0.5])
    own, theirs = scores.gains(image), scores.gains(regions)
    gains = image_gains(own, theirs, valid, mix)
    best = torch.maximum(scores.gains(regions[0, 0]), scores.gains(regions[0, 1]))
    torch.testing.assert_close(gains[0], scores.gains(image[0]) + 0.5 * best)
    torch.testing.assert_close(gains[1], scores.gains(image[1]))
    torch.testing.assert_close(image_gains(own, theirs[:, :0], valid[:, :0], mix), own)


def test_a_state_fits_a_bank_with_added_words_which_are_as_rare_as_the_rarest() -> None:
    scores = taught()
    larger = bank().with_words(["new one"], lambda words: torch.randn(len(words), E))
    grown = LearnedScores(larger)
    grown.load_state_dict(scores.state_dict())
    assert torch.equal(grown.prior[:W], scores.prior)
    assert grown.prior[W] == scores.prior.min()
    torch.testing.assert_close(grown.words[:W], scores.words)


def test_learned_keys_find_words_and_are_loaded_again() -> None:
    scores = taught()
    keys = torch.randn(W, E, generator=torch.Generator().manual_seed(5))
    scores.set_keys(keys)
    queries = torch.randn(3, E, generator=torch.Generator().manual_seed(6))
    torch.testing.assert_close(scores.gains(queries), queries @ keys.T / E**0.5)
    chosen = scores.nearest(queries, 2)
    torch.testing.assert_close(scores.scores(queries, chosen), scores.all(queries).gather(1, chosen))
    again = LearnedScores(bank(W, E))
    again.load_state_dict(scores.state_dict())
    assert torch.equal(again.keys, keys)
    assert torch.equal(again.words, scores.words)


def test_words_added_to_learned_keys_lie_where_the_text_encoder_has_them() -> None:
    scores = taught()
    scores.set_keys(torch.zeros(W, E))
    known = bank(W, E)
    larger = known.with_words(["new"], lambda words: torch.full((len(words), E), 2.0))
    grown = LearnedScores(larger)
    grown.load_state_dict(scores.state_dict())
    assert not grown.keys[:W].any()
    assert torch.equal(grown.keys[W:], grown.words[W:])
