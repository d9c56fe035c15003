import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from regioncap.decoder import Gpt2Decoder, Gpt2DecoderConfig, LoraConfig, SearchConfig, search

V, H, P, C, T, B = 40, 32, 4, 2, 6, 3
EVERY = LoraConfig(rank=3, alpha=6.0, dropout=0.0, targets=("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"))
SEARCH = SearchConfig(greedy_tokens=1, beams=3, max_new_tokens=6)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 as transformers writes it."""
    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=V, n_positions=48, n_embd=H, n_layer=2, n_head=2, initializer_range=0.3)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def decoder_of(stored: Path, lora: LoraConfig = EVERY, *, told: bool = True) -> Gpt2Decoder:
    """With `told`, adapters that say something, as after training."""
    torch.manual_seed(1)
    config = Gpt2DecoderConfig(weights=str(stored), dropout=0.0, lora=lora)
    decoder = config.build(V, bos=1, eos=2, pad=0).eval()
    if told:
        with torch.no_grad():
            for name, parameter in decoder.named_parameters():
                if ".lora_B." in name:
                    parameter.normal_(0, 0.3)
    return decoder


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(7)
    valid = torch.rand(B, P) > 0.4
    mask = torch.arange(T) < torch.randint(2, T + 1, (B, C, 1))
    return torch.randn(B, P, H) * valid[..., None], valid, torch.randint(3, V, (B, C, T)), mask


def test_fresh_adapters_change_nothing(stored: Path):
    plain, fresh = decoder_of(stored, LoraConfig()), decoder_of(stored, told=False)
    assert torch.equal(plain(*batch()), fresh(*batch()))


def test_adapted_matrices_are_w_plus_the_scaled_product(stored: Path):
    """By hand, through transformers' own forward."""
    decoder, plain = decoder_of(stored), decoder_of(stored, LoraConfig())
    factors = dict(decoder.named_parameters())
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            a, b = (factors.get(f"{name.removesuffix('.weight')}.lora_{side}.default.weight") for side in "AB")
            if a is not None and b is not None:
                parameter += (6.0 / 3) * (b @ a).T  # Conv1D computes x W
    given = batch()
    assert not torch.allclose(plain(*given), decoder_of(stored, LoraConfig())(*given), atol=1e-2)
    torch.testing.assert_close(decoder(*given), plain(*given), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("targets", [("attn.c_attn",), ("mlp.c_fc", "attn.c_proj"), EVERY.targets])
def test_merged_says_the_same_without_adapters(stored: Path, targets: tuple[str, ...]):
    decoder = decoder_of(stored, replace(EVERY, targets=targets))
    before = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    merged, given = decoder.merged(), batch()
    assert not [name for name in merged.state_dict() if "lora" in name]
    torch.testing.assert_close(merged(*given), decoder(*given), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in decoder.state_dict().items())


def test_search_with_adapters_is_that_of_the_merged_decoder(stored: Path):
    decoder, (prefix, valid, *_) = decoder_of(stored), batch()
    found, merged, plain = (
        search(d.incremental(), prefix, valid, SEARCH)
        for d in (decoder, decoder.merged(), decoder_of(stored, LoraConfig()))
    )
    assert torch.equal(found.tokens, merged.tokens)
    assert torch.equal(found.log_probs, merged.log_probs)
    assert found.tokens.tolist() != plain.tokens.tolist()
    said = torch.arange(found.tokens.shape[2]) < found.lengths[..., None]
    told, real = F.pad(found.tokens, (1, 0), value=1), F.pad(said, (1, 0), value=True)
    losses = decoder.token_losses(prefix, valid, told, real)  # unmerged
    torch.testing.assert_close(found.log_probs, -losses, rtol=1e-4, atol=1e-5)


def test_a_decoder_without_adapters_is_its_own_merged_one(stored: Path):
    decoder = decoder_of(stored, LoraConfig())
    assert decoder.merged() is decoder
    assert {id(p) for p in decoder.trained()} == {id(p) for p in decoder.parameters()}


def test_gradient_reaches_every_adapter_and_nothing_else(stored: Path):
    decoder = decoder_of(stored)
    adapters = {id(parameter) for parameter in decoder.trained()}
    assert len(adapters) == 2 * 4 * 2  # A and B, four matrices, two blocks
    decoder.loss(*batch()).backward()
    for name, parameter in decoder.named_parameters():
        if id(parameter) in adapters:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert not parameter.requires_grad, name


def test_adapters_alone_learn(stored: Path):
    decoder, given = decoder_of(stored, told=False), batch()
    frozen = {n: p.clone() for n, p in decoder.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW(decoder.trained(), lr=2e-2)
    start = decoder.loss(*given).item()
    for _ in range(30):
        optimizer.zero_grad()
        decoder.loss(*given).backward()
        optimizer.step()
    assert decoder.loss(*given).item() < 0.7 * start
    assert all(torch.equal(p, frozen[n]) for n, p in decoder.named_parameters() if n in frozen)


def test_saved_decoder_is_a_plain_gpt2_that_says_the_same(stored: Path, tmp_path: Path):
    decoder, given = decoder_of(stored), batch()
    decoder.save(tmp_path)
    GPT2LMHeadModel.from_pretrained(tmp_path)
    again = Gpt2DecoderConfig(weights=str(tmp_path), dropout=0.0).build(V, bos=1, eos=2, pad=0).eval()
    torch.testing.assert_close(again(*given), decoder(*given), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", [{"rank": 2}, {"alpha": 1.0}, {"dropout": 0.5}, {"targets": ("attn.c_attn",)}])
def test_every_field_is_read(stored: Path, change: dict[str, object]):
    def outcome(lora: LoraConfig) -> Tensor:
        decoder = decoder_of(stored, lora).train()
        torch.manual_seed(3)
        return decoder(*batch())

    assert not torch.equal(outcome(replace(EVERY, **change)), outcome(EVERY))


def test_bad_input_is_named(stored: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match=r"decoder\.lora\.rank must not be negative, got -1"):
        LoraConfig(rank=-1)
    with pytest.raises(ValueError, match=r"decoder\.lora\.alpha must be positive, got 0"):
        LoraConfig(alpha=0.0)
    with pytest.raises(ValueError, match=r"decoder\.lora\.dropout must be in \[0, 1\), got 1"):
        LoraConfig(dropout=1.0)
    with pytest.raises(ValueError, match=r"decoder\.lora\.targets must name one matrix or more, each once"):
        LoraConfig(targets=())
    with pytest.raises(ValueError, match=r"decoder\.lora\.rank is 4, .*decoder\.weights"):
        Gpt2DecoderConfig(lora=LoraConfig(rank=4))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"decoder\.lora needs peft: pip install 'regioncap-decoder\[lora\]'"):
        decoder_of(stored)
