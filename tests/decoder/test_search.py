"""Search against transformers' `generate`, which knows neither our states nor our packing."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from regioncap.decoder import Captions, Gpt2Decoder, Gpt2DecoderConfig, SearchConfig, search

V, H, PAD, BOS, EOS = 30, 32, 3, 1, 2  # transformers fills up with eos where pad is 0
PLAIN = SearchConfig(greedy_tokens=0, beams=3, max_new_tokens=10)


def decoder_of(seed: int) -> Gpt2Decoder:
    """Random weights large enough for varied captions; eos loud enough that many end early, others not at all."""
    torch.manual_seed(seed)
    config = Gpt2DecoderConfig(layers=2, heads=2, width=H, positions=32, dropout=0.0)
    decoder = config.build(V, bos=BOS, eos=EOS, pad=PAD).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(6 if parameter.dim() == 2 else 1)
        loud = decoder.model.transformer.wte.weight[EOS]
        decoder.model.transformer.ln_f.bias.copy_((1.0 + 0.5 * (seed % 3)) * loud / loud.square().sum())
    return decoder


def prefixes(seed: int, images: int, slots: int = 5) -> tuple[Tensor, Tensor]:
    torch.manual_seed(100 + seed)
    return torch.randn(images, slots, H), torch.rand(images, slots) > 0.3


class GreedyAtFirst(LogitsProcessor):
    """Leaves each beam its best word alone for the first n tokens: turns `generate`'s beam search into the hybrid."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids.shape[1] >= self.n:
            return scores
        best = scores.argmax(-1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter(1, best, scores.gather(1, best))


def generated(
    decoder: Gpt2Decoder, prefix: Tensor, valid: Tensor, config: SearchConfig, suppress: tuple[int, ...] = (BOS, PAD)
) -> tuple[Tensor, Tensor | None]:
    bos = decoder.model.transformer.wte(torch.full((len(prefix), 1), BOS))
    out = decoder.model.generate(
        inputs_embeds=torch.cat([prefix, bos], 1),
        attention_mask=F.pad(valid, (0, 1), value=True).long(),
        num_beams=config.beams,
        do_sample=False,
        max_new_tokens=config.max_new_tokens,
        min_new_tokens=config.min_new_tokens,
        length_penalty=config.length_penalty,
        no_repeat_ngram_size=config.no_repeat_ngram,
        early_stopping=False,
        suppress_tokens=list(suppress),
        logits_processor=LogitsProcessorList([GreedyAtFirst(config.greedy_tokens)]) if config.beams > 1 else None,
        return_dict_in_generate=True,
        output_scores=True,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return out.sequences, out.sequences_scores if config.beams > 1 else None


def ours(decoder: Gpt2Decoder, prefix: Tensor, valid: Tensor, config: SearchConfig) -> Captions:
    return search(decoder, prefix, valid, config, suppress=(BOS, PAD))


@pytest.mark.parametrize(("greedy", "beams"), [(0, 1), *((n, k) for n in (0, 1, 3, 10) for k in (2, 4))])
@pytest.mark.parametrize("penalty", [1.0, 0.0, -0.7, 2.0])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_equals_generate_token_for_token(greedy: int, beams: int, penalty: float):
    config = replace(PLAIN, greedy_tokens=greedy, beams=beams, length_penalty=penalty)
    for seed in range(3):
        decoder, given = decoder_of(seed), prefixes(seed, images=1 + seed)
        found = ours(decoder, *given, config)
        tokens, scores = generated(decoder, *given, config)
        assert torch.equal(found.tokens, tokens), seed
        if scores is not None:
            torch.testing.assert_close(found.scores, scores, rtol=1e-5, atol=1e-4)


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
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_limits_equal_those_of_generate(config: SearchConfig):
    for seed in range(3):
        decoder, given = decoder_of(seed), prefixes(seed, images=4)
        found = ours(decoder, *given, config)
        assert torch.equal(found.tokens, generated(decoder, *given, config)[0]), seed


def test_the_models_used_here_end_captions_early_and_late():
    lengths = [n for seed in range(3) for n in ours(decoder_of(seed), *prefixes(seed, 4), PLAIN).lengths.tolist()]
    assert min(lengths) < 5
    assert max(lengths) == 10


def test_an_empty_prefix_works():
    found = ours(decoder_of(0), torch.zeros(2, 0, H), torch.zeros(2, 0, dtype=torch.bool), PLAIN)
    assert torch.equal(found.tokens[0], found.tokens[1])


@pytest.mark.parametrize("greedy", [0, 2])
def test_batched_equals_one_by_one(greedy: int):
    decoder, (prefix, valid) = decoder_of(1), prefixes(1, images=6)
    config = replace(PLAIN, greedy_tokens=greedy)
    whole = ours(decoder, prefix, valid, config)
    assert len(set(whole.lengths.tolist())) > 1
    for b in range(6):
        alone = ours(decoder, prefix[b : b + 1], valid[b : b + 1], config)
        length = int(alone.lengths)
        assert torch.equal(alone.tokens[0], whole.tokens[b, :length])
        assert whole.lengths[b] == length
        torch.testing.assert_close(alone.scores[0], whole.scores[b])


def test_padding_of_a_prefix_changes_nothing():
    decoder, (prefix, valid) = decoder_of(2), prefixes(2, images=4)
    whole = ours(decoder, prefix, valid, PLAIN)
    padded = ours(decoder, F.pad(prefix, (0, 0, 1, 2), value=4.0), F.pad(valid, (1, 2)), PLAIN)
    assert torch.equal(padded.tokens, whole.tokens)


def test_log_probabilities_are_the_decoders_and_make_the_score():
    decoder, (prefix, valid) = decoder_of(1), prefixes(1, images=5)
    config = replace(PLAIN, greedy_tokens=2, length_penalty=0.6)
    found = ours(decoder, prefix, valid, config)
    said = torch.arange(found.tokens.shape[1]) < found.lengths[:, None]
    told = F.pad(found.tokens, (1, 0), value=BOS)[:, None]
    losses = decoder.token_losses(prefix, valid, told, F.pad(said, (1, 0), value=True)[:, None])[:, 0]
    torch.testing.assert_close(found.log_probs, -losses, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.scores, found.log_probs.sum(1) / found.lengths**0.6)
    assert (found.tokens[~said] == PAD).all()


def test_suppressed_words_are_never_said():
    decoder, given = decoder_of(0), prefixes(0, images=4)
    said = set(ours(decoder, *given, PLAIN).tokens.flatten().tolist()) - {PAD, EOS}
    without = search(decoder, *given, PLAIN, suppress=(BOS, PAD, *said))
    assert not said & set(without.tokens.flatten().tolist())


@pytest.mark.parametrize(
    "change",
    [
        {"greedy_tokens": 6},
        {"beams": 1},
        {"max_new_tokens": 4},
        {"min_new_tokens": 8},
        {"length_penalty": -2.0},
        {"no_repeat_ngram": 1},
    ],
)
def test_every_field_is_read(change: dict[str, float]):
    def captions(config: SearchConfig) -> list[Tensor]:
        return [ours(decoder_of(seed), *prefixes(seed, 6), config).tokens for seed in range(3)]

    changed = zip(captions(replace(PLAIN, **change)), captions(PLAIN), strict=True)
    assert not all(torch.equal(a, b) for a, b in changed)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"search\.beams must be at least 1, got 0"):
        SearchConfig(beams=0)
    with pytest.raises(ValueError, match=r"search\.greedy_tokens must be at least 0, got -1"):
        SearchConfig(greedy_tokens=-1)
    with pytest.raises(ValueError, match=r"min_new_tokens is 9, more than search\.max_new_tokens, 5"):
        SearchConfig(min_new_tokens=9, max_new_tokens=5)
    with pytest.raises(ValueError, match="no_repeat_ngram must be at least 0, got -1"):
        SearchConfig(no_repeat_ngram=-1)
    decoder, (prefix, valid) = decoder_of(0), prefixes(0, 2)
    with pytest.raises(ValueError, match="training mode"):
        ours(decoder.train(), prefix, valid, PLAIN)
    decoder.eval()
    with pytest.raises(
        ValueError, match=r"5 slots and search\.max_new_tokens=30 take 35 positions, the decoder has 32"
    ):
        ours(decoder, prefix, valid, SearchConfig())
    with pytest.raises(ValueError, match="beams=15 needs 30 words to choose from, the vocabulary leaves 28"):
        ours(decoder, prefix, valid, replace(PLAIN, beams=15))
