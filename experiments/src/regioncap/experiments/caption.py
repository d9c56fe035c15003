"""Captions for anybody's pictures."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from regioncap.decoder import SearchConfig
from regioncap.experiments.checkpoint import load_checkpoint
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.pictures import draw, records
from regioncap.experiments.progress import track

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionOptions:
    """Where captions go."""

    out: Path | None = None
    """JSON lines, one a picture: image, caption, score, confidence, tokens' probabilities, other captions, scene and
    detail words with weights. None prints captions."""
    n: int = 1
    """Captions of each picture that differ, best first: by beams that avoid each other (`--search.diversity`, 1 unless
    given), or, with `--search.method sample`, drawn."""
    overlay: Path | None = None
    """Folder for a picture of each image with its regions, the graph's edges and the chosen words."""


def caption(
    folder: Path, paths: Sequence[Path], options: CaptionOptions, search: SearchConfig | None = None
) -> list[str]:
    """Caption files and the pictures in folders with the checkpoint in `folder`; its own `search` unless one is given.

    A file that does not decode is reported and left out; the reports are returned, one line each.
    Raises DataError if a path does not exist or no picture is found.
    """
    files = list(_files(paths))
    checkpoint = load_checkpoint(folder)
    encoder = checkpoint.experiment.encoders.build().image
    search = (search or checkpoint.experiment.search).several(options.n)
    generator = CaptionGenerator(checkpoint.captioner, checkpoint.tokenizer, search)
    problems: list[str] = []
    lines: list[str] = []
    names = _overlay_names(files)
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
        generated = generator(images, [file.name for file in batch])
        for file, record in zip(batch, records(checkpoint.captioner, generated), strict=True):
            lines.append(json.dumps({"image": str(file), **record}, ensure_ascii=False))
            if options.out is None:
                for text in (record["caption"], *(other["caption"] for other in record["alternatives"])):
                    print(f"{file}\t{text}")
        if options.overlay is not None:
            options.overlay.mkdir(parents=True, exist_ok=True)
            draw(checkpoint.captioner, generated, batch, [options.overlay / names[file] for file in batch])
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        partial = options.out.with_name(options.out.name + ".partial")
        partial.write_text("".join(line + "\n" for line in lines))
        partial.rename(options.out)
    return problems


def _files(paths: Sequence[Path]) -> Iterable[Path]:
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


def _overlay_names(files: Sequence[Path]) -> dict[Path, str]:
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
