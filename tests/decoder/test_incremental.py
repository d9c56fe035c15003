"""GPT-2 a word at a time against the pass over whole captions."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from regioncap.decoder import Gpt2Decoder, Gpt2DecoderConfig

V, H, P, C, T, B = 40, 32, 5, 3, 7, 4


def small() -> Gpt2Decoder:
    """Random weights large enough that words and positions matter."""
    torch.manual_seed(0)
    config = Gpt2DecoderConfig(layers=2, heads=2, width=H, positions=48, dropout=0.0)
    decoder = config.build(V, bos=1, eos=2, pad=0).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(5 if parameter.dim() == 2 else 1)
    return decoder


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Prefixes with holes (one all hole, one full) and captions that begin with bos."""
    torch.manual_seed(7)
    valid = torch.rand(B, P) > 0.4
    valid[0], valid[1] = False, True
    tokens = F.pad(torch.randint(3, V, (B, C, T)), (1, 0), value=1)
    return torch.randn(B, P, H) * valid[..., None], valid, tokens


@torch.no_grad()
@pytest.mark.parametrize(("precision", "close"), [("float32", 1e-5), ("bfloat16", 0.03), ("int8", 0.05)])
def test_prefill_and_steps_equal_the_forward_pass(precision, close):
    """Relative to the logits' spread; the coarse formats must also differ, or they are not in use.

    On a processor that has no bfloat16 float32 stands for it.
    """
    if precision == "bfloat16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        precision, close = "float32", 1e-5
    decoder = small()
    prefix, valid, tokens = batch()
    want = decoder(prefix, valid, tokens, torch.ones_like(tokens, dtype=torch.bool))
    stepping = decoder.incremental(precision)
    logits, state = stepping.prefill(prefix, valid)
    state = state.rows(torch.arange(B).repeat_interleave(C))
    found = [logits[:, None].expand(-1, C, -1)]
    for t in range(1, T + 1):
        logits, state = stepping.step(tokens[:, :, t].flatten(), state)
        found.append(logits.view(B, C, V))
    error = (torch.stack(found, 2) - want).std() / want.std()
    assert error < close
    assert precision == "float32" or error > 1e-4


@torch.no_grad()
def test_a_prompt_is_read_as_words_that_were_said():
    stepping = small().incremental()
    prefix, valid, _ = batch()
    logits, state = stepping.prefill(prefix, valid, prompt=[7, 9])
    _, want = stepping.prefill(prefix, valid)
    _, want = stepping.step(torch.full((B,), 7), want)
    stepped, want = stepping.step(torch.full((B,), 9), want)
    torch.testing.assert_close(logits, stepped)
    assert torch.equal(state.next_positions(), want.next_positions())
    torch.testing.assert_close(
        stepping.step(torch.full((B,), 5), state)[0], stepping.step(torch.full((B,), 5), want)[0]
    )


@torch.no_grad()
def test_another_activation_is_kept():
    torch.manual_seed(0)
    stored = GPT2Config(vocab_size=V, n_positions=48, n_embd=H, n_layer=1, n_head=2, activation_function="relu")
    decoder = Gpt2Decoder(Gpt2DecoderConfig(), GPT2LMHeadModel(stored), bos=1, eos=2, pad=0).eval()
    prefix, valid, tokens = batch()
    want = decoder(prefix, valid, tokens[..., :1], torch.ones(B, C, 1, dtype=torch.bool))
    torch.testing.assert_close(decoder.incremental().prefill(prefix, valid)[0], want[:, 0, 0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_it_is_a_snapshot():
    decoder = small()
    prefix, valid, _ = batch()
    before = decoder.incremental()
    first = before.prefill(prefix, valid)[0]
    for block in decoder.model.transformer.h:
        block.attn.c_attn.weight += 1
    assert torch.equal(before.prefill(prefix, valid)[0], first)
    assert not torch.allclose(decoder.incremental().prefill(prefix, valid)[0], first)


def test_training_mode_is_refused():
    with pytest.raises(ValueError, match="training mode"):
        small().train().incremental()


@torch.no_grad()
def test_steps_leave_older_states_as_they_were():
    stepping = small().incremental()
    prefix, valid, _ = batch()
    _, state = stepping.prefill(prefix, valid)
    first, _ = stepping.step(torch.full((B,), 5), state)
    stepping.step(torch.full((B,), 6), state.rows(torch.tensor([3, 2, 1, 0])))
    again, _ = stepping.step(torch.full((B,), 5), state)
    assert torch.equal(first, again)


@torch.no_grad()
def test_images_that_leave_do_not_disturb_the_others():
    stepping = small().incremental()
    prefix, valid, _ = batch()
    _, state = stepping.prefill(prefix, valid)
    _, state = stepping.step(torch.arange(5, 5 + B), state)
    everyone, _ = stepping.step(torch.arange(9, 9 + B), state)
    stay = torch.tensor([0, 3])
    some, _ = stepping.step(torch.tensor([9, 12]), state.images(stay).rows(stay))
    torch.testing.assert_close(some, everyone[stay])
