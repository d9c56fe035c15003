"""A published captioner scored on a split, as `evaluate` scores our own."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from regioncap.decoder import SearchConfig
from regioncap.experiments.data.coco import read_coco
from regioncap.experiments.data.dataset import CaptionData, DataError
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.evaluate import DataFolder
from regioncap.experiments.kept_captions import caption_all
from regioncap.experiments.metrics import MeasuresConfig, MetricsConfig, Scores
from regioncap.experiments.peers.hf_captioner import HfCaptionerConfig
from regioncap.experiments.scores_file import write_scores


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerOptions:
    """What to score on."""

    data: DataFolder = field(default_factory=DataFolder)
    """A folder in Flickr8k's layout, or in COCO's (`annotations/`), such as a folder of scenes."""
    split: str = "dev"
    """Split of the data set, such as dev, val or test."""
    out: Path | None = None
    """JSON file for corpus and per-image scores. Captions are kept beside it until it is there, so that a run that was
    killed goes on with the same command."""
    batch_size: int = 16
    """Pictures captioned together."""
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    measures: MeasuresConfig = field(default_factory=MeasuresConfig)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


def evaluate_peer(weights: str, options: PeerOptions, search: SearchConfig) -> Scores:
    """Caption and score a split with the captioner of transformers in `weights`. Writes `options.out`.

    Raises ValueError or DataError naming the file that cannot be used.
    """
    with options.metrics.build() as scorer:
        scorer.warm_up()
        images = data_in(options.data.root).split(options.split)
        for image in images:
            if not image.captions:
                raise DataError(f"{image.path} has no caption to be scored against")
        measuring = options.measures.build()  # what it was trained on is not known, so novelty is left out
        captioner = HfCaptionerConfig(weights=weights, search=search).build()
        kept = None if options.out is None else options.out.with_name(f"{options.out.name}.captions")
        captions = caption_all(
            {image.name: image.path for image in images},
            captioner,
            kept,
            {**captioner.maker, "split": options.split},
            batch_size=options.batch_size,
        )
        references = {image.name: image.captions for image in images}
        measures = measuring.measure(captions, references, {i.name: i.path for i in images}, progress=True)
        scores = replace(scorer.score(references, captions, progress=True), measures=measures)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_scores(options.out, scores, captions)
    if kept is not None:
        kept.unlink(missing_ok=True)
    return scores


def data_in(root: Path | None) -> CaptionData:
    """The data set in a folder whose layout is to be seen there. Raises DataError naming what is missing."""
    if root is not None and (root / "annotations").is_dir():
        return read_coco(root, name=root.name)
    return Flickr8kConfig(root=root).read()
