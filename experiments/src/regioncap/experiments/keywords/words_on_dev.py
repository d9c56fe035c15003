"""How often a trained captioner's guidance finds the words that people use of dev's images and their regions."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from regioncap.experiments.cache import cache_folder
from regioncap.experiments.checkpoint import load_checkpoint
from regioncap.experiments.data.boxed_phrases import read_boxed_phrases
from regioncap.experiments.data.entity_folder import entity_folder
from regioncap.experiments.data.entity_phrases import FILE
from regioncap.experiments.data.sources import read_data
from regioncap.experiments.evaluate import DataFolder
from regioncap.experiments.features import FeaturesSource
from regioncap.experiments.keywords.measure import word_retrieval
from regioncap.experiments.prepare import dev_split


@dataclass(frozen=True, slots=True, kw_only=True)
class WordsOnDevOptions:
    """What retrieval is measured on."""

    data: DataFolder = field(default_factory=DataFolder)
    out: Path | None = None
    """A JSON file for the figures."""
    cache: Path = field(default_factory=cache_folder)
    """Where features are kept."""
    features: Path | None = None
    """A folder that `regioncap extract` wrote, to read features from instead."""


def words_on_dev(folder: Path, options: WordsOnDevOptions) -> dict[str, float]:
    """The figures of `word_retrieval` over dev; regions are measured where the data have boxes with phrases.

    Raises ValueError for a checkpoint without guidance, CheckpointError or DataError naming what cannot be used.
    """
    checkpoint = load_checkpoint(folder)
    source = checkpoint.experiment.data
    source = source if options.data.root is None else replace(source, root=options.data.root)
    data = read_data(source, options.cache)
    encoder = checkpoint.experiment.encoders.build().image
    features = FeaturesSource(cache=options.cache, store=options.features)
    store, images = features.open(data.split(dev_split(data)), encoder, dev_split(data))
    names = {image.name for image in images}
    entities = entity_folder(data, options.cache)
    phrases = read_boxed_phrases(entities, names, source.text.learned) if (entities / FILE).is_file() else None
    figures = word_retrieval(checkpoint.captioner, store, images, phrases)
    if not figures:
        raise ValueError(f"{folder} has no guidance, so there are no words to measure: give one of +graph+guidance")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def table_of(figures: dict[str, float]) -> str:
    """The figures in percent, a line for each kind of word."""
    depths = {"scene": 5, "detail": 5, "regions": 3}
    lines = ["words      of the first   right   of what could be   found of all said   any right"]
    for name, depth in depths.items():
        if f"{name}.precision_{depth}" not in figures:
            continue
        precision, ceiling = figures[f"{name}.precision_{depth}"], figures[f"{name}.ceiling_{depth}"]
        recall = figures.get(f"{name}.recall_{depth}")
        hit = figures.get(f"{name}.hit_{depth}")
        found = "-" if recall is None else f"{100 * recall:.1f}"
        any_right = "-" if hit is None else f"{100 * hit:.1f}"
        lines.append(
            f"{name:<10} {depth:>12} {100 * precision:>7.1f} {100 * ceiling:>18.1f} {found:>19} {any_right:>11}"
        )
    return "\n".join(lines)
