"""Every kind of tokenizer, from the config to a captioner that speaks with it."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from regioncap.decoder import stored_tokenizer
from regioncap.experiments.checkpoint import load_checkpoint
from regioncap.experiments.config import Experiment
from regioncap.experiments.data.caption_form import CaptionFormConfig
from regioncap.experiments.data.dataset import CaptionData
from regioncap.experiments.encoders import Encoders
from regioncap.experiments.prepare import Prepared, open_prepared, prepare
from regioncap.experiments.vocabulary import VocabularyConfig, tokenizer_key

CAPTIONS = ("a dog and 3 cats", "the dog runs", "a dog")


@pytest.fixture(scope="session")
def stored_gpt2(tmp_path_factory: pytest.TempPathFactory, captions: Sequence[str]) -> Path:
    """A GPT-2 as OpenAI stored it, but small: byte-level pieces, one special token at the end of the vocabulary."""
    folder = tmp_path_factory.mktemp("gpt2") / "gpt2"
    folder.mkdir()
    pieces = ByteLevelBPETokenizer()
    pieces.train_from_iterator(captions, vocab_size=320, min_frequency=1, show_progress=False)
    pieces.save_model(str(folder))
    vocabulary = json.loads((folder / "vocab.json").read_text())
    end = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary | {"<|endoftext|>": end}))
    torch.manual_seed(3)
    shape = GPT2Config(
        vocab_size=end + 1, n_positions=80, n_embd=24, n_layer=2, n_head=2, bos_token_id=end, eos_token_id=end
    )
    GPT2LMHeadModel(shape).save_pretrained(folder)
    return folder


def test_kind_chooses_the_tokenizer_and_weights_bring_their_own(stored_gpt2: Path) -> None:
    words = VocabularyConfig(min_count=2).tokenizer(CAPTIONS, None)
    assert words.words[4:] == ("dog", "a")
    pieces = VocabularyConfig(kind="bpe", min_count=1, size=30).tokenizer(CAPTIONS, None, numbers=True)
    assert len(pieces) == 30
    assert pieces.normalise("3 dogs") == "<num> dogs"
    own = VocabularyConfig(kind="bpe").tokenizer(CAPTIONS, str(stored_gpt2))
    assert own.words == stored_tokenizer(str(stored_gpt2)).words
    assert len({tokenizer_key(each) for each in (words, pieces, own)}) == 3


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"min_count": 0}, r"vocabulary\.min_count and vocabulary\.max_tokens must be at least 1 and 2, got 0 and 32"),
        ({"max_tokens": 1}, r"must be at least 1 and 2, got 5 and 1"),
        ({"size": 0}, r"vocabulary\.size must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(fields: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        VocabularyConfig(**fields)


def test_prepared_inputs_know_their_tokenizer(
    tiny: Experiment, data: CaptionData, built: Encoders, prepared: Prepared, stored_gpt2: Path, cache: Path
) -> None:
    weights = replace(tiny.decoder, weights=str(stored_gpt2))
    folders = {prepared.folder}
    for experiment in (
        replace(tiny, vocabulary=replace(tiny.vocabulary, kind="bpe", size=80)),
        replace(tiny, vocabulary=replace(tiny.vocabulary, kind="bpe", size=90)),
        replace(tiny, data=replace(tiny.data, text=CaptionFormConfig(captions="normalised"))),
        replace(tiny, decoder=weights),
    ):
        found = prepare(experiment, data, built, cache)
        again = open_prepared(found.folder)
        caption = found.train_images[0].captions[0]
        said = found.tokenizer.decode(found.captions.tokens[0, 0])
        assert len(said) > 20
        assert found.tokenizer.normalise(caption).startswith(said)  # small pieces: 24 of them may not be all
        assert again.tokenizer.words == found.tokenizer.words
        folders.add(found.folder)
    assert len(folders) == 5
    assert prepare(replace(tiny, decoder=weights), data, built, cache).folder in folders


def test_another_tokenizer_at_the_same_place_is_noticed(
    tiny: Experiment, data: CaptionData, built: Encoders, stored_gpt2: Path, cache: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(stored_gpt2, tmp_path / "gpt2"))
    experiment = replace(tiny, decoder=replace(tiny.decoder, weights=str(folder)))
    first = prepare(experiment, data, built, cache)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    VocabularyConfig(min_count=1).tokenizer(CAPTIONS, None).save(folder)
    second = prepare(experiment, data, built, cache)
    assert first.folder != second.folder
    assert "zebra" not in second.tokenizer.words
    assert len(second.tokenizer) == 11


@pytest.mark.parametrize("kind", ["words with numbers", "bpe", "stored", "pre-trained"])
def test_captioner_trains_and_captions_with_every_kind(
    command: Callable[..., Any],
    flags: list[str],
    runs: Path,
    scenes_root: Path,
    stored_gpt2: Path,
    captions: Sequence[str],
    tmp_path: Path,
    kind: str,
) -> None:
    decoder = tmp_path / "decoder"
    match kind:
        case "words with numbers":
            more = ["--data.text.captions", "normalised"]
        case "bpe":
            more = ["--vocabulary.kind", "bpe", "--vocabulary.size", "80"]
        case "stored":
            shutil.copytree(stored_gpt2, decoder)
            more = ["--decoder.weights", str(decoder)]
        case _:
            text = tmp_path / "text.txt"
            text.write_text("\n".join(captions))
            small = ("--decoder.layers", 1, "--decoder.width", 32, "--language.steps", 4, "--language.batch", 8)
            done = command("pretrain-decoder", text, "--out", decoder, "--vocabulary.min-count", 1, *small)
            assert (done.status, done.err) == (0, "")
            assert f"--decoder.weights {decoder}" in done.out
            more = ["--decoder.weights", str(decoder)]
    out = runs / f"vocabulary {kind}"
    done = command("train", "scenes", "--arm", "+graph", "--out", out, *flags, *more)
    assert (done.status, done.err) == (0, "")
    shutil.rmtree(decoder, ignore_errors=True)  # the checkpoint needs it no longer
    checkpoint = load_checkpoint(out / "checkpoint")
    assert checkpoint.captioner.decoder.vocab_size == len(checkpoint.tokenizer)
    image = sorted((scenes_root / "images" / "val").iterdir())[0]
    done = command("caption", out / "checkpoint", image)
    assert (done.status, done.err) == (0, "")
    name, caption = done.out.rstrip("\n").split("\t")
    result = json.loads((out / "result.json").read_text())
    assert (name, caption) == (str(image), result["captions"][image.name])
    assert not any(mark in caption for mark in ("▁", "Ġ", "<pad>", "<unk>", "endoftext"))
