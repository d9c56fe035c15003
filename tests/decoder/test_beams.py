"""Beam search against transformers' `generate`, which knows neither our states nor our packing, and slow loops."""

import itertools
import math
import zlib
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from regioncap.decoder import Captions, DecoderState, Gpt2DecoderConfig, IncrementalGpt2, SearchConfig, Wording, search

PLAIN = SearchConfig(greedy_tokens=0, beams=3, max_new_tokens=10)
PENALTIES = [1.0, 0.0, -0.7, 2.0]
warned = pytest.mark.filterwarnings("ignore::UserWarning")  # `generate` on flags that greedy search does not read


def assert_equals_generate(found: Captions, theirs: tuple[Tensor, Tensor | None]) -> None:
    tokens, scores = theirs
    assert torch.equal(found.tokens, tokens)
    if scores is not None:
        torch.testing.assert_close(found.scores, scores, rtol=1e-5, atol=1e-4)


@warned
@pytest.mark.parametrize(("greedy", "beams"), [(0, 1), *((n, k) for n in (0, 1, 3, 10) for k in (2, 4))])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_equals_generate_token_for_token(small: Any, ours: Any, generate: Any, greedy: int, beams: int, penalty: float):
    config = replace(PLAIN, greedy_tokens=greedy, beams=beams, length_penalty=penalty)
    for seed in range(3):
        given = small.decoder(seed), *small.prefixes(seed, images=1 + seed)
        assert_equals_generate(ours(*given, config), generate(*given, config))


@warned
@pytest.mark.parametrize("stopping", ["heuristic", "first", "never"])
@pytest.mark.parametrize("beams", [2, 5, 8])
@pytest.mark.parametrize("images", [1, 16])
def test_equals_generate_however_it_stops(small: Any, ours: Any, generate: Any, stopping: Any, beams: int, images: int):
    for seed, penalty in itertools.product(range(3), PENALTIES):
        config = replace(PLAIN, beams=beams, early_stopping=stopping, length_penalty=penalty, max_new_tokens=16)
        given = small.decoder(seed), *small.prefixes(seed, images)
        assert_equals_generate(ours(*given, config), generate(*given, config))


def test_the_three_ways_to_stop_differ(small: Any, ours: Any):
    def found(stopping: Any) -> list[list[int]]:
        config = replace(PLAIN, beams=4, early_stopping=stopping, length_penalty=2.0, max_new_tokens=20)
        seeds = [(small.decoder(seed), *small.prefixes(seed, 16)) for seed in range(3)]
        return [row for given in seeds for row in ours(*given, config).lengths[:, 0].tolist()]

    first, heuristic, never = found("first"), found("heuristic"), found("never")
    assert sum(first) < sum(heuristic) < sum(never)


@warned
def test_n_best_equal_those_of_generate(small: Any, ours: Any, generate: Any):
    for seed in range(3):
        given = small.decoder(seed), *small.prefixes(seed, images=4)
        for config in (replace(PLAIN, beams=5, captions=5), replace(PLAIN, beams=6, captions=2, length_penalty=0.3)):
            found = ours(*given, config)
            assert_equals_generate(found, generate(*given, config))
            for captions in found.tokens.tolist():
                assert len({tuple(caption) for caption in captions}) == config.captions


@warned
@pytest.mark.parametrize(
    "config",
    [
        replace(PLAIN, min_new_tokens=6),
        replace(PLAIN, no_repeat_ngram=1),
        replace(PLAIN, no_repeat_ngram=2, greedy_tokens=2),
        replace(PLAIN, max_new_tokens=1),
        replace(PLAIN, beams=1, no_repeat_ngram=2, min_new_tokens=4),
        replace(PLAIN, beams=8, max_new_tokens=20),
    ],
)
def test_limits_equal_those_of_generate(small: Any, ours: Any, generate: Any, config: SearchConfig):
    for seed in range(3):
        given = small.decoder(seed), *small.prefixes(seed, images=4)
        assert torch.equal(ours(*given, config).tokens, generate(*given, config)[0]), seed


@warned
@pytest.mark.parametrize("beams", [1, 4])
def test_prompt_and_bad_words_equal_those_of_generate(small: Any, ours: Any, generate: Any, beams: int):
    config = replace(PLAIN, beams=beams)
    for seed in range(3):
        given = small.decoder(seed), *small.prefixes(seed, images=4)
        plain = ours(*given, config).tokens[:, 0]
        wording = Wording(suppress=(1, 3), bad_words=((int(plain[0, 0]),), tuple(plain[1, :2].tolist())), prompt=(7, 9))
        found = ours(*given, config, wording)
        assert torch.equal(found.tokens, generate(*given, config, wording)[0])
        assert int(plain[0, 0]) not in found.tokens


