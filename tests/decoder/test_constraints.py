import torch

from regioncap.decoder.constraints import Constraints

EOS = 2


def forbidden(said: list[int], **rules: object) -> set[int]:
    """Words that may not follow what was said, of ten."""
    settings = {"suppress": (), "bad_words": (), "prompt": (), "least": 0, "no_repeat_ngram": 0} | rules
    scores = Constraints(eos=EOS, **settings)(torch.zeros(1, 10), torch.tensor([said]).long().view(1, -1))
    return set(torch.isneginf(scores[0]).nonzero()[:, 0].tolist())


def test_nothing_is_forbidden_without_rules():
    assert forbidden([4, 4, 4]) == set()


def test_suppressed_words_always_are():
    assert forbidden([], suppress=(1, 3)) == {1, 3} == forbidden([5, 6], suppress=(1, 3))


def test_eos_is_until_there_are_enough_words():
    assert forbidden([5], least=2) == {EOS}
    assert forbidden([5, 6], least=2) == set()


def test_no_ngram_comes_twice():
    assert forbidden([4, 5, 6, 4], no_repeat_ngram=2) == {5}
    assert forbidden([4, 5], no_repeat_ngram=1) == {4, 5}


def test_bad_words_are_forbidden_where_they_would_end():
    assert forbidden([4, 5], bad_words=((7,), (5, 6), (4, 6, 8))) == {7, 6}


def test_the_prompt_counts_for_ngrams_and_bad_words_but_not_for_the_least_number_of_words():
    assert forbidden([4], prompt=(4, 5, 6), no_repeat_ngram=2) == {5}
    assert forbidden([], prompt=(5,), bad_words=((5, 6),)) == {6}
    assert forbidden([5], prompt=(4, 5, 6), least=2) == {EOS}


def test_rows_are_judged_apart():
    constrain = Constraints(eos=EOS, suppress=(), bad_words=((4, 5),), prompt=(), least=0, no_repeat_ngram=0)
    scores = constrain(torch.zeros(2, 10), torch.tensor([[4], [6]]))
    assert torch.isneginf(scores).nonzero().tolist() == [[0, 5]]
