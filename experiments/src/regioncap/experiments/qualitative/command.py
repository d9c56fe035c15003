"""`regioncap figures`: runs in; a figure of photographs, references and captions out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from regioncap.experiments.comparing.pictures import RunPictures
from regioncap.experiments.comparing.runs import Run, known_references, read_run, run_names
from regioncap.experiments.qualitative.choose import Choice, Order, choose, gain
from regioncap.experiments.qualitative.figure import Line, Panel, draw_figure
from regioncap.experiments.scoring.whole_file import check_target

_FORMATS = (".png", ".pdf", ".svg")


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresOptions:
    """What the figure shows, and where it goes."""

    out: tuple[Path, ...] = (Path("captions.png"),)
    """Files to write: .png, .pdf or .svg."""
    order: Order = "random"
    """random; gain or loss: where the last run gains or loses most over the first; change: half of each; best or worst:
    by the last run's own scores."""
    count: int = 6
    """Images."""
    seed: int = 0
    """Seed of the random order."""
    metric: str = "CIDEr"
    """By which gains are told."""
    truth: int = 2
    """References shown of each image."""
    columns: int = 3
    """Images side by side."""
    names: tuple[str, ...] = ()
    """What to call the runs, such as OFA Ours; without it, after their folders."""
    references: Path | None = None
    """COCO annotations, Karpathy's JSON, or JSON lines {"image", "references"}; None takes those that the study or
    `regioncap evaluate` kept."""
    images: Path | None = None
    """Folder of the photographs; None takes them from where the study found them."""

    def __post_init__(self) -> None:
        wrong = [file for file in self.out if file.suffix.lower() not in _FORMATS]
        if wrong or not self.out:
            raise ValueError(
                f"--out must be files that end in {', '.join(_FORMATS)}, got {wrong[0] if wrong else 'none'}"
            )
        for flag, value in (("--count", self.count), ("--columns", self.columns)):
            if value < 1:
                raise ValueError(f"{flag} must be at least 1, got {value}")
        if self.truth < 0:
            raise ValueError(f"--truth must be at least 0, got {self.truth}")


def make_figure(places: Sequence[Path], options: FiguresOptions) -> Choice:
    """Choose images, draw them and write the files; returns what was chosen.

    Raises ValueError if no run is named, names are not one a run, references are not known, or no picture is found.
    """
    if not places:
        raise ValueError("regioncap figures wants one run or more, such as an arm's folder of a study; got none")
    if options.names and len(options.names) != len(places):
        raise ValueError(f"--names must be one a run: got {len(options.names)} for {len(places)}")
    for target in options.out:
        check_target(target)
    names = options.names or run_names(places)
    runs = [read_run(place, name) for place, name in zip(places, names, strict=True)]
    known = sorted(set.intersection(*(set(run.metrics) for run in runs)))
    if options.metric not in known:
        raise ValueError(f"--metric must be one of {', '.join(known)}, got {options.metric!r}")
    references = known_references(runs, options.references)
    if not references:
        raise ValueError(f"{places[0]} does not tell the references of its images: add --references FILE")
    choice = choose(runs, order=options.order, metric=options.metric, count=options.count, seed=options.seed)
    pictures = RunPictures(tuple(runs), options.images)
    panels = [_panel(runs, name, references[name], pictures, options) for name in choice.images]
    if all(panel.picture is None for panel in panels):
        raise ValueError(f"no picture of {places[0]} is where it was, such as '{choice.images[0]}': add --images DIR")
    draw_figure(panels, _foot(runs, choice, options), options.out, columns=options.columns)
    return choice


def _panel(
    runs: Sequence[Run], name: str, references: Sequence[str], pictures: RunPictures, options: FiguresOptions
) -> Panel:
    metric = options.metric
    return Panel(
        picture=pictures.find(name),
        name=name,
        gain=f"{metric} {100 * gain(runs, name, metric):+.1f}" if len(runs) > 1 else "",
        truth=tuple(references[: options.truth]),
        references=tuple(references),
        lines=tuple(
            Line(
                label=run.name,
                text=run.seeds[0].captions[name],
                score=f"{100 * run.seeds[0].scores.per_image[name][metric]:.1f}",
            )
            for run in runs
        ),
    )


def _foot(runs: Sequence[Run], choice: Choice, options: FiguresOptions) -> str:
    parts = [f"{choice.says}."]
    if any(len(run.seeds) > 1 for run in runs):
        shown = ", ".join(f"{run.name} seed {run.numbers[0]} of {len(run.seeds)}" for run in runs if len(run.seeds) > 1)
        parts.append(f"Captions: {shown}.")
    parts.append(f"GT: {options.truth} of each image's references." if options.truth else "")
    parts.append(f"Figures: {options.metric} of the caption, in percent.")
    parts.append("Underlined: content words that no reference of the image has; they need not be wrong.")
    return " ".join(filter(None, parts))