@warned
@pytest.mark.parametrize("beams", [1, 2, 3, 5, 8])
def test_equals_generate_on_a_model_of_gpt2s_own_vocabulary(generate: Any, ours: Any, small: Any, beams: int):
    """The best words of 50,257 are looked for in blocks."""
    torch.manual_seed(beams)
    decoder = Gpt2DecoderConfig(layers=1, heads=2, width=16, positions=40).build(50257, bos=1, eos=2, pad=3).eval()
    with torch.no_grad():
        decoder.model.transformer.wte.weight *= 8
    prefix, valid = small.prefixes(0, 3, width=16)
    config = replace(PLAIN, beams=beams, captions=min(beams, 3))
    found, theirs = ours(decoder, prefix, valid, config), generate(decoder, prefix, valid, config)
    assert torch.equal(found.tokens, theirs[0] if beams > 1 else theirs[0][:, :1])


@warned
@pytest.mark.slow
@pytest.mark.parametrize(
    ("images", "beams", "penalty"), [(1, 5, 1.0), (4, 3, 0.0), (8, 5, 1.0), (2, 8, 2.0), (3, 1, 1.0)]
)
def test_equals_generate_at_gpt2s_own_size(
    small: Any, ours: Any, generate: Any, images: int, beams: int, penalty: float
):
    """124 million random weights; the position table's are enlarged so that captions vary along their length."""
    torch.manual_seed(images)
    config = Gpt2DecoderConfig(layers=12, heads=12, width=768, positions=1024)
    decoder = config.build(50257, bos=50256, eos=50256, pad=50256).eval()
    with torch.no_grad():
        decoder.model.transformer.wpe.weight *= 20
    prefix, valid = small.prefixes(images, images, slots=10, width=768)
    sought = replace(PLAIN, beams=beams, length_penalty=penalty, max_new_tokens=20)
    wording = Wording()
    assert_equals_generate(
        ours(decoder, prefix, valid, sought, wording), generate(decoder, prefix, valid, sought, wording)
    )


