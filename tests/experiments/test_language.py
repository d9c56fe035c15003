from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from regioncap.decoder import CaptionTokenizer, Gpt2Decoder, Gpt2DecoderConfig
from regioncap.experiments import language
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.language import LanguageConfig, load_language

SHAPE = Gpt2DecoderConfig(layers=1, heads=2, width=16, positions=48, dropout=0.0)


@pytest.fixture
def tokenizer(captions: Sequence[str]) -> CaptionTokenizer:
    return CaptionTokenizer.train(captions, min_count=1)


@pytest.fixture
def text(captions: Sequence[str], tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("\n".join(captions) + "\n\n")
    return file


@pytest.fixture
def learn(tokenizer: CaptionTokenizer, captions: Sequence[str], tmp_path: Path) -> Callable[..., Path | None]:
    def weights(config: LanguageConfig, decoder: Gpt2DecoderConfig = SHAPE) -> Path | None:
        return config.weights(decoder, tokenizer, captions, tmp_path / "cache")

    return weights


def loss(decoder: Gpt2Decoder, tokenizer: CaptionTokenizer, captions: Sequence[str]) -> float:
    encoded = tokenizer.encode(captions, max_tokens=32)
    n = len(captions)
    with torch.no_grad():
        return (
            decoder.eval()
            .loss(
                torch.zeros(n, 0, 16),
                torch.zeros(n, 0, dtype=torch.bool),
                encoded.tokens[:, None],
                encoded.mask[:, None],
            )
            .item()
        )


def test_decoder_speaks_the_language_better_afterwards(
    learn: Callable[..., Path], text: Path, tokenizer: CaptionTokenizer, captions: Sequence[str]
) -> None:
    file = learn(LanguageConfig(captions=text, steps=40, batch=16, lr=1e-2))
    torch.manual_seed(0)
    decoder = SHAPE.build(len(tokenizer), bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad)
    before = loss(decoder, tokenizer, captions)
    decoder.load_state_dict(load_language(file))
    assert loss(decoder, tokenizer, captions) < before - 1  # ln(vocabulary) is 4.8


def test_weights_are_made_once_for_the_same_settings(
    learn: Callable[..., Path], text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LanguageConfig(captions=text, steps=2, batch=4)
    first = learn(config)

    def never(*arguments: object) -> None:
        raise AssertionError("learned again")

    monkeypatch.setattr(language, "learn_language", never)
    assert learn(config) == first
    for other, decoder in [
        (LanguageConfig(captions=text, steps=3, batch=4), SHAPE),
        (config, Gpt2DecoderConfig(layers=2, heads=2, width=16, positions=48)),
    ]:
        with pytest.raises(AssertionError, match="learned again"):
            learn(other, decoder)
    text.write_text(text.read_text() + "another line\n")
    with pytest.raises(AssertionError, match="learned again"):
        learn(config)


def test_caption_files_of_data_sets_are_read_without_their_names(
    learn: Callable[..., Path], text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text.write_text("one.jpg#0\tA red house .\n\nplain line\n")
    seen: list[Sequence[str]] = []

    def spy(config: object, decoder: object, tokenizer: object, captions: Sequence[str]) -> dict[str, torch.Tensor]:
        seen.append(captions)
        return {"x": torch.zeros(1)}

    monkeypatch.setattr(language, "learn_language", spy)
    learn(LanguageConfig(captions=text))
    assert seen == [["A red house .", "plain line"]]


def test_missing_and_empty_files_are_named(learn: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: no such file; --language\.captions wants a text file"):
        learn(LanguageConfig(captions=tmp_path / "none.txt"))
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    with pytest.raises(DataError, match=r"empty\.txt holds no caption"):
        learn(LanguageConfig(captions=empty))


def test_null_stage_has_no_weights(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    assert LanguageConfig().weights(SHAPE, tokenizer, (), tmp_path) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fields", [{"steps": 0}, {"batch": 0}, {"lr": 0.0}])
def test_settings_out_of_range_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"language\.steps and \.batch must be at least 1 and \.lr positive"):
        LanguageConfig(captions=Path("x"), **fields)  # type: ignore[arg-type]
