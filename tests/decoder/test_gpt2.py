from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from regioncap.decoder import Gpt2Decoder, Gpt2DecoderConfig

V, H, P, C, T, B = 40, 32, 5, 3, 7, 4
SMALL = Gpt2DecoderConfig(layers=2, heads=2, width=H, positions=48, dropout=0.0)


def small(config: Gpt2DecoderConfig = SMALL, seed: int = 0) -> Gpt2Decoder:
    """Random weights large enough that words and positions matter."""
    torch.manual_seed(seed)
    decoder = config.build(V, bos=1, eos=2, pad=0)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(5 if parameter.dim() == 2 else 1)
    return decoder


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Prefixes with holes (one all hole, one full) and captions of 2 to T tokens."""
    torch.manual_seed(7)
    valid = torch.rand(B, P) > 0.4
    valid[0], valid[1] = False, True
    mask = torch.arange(T) < torch.randint(2, T + 1, (B, C, 1))
    return torch.randn(B, P, H) * valid[..., None], valid, torch.randint(3, V, (B, C, T)), mask


def long_form(decoder: Gpt2Decoder, prefix: Tensor, valid: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """transformers' forward over the prefix repeated for each caption."""
    captions = tokens.shape[1]
    words = decoder.model.transformer.wte(tokens).flatten(0, 1)
    seen = torch.cat([valid.repeat_interleave(captions, 0), mask.flatten(0, 1)], 1).long()
    logits = decoder.model(
        inputs_embeds=torch.cat([prefix.repeat_interleave(captions, 0), words], 1),
        attention_mask=seen,
        position_ids=(seen.cumsum(1) - 1).clamp(min=0),
    ).logits
    return logits[:, prefix.shape[1] :].view(*tokens.shape, -1)


