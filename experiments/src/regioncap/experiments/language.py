"""Language before images: the decoder's first training, on text alone.

The paper's GPT-2 comes with its language learned; a small one that starts from random weights can learn it from a
file of captions of other pictures. There are two doors to it: `regioncap pretrain-decoder` makes a folder for
`--decoder.weights`, and `--language.captions` makes the same on the way to a study, with the study's own tokenizer.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from regioncap.decoder import CaptionTokenizer, Gpt2DecoderConfig
from regioncap.encoders.quiet import quiet_transformers
from regioncap.experiments.config_io import to_dict
from regioncap.experiments.data.caption_text import CaptionText, read_caption_text, refuse_leaks
from regioncap.experiments.language_training import LanguageTrainingConfig, Report, train_language
from regioncap.experiments.vocabulary import VocabularyConfig, tokenizer_key

RECORD = "pretraining.json"
"""Perplexities, and what the decoder was trained on; written last, so that a folder which has it is complete."""
_PICTURES = "pretraining_images.txt"
_TRAINING = "training"
_SETTINGS = "settings.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageConfig(LanguageTrainingConfig):
    """Next-word prediction on captions of other pictures, before any image is seen."""

    captions: Path | None = None
    """Text file, a caption a line (`name.jpg#k<TAB>caption` is read too), .jsonl or .csv. None: the decoder starts from
    random weights, or from `decoder.weights`, and learns its language with the images."""

    def weights(
        self,
        decoder: Gpt2DecoderConfig,
        tokenizer: CaptionTokenizer,
        vocabulary: VocabularyConfig,
        splits: Mapping[str, Set[str]],
        cache: Path,
    ) -> Path | None:
        """A file for `load_language`, made now unless `cache` holds it already; None without captions.

        Captions are cut as `vocabulary` says; `splits` are the names of a study's pictures. Raises DataError if the
        file is missing, holds no caption, or holds some of a picture that is scored.
        """
        if self.captions is None:
            return None
        text = read_caption_text(self.captions)
        refuse_leaks(str(self.captions), text.names, splits)
        settings = _settings(self, decoder, tokenizer, vocabulary.max_tokens, text)
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:20]
        folder = cache / "language" / key
        learn_language(self, decoder, tokenizer, vocabulary.max_tokens, text, folder)
        return folder / "model.safetensors"


def learn_language(
    config: LanguageTrainingConfig,
    decoder: Gpt2DecoderConfig,
    tokenizer: CaptionTokenizer,
    max_tokens: int,
    text: CaptionText,
    folder: Path,
    report: Report = lambda step, values: None,
) -> Mapping[str, Any]:
    """Train a decoder on a text, into a folder for `decoder.weights`; returns the folder's record.

    config.json, model.safetensors, tokenizer.json: transformers' formats. pretraining.json: the record. A folder that
    is complete is read, one that a killed call left is gone on with. Raises ValueError if it was made with other
    settings, or holds something else.
    """
    settings = _settings(config, decoder, tokenizer, max_tokens, text)
    if (folder / RECORD).is_file():
        record: Mapping[str, Any] = json.loads((folder / RECORD).read_text())
        _refuse_other_settings(folder, record["settings"], settings)
        return record
    training = folder / _TRAINING
    if (training / _SETTINGS).is_file():
        _refuse_other_settings(folder, json.loads((training / _SETTINGS).read_text()), settings)
    else:
        if (folder / "config.json").exists():
            raise ValueError(f"{folder} holds a model that was not made here: choose another --out")
        training.mkdir(parents=True, exist_ok=True)
        _write_whole(training / _SETTINGS, json.dumps(settings, indent=1))
    learn, held_out = text.split(config.held_out, config.seed)
    result = train_language(config, decoder, tokenizer, max_tokens, learn, held_out, training / "state.pt", report)
    with quiet_transformers():
        result.decoder.save(folder)
    tokenizer.save(folder)
    (folder / _PICTURES).write_text("".join(f"{name}\n" for name in sorted(text.names)))
    record = {
        "perplexity": {"before": asdict(result.before), "after": asdict(result.after)},
        "best_step": result.best_step,
        "steps": result.steps,
        "cpu_s": round(result.cpu_s, 1),
        "parameters": sum(parameter.numel() for parameter in result.decoder.parameters()),
        "vocabulary": len(tokenizer),
        "captions": {"learned": len(learn), "held_out": len(held_out), "pictures": len(text.names)},
        "history": list(result.history),
        "settings": settings,
    }
    _write_whole(folder / RECORD, json.dumps(record, indent=1))
    shutil.rmtree(training)
    return record


def load_language(file: Path) -> Mapping[str, Tensor]:
    """The file of `LanguageConfig.weights` as a `Gpt2Decoder`'s state."""
    stored = {f"model.{name}": tensor for name, tensor in load_file(file).items()}
    return {"model.lm_head.weight": stored["model.transformer.wte.weight"]} | stored  # tied, so stored once


def refuse_leaked_weights(weights: str | None, splits: Mapping[str, Set[str]]) -> None:
    """Refuse a folder of `learn_language` whose text was about pictures that a study scores. Raises DataError."""
    pictures = None if weights is None else Path(weights) / _PICTURES
    if pictures is not None and pictures.is_file():
        refuse_leaks(f"the text that {weights} learned from", set(pictures.read_text().split("\n")), splits)


def _settings(
    config: LanguageTrainingConfig,
    decoder: Gpt2DecoderConfig,
    tokenizer: CaptionTokenizer,
    max_tokens: int,
    text: CaptionText,
) -> dict[str, Any]:
    """All that decides which weights come out. The decoder's `word_bias` does not: text alone tells it nothing."""
    training = {name: getattr(config, name) for name in LanguageTrainingConfig.__dataclass_fields__}
    return {
        "language": training,
        "decoder": {name: value for name, value in to_dict(decoder).items() if name != "word_bias"},
        "tokenizer": tokenizer_key(tokenizer),
        "vocabulary.max_tokens": max_tokens,
        "text_sha256": text.sha256,
    }


def _refuse_other_settings(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        pairs = value.items() if isinstance(value, dict) else [("", value)]
        for field, now in pairs:
            was = found[name].get(field) if field else found.get(name)
            if was != now:
                dotted = f"{name}.{field}" if field else name
                raise ValueError(
                    f"{folder} was made with {dotted} {was}, now it is {now}: choose another --out, remove the folder, "
                    "or give what it was made with"
                )


def _write_whole(file: Path, text: str) -> None:
    """A file that is there is complete."""
    partial = file.with_name(file.name + ".partial")
    partial.write_text(text)
    partial.replace(file)
