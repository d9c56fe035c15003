"""What it takes to read COCO's captions: the first time, when every picture is hashed, and every time after.

    python benchmarks/bench_data.py --pictures 123287

Pictures are 1 KB of bytes of their own each, so what hashing 20 GB takes, about a second a gigabyte, comes on top; the
captions file has the size of COCO's. CPU seconds, which other work on the machine changes less than wall-clock time.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro

from regioncap.experiments.data.coco_captions import CocoConfig
from regioncap.experiments.data.sources import read_data


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure on."""

    pictures: int = 123287
    """Pictures in all, a twentieth of them in each of val and test."""


def main() -> None:
    """Print a line for each of the two."""
    options = tyro.cli(Options)
    folder = Path(tempfile.mkdtemp())
    try:
        write(folder, options.pictures)
        source = CocoConfig(root=folder, sizes="any")
        for name, run in (
            ("captions and files alone", lambda: source.read()),
            ("the first time", lambda: read_data(source, folder / "cache")),
            ("again", lambda: read_data(source, folder / "cache")),
        ):
            cpu, wall = timed(run)
            print(f"{name}: {cpu:.1f} CPU s, {wall:.1f} s", flush=True)
    finally:
        shutil.rmtree(folder)


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall-clock seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def write(root: Path, count: int) -> None:
    """A folder in COCO's layout, its files settled long ago."""
    images = []
    (root / "val2014").mkdir()
    for number in range(count):
        name = f"COCO_val2014_{number:012}.jpg"
        path = root / "val2014" / name
        path.write_bytes(f"{number:08}".encode() * 128)
        os.utime(path, (1_000_000_000, 1_000_000_000))
        text = f"A man is riding a wave on top of a surfboard, number {number}."
        sentences = [{"tokens": text.lower().split(), "raw": text, "imgid": number, "sentid": k} for k in range(5)]
        split = {0: "val", 1: "test"}.get(number % 20, "train")
        images.append({"filepath": "val2014", "filename": name, "split": split, "sentences": sentences})
    (root / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))


if __name__ == "__main__":
    main()
