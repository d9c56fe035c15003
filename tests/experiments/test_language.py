import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel

from regioncap.decoder import CaptionTokenizer, GatedWordBiasConfig, Gpt2DecoderConfig, stored_tokenizer, train_words
from regioncap.experiments import language
from regioncap.experiments.data.caption_text import CaptionText, read_caption_text
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.language import LanguageConfig, learn_language, load_language, refuse_leaked_weights
from regioncap.experiments.language_training import LanguageTrainingConfig
from regioncap.experiments.vocabulary import VocabularyConfig

SHAPE = Gpt2DecoderConfig(layers=1, heads=2, width=16, positions=48, dropout=0.1)
SHORT = LanguageTrainingConfig(steps=30, batch=8, lr=1e-2, evaluations=6, held_out=0.2)
SPLITS = {"train": {"t.jpg"}, "dev": {"d.jpg"}}


@pytest.fixture
def tokenizer(captions: Sequence[str]) -> CaptionTokenizer:
    return train_words(captions, min_count=1)


@pytest.fixture
def text(captions: Sequence[str], tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("".join(f"{i // 3}.jpg#{i % 3}\t{caption}\n" for i, caption in enumerate(captions)))
    return file


@pytest.fixture
def learn(tokenizer: CaptionTokenizer, text: Path) -> Callable[..., dict[str, Any]]:
    """`learn_language` into a folder."""

    def run(folder: Path, config: LanguageTrainingConfig = SHORT, decoder: Gpt2DecoderConfig = SHAPE) -> Any:
        return learn_language(config, decoder, tokenizer, 24, read_caption_text(text), folder)

    return run


@pytest.fixture
def weights(tokenizer: CaptionTokenizer, tmp_path: Path) -> Callable[..., Path | None]:
    """The study's door."""

    def run(config: LanguageConfig, decoder: Gpt2DecoderConfig = SHAPE) -> Path | None:
        return config.weights(decoder, tokenizer, VocabularyConfig(max_tokens=24), SPLITS, tmp_path / "cache")

    return run


# The folder


def test_folder_is_a_decoder_with_its_tokenizer_and_a_record(
    learn: Callable[..., Any], tokenizer: CaptionTokenizer, text: Path, tmp_path: Path
) -> None:
    record = learn(tmp_path / "out")
    assert record == json.loads((tmp_path / "out" / "pretraining.json").read_text())
    read = stored_tokenizer(str(tmp_path / "out"))
    assert read.words == tokenizer.words
    config = Gpt2DecoderConfig(weights=str(tmp_path / "out"), dropout=0.0)
    decoder = config.build(len(read), bos=read.bos, eos=read.eos, pad=read.pad)
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in decoder.model.state_dict().items())
    assert (decoder.width, decoder.positions) == (16, 48)
    assert record["perplexity"]["after"]["word"] < record["perplexity"]["before"]["word"] / 2
    assert record["captions"] == {"learned": 96, "held_out": 24, "pictures": 40}
    assert record["vocabulary"] == len(tokenizer)
    assert record["parameters"] == sum(p.numel() for p in decoder.parameters())
    assert record["settings"]["text_sha256"] == read_caption_text(text).sha256
    assert not (tmp_path / "out" / "training").exists()


