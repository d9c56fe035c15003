"""A checkpoint's captions scored on a split: the only place that can name the test split."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from regioncap.decoder import SearchConfig
from regioncap.encoders.store import FeatureStore
from regioncap.experiments.cache import cache_folder
from regioncap.experiments.checkpoint import Checkpoint, load_checkpoint, weights_digest
from regioncap.experiments.config_io import to_dict
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.data.sources import read_data
from regioncap.experiments.features import FeaturesSource
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.kept_captions import caption_all
from regioncap.experiments.metrics import MeasuresConfig, MetricsConfig, Scores
from regioncap.experiments.scores_file import write_scores


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFolder:
    """Which folder to read, in the layout of the data set that the checkpoint was trained on."""

    root: Path | None = None
    """None takes the folder that it was trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """What to score on."""

    data: DataFolder = field(default_factory=DataFolder)
    split: str = "dev"
    """Split of the data set, such as dev, val or test."""
    out: Path | None = None
    """JSON file for corpus and per-image scores. Captions are kept beside it until it is there, so that a run that was
    killed goes on with the same command."""
    cache: Path = field(default_factory=cache_folder)
    """Where features are kept."""
    features: Path | None = None
    """A folder that `regioncap extract` wrote, to read features from instead."""
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    measures: MeasuresConfig = field(default_factory=MeasuresConfig)


def evaluate(folder: Path, options: EvaluateOptions, search: SearchConfig | None = None) -> Scores:
    """Caption and score a split with the checkpoint in `folder`, by its own `search` unless one is given.

    Writes `options.out`.

    Raises CheckpointError or DataError naming the file that cannot be used.
    """
    checkpoint = load_checkpoint(folder)
    experiment = checkpoint.experiment
    source = experiment.data if options.data.root is None else replace(experiment.data, root=options.data.root)
    with options.metrics.build() as scorer:
        scorer.warm_up()
        data = read_data(source, options.cache)
        images = data.split(options.split)
        for image in images:
            if not image.captions:
                raise DataError(f"{image.path} has no caption to be scored against")
        training = [caption for image in data.splits.get("train", ()) for caption in image.captions]
        encoders = experiment.encoders.build()
        measuring = options.measures.build(training or None, encoders.image)
        source_of_features = FeaturesSource(cache=options.cache, store=options.features)
        store, _ = source_of_features.open(images, encoders.image, options.split)
        kept = None if options.out is None else options.out.with_name(f"{options.out.name}.captions")
        captions = _captions(checkpoint, store, search or experiment.search, kept, folder, options.split)
        references = {image.name: image.captions for image in images}
        pictures = {image.name: image.path for image in images}
        measures = measuring.measure(captions, references, pictures, progress=True)
        scores = replace(scorer.score(references, captions, progress=True), measures=measures)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_scores(options.out, scores, captions, images)
    if kept is not None:
        kept.unlink(missing_ok=True)
    return scores


def _captions(
    checkpoint: Checkpoint, store: FeatureStore, search: SearchConfig, kept: Path | None, folder: Path, split: str
) -> dict[str, str]:
    """Image -> caption, of all images of a store."""
    generator = CaptionGenerator(checkpoint.captioner, checkpoint.tokenizer, search)

    def caption(rows: Sequence[int]) -> Sequence[str]:
        return generator(store.images(torch.tensor(rows)), [store.names[row] for row in rows]).texts

    settings = json.dumps(to_dict(checkpoint.experiment), sort_keys=True)
    maker = {
        "weights": weights_digest(folder),
        "settings": hashlib.sha256(settings.encode()).hexdigest(),
        "search": to_dict(search),
        "split": split,
        "features": store.folder.name,  # ends with a digest of the encoder and of the pictures
    }
    return caption_all({name: row for row, name in enumerate(store.names)}, caption, kept, maker)
