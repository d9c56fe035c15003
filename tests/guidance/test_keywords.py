"""The words of an image over both banks."""

import torch

from regioncap.guidance import KeywordBank, Keywords
from regioncap.guidance.keywords import NO_WORD, spread_weights, told_once


def bank(*words: str) -> KeywordBank:
    return KeywordBank(words=words, counts=(1,) * len(words), embeddings=torch.eye(len(words)))


def test_the_best_words_are_chosen_by_score_and_evidence_is_kept_of_all() -> None:
    scores = torch.tensor([[0.1, 2.0, NO_WORD, -1.0], [NO_WORD, NO_WORD, NO_WORD, 0.5]])
    gains = torch.arange(8.0).view(2, 4)
    words = Keywords.of(gains, scores, 3)
    assert words.words[0].tolist() == [1, 0, 3]
    assert words.scores[0].tolist() == [2.0, 0.10000000149011612, -1.0]
    assert words.valid.tolist() == [[True, True, True], [True, False, False]]
    assert words.scores[1].tolist() == [0.5, 0.0, 0.0]
    assert torch.equal(words.gains, gains)


def test_a_small_bank_is_taken_whole_and_another_images_words_roll() -> None:
    words = Keywords.of(torch.rand(3, 2), torch.rand(3, 2), 5)
    assert words.words.shape == (3, 2)
    rolled = words.of_another()
    assert torch.equal(rolled.words[0], words.words[2])
    assert torch.equal(rolled.gains[2], words.gains[1])


def test_a_word_of_both_banks_is_told_once() -> None:
    assert told_once((bank("grass", "snow"), bank("dog", "grass"))).tolist() == [True, True, True, False]


def test_weights_are_spread_over_the_bank_and_of_a_word_chosen_twice_the_larger_counts() -> None:
    spread = spread_weights(torch.tensor([[0, 2, 0]]), torch.tensor([[0.2, 0.3, 0.5]]), 4)
    torch.testing.assert_close(spread, torch.tensor([[0.5, 0.0, 0.3, 0.0]]))


def test_no_words() -> None:
    assert Keywords.none(torch.zeros(2, 5)).words.shape == (2, 0)
