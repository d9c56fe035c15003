"""From JPEG files to what the encoders take: decode, resize, normalise.

    pytest benchmarks/bench_preprocessing.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'

The files are made on the spot: 640x480, quality 90, about as many bytes as COCO's. `both` is the pipeline's: CLIP's
view by its own image processor and the detector's, squeezed to 224x224. `threads` is wall time of a batch decoded in a
pool, all else is CPU time of one thread.
"""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from regioncap.encoders import load_image
from regioncap.experiments.benchmarking import table2, table2_stages
from regioncap.experiments.benchmarking.case import Case, Work, run_case
from regioncap.experiments.benchmarking.measure import CLOCK
from regioncap.experiments.benchmarking.scaling import along

STAGE = "preprocessing"
AHEAD = 32
"""Photographs that threads share."""


def squeezed(images: int, side: int) -> Work:
    """For a detector alone: a square of `side` pixels."""
    folder = tempfile.TemporaryDirectory()
    files = table2.photographs(Path(folder.name), images)

    def call(_kept: object = folder) -> None:
        for file in files:
            load_image(file, side)

    return Work(call=call, images=images, sizes=_sizes(side))


def whole(images: int) -> Work:
    """For CLIP alone."""
    folder, load = tempfile.TemporaryDirectory(), table2.clip_preprocessing().load
    files = table2.photographs(Path(folder.name), images)

    def call(_kept: object = folder) -> None:
        for file in files:
            load(file)

    return Work(call=call, images=images, sizes=_sizes(table2.SIDE))


def threaded(threads: int) -> Work:
    """For a detector, in a pool of threads."""
    folder, pool = tempfile.TemporaryDirectory(), ThreadPoolExecutor(threads)
    files = table2.photographs(Path(folder.name), AHEAD)

    def call(_kept: object = folder) -> None:
        list(pool.map(lambda file: load_image(file, table2.SIDE), files))

    return Work(call=call, images=AHEAD, sizes={**_sizes(table2.SIDE), "threads": threads, "clock": "wall"})


def _sizes(side: int) -> dict[str, int | float | str]:
    width, height = table2.PHOTOGRAPH
    return {"width": width, "height": height, "pixels of a side": side}


THREADS = Case(stage=STAGE, name="JPEG to detector", make=threaded, rounds=(5, 9), memory=False)
SIDES = Case(stage=STAGE, name="JPEG to detector", make=squeezed, seconds=0.5, memory=False)
STAGE_CASES = (
    *(step for step in table2_stages.steps() if step.stage == STAGE),
    Case(stage=STAGE, name="JPEG to CLIP", make=whole, arguments=(table2.IMAGES,)),
    Case(stage=STAGE, name="JPEG to detector", make=squeezed, arguments=(table2.IMAGES, table2.SIDE)),
    *along(SIDES, "pixels of a side", (224, 384, 512, 800), (224, 384, 800), lambda side: (table2.IMAGES, side)),
)
THREADED = {case.id: case for case in along(THREADS, "threads", (1, 2, 4, 8), (), lambda threads: (threads,))}


@pytest.mark.benchmark(timer=CLOCK)
def test_preprocessing_speed(benchmark: BenchmarkFixture, stage_case: Case) -> None:
    run_case(benchmark, stage_case)


@pytest.mark.slow  # in the standard set each file has one core
@pytest.mark.benchmark(timer=time.perf_counter)
@pytest.mark.parametrize("name", THREADED)
def test_preprocessing_in_threads(benchmark: BenchmarkFixture, name: str) -> None:
    run_case(benchmark, THREADED[name])
