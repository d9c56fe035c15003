import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from regioncap.encoders import SmallBertConfig, TextEncoderConfig, build_small_bert

CAPTIONS = ["A red circle is above a blue square.", "a red square, and <num> circles!", "a green tree"]
TINY = SmallBertConfig(width=16, heads=2)


def build(folder, config=TINY, captions=CAPTIONS):
    build_small_bert(captions, config, folder)
    return load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())


def test_tokenizer_knows_the_captions_words(tmp_path):
    build(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("A RED square, <num> zebras.")["input_ids"])
    assert tokens == ["[CLS]", "a", "red", "square", "<num>", "[UNK]", "[SEP]"]
    assert tokenizer.pad_token_id == 0
    assert len(tokenizer) == 4 + 12


def test_order_of_captions_changes_nothing(tmp_path):
    build(tmp_path / "a")
    build(tmp_path / "b", captions=CAPTIONS[::-1])
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_weights_are_float16_and_small(tmp_path):
    weights, _ = build(tmp_path, SmallBertConfig())
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert (tmp_path / "model.safetensors").stat().st_size < 1_000_000


def test_random_state_is_kept(tmp_path):
    state = torch.get_rng_state()
    build(tmp_path)
    assert torch.equal(state, torch.get_rng_state())


def test_learns_to_tell_captions_apart(tmp_path):
    build(tmp_path)
    encoder = TextEncoderConfig(weights=str(tmp_path)).build()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    targets = torch.eye(3, 16)
    for _ in range(60):
        loss = (encoder(CAPTIONS) - targets).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01


def test_every_field_is_read(tmp_path):
    base = build(tmp_path)
    changes = {"layers": 1, "width": 32, "heads": 4, "positions": 20, "dropout": 0.1, "min_count": 2, "seed": 1}
    for field, value in changes.items():
        weights, config = build(tmp_path / field, replace(TINY, **{field: value}))
        same = config == base[1] and all(torch.equal(weights[k], v) for k, v in base[0].items())
        assert not same, field


def test_no_words_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"lower small_bert\.min_count"):
        build(tmp_path, replace(TINY, min_count=99))
    with pytest.raises(ValueError, match="no word occurs"):
        build(tmp_path, captions=["...", ""])


@pytest.mark.parametrize(
    "wrong",
    [{"layers": 0}, {"width": 0}, {"heads": 0}, {"heads": 3}, {"positions": 2}, {"dropout": 1.0}, {"min_count": 0}],
)
def test_bad_config_is_named(wrong):
    with pytest.raises(ValueError, match=rf"small_bert\.{next(iter(wrong))} must"):
        SmallBertConfig(**wrong)
