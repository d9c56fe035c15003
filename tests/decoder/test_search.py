"""What holds for every search: padding, batch-mates, scores, config fields, bad input."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from regioncap.decoder import Captions, SearchConfig, Wording, search

PAD, BOS, EOS = 3, 1, 2
PLAIN = SearchConfig(greedy_tokens=0, beams=3, max_new_tokens=10)
HYBRID = replace(PLAIN, greedy_tokens=2)
SAMPLED = replace(PLAIN, method="sample", top_p=0.95, seed=5)
FIVE = replace(PLAIN, beams=5, captions=5)
DIVERSE = replace(PLAIN, captions=4, diversity=1.0)
EVERY = pytest.mark.parametrize(
    "config",
    [PLAIN, HYBRID, replace(PLAIN, beams=1), FIVE, DIVERSE, SAMPLED, replace(SAMPLED, captions=4)],
    ids=["beam", "hybrid", "greedy", "n-best", "diverse", "sample", "samples"],
)


def test_the_models_used_here_end_captions_early_and_late(small: Any, ours: Any):
    found = [ours(small.decoder(seed), *small.prefixes(seed, 4), PLAIN) for seed in range(3)]
    lengths = torch.cat([captions.lengths.flatten() for captions in found])
    assert lengths.min() < 5
    assert lengths.max() == 10


@EVERY
def test_batched_equals_one_by_one(small: Any, config: SearchConfig):
    """Whatever leaves the batch first."""
    decoder, (prefix, valid) = small.decoder(1).incremental(), small.prefixes(1, images=6)
    wording = Wording(suppress=(BOS, PAD))
    whole = search(decoder, prefix, valid, config, wording)
    assert len(set(whole.lengths.flatten().tolist())) > 1
    for b in range(6):
        alone = search(decoder, prefix[b : b + 1], valid[b : b + 1], config, wording, keys=[b])
        length = alone.tokens.shape[2]
        assert torch.equal(alone.tokens[0], whole.tokens[b, :, :length])
        assert torch.equal(alone.lengths[0], whole.lengths[b])
        torch.testing.assert_close(alone.scores[0], whole.scores[b])
        torch.testing.assert_close(alone.log_probs[0], whole.log_probs[b, :, :length], rtol=1e-4, atol=1e-5)


@EVERY
def test_padding_of_a_prefix_changes_nothing(small: Any, ours: Any, config: SearchConfig):
    decoder, (prefix, valid) = small.decoder(2), small.prefixes(2, images=4)
    whole = ours(decoder, prefix, valid, config)
    padded = ours(decoder, F.pad(prefix, (0, 0, 1, 2), value=4.0), F.pad(valid, (1, 2)), config)
    assert torch.equal(padded.tokens, whole.tokens)


@EVERY
def test_log_probabilities_are_the_decoders_and_make_score_and_confidence(small: Any, ours: Any, config: SearchConfig):
    decoder, (prefix, valid) = small.decoder(1), small.prefixes(1, images=5)
    found = ours(decoder, prefix, valid, replace(config, length_penalty=0.6))
    said = torch.arange(found.tokens.shape[2]) < found.lengths[..., None]
    told = F.pad(found.tokens, (1, 0), value=BOS)
    losses = decoder.token_losses(prefix, valid, told, F.pad(said, (1, 0), value=True))
    torch.testing.assert_close(found.log_probs, -losses, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.scores, found.log_probs.sum(-1) / found.lengths**0.6)
    assert (found.scores.diff(dim=1) <= 0).all()  # best first
    assert (found.tokens[~said] == PAD).all()
    for b, n in [(0, 0), (4, found.lengths.shape[1] - 1)]:
        probabilities = found.log_probs[b, n, : int(found.lengths[b, n])].exp()
        torch.testing.assert_close(found.confidence[b, n], probabilities.prod() ** (1 / len(probabilities)))


@EVERY
def test_twice_the_same_search_gives_the_same_captions(small: Any, ours: Any, config: SearchConfig):
    given = small.decoder(1), *small.prefixes(1, images=5)
    assert torch.equal(ours(*given, config).tokens, ours(*given, config).tokens)


@pytest.mark.parametrize("config", [FIVE, DIVERSE, replace(SAMPLED, captions=4)])
def test_captions_of_an_image_differ(small: Any, ours: Any, config: SearchConfig):
    for seed in range(3):
        found = ours(small.decoder(seed), *small.prefixes(seed, images=6), config)
        for captions, lengths in zip(found.tokens.tolist(), found.lengths.tolist(), strict=True):
            real = [tuple(caption) for caption, length in zip(captions, lengths, strict=True) if length]
            assert len(set(real)) == len(real) > 1


def test_a_hybrid_caption_that_ends_among_its_greedy_tokens_is_the_only_one(small: Any, ours: Any):
    config = replace(PLAIN, greedy_tokens=10, beams=4, captions=3)
    found = ours(small.decoder(2), *small.prefixes(2, images=4), config)
    assert (found.lengths[:, 0] > 0).all()
    assert (found.lengths[:, 1:] == 0).all()
    assert torch.isneginf(found.scores[:, 1:]).all()
    assert (found.confidence[:, 1:] == 0).all()
    assert (found.tokens[:, 1:] == PAD).all()


def test_suppressed_words_are_never_said(small: Any, ours: Any):
    given = small.decoder(0), *small.prefixes(0, images=4)
    said = set(ours(*given, PLAIN).tokens.flatten().tolist()) - {PAD, EOS}
    without = ours(*given, PLAIN, Wording(suppress=(BOS, PAD, *said)))
    assert not said & set(without.tokens.flatten().tolist())


def test_no_image_gives_no_caption(small: Any, ours: Any):
    found = ours(small.decoder(0), torch.zeros(0, 5, 32), torch.zeros(0, 5, dtype=torch.bool), PLAIN)
    assert found.tokens.shape == (0, 1, 0)


@pytest.mark.parametrize(
    ("base", "change"),
    [
        (PLAIN, {"method": "sample"}),
        (PLAIN, {"greedy_tokens": 6}),
        (PLAIN, {"beams": 1}),
        (PLAIN, {"captions": 2}),
        (DIVERSE, {"diversity": 4.0}),
        (PLAIN, {"max_new_tokens": 4}),
        (PLAIN, {"min_new_tokens": 8}),
        (PLAIN, {"length_penalty": -2.0}),
        (replace(PLAIN, length_penalty=2.0), {"early_stopping": "never"}),
        (PLAIN, {"no_repeat_ngram": 1}),
        (SAMPLED, {"temperature": 3.0}),
        (SAMPLED, {"top_p": 0.2}),
        (SAMPLED, {"seed": 6}),
        (PLAIN, {"precision": "int8"}),
    ],
)
def test_every_field_is_read(small: Any, ours: Any, base: SearchConfig, change: dict[str, Any]):
    def captions(config: SearchConfig) -> list[Captions]:
        return [ours(small.decoder(seed), *small.prefixes(seed, 6), config) for seed in range(3)]

    before, after = captions(base), captions(replace(base, **change))
    same = (
        torch.equal(a.tokens, b.tokens) and torch.equal(a.scores, b.scores) for a, b in zip(before, after, strict=True)
    )
    assert not all(same)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"beams": 0}, r"search\.beams must be at least 1, got 0"),
        ({"greedy_tokens": -1}, r"search\.greedy_tokens must be at least 0, got -1"),
        ({"captions": 0}, r"search\.captions must be at least 1, got 0"),
        ({"diversity": -1.0}, r"search\.diversity must be at least 0, got -1"),
        ({"word_strength": -0.5}, r"search\.word_strength must be at least 0, got -0\.5"),
        ({"no_repeat_ngram": -1}, r"search\.no_repeat_ngram must be at least 0, got -1"),
        ({"min_new_tokens": 9, "max_new_tokens": 5}, r"min_new_tokens is 9, more than search\.max_new_tokens, 5"),
        ({"temperature": 0.0}, r"search\.temperature must be positive, got 0"),
        ({"top_p": 1.5}, r"search\.top_p must lie in \(0, 1\], got 1\.5"),
        (
            {"captions": 4},
            r"search\.captions=4 needs as many beams, got search\.beams=3: raise the beams, or give .*dive",
        ),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        SearchConfig(**fields)


def given(small: Any, change: Any) -> tuple[Any, Tensor, Tensor]:
    prefix, valid = small.prefixes(0, 3)
    change(prefix, valid)
    return small.decoder(0), prefix, valid


@pytest.mark.parametrize(
    ("change", "config", "wording", "message"),
    [
        (lambda p, v: v[1].fill_(False), PLAIN, None, r"image 1 of the batch has no valid slot \(5 in all\)"),
        (lambda p, v: p[2, 0].fill_(torch.nan), PLAIN, None, r"prefix of image 2 of the batch is not finite"),
        (lambda p, v: None, replace(PLAIN, max_new_tokens=44), None, r"5 slots, a prompt of 0 tokens .*=44 take 49 "),
        (lambda p, v: None, PLAIN, Wording(prompt=(5,) * 34), r"prompt of 34 tokens .* take 49 .* has 48"),
        (lambda p, v: None, replace(PLAIN, beams=15), None, r"beams=15 needs 30 words .* the vocabulary leaves 28"),
        (lambda p, v: None, PLAIN, Wording(suppress=(30,)), r"has token 30, the decoder 30 tokens: .* another"),
        (lambda p, v: None, replace(PLAIN, prompt="a photo"), None, "are words: give their ids"),
        (lambda p, v: None, replace(PLAIN, bad_words=("red",)), None, "are words: give their ids"),
    ],
)  # fmt: skip
def test_bad_input_is_named(small: Any, ours: Any, change: Any, config: SearchConfig, wording: Any, message: str):
    arguments = given(small, change)
    with pytest.raises(ValueError, match=message):
        ours(*arguments, config, *([wording] if wording else []))


def test_an_empty_prefix_is_refused(small: Any, ours: Any):
    with pytest.raises(ValueError, match=r"image 0 of the batch has no valid slot \(0 in all\)"):
        ours(small.decoder(0), torch.zeros(2, 0, 32), torch.zeros(2, 0, dtype=torch.bool), PLAIN)


@EVERY
def test_logits_that_are_nan_name_the_image(small: Any, ours: Any, config: SearchConfig):
    decoder = small.decoder(0)
    with torch.no_grad():
        decoder.model.transformer.h[0].mlp.c_fc.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"image 0 of the batch, word 1: its logits are NaN"):
        ours(decoder, *small.prefixes(0, 3), config)


@EVERY
def test_rules_that_leave_no_word_say_so(small: Any, ours: Any, config: SearchConfig):
    wording = Wording(suppress=(BOS, PAD), bad_words=tuple((word,) for word in (0, *range(4, 30))))
    with pytest.raises(ValueError, match=r"image 0 of the batch, word 1: every word is forbidden"):
        ours(small.decoder(0), *small.prefixes(0, 3), replace(config, min_new_tokens=3), wording)
