"""Region encoders from pixels to regions (eq. 2), random weights: Faster R-CNN C4, FPN and Lite0-FPN, and a grid.

    pytest benchmarks/bench_region_encoders.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'

C4 is Table 2's: 100 proposals through the box head and the 36 regions a second time, 2048-d. FPN has torchvision's
1,000 proposals. `bench_detectors.py` compares the three arithmetics of each, in turns.
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


BATCHES = (1, 2, 4, 8, 16, 32, 64)
SIDES = (224, 384, 512, 800)
PROPOSALS = (36, 100, 300)
DETECTOR = Case(stage=STAGE, name="Faster R-CNN C4", make=region_encoder, rounds=(3, 5))
C4 = replace(DETECTOR, rounds=(2, 3), seconds=0.1, memory=False)
FPN, LITE0 = replace(C4, name="Faster R-CNN FPN"), replace(C4, name="Faster R-CNN Lite0-FPN")
STAGE_CASES = (
    *(step for step in table2_stages.steps() if step.stage == STAGE),
    replace(DETECTOR, name="Faster R-CNN C4, bfloat16", arguments=("c4", 2, table2.SIDE, "bfloat16"), full=True),
    replace(DETECTOR, name="Faster R-CNN FPN", arguments=("fpn", 2)),
    replace(DETECTOR, name="Faster R-CNN Lite0-FPN", arguments=("lite0", table2.IMAGES)),
    *(
        Case(stage=STAGE, name=f"EfficientNet-Lite0 grid, {precision}", make=grid, arguments=(table2.IMAGES, precision))
        for precision in ("float32", "bfloat16")
    ),
    *along(replace(C4, full=True), "images of a batch", BATCHES[:5], (), lambda images: ("c4", images)),
    *along(LITE0, "images of a batch", BATCHES, (1, 4, 16), lambda images: ("lite0", images)),
    *along(C4, "pixels of a side", SIDES, (224, 512, 800), lambda side: ("c4", 1, side)),
    *along(replace(FPN, full=True), "pixels of a side", SIDES, (), lambda side: ("fpn", 1, side)),
    *along(replace(C4, full=True), "proposals", PROPOSALS, (), lambda most: ("c4", 1, table2.SIDE, None, most)),
)


@pytest.mark.benchmark(timer=CLOCK)
def test_region_encoder_speed(benchmark: BenchmarkFixture, stage_case: Case) -> None:
    run_case(benchmark, stage_case)
