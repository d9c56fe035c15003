"""Runs as they lie on disk: one seed or several, with the images that they captioned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.metrics import METRICS, Scores
from regioncap.experiments.scores_file import SCORES, read_scores
from regioncap.experiments.scoring.formats import annotated_images, load
from regioncap.experiments.study_file import STUDY, read_study_file

_ABOVE = 3
"""Folders in which a study's file is looked for: a seed's, its arm's, the study's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedRun:
    """One training run's captions and what they scored."""

    seed: int
    file: Path
    scores: Scores
    captions: Mapping[str, str]
    """Image -> caption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One side of a comparison: the same captioner with one or more seeds, on the same images."""

    name: str
    place: Path
    """The file or folder that was named."""
    seeds: tuple[SeedRun, ...]
    """In the order of the seeds; at least one."""
    images: Mapping[str, CaptionedImage]
    """Image -> references and photograph; empty where nothing on disk tells them."""

    @property
    def names(self) -> tuple[str, ...]:
        """The images, in the order of the file."""
        return self.seeds[0].scores.images

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that every seed has."""
        return tuple(metric for metric in METRICS if all(metric in run.scores.corpus for run in self.seeds))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The seeds' numbers."""
        return tuple(run.seed for run in self.seeds)


def read_run(place: Path, name: str | None = None) -> Run:
    """A run from a file of scores, a folder that holds one, or an arm's folder with a folder a seed.

    References and photographs are taken from the file itself or from the `study.json` above it, where they cover every
    image. Raises ValueError with what there is to name instead.
    """
    files = _files(place)
    seeds, images = [], []
    for file in files:
        stored = read_scores(file)
        if not stored.captions:
            raise ValueError(f"{file} holds scores of no image; score the run again")
        seeds.append(SeedRun(seed=_number(file.parent.name), file=file, scores=stored.scores, captions=stored.captions))
        images.append(stored.images)
    for run in seeds[1:]:
        _same_images(seeds[0], run)
    known = {image.name: image for image in images[0] or _study_images(files[0])}
    whole = set(seeds[0].captions) <= set(known)
    return Run(
        name=name or default_name(place),
        place=place,
        seeds=tuple(seeds),
        images={image: known[image] for image in seeds[0].captions} if whole else {},
    )


def known_references(runs: Sequence[Run], file: Path | None) -> dict[str, tuple[str, ...]]:
    """Image -> references, from a file of COCO's, Karpathy's or JSON lines' format (whatever the split), else from what
    the first run that tells them was scored against; empty if none does.

    Raises ValueError if the file lacks an image's, CaptionFileError if it cannot be read.
    """
    names = runs[0].names
    if file is None:
        known = next((run.images for run in runs if run.images), {})
        return {name: known[name].captions for name in names if name in known}
    found = {image.name: image.references for image in annotated_images(load(file))}
    missing = [name for name in names if not found.get(name)]
    if missing:
        raise ValueError(f"--references {file} has none for '{missing[0]}' (and {len(missing) - 1} more images)")
    return {name: found[name] for name in names}


def run_names(places: Sequence[Path]) -> tuple[str, ...]:
    """Names that tell runs apart: arm and seed where these do, else the shortest ends of their paths."""
    names = tuple(default_name(place) for place in places)
    if len(set(names)) == len(names):
        return names
    parts = [place.resolve().parts for place in places]
    if len(set(parts)) < len(parts):
        raise ValueError(f"{places[0]} is named twice; give two different runs")
    for length in range(1, max(map(len, parts)) + 1):
        names = tuple("/".join(part[-length:]) for part in parts)
        if len(set(names)) == len(names):
            break
    return names


def default_name(place: Path) -> str:
    """What to call a run: after its arm, with the seed where one is named, else after its file or folder."""
    folder = place.resolve()
    if folder.name == SCORES:
        folder = folder.parent
    elif place.suffix == ".json":
        return folder.stem
    return f"{folder.parent.name} {folder.name}" if _is_seed(folder.name) else folder.name


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise ValueError(f"{place} is not there; want an arm's or a seed's folder of a study, or a file of scores")
    if (place / SCORES).is_file():
        return [place / SCORES]
    seeds = sorted((file.parent for file in place.glob(f"seed*/{SCORES}")), key=lambda folder: _number(folder.name))
    if seeds:
        return [folder / SCORES for folder in seeds]
    if place.name == "checkpoint":
        raise ValueError(
            f"{place} is a checkpoint: name {place.parent}, which holds its dev scores, or the file that "
            "`regioncap evaluate CHECKPOINT --split S --out FILE.json` writes"
        )
    arms = sorted({file.parent.parent.name for file in place.glob(f"*/seed*/{SCORES}")})
    arms += sorted(file.parent.name for file in place.glob(f"*/{SCORES}"))
    there = f"; it is a study: name an arm of it, of {', '.join(arms)}" if arms else ""
    raise ValueError(f"{place} holds no {SCORES}, its own or a seed's{there}")


def _study_images(file: Path) -> tuple[CaptionedImage, ...]:
    for folder in list(file.resolve().parents)[:_ABOVE]:
        if (folder / STUDY).is_file():
            study = read_study_file(folder)
            return tuple(
                CaptionedImage(name=name, path=study.pictures[name], captions=captions)
                for name, captions in study.references.items()
            )
    return ()


def _same_images(first: SeedRun, run: SeedRun) -> None:
    odd = sorted(set(first.captions) ^ set(run.captions))
    if odd:
        raise ValueError(
            f"{first.file} and {run.file} are of different images, such as '{odd[0]}' (of {len(odd)}); "
            "finish the study with --resume, or name one seed"
        )


def _is_seed(name: str) -> bool:
    return name.startswith("seed") and name.removeprefix("seed").isdigit()


def _number(name: str) -> int:
    return int(name.removeprefix("seed")) if _is_seed(name) else 0
