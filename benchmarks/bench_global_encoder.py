"""CLIP ViT-B/32 from pixels to g (eq. 1), random weights: arithmetics, batches, picture sizes.

    pytest benchmarks/bench_global_encoder.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'

`bench_encoders.py` has it beside transformers' own forward pass, with the error of each arithmetic.
"""

from dataclasses import replace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from regioncap.experiments.benchmarking import table2, table2_stages
from regioncap.experiments.benchmarking.case import Case, run_case
from regioncap.experiments.benchmarking.measure import CLOCK
from regioncap.experiments.benchmarking.scaling import along
from regioncap.experiments.benchmarking.table2_stages import global_encoder

STAGE = "global encoder"
CLIP = Case(stage=STAGE, name="CLIP ViT-B/32", make=global_encoder, rounds=(3, 9), seconds=0.5)
CURVE = replace(CLIP, rounds=(2, 5), memory=False)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
SIDES = (224, 384, 512, 800)
STAGE_CASES = (
    *(step for step in table2_stages.steps() if step.stage == STAGE),
    *(
        replace(CLIP, name=f"CLIP ViT-B/32, {precision}", arguments=(table2.IMAGES, table2.SIDE, precision), full=full)
        for precision, full in (("bfloat16", False), ("int8", True))
    ),
    *along(CURVE, "images of a batch", BATCHES, (1, 2, 4), lambda images: (images,)),
    *along(CURVE, "pixels of a side", SIDES, (224, 384, 512), lambda side: (1, side)),
)


@pytest.mark.benchmark(timer=CLOCK)
def test_global_encoder_speed(benchmark: BenchmarkFixture, stage_case: Case) -> None:
    run_case(benchmark, stage_case)
