"""Captions drawn from the decoder's own distribution, against a loop of whole forward passes and against its odds."""

from collections import Counter
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from regioncap.decoder import Gpt2Decoder, Gpt2DecoderConfig, draw_captions

BOS, EOS, PAD = 1, 2, 3
T = 9


@torch.no_grad()
def by_hand(decoder: Gpt2Decoder, prefix: Tensor, valid: Tensor, uniform: Tensor) -> tuple[list[int], list[float]]:
    """One caption of one image: the whole forward pass for every word."""
    said, values = [BOS], []
    for level in uniform.tolist():
        tokens = torch.tensor([[said]])
        log_p = decoder(prefix[None], valid[None], tokens, tokens >= 0)[0, 0, -1].double().log_softmax(-1)
        total, word = 0.0, 0
        while total + log_p[word].exp().item() <= level:
            total += log_p[word].exp().item()
            word += 1
        said.append(word)
        values.append(log_p[word].item())
        if word == EOS:
            break
    return said[1:], values


def test_equals_a_loop_of_whole_forward_passes(small: Any) -> None:
    decoder, (prefix, valid) = small.decoder(1), small.prefixes(1, images=4)
    uniform = torch.rand(4, 3, T, generator=torch.Generator().manual_seed(0))
    drawn = draw_captions(decoder.incremental(), prefix, valid, uniform)
    lengths = []
    for image, row in product(range(4), range(3)):
        said, values = by_hand(decoder, prefix[image], valid[image], uniform[image, row])
        lengths.append(len(said))
        assert drawn.lengths[image, row] == len(said)
        assert drawn.tokens[image, row].tolist() == said + [PAD] * (drawn.tokens.shape[2] - len(said))
        assert drawn.log_probs[image, row, : len(said)].tolist() == pytest.approx(values, abs=1e-4)
        assert drawn.scores[image, row].item() == pytest.approx(sum(values), abs=1e-3)
    assert min(lengths) < T == max(lengths)  # some end, some are cut


@pytest.mark.parametrize("temperature", [1.0, 0.4, 2.0])
def test_log_p_is_what_token_losses_give(small: Any, temperature: float) -> None:
    """What a policy gradient multiplies is the log p of what was drawn."""
    decoder, (prefix, valid) = small.decoder(2), small.prefixes(2, images=5)
    uniform = torch.rand(5, 4, T, generator=torch.Generator().manual_seed(0))
    drawn = draw_captions(decoder.incremental(), prefix, valid, uniform, temperature=temperature)
    tokens = torch.cat([torch.full((5, 4, 1), BOS), drawn.tokens], dim=-1)
    mask = torch.arange(tokens.shape[-1]) <= drawn.lengths[..., None]
    with torch.no_grad():
        losses = decoder.token_losses(prefix, valid, tokens, mask, temperature=temperature)
        logits = decoder(prefix, valid, tokens[..., :-1], mask[..., 1:]) / temperature
    said = tokens[..., 1:, None]
    assert torch.allclose(losses, -logits.log_softmax(-1).gather(-1, said)[..., 0] * mask[..., 1:], atol=1e-4)
    assert torch.allclose(-losses, drawn.log_probs, atol=1e-4)


def test_captions_come_as_often_as_they_are_likely() -> None:
    """All captions of two tokens over five words, special ones among them; none is drawn again or left out."""
    torch.manual_seed(0)
    config = Gpt2DecoderConfig(layers=1, heads=1, width=8, positions=8, dropout=0.0)
    decoder = config.build(5, bos=BOS, eos=EOS, pad=PAD).eval()
    with torch.no_grad():
        decoder.model.transformer.wte.weight.mul_(20)
    prefix, valid = torch.randn(1, 2, 8), torch.ones(1, 2, dtype=torch.bool)
    draws = 20_000
    uniform = torch.rand(1, draws, 2, generator=torch.Generator().manual_seed(0))
    drawn = draw_captions(decoder.incremental(), prefix, valid, uniform)
    ends = drawn.lengths[0].tolist()
    seen = Counter(tuple(row[:end]) for row, end in zip(drawn.tokens[0].tolist(), ends, strict=True))
    total = 0.0
    for caption in [(EOS,), *((first, second) for first in (0, 1, 3, 4) for second in range(5))]:
        tokens = torch.tensor([[[BOS, *caption]]])
        with torch.no_grad():
            p = (-decoder.token_losses(prefix, valid, tokens, tokens >= 0).sum()).exp().item()
        total += p
        assert abs(seen[caption] / draws - p) < 4 * (p * (1 - p) / draws) ** 0.5 + 1e-9
    assert total == pytest.approx(1.0, abs=1e-5)
    assert len(seen) > 5


def test_batch_mates_change_nothing(small: Any) -> None:
    decoder, (prefix, valid) = small.decoder(3).incremental(), small.prefixes(3, images=6)
    uniform = torch.rand(6, 3, T)
    together = draw_captions(decoder, prefix, valid, uniform)
    for image in range(6):
        one = slice(image, image + 1)
        alone = draw_captions(decoder, prefix[one], valid[one], uniform[one])
        assert torch.equal(together.lengths[one], alone.lengths)
        assert torch.equal(together.tokens[one, :, : alone.tokens.shape[2]], alone.tokens)


def test_the_ends_of_the_interval_are_words(small: Any) -> None:
    decoder, (prefix, valid) = small.decoder(1).incremental(), small.prefixes(1, images=2)
    for level in (0.0, 1 - 2**-24):
        drawn = draw_captions(decoder, prefix, valid, torch.full((2, 1, T), level))
        assert torch.isfinite(drawn.log_probs).all()


def test_captions_that_do_not_fit_are_an_error(small: Any) -> None:
    with pytest.raises(ValueError, match=r"5 slots and 60 drawn tokens take 65 positions, the decoder has 48"):
        draw_captions(small.decoder(1).incremental(), *small.prefixes(1, images=2), torch.rand(2, 1, 60))


def test_logits_that_are_no_numbers_are_an_error(small: Any) -> None:
    prefix, valid = small.prefixes(1, images=2)
    prefix[1, 0] = torch.nan
    with pytest.raises(ValueError, match=r"image 1 of the batch, word 1: its logits are NaN"):
        draw_captions(small.decoder(1).incremental(), prefix, valid, torch.rand(2, 2, T))
