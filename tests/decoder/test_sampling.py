from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TopPLogitsWarper

from regioncap.decoder import SearchConfig
from regioncap.decoder.sampling import nucleus

SAMPLED = SearchConfig(method="sample", max_new_tokens=10, top_p=0.9)


@settings(max_examples=60, deadline=None)
@given(
    words=st.sampled_from([5, 40, 700]),
    spread=st.floats(0.01, 8.0),
    top_p=st.floats(0.05, 0.99),
    seed=st.integers(0, 10**6),
)
def test_the_nucleus_is_that_of_transformers(words: int, spread: float, top_p: float, seed: int):
    """Flat distributions reach beyond the words that are looked at first."""
    logits = spread * torch.randn(3, words, generator=torch.Generator().manual_seed(seed))
    kept = torch.isfinite(TopPLogitsWarper(top_p)(torch.zeros(3, 0), logits))
    _, sizes = nucleus(logits, top_p, torch.zeros(3))
    ranked = logits.softmax(-1).sort(descending=True).values.cumsum(-1)
    near = ((ranked - top_p).abs() < 1e-5).any(-1)  # rounding decides
    assert torch.equal(sizes[~near], kept.sum(-1)[~near])


@pytest.mark.parametrize("words", [20, 2000])
def test_words_come_as_often_as_their_share_of_the_nucleus(words: int):
    logits = 1.5 * torch.randn(words, generator=torch.Generator().manual_seed(0))
    draws = 40_000
    uniform = torch.rand(draws, generator=torch.Generator().manual_seed(1))
    drawn = torch.cat([nucleus(logits.expand(2000, -1), 0.6, part)[0] for part in uniform.split(2000)])
    kept = TopPLogitsWarper(0.6)(torch.zeros(1, 0), logits[None]).softmax(-1)[0]
    seen = torch.bincount(drawn, minlength=words) / draws
    assert (seen[kept == 0] == 0).all()
    assert (seen - kept).abs().max() < 4 * (0.25 / draws) ** 0.5


def test_the_ends_of_the_interval_are_the_first_and_the_last_word_of_the_nucleus():
    logits = torch.tensor([[0.5, 0.1, 0.3, 0.1]]).log()
    for uniform, word in ((0.0, 0), (0.6249, 0), (0.6251, 2), (1 - 1e-7, 2)):
        assert nucleus(logits, 0.75, torch.tensor([uniform]))[0].item() == word


def test_forbidden_words_are_not_drawn():
    logits = torch.full((1, 400), -torch.inf)
    logits[0, 7] = 0.0
    assert nucleus(logits, 0.99, torch.tensor([0.999]))[0].item() == 7


def test_a_small_nucleus_or_a_low_temperature_is_greedy_search(small: Any, ours: Any):
    given = small.decoder(1), *small.prefixes(1, images=6)
    greedy = ours(*given, SearchConfig(beams=1, max_new_tokens=10)).tokens
    for config in (replace(SAMPLED, top_p=1e-6), replace(SAMPLED, temperature=1e-4)):
        assert torch.equal(ours(*given, config).tokens, greedy)


def test_heat_makes_captions_less_likely(small: Any, ours: Any):
    def likely(temperature: float) -> float:
        found = ours(small.decoder(1), *small.prefixes(1, images=40), replace(SAMPLED, temperature=temperature))
        return float(found.confidence.mean())

    assert likely(0.3) > likely(1.0) > likely(3.0)


def test_what_is_drawn_follows_the_key_and_the_seed(small: Any):
    from regioncap.decoder import Wording, search

    decoder, (prefix, valid) = small.decoder(1).incremental(), small.prefixes(1, images=1)
    same = prefix.expand(6, -1, -1), valid.expand(6, -1)

    def drawn(seed: int, keys: list[int]) -> list[tuple[int, ...]]:
        found = search(decoder, *same, replace(SAMPLED, seed=seed), Wording(suppress=(1, 3)), keys=keys)
        return [tuple(row) for row in found.tokens[:, 0].tolist()]

    captions = drawn(0, [10, 11, 12, 13, 10, 11])
    assert len(set(captions[:4])) > 2
    assert captions[4:] == captions[:2]
    assert drawn(0, [13, 12, 11, 10, 13, 12])[:4] == captions[3::-1]
    assert drawn(1, [10, 11, 12, 13, 10, 11]) != captions


def test_where_too_few_captions_exist_there_are_fewer(small: Any, ours: Any):
    """Two tokens, and a nucleus of few words."""
    config = replace(SAMPLED, captions=40, max_new_tokens=1, top_p=0.5)
    found = ours(small.decoder(1), *small.prefixes(1, images=3), config)
    real = found.lengths > 0
    assert (real.sum(1) < 40).all()
    assert real[:, 0].all()
    assert (found.tokens[~real] == 3).all()
    for captions, kept in zip(found.tokens[..., 0].tolist(), real.tolist(), strict=True):
        said = [word for word, is_real in zip(captions, kept, strict=True) if is_real]
        assert len(set(said)) == len(said)
