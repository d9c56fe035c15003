"""A checkpoint's captions scored on a split: the only place that can name the test split."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from regioncap.decoder import SearchConfig
from regioncap.experiments.cache import cache_folder
from regioncap.experiments.checkpoint import load_checkpoint
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.data.sources import read_data
from regioncap.experiments.features import FeaturesSource
from regioncap.experiments.generate import generate_over
from regioncap.experiments.metrics import MetricsConfig, Scores
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
    """JSON file for corpus and per-image scores."""
    cache: Path = field(default_factory=cache_folder)
    """Where features are kept."""
    features: Path | None = None
    """A folder that `regioncap extract` wrote, to read features from instead."""
    metrics: MetricsConfig = field(default_factory=MetricsConfig)


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
        images = read_data(source, options.cache).split(options.split)
        for image in images:
            if not image.captions:
                raise DataError(f"{image.path} has no caption to be scored against")
        encoders = experiment.encoders.build()
        source_of_features = FeaturesSource(cache=options.cache, store=options.features)
        store, _ = source_of_features.open(images, encoders.image, options.split)
        parts = generate_over(
            checkpoint.captioner, store, checkpoint.tokenizer, search or experiment.search, describe="caption images"
        )
        texts = [text for part in parts for text in part.texts]
        captions = {image.name: text for image, text in zip(images, texts, strict=True)}
        scores = scorer.score({image.name: image.captions for image in images}, captions, progress=True)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_scores(options.out, scores, captions, images)
    return scores
