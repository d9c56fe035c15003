"""`regioncap compare`: two runs in; table, page, Markdown, JSON and CSV out."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console

from regioncap.experiments.comparing.effects import RunComparison, compare_runs
from regioncap.experiments.comparing.page import as_systems, runs_page
from regioncap.experiments.comparing.pictures import RunPictures
from regioncap.experiments.comparing.runs import Run, known_references, read_run, run_names
from regioncap.experiments.comparing.table import print_runs, runs_markdown
from regioncap.experiments.metrics import BLEUS, MetricsConfig
from regioncap.experiments.progress import track
from regioncap.experiments.scoring.export import per_image_csv
from regioncap.experiments.scoring.measured import LEVEL
from regioncap.experiments.scoring.whole_file import check_target, write_whole

_SAME = 1e-6
"""How far BLEU from the references may lie from the stored one: files hold percent, to the last digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """How to compare two runs, and where the result goes."""

    names: tuple[str, ...] = ()
    """What to call the two; without it, after their folders."""
    metric: str = "CIDEr"
    """By which metric images are said to have changed most."""
    references: Path | None = None
    """COCO annotations, Karpathy's JSON, or JSON lines {"image", "references"}; None takes those that the study or
    `regioncap evaluate` kept."""
    images: Path | None = None
    """Folder of the photographs, for the page; None takes them from where the study found them."""
    html: Path | None = None
    """HTML file with table, distributions, and the captions that changed most beside their photographs."""
    html_images: int = 200
    """Images at most in the HTML file."""
    markdown: Path | None = None
    """Markdown file for the table and the images that changed most."""
    per_image: Path | None = None
    """CSV file for the scores of every image, means over seeds."""
    json: bool = False
    """Print JSON on standard output, and nothing else there."""
    shown: int = 5
    """Images printed with the largest gains, and with the largest losses."""
    samples: int = 10_000
    """Bootstrap resamples."""
    seed: int = 0
    """Seed of the resamples."""
    scorer: Annotated[MetricsConfig, tyro.conf.arg(name="metrics")] = field(default_factory=MetricsConfig)

    def __post_init__(self) -> None:
        if self.names and len(set(self.names)) != 2:
            raise ValueError(f"--names must be two different names, got {' '.join(self.names)}")
        if self.samples < 1:
            raise ValueError(f"--samples must be at least 1, got {self.samples}")
        for flag, value in (("--shown", self.shown), ("--html-images", self.html_images)):
            if value < 0:
                raise ValueError(f"{flag} must be at least 0, got {value}")


def compare_command(base: Path, run: Path, options: CompareOptions) -> RunComparison:
    """Read, compare, print, and write what was asked for.

    Raises ValueError if the runs cannot be compared, JavaWorkerError if the tokenizer that BLEU's interval needs fails.
    """
    for target in (options.html, options.markdown, options.per_image):
        if target is not None:
            check_target(target)
    names = options.names or run_names((base, run))
    runs = read_run(base, names[0]), read_run(run, names[1])
    references = known_references(runs, options.references)
    if options.html and not references:
        raise ValueError(f"--html shows captions beside references, which {base} does not tell: add --references FILE")
    pictures = RunPictures(runs, options.images)
    counts = _bleu_counts(runs, references, options.scorer) if references else None
    comparison = compare_runs(*runs, bleu_counts=counts, samples=options.samples, seed=options.seed)
    if options.metric not in comparison.effects:
        raise ValueError(f"--metric must be one of {', '.join(comparison.effects)}, got {options.metric!r}")
    if options.json:
        print(json.dumps(comparison_record(comparison), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_runs(comparison, options.metric, options.shown, Console())
    if options.markdown:
        write_whole(options.markdown, runs_markdown(comparison, options.metric, options.shown))
    if options.per_image:
        write_whole(options.per_image, per_image_csv(as_systems(comparison, references)))
    if options.html:
        source = options.references.name if options.references else "the runs' own data"
        write_whole(
            options.html, runs_page(comparison, references, pictures, source=source, images=options.html_images)
        )
    return comparison


def comparison_record(comparison: RunComparison) -> dict[str, Any]:
    """The comparison for other programs, in percent; p is a fraction."""
    return {
        "unit": "percent",
        "images": len(comparison.images),
        "base": _side(comparison.base),
        "run": _side(comparison.run),
        "bootstrap": {"samples": comparison.samples, "seed": comparison.seed, "level": LEVEL},
        "metrics": {
            metric: {
                "base": _percent(effect.base.values),
                "run": _percent(effect.run.values),
                "difference": _percent((effect.difference,))[0],
                "interval": _percent(effect.interval),
                "interval_over_seeds": _percent(effect.over_seeds),
                "by_seed": _percent(effect.by_seed),
                "p": effect.p,
                "per_image": asdict(effect.per_image),
            }
            for metric, effect in comparison.effects.items()
        },
        "missing": dict(comparison.missing),
    }


def _bleu_counts(
    runs: Sequence[Run], references: Mapping[str, Sequence[str]], config: MetricsConfig
) -> list[NDArray[np.float64]]:
    """BLEU's counts of every seed. Raises ValueError if the references give another BLEU than a run's file holds."""
    seeds = [own for run in runs for own in run.seeds]
    counts = []
    with redirect_stdout(sys.stderr), config.build() as scorer:
        for own in track(seeds, description="count n-grams", total=len(seeds)):
            if set(own.captions) != set(references):
                break  # of different images: the comparison says so
            scores = scorer.score(references, own.captions, BLEUS)
            for metric in BLEUS:
                stored = own.scores.corpus.get(metric)
                if stored is not None and abs(stored - scores.corpus[metric]) > _SAME:
                    raise ValueError(
                        f"{own.file} holds {metric} {100 * stored:.2f}, but against these references its captions get "
                        f"{100 * scores.corpus[metric]:.2f}: name those that it was scored against with --references"
                    )
            assert scores.bleu_counts is not None
            counts.append(scores.bleu_counts)
    return counts


def _side(run: Run) -> dict[str, Any]:
    return {"name": run.name, "place": str(run.place), "seeds": list(run.numbers)}


def _percent(values: Sequence[float] | None) -> Any:
    return None if values is None else [round(100 * value, 6) for value in values]