def test_logits_and_gradients_equal_the_long_form():
    decoder = small()
    prefix, valid, tokens, mask = batch()
    prefix.requires_grad_()
    ours, theirs = decoder(prefix, valid, tokens, mask), long_form(decoder, prefix, valid, tokens, mask)
    torch.testing.assert_close(ours[mask], theirs[mask], rtol=1e-5, atol=1e-5)
    assert (ours[~mask] == 0).all()
    weigh = torch.randn_like(ours) * mask[..., None]
    inputs = [prefix, *decoder.parameters()]
    for a, b in zip(
        torch.autograd.grad((ours * weigh).sum(), inputs),
        torch.autograd.grad((theirs * weigh).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


def test_losses_equal_the_cross_entropy_of_the_long_form():
    decoder = small()
    prefix, valid, tokens, mask = batch()
    logits = long_form(decoder, prefix, valid, tokens, mask)[:, :, :-1]
    want = F.cross_entropy(logits.flatten(0, 2), tokens[..., 1:].flatten(), reduction="none").view(B, C, T - 1)
    torch.testing.assert_close(decoder.token_losses(prefix, valid, tokens, mask), want * mask[..., 1:])
    torch.testing.assert_close(decoder.loss(prefix, valid, tokens, mask), want[mask[..., 1:]].mean())


def test_an_empty_prefix_makes_it_a_language_model():
    decoder = small()
    _, _, tokens, mask = batch()
    nothing, none = torch.zeros(B, 0, H), torch.zeros(B, 0, dtype=torch.bool)
    logits = decoder(nothing, none, tokens, mask)
    want = decoder.model(tokens.flatten(0, 1), attention_mask=mask.flatten(0, 1).long()).logits.view_as(logits)
    torch.testing.assert_close(logits[mask], want[mask], rtol=1e-5, atol=1e-5)


def test_padding_changes_nothing():
    decoder = small()
    prefix, valid, tokens, mask = batch()
    want = decoder(prefix, valid, tokens, mask)[mask]
    torch.testing.assert_close(decoder(prefix + 3.0 * ~valid[..., None], valid, tokens, mask)[mask], want)
    torch.testing.assert_close(decoder(prefix, valid, tokens.masked_fill(~mask, 9), mask)[mask], want)
    wide = F.pad(prefix, (0, 0, 2, 3)), F.pad(valid, (2, 3)), F.pad(tokens, (0, 2)), F.pad(mask, (0, 2))
    torch.testing.assert_close(decoder(*wide)[wide[3]], want)


def test_images_and_captions_are_independent():
    decoder = small()
    prefix, valid, tokens, mask = batch()
    whole = decoder(prefix, valid, tokens, mask)
    for b in range(B):
        for c in range(C):
            alone = decoder(
                prefix[b : b + 1], valid[b : b + 1], tokens[b : b + 1, c : c + 1], mask[b : b + 1, c : c + 1]
            )
            torch.testing.assert_close(alone[0, 0], whole[b, c])


def test_gradient_reaches_every_parameter_and_the_prefix():
    decoder = small(replace(SMALL, dropout=0.1)).train()
    prefix, valid, tokens, mask = batch()
    prefix.requires_grad_()
    decoder.loss(prefix, valid, tokens, mask).backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert (prefix.grad.abs().sum(-1) > 0).equal(valid)


def test_half_precision_training_stays_close():
    decoder = small()
    prefix, valid, tokens, mask = batch()
    exact = decoder.loss(prefix, valid, tokens, mask)
    with torch.autocast("cpu", torch.bfloat16):
        rough = decoder.loss(prefix, valid, tokens, mask)
    assert rough.dtype == torch.float32
    assert abs(float(rough.detach() / exact.detach()) - 1) < 0.02


def test_captions_are_learned():
    decoder = small(replace(SMALL, width=64)).train()
    torch.manual_seed(0)
    prefix, valid = torch.randn(4, 2, 64), torch.ones(4, 2, dtype=torch.bool)
    tokens = F.pad(torch.randint(3, V, (4, 1, 5)), (1, 1), value=1)
    tokens[..., -1] = 2
    mask = torch.ones_like(tokens, dtype=torch.bool)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        decoder.loss(prefix, valid, tokens, mask).backward()
        optimiser.step()
    assert decoder.loss(prefix, valid, tokens, mask) < 0.1


@pytest.mark.parametrize("field", ["layers", "heads", "width", "positions", "dropout"])
def test_every_field_is_read(field: str):
    changed = {"layers": 3, "heads": 4, "width": 64, "positions": 50, "dropout": 0.5}

    def built(config: Gpt2DecoderConfig) -> tuple[object, ...]:
        stored = config.build(V, bos=1, eos=2, pad=0).train()
        c = stored.model.config
        return c.n_layer, c.n_head, c.n_embd, c.n_positions, stored.dropout.dropped

    assert built(replace(SMALL, **{field: changed[field]})) != built(SMALL)


def test_dropout_is_for_training_only():
    decoder = small(replace(SMALL, dropout=0.5))
    given = batch()
    assert not torch.equal(decoder.train()(*given), decoder(*given))
    assert torch.equal(decoder.eval()(*given), decoder(*given))


def test_saved_weights_are_read_back_with_their_sizes(tmp_path: Path):
    decoder = small().eval()
    decoder.save(tmp_path)
    again = Gpt2DecoderConfig(weights=str(tmp_path), dropout=0.0).build(V, bos=1, eos=2, pad=0).eval()
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path)
    assert (again.width, again.vocab_size, again.positions) == (H, V, 48)
    assert again.model.lm_head.weight is again.model.transformer.wte.weight
    given = batch()
    assert torch.equal(again(*given), decoder(*given))
    assert torch.equal(theirs.lm_head.weight, decoder.model.lm_head.weight)


def test_stored_gpt2_of_another_kind_is_followed(tmp_path: Path):
    """Other activation, scaled attention per layer: the numbers are transformers' own."""
    torch.manual_seed(0)
    stored = GPT2Config(
        vocab_size=V, n_positions=48, n_embd=H, n_layer=2, n_head=2, activation_function="relu",
        scale_attn_by_inverse_layer_idx=True, initializer_range=0.2, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    GPT2LMHeadModel(stored).save_pretrained(tmp_path)
    decoder = Gpt2DecoderConfig(weights=str(tmp_path)).build(V, bos=1, eos=2, pad=0).eval()
    given = batch()
    want = long_form(decoder, *given)
    torch.testing.assert_close(decoder(*given)[given[3]], want[given[3]], rtol=1e-5, atol=1e-5)


def test_bad_input_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"decoder\.layers must be at least 1, got 0"):
        Gpt2DecoderConfig(layers=0)
    with pytest.raises(ValueError, match=r"multiple of decoder\.heads, got 30 and 4"):
        Gpt2DecoderConfig(width=30)
    with pytest.raises(ValueError, match=r"decoder\.dropout must be in \[0, 1\), got 1"):
        Gpt2DecoderConfig(dropout=1.0)
    with pytest.raises(ValueError, match="eos must be an id below the vocabulary size 40, got 40"):
        SMALL.build(V, bos=1, eos=V, pad=0)
    with pytest.raises(ValueError, match=r"no GPT-2 at .*nowhere"):
        Gpt2DecoderConfig(weights=str(tmp_path / "nowhere")).build(V, bos=1, eos=2, pad=0)
    small().save(tmp_path)
    with pytest.raises(ValueError, match="knows 40 tokens, the tokenizer 41"):
        Gpt2DecoderConfig(weights=str(tmp_path)).build(V + 1, bos=1, eos=2, pad=0)
    prefix, valid, tokens, mask = batch()
    with pytest.raises(ValueError, match="take 53 positions, the decoder has 48"):
        small()(F.pad(prefix, (0, 0, 0, 41)), F.pad(valid, (0, 41)), tokens, mask)
    with pytest.raises(ValueError, match="at least one more token, got 1"):
        small().loss(prefix, valid, tokens[..., :1], mask[..., :1])
