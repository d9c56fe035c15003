"""What steering does on dev: how often an edit is heeded, and what it costs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regioncap.encoders.store import FeatureStore
from regioncap.experiments.cache import cache_folder
from regioncap.experiments.checkpoint import Checkpoint, load_checkpoint, weights_digest
from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.data.sources import read_data
from regioncap.experiments.evaluate import DataFolder
from regioncap.experiments.features import FeaturesSource
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.metrics import CaptionScorer, MetricsConfig
from regioncap.experiments.prepare import dev_split
from regioncap.experiments.progress import track
from regioncap.experiments.scoring.whole_file import write_whole
from regioncap.experiments.statistics import paired_bootstrap
from regioncap.experiments.steering.edits import steering_of
from regioncap.experiments.steering.lookup import check_steerable
from regioncap.experiments.steering.measure_report import plot, table
from regioncap.experiments.steering.trials import Trial, Trials

_BATCH = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSteeringOptions:
    """Which edits are measured, and on what."""

    out: Path
    """Folder for steering.json, steering.md and steering.png."""
    data: DataFolder = field(default_factory=DataFolder)
    images: int = 200
    """Images of dev, drawn with the seed; 0 takes them all."""
    strengths: tuple[float, ...] = (2.0, 4.0, 6.0, 8.0)
    """Strengths of the edits."""
    seed: int = 0
    """Draws images and words."""
    cache: Path = field(default_factory=cache_folder)
    """Where features are kept."""
    features: Path | None = None
    """A folder that `regioncap extract` wrote, to read features from instead."""
    metrics: MetricsConfig = field(default_factory=MetricsConfig)

    def __post_init__(self) -> None:
        if self.images < 0:
            raise ValueError(f"images must be at least 0 (all), got {self.images}")
        if not self.strengths or min(self.strengths) <= 0:
            raise ValueError(f"strengths must be positive, and one at least, got {self.strengths}")


def measure_steering(folder: Path, options: MeasureSteeringOptions) -> list[dict[str, Any]]:
    """Edit captions of dev one word at a time, and write how often the edit is heeded and the CIDEr before and after.

    CIDEr is over the images of a row, with the document frequencies of all images; p is the paired bootstrap's. Raises
    SteeringError for a checkpoint that cannot be steered, CheckpointError or DataError naming what cannot be used.
    """
    checkpoint = load_checkpoint(folder)
    check_steerable(checkpoint)
    source = checkpoint.experiment.data
    source = source if options.data.root is None else replace(source, root=options.data.root)
    data = read_data(source, options.cache)
    features = FeaturesSource(cache=options.cache, store=options.features)
    store, images = features.open(
        data.split(dev_split(data)), checkpoint.experiment.encoders.build().image, dev_split(data)
    )
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(options.seed))
    rows = rows[: options.images or None].sort().values
    run = _Run(checkpoint, store, images, rows, options)
    with options.metrics.build() as scorer:
        results = run.results(scorer)
    about = {
        "checkpoint": weights_digest(folder),
        "preset": checkpoint.experiment.preset,
        "images": len(rows),
        "seed": options.seed,
        "CIDEr": 100 * sum(run.before_scores.values()) / len(rows),
    }
    text = table(results, about)
    write_whole(options.out / "steering.json", json.dumps({"about": about, "rows": results, "trials": run.told}))
    write_whole(options.out / "steering.md", text)
    plot(results, options.out / "steering.png")
    return results


class _Run:
    """The captions without edits, and every kind of edit on them."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        store: FeatureStore,
        images: Sequence[CaptionedImage],
        rows: Tensor,
        options: MeasureSteeringOptions,
    ) -> None:
        self._store, self._options = store, options
        self._parts = rows.split(_BATCH)
        self._images = {images[row].name: images[row] for row in rows.tolist()}
        self._names = [[images[row].name for row in part.tolist()] for part in self._parts]
        self._trials = Trials(checkpoint.captioner, checkpoint.tokenizer, options.seed)
        search = replace(checkpoint.experiment.search, method="beam", captions=1, diversity=0.0)
        self._generator = CaptionGenerator(checkpoint.captioner, checkpoint.tokenizer, search)
        self.before: dict[str, str] = {}
        self.before_scores: dict[str, float] = {}
        self.told: dict[str, list[dict[str, Any]]] = {}
        """What was drawn, and the captions, by kind."""

    def results(self, scorer: CaptionScorer) -> list[dict[str, Any]]:
        """A row for each kind and strength; of what is dropped also for true and for false words apart."""
        trials = self._draw()
        self.before_scores = self._scores(scorer, {})
        jobs = [(kind, strength) for kind in Trials.KINDS if trials[kind] for strength in self._options.strengths]
        found = []
        for kind, strength in track(jobs, description="steer captions", total=len(jobs)):
            after = self._steered(trials[kind], strength)
            scores = self._scores(scorer, after)
            for name, own in _groups(kind, list(trials[kind].values())):
                found.append(self._row(name, strength, own, after, scores))
            for told in self.told[kind]:
                told["after"][str(strength)] = after[told["image"]]
        order = list(dict.fromkeys(row["edit"] for row in found))
        return sorted(found, key=lambda row: order.index(row["edit"]))

    def _draw(self) -> dict[str, dict[str, Trial]]:
        trials: dict[str, dict[str, Trial]] = {kind: {} for kind in Trials.KINDS}
        for rows, names in zip(self._parts, self._names, strict=True):
            before = self._generator(self._store.images(rows), names)
            self.before |= dict(zip(names, before.texts, strict=True))
            for kind in Trials.KINDS:
                drawn = [self._trials.of(kind, before, at, self._images[name]) for at, name in enumerate(names)]
                trials[kind] |= {trial.image: trial for trial in drawn if trial is not None}
        self.told = {
            kind: [
                {"image": own.image, "word": own.word, "true": own.true, "before": self.before[own.image], "after": {}}
                for own in drawn.values()
            ]
            for kind, drawn in trials.items()
        }
        return trials

    def _steered(self, trials: Mapping[str, Trial], strength: float) -> dict[str, str]:
        """Captions with the edits, of the pictures that have one."""
        after: dict[str, str] = {}
        for rows, names in zip(self._parts, self._names, strict=True):
            kept = [at for at, name in enumerate(names) if name in trials]
            if not kept:
                continue
            own = [names[at] for at in kept]
            images = self._store.images(rows[kept])
            slots = images.regions.valid.shape[1]
            steering = steering_of([trials[name].sheet for name in own], strength, slots)
            after |= dict(zip(own, self._generator(images, own, steering).texts, strict=True))
        return after

    def _scores(self, scorer: CaptionScorer, after: Mapping[str, str]) -> dict[str, float]:
        references = {name: image.captions for name, image in self._images.items()}
        return scorer.score(references, {**self.before, **after}, ("CIDEr",)).of("CIDEr")

    def _row(
        self,
        name: str,
        strength: float,
        trials: Sequence[Trial],
        after: Mapping[str, str],
        scores: Mapping[str, float],
    ) -> dict[str, Any]:
        own = [trial.image for trial in trials]
        with_edit, without = ({image: of[image] for image in own} for of in (scores, self.before_scores))
        said = [
            sum(self._trials.says(captions[trial.image], trial.word) for trial in trials) / len(trials)
            for captions in (self.before, after)
        ]
        return {
            "edit": name,
            "strength": strength,
            "images": len(own),
            "said_without": said[0],
            "said_with": said[1],
            "CIDEr_without": 100 * sum(without.values()) / len(own),
            "CIDEr_with": 100 * sum(with_edit.values()) / len(own),
            "p": paired_bootstrap([with_edit], [without]),
        }


def _groups(kind: str, trials: list[Trial]) -> list[tuple[str, list[Trial]]]:
    if kind != "drop":
        return [(kind, trials)]
    parts = {
        "drop true word": [own for own in trials if own.true],
        "drop false word": [own for own in trials if not own.true],
    }
    return [(kind, trials), *((name, own) for name, own in parts.items() if own)]