def test_complete_folder_is_not_made_again(
    learn: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = learn(tmp_path / "out")
    monkeypatch.setattr(language, "train_language", lambda *arguments: pytest.fail("learned again"))
    assert learn(tmp_path / "out") == first
    assert learn(tmp_path / "out", decoder=replace(SHAPE, word_bias=GatedWordBiasConfig())) == first  # text knows none


@pytest.mark.parametrize("complete", [True, False])
def test_folder_of_other_settings_is_refused_with_the_setting(
    learn: Callable[..., Any], text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complete: bool
) -> None:
    if complete:
        learn(tmp_path / "out")
    else:
        with monkeypatch.context() as patch:
            patch.setattr(language, "train_language", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                learn(tmp_path / "out")
    for config, decoder, said in (
        (replace(SHORT, lr=0.5), SHAPE, r"out was made with language\.lr 0\.01, now it is 0\.5: choose another --out"),
        (SHORT, replace(SHAPE, layers=2), r"out was made with decoder\.layers 1, now it is 2"),
    ):
        with pytest.raises(ValueError, match=said):
            learn(tmp_path / "out", config, decoder)
    text.write_text(text.read_text() + "another line\n")
    with pytest.raises(ValueError, match="out was made with text_sha256"):
        learn(tmp_path / "out")


def _interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_somebody_elses_model_is_not_written_over(learn: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="out holds a model that was not made here: choose another --out"):
        learn(tmp_path / "out")
    assert (tmp_path / "out" / "config.json").read_text() == "{}"


@pytest.mark.parametrize("moment", ["training/settings.json", "training/state.pt.partial", "training/state.pt"])
def test_killed_process_is_gone_on_with_to_the_very_same_weights(
    learn: Callable[..., Any], tmp_path: Path, moment: str
) -> None:
    config = replace(SHORT, steps=120, evaluations=12)
    whole = learn(tmp_path / "whole", config)
    folder = tmp_path / "killed"
    for _ in range(2):  # killed twice
        child = multiprocessing.get_context("fork").Process(target=learn, args=(folder, config))
        child.start()
        while not (folder / moment).exists() and child.is_alive():
            time.sleep(0.0005)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert not (folder / "pretraining.json").exists()
    again = learn(folder, config)
    assert again["history"] == whole["history"]
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (folder / "training").exists()


# The study's door


def test_both_doors_give_the_same_decoder(
    learn: Callable[..., Any], weights: Callable[..., Path], tokenizer: CaptionTokenizer, text: Path, tmp_path: Path
) -> None:
    learn(tmp_path / "out")
    fields = {name: getattr(SHORT, name) for name in ("steps", "batch", "lr", "evaluations", "held_out")}
    state = load_language(weights(LanguageConfig(captions=text, **fields)))
    config = Gpt2DecoderConfig(weights=str(tmp_path / "out"))
    decoder = config.build(len(tokenizer), bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad)
    assert state.keys() == decoder.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in decoder.state_dict().items())
    decoder.load_state_dict(state)


def test_weights_are_made_once_for_the_same_settings(
    weights: Callable[..., Path], text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LanguageConfig(captions=text, steps=2, batch=4, evaluations=1)
    first = weights(config)

    def never(*arguments: object) -> None:
        raise AssertionError("learned again")

    monkeypatch.setattr(language, "train_language", never)
    assert weights(config) == first
    for other, decoder in [(replace(config, steps=3), SHAPE), (config, replace(SHAPE, layers=2))]:
        with pytest.raises(AssertionError, match="learned again"):
            weights(other, decoder)
    text.write_text(text.read_text() + "another line\n")
    with pytest.raises(AssertionError, match="learned again"):
        weights(config)


def test_text_about_scored_pictures_is_refused_at_both_doors(
    learn: Callable[..., Any], weights: Callable[..., Path], text: Path, tmp_path: Path
) -> None:
    text.write_text(text.read_text() + "d.jpg#0\ta dog\nt.jpg#0\ta cat\n")
    with pytest.raises(DataError, match=r"text\.txt holds captions of 1 of the dev split's 1 pictures.*'d\.jpg'"):
        weights(LanguageConfig(captions=text))
    learn(tmp_path / "out")  # knows of no splits
    with pytest.raises(DataError, match=r"text that .*out learned from holds captions of 1 of the dev split's"):
        refuse_leaked_weights(str(tmp_path / "out"), SPLITS)
    refuse_leaked_weights(str(tmp_path / "out"), {"train": {"t.jpg"}, "dev": {"e.jpg"}})
    refuse_leaked_weights(None, SPLITS)
    refuse_leaked_weights("hub/name", SPLITS)


def test_missing_file_is_named(weights: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt does not exist; wanted a text file"):
        weights(LanguageConfig(captions=tmp_path / "none.txt"))


def test_null_stage_has_no_weights(weights: Callable[..., Path | None], tmp_path: Path) -> None:
    assert weights(LanguageConfig()) is None
    assert not (tmp_path / "cache").exists()


def test_names_in_a_text_are_all_kept_for_the_check(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    """Held-out pictures too: they decide which weights are kept."""
    text = CaptionText(images=("a.jpg", "b.jpg", None), captions=("a", "b", "c"), sha256="x")
    learn_language(replace(SHORT, steps=1, evaluations=1), SHAPE, tokenizer, 24, text, tmp_path / "out")
    assert (tmp_path / "out" / "pretraining_images.txt").read_text() == "a.jpg\nb.jpg\n"
