"""`regioncap score`: files in; table, JSON, CSV and page out."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from regioncap.experiments.metrics import METRICS, MeasuresConfig, MetricsConfig
from regioncap.experiments.scoring.compare import Comparison, System, compare, metrics_to_score
from regioncap.experiments.scoring.export import comparison_json, per_image_csv
from regioncap.experiments.scoring.formats import training_captions
from regioncap.experiments.scoring.gallery import PictureFolder
from regioncap.experiments.scoring.page import page_html
from regioncap.experiments.scoring.read import CaptionSets, read_captions
from regioncap.experiments.scoring.table import print_comparison, table_latex, table_markdown, warnings
from regioncap.experiments.scoring.whole_file import check_target, write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions:
    """Score caption files of any systems on the same images, side by side."""

    predictions: tuple[Path, ...]
    """A file a system: COCO results [{"image_id", "caption"}] or JSON lines {"image", "caption"}."""
    references: Path | None = None
    """COCO annotations, Karpathy's JSON, or JSON lines {"image", "references"}. None takes the references that the
    first file of predictions holds beside its captions."""
    split: str | None = None
    """Split of Karpathy's JSON: test (None), val, train or restval."""
    subset: bool = False
    """Score only the images that the predictions name, instead of asking for one of every image."""
    names: tuple[str, ...] = ()
    """What to call the systems; without it, after their files."""
    metrics: tuple[str, ...] = ()
    """Which metrics, such as CIDEr SPICE BLEU-4 (bleu is all four); none given: all."""
    against: str | None = None
    """System that the others are compared with; None is the first."""
    per_image: Path | None = None
    """CSV file for the scores of every image."""
    html: Path | None = None
    """HTML file with table, distributions and the captions on which the systems differ most."""
    images: Path | None = None
    """Folder with the pictures, for the HTML file and for CLIPScore."""
    training: Path | None = None
    """Captions that the systems were trained on, in a format of the references: novelty is the share of others."""
    html_images: int = 200
    """Images at most in the HTML file; 0 leaves them out."""
    markdown: Path | None = None
    """Markdown file for the table."""
    latex: Path | None = None
    """LaTeX file for the table (booktabs)."""
    json: bool = False
    """Print JSON on standard output, and nothing else there."""
    samples: int = 10_000
    """Bootstrap resamples of the images."""
    seed: int = 0
    """Seed of the resamples and of the HTML file's random order."""
    scorer: Annotated[MetricsConfig, tyro.conf.arg(name="metrics")] = field(default_factory=MetricsConfig)
    measures: MeasuresConfig = field(default_factory=MeasuresConfig)

    def __post_init__(self) -> None:
        if not self.predictions:
            raise ValueError("--predictions wants a file of captions at the least, got none")
        if self.samples < 1:
            raise ValueError(f"--samples must be at least 1, got {self.samples}")
        if self.html_images < 0:
            raise ValueError(f"--html-images must be at least 0, got {self.html_images}")
        judged = self.measures.clip_score.weights is not None
        if self.images is not None and self.html is None and not judged:
            raise ValueError("--images is for the HTML file: name that with --html FILE")
        if judged and self.images is None:
            raise ValueError("--measures.clip-score.weights judges pictures: name their folder with --images DIR")


