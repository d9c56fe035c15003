"""Region encoders from pixels to regions (eq. 2), random weights: Faster R-CNN C4, FPN and Lite0-FPN, and a grid.

    pytest benchmarks/bench_region_encoders.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'

C4 is Table 2's: 100 proposals through the box head and the 36 regions a second time, 2048-d. FPN has torchvision's 1,000
proposals. `bench_detectors.py` compares the three arithmetics of each, in turns.
"""

from dataclasses import replace

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from regioncap.encoders import GridEncoderConfig
from regioncap.experiments.benchmarking import table2, table2_stages
from regioncap.experiments.benchmarking.case import Case, Work, run_case
from regioncap.experiments.benchmarking.measure import CLOCK, DEVICE
from regioncap.experiments.benchmarking.scaling import along
from regioncap.experiments.benchmarking.table2_stages import region_encoder

STAGE = "region encoder"


def grid(images: int, precision: str) -> Work:
    """The cells of EfficientNet-Lite0's last map."""
    encoder = GridEncoderConfig(precision=precision).build().to(DEVICE)  # type: ignore[arg-type]
    pixels = torch.rand(images, 3, table2.SIDE, table2.SIDE, device=DEVICE)
    sizes = {"pixels of a side": table2.SIDE, "N": encoder.regions_per_image, "R": encoder.region_dim}
    return Work(
        call=lambda: encoder(pixels), images=images, sizes={**sizes, "precision": precision}, modules=(encoder,)
    )


DETECTOR = Case(stage=STAGE, name="", make=region_encoder, rounds=(3, 5), memory=False)
STAGE_CASES = (
    *(step for step in table2_stages.steps() if step.stage == STAGE),
    replace(DETECTOR, name="Faster R-CNN FPN", arguments=("fpn", 2), memory=True),
    replace(DETECTOR, name="Faster R-CNN Lite0-FPN", arguments=("lite0", table2.IMAGES), memory=True),
    *(
        Case(stage=STAGE, name=f"EfficientNet-Lite0 grid, {precision}", make=grid, arguments=(table2.IMAGES, precision))
        for precision in ("float32", "bfloat16")
    ),
    *along(
        replace(DETECTOR, name="C4, by batch", full=True),
        "images of a batch",
        (1, 2, 4, 8, 16),
        (),
        lambda n: ("c4", n),
    ),
    *along(
        replace(DETECTOR, name="Lite0-FPN, by batch", rounds=(3, 9)),
        "images of a batch",
        (1, 2, 4, 8, 16, 32, 64),
        (1, 4, 16),
        lambda n: ("lite0", n),
    ),
    *along(
        replace(DETECTOR, name="C4, by side", seconds=0.1),
        "pixels of a side",
        (224, 384, 512, 800),
        (224, 512, 800),
        lambda side: ("c4", 1, side),
    ),
    *along(
        replace(DETECTOR, name="FPN, by side", full=True),
        "pixels of a side",
        (224, 384, 512, 800),
        (),
        lambda side: ("fpn", 1, side),
    ),
    *along(
        replace(DETECTOR, name="C4, by proposals", full=True),
        "proposals",
        (36, 100, 300),
        (),
        lambda proposals: ("c4", 1, table2.SIDE, None, proposals),
    ),
)


@pytest.mark.benchmark(timer=CLOCK)
def test_region_encoder_speed(benchmark: BenchmarkFixture, stage_case: Case) -> None:
    run_case(benchmark, stage_case)
