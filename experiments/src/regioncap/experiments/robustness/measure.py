"""Caption every picture clean and changed, by every captioner, and say how much of its score each keeps."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from regioncap.encoders import ImageEncoder
from regioncap.encoders.images import read_image
from regioncap.encoders.store import FeatureStore
from regioncap.experiments.cache import cache_folder
from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.data.sources import read_data
from regioncap.experiments.evaluate import DataFolder
from regioncap.experiments.features import encode
from regioncap.experiments.kept_captions import caption_all
from regioncap.experiments.metrics import METRICS, MetricsConfig
from regioncap.experiments.peers.evaluate import data_in
from regioncap.experiments.prepare import dev_split
from regioncap.experiments.progress import track
from regioncap.experiments.robustness.corruptions import CORRUPTIONS, LEVELS, corrupt
from regioncap.experiments.robustness.figures import draw_curves, draw_worst
from regioncap.experiments.robustness.results import CLEAN, Measured, Results
from regioncap.experiments.robustness.subjects import Subject, Subjects, load_subjects

Name = Literal["occlusion", "blur", "noise", "jpeg", "brightness", "crop", "rotation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessOptions:
    """Which changes, and on what."""

    out: Path
    """Folder of robustness.json, robustness.md and the figures. Captions are kept there batch by batch: a run that was
    interrupted goes on with the same command, and one that asks for more adds to them."""
    data: DataFolder = field(default_factory=DataFolder)
    corruptions: tuple[Name, ...] = ("occlusion", "blur", "noise", "jpeg", "brightness", "crop", "rotation")
    levels: tuple[int, ...] = LEVELS
    """Strengths by number, 1 to 5."""
    images: int = 200
    """Pictures of dev, evenly spread over it; 0 takes them all."""
    scores: tuple[str, ...] = ("BLEU-4", "ROUGE-L", "CIDEr")
    """Metrics of the table, CIDEr among them: the curves are of it."""
    worst: int = 2
    """Pictures shown of each corruption: those whose CIDEr falls most at its highest strength."""
    cache: Path = field(default_factory=cache_folder)
    """Where scenes are kept. Features of changed pictures are not."""
    metrics: MetricsConfig = field(default_factory=MetricsConfig)

    def __post_init__(self) -> None:
        if not self.corruptions or not self.levels or not set(self.levels) <= set(LEVELS):
            raise ValueError(
                f"corruptions must name one at least and levels some of {', '.join(map(str, LEVELS))}, got "
                f"{', '.join(self.corruptions) or 'none'} and {', '.join(map(str, self.levels)) or 'none'}"
            )
        unknown = sorted(set(self.scores) - set(METRICS))
        if unknown or "CIDEr" not in self.scores:
            raise ValueError(
                f"scores must be some of {', '.join(METRICS)}, CIDEr among them, got {', '.join(self.scores) or 'none'}"
            )
        if self.images < 0 or self.images == 1 or self.worst < 0:
            raise ValueError(f"images must be 0 or at least 2 and worst at least 0, got {self.images} and {self.worst}")

    @property
    def conditions(self) -> tuple[tuple[str, int], ...]:
        """Corruption and level, the clean pictures first."""
        levels = sorted(set(self.levels))
        return ((CLEAN, 0), *((name, level) for name in CORRUPTIONS if name in self.corruptions for level in levels))


def measure_robustness(names: Sequence[str], options: RobustnessOptions) -> Results:
    """Write what is left of every captioner's scores into `options.out`. `names` as in `load_subjects`.

    Clean pictures go the same way as changed ones (decoded, written, encoded), and encoders see the changed pixels.
    Dev alone: a choice may rest on this. Raises CheckpointError, DataError or ValueError naming what cannot be used.
    """
    loaded = load_subjects(names)
    images = _images(loaded, options)
    with options.metrics.build() as scorer:
        scorer.warm_up(options.scores)
        captions = _caption(loaded.subjects, images, options)
        references = {image.name: image.captions for image in images}
        measured = []
        for (subject, corruption, level), said in track(
            captions.items(), description="score captions", total=len(captions)
        ):
            scores = scorer.score(references, said, options.scores)
            strength = CORRUPTIONS[corruption].strengths[level - 1] if level else 0.0
            measured.append(
                Measured(
                    subject=subject,
                    corruption=corruption,
                    level=level,
                    strength=strength,
                    scores=scores.corpus,
                    cider=scores.of("CIDEr"),
                    captions=said,
                )
            )
    results = Results.of_measured(measured, {image.name: image.path for image in images})
    results.write(options.out)
    draw_curves(results, options.out)
    if options.worst:
        draw_worst(results, options.out, options.worst)
    return results


def _images(loaded: Subjects, options: RobustnessOptions) -> tuple[CaptionedImage, ...]:
    """The pictures, from the layout that the first checkpoint was trained on."""
    if loaded.checkpoints:
        kinds = sorted({type(checkpoint.experiment.data).__name__ for checkpoint in loaded.checkpoints})
        if len(kinds) > 1:
            raise ValueError(
                f"the checkpoints were trained on data of several kinds ({', '.join(kinds)}): pictures that one was "
                "trained on may be another's dev, so measure them apart"
            )
        source = loaded.checkpoints[0].experiment.data
        data = read_data(
            source if options.data.root is None else replace(source, root=options.data.root), options.cache
        )
    else:
        data = data_in(options.data.root)
    every = data.split(dev_split(data))
    count = min(options.images or len(every), len(every))
    return tuple(every[at * len(every) // count] for at in range(count))


def _caption(
    subjects: Sequence[Subject], images: Sequence[CaptionedImage], options: RobustnessOptions
) -> dict[tuple[str, str, int], Mapping[str, str]]:
    """(captioner, corruption, level) -> image -> caption."""
    pictures_are = hashlib.sha256(json.dumps([(i.name, i.path.stat().st_size) for i in images]).encode()).hexdigest()
    captions: dict[tuple[str, str, int], Mapping[str, str]] = {}
    for corruption, level in track(options.conditions, description="robustness", total=len(options.conditions)):
        changed = ChangedPictures(images, corruption, level, options.out / "pictures")
        for subject in subjects:
            captions[subject.name, corruption, level] = caption_all(
                {image.name: row for row, image in enumerate(images)},
                subject.of(changed),
                options.out / "captions" / f"{corruption} {level}" / f"{subject.name.replace('/', '_')}.jsonl",
                {**subject.maker, "corruption": corruption, "level": level, "pictures": pictures_are},
                describe=f"{corruption} {level}, {subject.name}",
            )
        changed.remove()
    return captions


class ChangedPictures:
    """The pictures of one condition, on disk only while they are needed."""

    def __init__(self, images: Sequence[CaptionedImage], corruption: str, level: int, folder: Path) -> None:
        self._images, self._corruption, self._level, self._folder = images, corruption, level, folder
        self._files: list[Path] = []
        self._stores: dict[str, FeatureStore] = {}

    def files(self) -> Sequence[Path]:
        """The pictures as PNG, which loses nothing."""
        if not self._files:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            what = f"{self._corruption} {self._level}, change pictures"
            for number, image in enumerate(track(self._images, description=what, total=len(self._images))):
                picture = read_image(image.path)
                if self._level:
                    strength = CORRUPTIONS[self._corruption].strengths[self._level - 1]
                    picture = corrupt(picture, self._corruption, strength, image.name)
                file = self._folder / f"{number}.png"
                picture.save(file, compress_level=1)
                self._files.append(file)
        return self._files

    def features(self, key: str, encoder: ImageEncoder) -> FeatureStore:
        """What an encoder sees in them, stored as `evaluate` has it."""
        if key not in self._stores:
            pictures = [replace(image, path=file) for image, file in zip(self._images, self.files(), strict=True)]
            what = f"{self._corruption} {self._level}"
            self._stores[key] = encode(pictures, encoder, self._folder / f"features{len(self._stores)}", what)
        return self._stores[key]

    def remove(self) -> None:
        """Free the disk."""
        self._stores.clear()
        shutil.rmtree(self._folder, ignore_errors=True)