def score(options: ScoreOptions) -> Comparison:
    """Read, score, compare, print, and write what was asked for.

    Raises ValueError (CaptionFileError where a file is to blame) before anything is computed if the input cannot be
    scored, and JavaWorkerError if METEOR or SPICE fails.
    """
    names = system_names(options.predictions, options.names)
    if options.against is not None and options.against not in names:
        raise ValueError(f"--against: no system '{options.against}'; there are {', '.join(names)}")
    metrics = choose_metrics(options.metrics)
    for target in (options.per_image, options.html, options.markdown, options.latex):
        if target is not None:
            check_target(target)
    folder = PictureFolder(options.images) if options.images else None
    measuring = options.measures.build(training_captions(options.training) if options.training else None)
    # Progress goes the way of the warnings: what is printed is the result alone.
    with redirect_stdout(sys.stderr), options.scorer.build() as scorer:
        wanted = metrics_to_score(metrics)
        scorer.warm_up(wanted)
        sets = read_captions(options.references, options.predictions, split=options.split, subset=options.subset)
        pictures = _files(sets, folder)
        systems = [
            System(
                name=name,
                file=file,
                captions=captions,
                scores=replace(
                    scorer.score(sets.references, captions, wanted, progress=True),
                    measures=measuring.measure(captions, sets.references, pictures, progress=True),
                ),
            )
            for name, file, captions in zip(names, options.predictions, sets.captions, strict=True)
        ]
    comparison = compare(
        sets.references,
        systems,
        metrics=metrics,
        baseline=names.index(options.against) if options.against else 0,
        samples=options.samples,
        seed=options.seed,
    )
    _write(comparison, options, sets, folder)
    return comparison


def _files(sets: CaptionSets, folder: PictureFolder | None) -> dict[str, Path]:
    """Image -> file of its picture, for the images whose picture is there."""
    if folder is None:
        return {}
    return {image: file for image, name in sets.pictures.items() if (file := folder.find(name)) is not None}


def system_names(files: Sequence[Path], given: Sequence[str] = ()) -> tuple[str, ...]:
    """What to call the systems: as `given`, else by the shortest ends of their paths that tell them apart.

    Raises ValueError if names are too few, too many, or not different.
    """
    if given:
        if len(given) != len(files):
            raise ValueError(f"--names must be one a file of predictions: got {len(given)} for {len(files)}")
        if len(set(given)) < len(given):
            raise ValueError(f"--names must differ, got {' '.join(given)}")
        return tuple(given)
    if len({file.resolve() for file in files}) < len(files):
        raise ValueError("--predictions names a file twice; give every system's file once")
    paths = [file.resolve().with_suffix("").parts for file in files]
    for length in range(1, max(map(len, paths)) + 1):
        names = tuple("/".join(path[-length:]) for path in paths)
        if len(set(names)) == len(names):
            return names
    return tuple(str(file) for file in files)


def choose_metrics(asked: Sequence[str]) -> tuple[str, ...]:
    """Metrics by name in the order of METRICS, whatever the case and the hyphens. Raises ValueError for an unknown."""
    if not asked:
        return METRICS
    known: dict[str, tuple[str, ...]] = {_plain(metric): (metric,) for metric in METRICS}
    known["spiceparts"] = ("SPICE",)  # they come with it
    known |= {"bleu": tuple(m for m in METRICS if m.startswith("BLEU")), "rouge": ("ROUGE-L",)}
    chosen: set[str] = set()
    for name in asked:
        if _plain(name) not in known:
            raise ValueError(f"--metrics: no metric '{name}'; there are {', '.join(METRICS)}")
        chosen |= set(known[_plain(name)])
    return tuple(metric for metric in METRICS if metric in chosen)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _write(comparison: Comparison, options: ScoreOptions, sets: CaptionSets, folder: PictureFolder | None) -> None:
    references = options.references or options.predictions[0]
    for warning in warnings(comparison):
        print(f"regioncap: warning: {warning}", file=sys.stderr)
    if options.json:
        print(comparison_json(comparison, str(references)), end="")
    else:
        print_comparison(comparison, f"{references}: {len(comparison.references):,} images", Console())
    if options.per_image:
        write_whole(options.per_image, per_image_csv(comparison))
    if options.markdown:
        write_whole(options.markdown, table_markdown(comparison))
    if options.latex:
        write_whole(options.latex, table_latex(comparison))
    if options.html:
        page = page_html(
            comparison,
            references=references.name,
            pictures=sets.pictures,
            folder=folder,
            images=options.html_images,
            seed=options.seed,
        )
        write_whole(options.html, page)