class Table(IncrementalGpt2):
    """Any log p of the next word as a decoder: what an image has said decides it, without a network.

    Only the first `live` words ever come, so that few beams hold every caption there is. The state's keys are the words
    themselves, those of the prefix the image's number.
    """

    def __init__(self, seed: int, vocabulary: int, live: int | None = None) -> None:
        self.bos, self.eos, self.pad, self.positions = 0, 1, 0, 100
        self.seed, self.vocab_size, self.live = seed, vocabulary, live or vocabulary

    def log_p(self, image: int, said: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(zlib.crc32(repr((self.seed, image, said)).encode()))
        logits = 2 * torch.randn(self.vocab_size, generator=generator)
        logits[self.live :] = -1e4
        return logits.log_softmax(-1)

    def prefill(
        self, prefix: Tensor, valid: Tensor, added: Any = None, prompt: Any = (), bias: Any = None
    ) -> tuple[Tensor, DecoderState]:
        state = DecoderState.start((prefix[:, None],), (prefix[:, None],), valid)
        return torch.stack([self.log_p(int(image), ()) for image in prefix[:, 0, 0]]), state

    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        slots, state = state.heard.shape[1], state.grown()
        told = tokens.view(len(state.length), 1, -1, 1).float()
        keys, _ = state.cache.write(0, slots, told, told)
        log_p = []
        for row, heard in enumerate(state.heard):
            image, *said = keys[row // state.rows_per_image, 0, heard, 0].tolist()
            log_p.append(self.log_p(int(image), tuple(map(int, said))))
        return torch.stack(log_p), state


def by_table(table: Table, images: int, config: SearchConfig) -> list[list[tuple[int, ...]]]:
    """The captions that the search finds."""
    prefix = torch.arange(float(images))[:, None, None]
    found = search(table, prefix, torch.ones(images, 1, dtype=torch.bool), config)
    return [
        [tuple(caption[:length]) for caption, length in zip(captions, lengths, strict=True) if length]
        for captions, lengths in zip(found.tokens.tolist(), found.lengths.tolist(), strict=True)
    ]


def log_probability(table: Table, image: int, caption: tuple[int, ...]) -> float:
    return math.fsum(float(table.log_p(image, caption[:t])[word]) for t, word in enumerate(caption))


def every_caption(table: Table, start: tuple[int, ...], longest: int) -> list[tuple[int, ...]]:
    """All that go on from `start`."""
    going, ended = [start], []
    while going:
        said = going.pop()
        for word in range(table.live):
            caption = (*said, word)
            (ended if word == table.eos or len(caption) == longest else going).append(caption)
    return ended


@pytest.mark.parametrize("greedy", [0, 1, 2])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_hybrid_finds_the_best_of_all_captions_where_its_beams_hold_them_all(greedy: int, penalty: float):
    """eos and two words: three tokens behind the greedy ones make 4 open captions and 6 continuations at most."""
    config = SearchConfig(
        greedy_tokens=greedy, beams=6, max_new_tokens=greedy + 3, length_penalty=penalty, min_new_tokens=0
    )
    lengths = set()
    for seed in range(12):
        table = Table(seed, vocabulary=12, live=3)
        start: tuple[int, ...] = ()
        while len(start) < greedy and table.eos not in start:
            start = (*start, int(table.log_p(0, start).argmax()))
        captions = [start] if table.eos in start else every_caption(table, start, config.max_new_tokens)
        best = max(captions, key=lambda caption: log_probability(table, 0, caption) / len(caption) ** penalty)
        assert by_table(table, 1, replace(config, early_stopping="never"))[0][0] == best
        lengths.add(len(best))
    assert len(lengths) > 1


def diverse_by_loops(table: Table, image: int, config: SearchConfig) -> list[tuple[int, ...]]:
    """Diverse beam search from its definition: groups in turn at every step, every continuation looked at."""
    k, penalty = config.beams, config.length_penalty

    def final(caption: tuple[int, ...]) -> float:
        return log_probability(table, image, caption) / len(caption) ** penalty

    beams: list[list[tuple[int, ...]]] = [[()] for _ in range(config.captions)]
    ended: list[list[tuple[int, ...]]] = [[] for _ in range(config.captions)]
    closed: set[int] = set()
    for length in range(1, config.max_new_tokens + 1):
        spoken: Counter[int] = Counter()
        for g in range(config.captions):
            if g in closed:
                continue
            ranked = sorted(
                ((*said, word) for said in beams[g] for word in range(table.vocab_size)),
                key=lambda caption: config.diversity * spoken[caption[-1]] - log_probability(table, image, caption),
            )[: 2 * k]
            over = [caption[-1] == table.eos or length == config.max_new_tokens for caption in ranked]
            ended[g] = sorted([*ended[g], *itertools.compress(ranked[:k], over[:k])], key=final, reverse=True)[:k]
            beams[g] = [caption for caption, ends in zip(ranked, over, strict=True) if not ends][:k]
            spoken.update(caption[-1] for caption in ranked[:k])
            hoped = max((log_probability(table, image, said) for said in beams[g]), default=-math.inf)
            if len(ended[g]) == k and hoped / length**penalty <= final(ended[g][-1]):
                closed.add(g)
    best: list[tuple[int, ...]] = []
    for captions in ended:
        best += [caption for caption in captions if caption not in best][:1]
    return sorted(best, key=final, reverse=True)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("diversity", [0.5, 3.0])
def test_diverse_search_equals_slow_loops(beams: int, diversity: float):
    config = SearchConfig(
        greedy_tokens=0, beams=beams, captions=3, diversity=diversity, max_new_tokens=5, length_penalty=0.7,
        min_new_tokens=0,
    )  # fmt: skip
    for seed in range(6):
        table = Table(seed, vocabulary=8)
        assert by_table(table, 3, config) == [diverse_by_loops(table, image, config) for image in range(3)]


def test_a_group_of_a_diverse_search_alone_is_a_beam_search(small: Any, ours: Any):
    given = small.decoder(1), *small.prefixes(1, images=4)
    config = replace(PLAIN, greedy_tokens=2)
    assert torch.equal(ours(*given, replace(config, diversity=2.0)).tokens, ours(*given, config).tokens)


def test_diversity_makes_captions_differ_more(small: Any, ours: Any):
    def shared(diversity: float) -> float:
        """How often two captions of an image have the same word at the same place."""
        config = replace(PLAIN, beams=5, captions=5, diversity=diversity, min_new_tokens=10)
        captions = torch.cat([ours(small.decoder(s), *small.prefixes(s, 8), config).tokens for s in range(3)])
        return float((captions[:, :, None] == captions[:, None]).float().mean())

    assert shared(4.0) < shared(0.5) < shared(0.0)
