"""Captions for anybody's pictures."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro

from regioncap.decoder import SearchConfig
from regioncap.experiments.checkpoint import load_checkpoint
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.pictures import draw, records
from regioncap.experiments.progress import track
from regioncap.experiments.steering.compare import steering_lines
from regioncap.experiments.steering.options import SteeringOptions
from regioncap.experiments.steering.steer import caption_batch, steerer_of

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionOptions:
    """Where captions go."""

    out: Path | None = None
    """JSON lines, one a picture: image, caption, score, confidence, tokens' probabilities, other captions, scene and
    detail words with weights, and what edits did to them. None prints captions."""
    n: int = 1
    """Captions of each picture that differ, best first: by beams that avoid each other (`--search.diversity`, 1 unless
    given), or, with `--search.method sample`, drawn."""
    overlay: Path | None = None
    """Folder for a picture of each image with its regions, the graph's edges and the chosen words."""
    steering: Annotated[SteeringOptions, tyro.conf.arg(name="")] = field(default_factory=SteeringOptions)


def caption(
    folder: Path, paths: Sequence[Path], options: CaptionOptions, search: SearchConfig | None = None
) -> list[str]:
    """Caption files and the pictures in folders with the checkpoint in `folder`; its own `search` unless one is given.

    A file that does not decode is reported and left out; the reports are returned, one line each.
    Raises DataError if a path does not exist or no picture is found.
    """
    files = list(picture_files(paths))
    checkpoint = load_checkpoint(folder)
    encoders = checkpoint.experiment.encoders.build()
    steerer, checkpoint = steerer_of(options.steering, checkpoint, encoders.keywords)
    captioner, encoder = checkpoint.captioner, encoders.image
    search = (search or checkpoint.experiment.search).several(options.n)
    generator = CaptionGenerator(captioner, checkpoint.tokenizer, search)
    problems: list[str] = []
    lines: list[str] = []
    names = overlay_names(files)
    starts = range(0, len(files), _BATCH)
    for start in track(starts, description="caption images", total=len(starts)):
        batch, pixels = [], []
        for file in files[start : start + _BATCH]:
            try:
                pixels.append(encoder.load(file))
                batch.append(file)
            except ValueError as error:
                problems.append(str(error))
        if not batch:
            continue
        with torch.inference_mode():
            images = encoder(*(torch.stack(column) for column in zip(*pixels, strict=True)))
        captioned = caption_batch(generator, images, [file.name for file in batch], steerer)
        generated = captioned.generated
        for at, (file, record) in enumerate(zip(batch, records(captioner, generated), strict=True)):
            edited = captioned.record(captioner, at)
            lines.append(json.dumps({"image": str(file), **record, **edited}, ensure_ascii=False))
            if options.out is None and edited:
                print("\n".join([str(file), *steering_lines(edited["steering"])]))
            elif options.out is None:
                for text in (record["caption"], *(other["caption"] for other in record["alternatives"])):
                    print(f"{file}\t{text}")
        if options.overlay is not None:
            options.overlay.mkdir(parents=True, exist_ok=True)
            draw(captioner, generated, batch, [options.overlay / names[file] for file in batch])
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        partial = options.out.with_name(options.out.name + ".partial")
        partial.write_text("".join(line + "\n" for line in lines))
        partial.rename(options.out)
    return problems


def picture_files(paths: Sequence[Path]) -> Iterable[Path]:
    """The files, and the pictures in the folders. Raises DataError for a path that does not exist or holds none."""
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            if not found:
                raise DataError(f"{path} holds no picture; wanted files ending in {', '.join(sorted(SUFFIXES))}")
            yield from found
        elif path.is_file():
            yield path
        else:
            raise DataError(f"{path}: no such file or folder")


def overlay_names(files: Sequence[Path]) -> dict[Path, str]:
    """A file name for each overlay: the picture's own, with a number where two folders hold the same name."""
    names: dict[Path, str] = {}
    used: set[str] = set()
    for file in files:
        name, number = f"{file.stem}.png", 2
        while name in used:
            name, number = f"{file.stem}_{number}.png", number + 1
        used.add(name)
        names[file] = name
    return names
