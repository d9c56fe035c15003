"""What is heeded, against transformers' eager attention and the equation of the word bias."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from regioncap.decoder import Explanation, Gpt2Decoder, Gpt2DecoderConfig, LoraConfig, Prefix, explain
from regioncap.decoder.word_bias import GatedWordBiasConfig, NoWordBiasConfig

V, H, P, T, B, BOS = 30, 32, 5, 7, 4, 1
SLOTS = (("fused", 1), ("regions", 3), ("keywords", 1))


def small(word_bias: GatedWordBiasConfig | NoWordBiasConfig, **changes: object) -> Gpt2Decoder:
    torch.manual_seed(0)
    config = Gpt2DecoderConfig(layers=3, heads=2, width=H, positions=48, dropout=0.2, word_bias=word_bias, **changes)
    decoder = config.build(V, bos=BOS, eos=2, pad=0)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(5 if parameter.dim() == 2 else 1)
    return decoder


def given(*, added: bool = False) -> tuple[Prefix, Tensor, Tensor]:
    """Prefixes with holes, captions of few words of which some are padded behind."""
    torch.manual_seed(7)
    valid = torch.rand(B, P) > 0.4
    valid[0] = True
    bias = torch.randn(B, V) * (torch.rand(B, V) > 0.3)
    prefix = Prefix(
        embeddings=torch.randn(B, P, H) * valid[..., None], valid=valid, slots=SLOTS, bias=bias,
        added=torch.randn(B, H) if added else None,
    )  # fmt: skip
    tokens = F.pad(torch.randint(4, 9, (B, T - 1)), (1, 0), value=BOS)
    return prefix, tokens, torch.arange(T) < torch.tensor([[T], [T - 1], [2], [4]])


def eager(decoder: Gpt2Decoder, prefix: Prefix, tokens: Tensor, mask: Tensor) -> Tensor:
    """transformers' own attention L B T P, of image by image without any padding."""
    model = GPT2LMHeadModel(GPT2Config.from_dict({**decoder.model.config.to_dict(), "attn_implementation": "eager"}))
    model.load_state_dict(decoder.merged().model.state_dict())
    model.set_attn_implementation("eager")
    out = torch.zeros(len(model.transformer.h), B, T - 1, P)
    for b in range(B):
        words = model.transformer.wte(tokens[b][mask[b]])
        words = words if prefix.added is None else words + prefix.added[b]
        embeddings = torch.cat([prefix.embeddings[b][prefix.valid[b]], words])[None]
        maps = model.eval()(inputs_embeds=embeddings, output_attentions=True).attentions
        slots = int(prefix.valid[b].sum())
        for layer, attention in enumerate(maps):
            rows = attention[0].mean(0)[slots:-1, :slots]
            out[layer, b, : len(rows), prefix.valid[b]] = rows
    return out


@torch.no_grad()
@pytest.mark.parametrize("added", [False, True])
def test_shares_are_transformers_eager_attentions(added: bool):
    """In training mode too, where nothing may be dropped."""
    decoder, (prefix, tokens, mask) = small(NoWordBiasConfig()).train(), given(added=added)
    found, want = explain(decoder, prefix, tokens, mask), eager(decoder, prefix, tokens, mask)
    torch.testing.assert_close(found.attention, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.shares, want.mean(0), rtol=1e-4, atol=1e-5)
    assert want.std() > 0.05
    assert not found.openness.any()
    assert not found.bias.any()


@torch.no_grad()
def test_adapters_count(tmp_path: Path):
    small(NoWordBiasConfig()).save(tmp_path)
    decoder = small(NoWordBiasConfig(), weights=str(tmp_path), lora=LoraConfig(rank=2))
    for name, parameter in decoder.named_parameters():
        if ".lora_B." in name:
            parameter.normal_(0, 0.5)
    prefix, tokens, mask = given()
    found = explain(decoder, prefix, tokens, mask)
    torch.testing.assert_close(found.attention, eager(decoder, prefix, tokens, mask), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_what_the_bias_added_is_what_the_logits_gained():
    decoder, (prefix, tokens, mask) = small(GatedWordBiasConfig(scale=2.0)), given()
    decoder.eval().word_bias.gate.normal_(0, 3)
    found = explain(decoder, prefix, tokens, mask)
    told, plain = (
        decoder(prefix.embeddings, prefix.valid, tokens[:, None], mask[:, None], bias=bias)[:, 0, :-1]
        for bias in (prefix.bias, None)
    )
    gained = (told - plain).gather(2, tokens[:, 1:, None])[..., 0] * mask[:, 1:]
    torch.testing.assert_close(found.bias, gained, rtol=1e-4, atol=1e-4)
    assert (found.openness > 0).equal(mask[:, 1:])
    assert (found.openness <= 1).all()
    said = [[int(tokens[b, t]) in tokens[b, :t].tolist() for t in range(1, T)] for b in range(B)]
    assert torch.tensor(said).any()
    assert not found.bias[torch.tensor(said)].any()


def test_shares_by_kind_add_up():
    prefix, tokens, mask = given()
    found = explain(small(NoWordBiasConfig()), prefix, tokens, mask)
    kinds = found.by_kind(prefix.slots)
    assert list(kinds) == ["fused", "regions", "keywords"]
    torch.testing.assert_close(kinds["regions"], found.shares[..., 1:4].sum(-1))
    total = sum(kinds.values())
    assert (total[mask[:, 1:]] > 0).all()
    assert (total < 1).all()  # bos and words have the rest
    assert not total[~mask[:, 1:]].any()


def test_padding_and_batch_mates_change_nothing():
    decoder, (prefix, tokens, mask) = small(GatedWordBiasConfig()), given()
    whole = explain(decoder, prefix, tokens, mask)
    for b in range(B):
        one, length = slice(b, b + 1), int(mask[b].sum())
        alone = Prefix(
            embeddings=prefix.embeddings[one][:, prefix.valid[b]],
            valid=prefix.valid[one][:, prefix.valid[b]],
            bias=prefix.bias[one],
        )
        found = explain(decoder, alone, tokens[one, :length], mask[one, :length])
        want = whole.attention[:, one, : length - 1][..., prefix.valid[b]]
        torch.testing.assert_close(found.attention, want, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.bias, whole.bias[one, : length - 1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.openness, whole.openness[one, : length - 1])


def test_without_a_prefix_all_attention_is_on_words():
    _, tokens, mask = given()
    nothing = Prefix(embeddings=torch.zeros(B, 0, H), valid=torch.zeros(B, 0, dtype=torch.bool))
    found = explain(small(NoWordBiasConfig()), nothing, tokens, mask)
    assert isinstance(found, Explanation)
    assert found.attention.shape == (3, B, T - 1, 0)
    assert found.by_kind(()) == {}


def test_bad_input_is_named():
    prefix, tokens, mask = given()
    found = explain(small(NoWordBiasConfig()), prefix, tokens, mask)
    with pytest.raises(ValueError, match=r"the slots are 4 in all, the attention is on 5: give the slots"):
        found.by_kind((("fused", 1), ("regions", 3)))
