"""`regioncap pretrain-decoder`: from a caption file to a folder for `--decoder.weights`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro

from regioncap.decoder import Gpt2DecoderConfig
from regioncap.experiments.data.caption_text import read_caption_text, refuse_leaks
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.data.sources import PhotographSource
from regioncap.experiments.language import learn_language
from regioncap.experiments.language_training import LanguageTrainingConfig
from regioncap.experiments.tracking import StudyTracker
from regioncap.experiments.vocabulary import VocabularyConfig


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """Which text a decoder learns from, and which decoder."""

    captions: tyro.conf.Positional[Path]
    """Text file, a caption a line; `name.jpg#0<TAB>caption` keeps the captions of a picture together when text is held
    out. Also .jsonl with "caption" and "image", and .csv with columns of these names."""
    out: Path = Path("runs/decoder")
    """Folder to make: config.json, model.safetensors and tokenizer in transformers' formats, and pretraining.json."""
    data: PhotographSource = field(default_factory=Flickr8kConfig)
    """The photographs that are to be captioned: their training captions make the vocabulary, and text about their dev
    and test pictures is refused. Without, the text makes its own vocabulary. `--data KIND` for another kind than
    flickr8k."""
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    decoder: Gpt2DecoderConfig = field(default_factory=Gpt2DecoderConfig)
    """With `decoder.weights`, a stored GPT-2 and its tokenizer go on learning."""
    language: LanguageTrainingConfig = field(default_factory=LanguageTrainingConfig)


def pretrain_decoder(options: PretrainOptions) -> Mapping[str, Any]:
    """Make the folder, or go on with it; returns its record. Writes one MLflow run beside the folder.

    Raises DataError for files that cannot be used, ValueError for settings that cannot.
    """
    torch.set_num_threads(1)
    text = read_caption_text(options.captions)
    vocabulary_from, _ = text.split(options.language.held_out, options.language.seed)
    if options.data.root is not None:
        data = options.data.text.apply(options.data.read())
        refuse_leaks(str(options.captions), text.names, data.names)
        vocabulary_from = tuple(caption for image in data.split("train") for caption in image.captions)
    tokenizer = options.vocabulary.tokenizer(
        vocabulary_from, options.decoder.weights, numbers=options.data.text.numbers
    )
    tracker = StudyTracker(options.out, "regioncap-language")
    run = tracker.run("pretrain-decoder", options, title=options.out.resolve().name, kind="language")
    status = "FAILED"
    try:
        record = learn_language(
            options.language,
            options.decoder,
            tokenizer,
            options.vocabulary.max_tokens,
            text,
            options.out,
            lambda step, values: tracker.curve(run, step, values),
        )
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.end(run, status)
        tracker.close()
    return record
