"""The whole captioner of Table 2, from JPEGs to words, and its steps by themselves, with random weights.

    python benchmarks/bench_captioner.py                  # every step in ms an image, their sum, the whole; C4, batch 8
    python benchmarks/bench_captioner.py fpn 1            # the same for another detector (c4, fpn, lite0) and batch
    pytest benchmarks/bench_captioner.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'

The steps are the captioner's own parts, called on what the step before gave them in a real pass: what the whole takes
beyond their sum is glue. Both take turns in one run on one thread, so that a busy machine slows both. Sizes are the
preset `paper`'s: 36 regions of 100 proposals, two banks of 10,000 words, 20 tokens, one greedy and 19 of 5 beams.
`graph and guidance` is what the paper names as its limits.
"""

import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from regioncap.decoder import FusedPrefix
from regioncap.experiments.benchmarking import table2
from regioncap.experiments.benchmarking.beside import run_beside
from regioncap.experiments.benchmarking.case import Case, Work
from regioncap.experiments.benchmarking.measure import CLOCK, DEVICE, Call, in_turns
from regioncap.experiments.generate import CaptionGenerator

LIMITS = ("graph", "guidance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The captioner as a whole and by steps."""

    whole: Work
    steps: dict[str, Call]

    def all_steps(self) -> None:
        """One after the other."""
        for step in self.steps.values():
            step()

    def limits(self) -> None:
        """Graph and guidance alone."""
        for name in LIMITS:
            self.steps[name]()


def pipeline(kind: table2.DetectorKind = "c4", images: int = table2.IMAGES) -> Pipeline:
    """Everything built, and each step's inputs taken from one pass."""
    folder = tempfile.TemporaryDirectory()
    files = table2.photographs(Path(folder.name), images)
    names = [file.name for file in files]
    encoder = table2.encoders(kind).to(DEVICE)
    captioner = table2.captioner(encoder.whole, encoder.region_dim).to(DEVICE)  # type: ignore[arg-type]
    generator = CaptionGenerator(captioner, table2.tokenizer(), table2.experiment().search)

    def load(_kept: object = folder) -> list[torch.Tensor]:
        columns = zip(*(encoder.load(file) for file in files), strict=True)
        return [torch.stack(column).to(DEVICE) for column in columns]

    pixels, *views = load()
    with torch.inference_mode():
        seen = encoder(pixels, *views)
        told = captioner.condition(seen)
    adapted, regions, words = told.adapted, told.regions, told.guidance
    prefix = cast(FusedPrefix, captioner.prefix)
    fused_global = told.g * math.sqrt(captioner.dim)
    steps: dict[str, Callable[[], Any]] = {
        "preprocessing": load,
        "global encoder": lambda: captioner.embed_image(encoder.whole.pool(pixels)),
        "region encoder": lambda: encoder.regions(*views),
        "adapter": lambda: captioner.adapter(seen.regions),
        "graph": lambda: captioner.graph(adapted.features, adapted.raw, adapted.boxes, adapted.valid),
        "fusion": lambda: captioner.fusion(fused_global, regions.features, regions.valid),
        "guidance": lambda: captioner.guidance(told.fused, told.g, regions.features, regions.valid),
        "prefix": lambda: prefix(
            told.fused,
            words.scene,
            words.detail,
            regions.features,
            regions.valid,
            words.region_detail,
            words.scene_tokens,
        ),
        "decoder": lambda: generator.from_prefix(told.prefix, names),
    }
    width, height = table2.PHOTOGRAPH
    sizes = {
        "detector": kind,
        "width": width,
        "height": height,
        "pixels of a side": table2.SIDE,
        "N": table2.REGIONS,
        "words of a bank": table2.BANK,
        "tokens": table2.TOKENS,
        "beams": table2.experiment().search.beams,
    }
    whole = Work(
        call=torch.inference_mode()(lambda: generator(encoder(*load()), names)),
        images=images,
        sizes=sizes,
        modules=(encoder, captioner),
    )
    return Pipeline(whole=whole, steps={name: torch.inference_mode()(step) for name, step in steps.items()})


def end_to_end(kind: table2.DetectorKind = "c4", images: int = table2.IMAGES) -> Work:
    """JPEGs to words."""
    return pipeline(kind, images).whole


CASES = (
    Case(stage="captioner", name="end to end", make=end_to_end, arguments=("c4", table2.IMAGES)),
    Case(stage="captioner", name="end to end, one image", make=end_to_end, arguments=("c4", 1), rounds=(5, 5)),
    Case(stage="captioner", name="end to end, FPN", make=end_to_end, arguments=("fpn", table2.IMAGES), full=True),
)


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.id, marks=[pytest.mark.slow] if case.full else []) for case in CASES]
)
def test_captioner_speed(benchmark: BenchmarkFixture, case: Case) -> None:
    parts = pipeline(*case.arguments)  # type: ignore[arg-type]
    peers = {"sum of its steps": parts.all_steps, "graph and guidance": parts.limits}
    run_beside(benchmark, case, parts.whole, peers)


def print_steps(kind: table2.DetectorKind, images: int, rounds: int = 5) -> None:
    """A Markdown table of every step and the whole."""
    torch.set_num_threads(1)
    parts = pipeline(kind, images)
    taken = in_turns({**parts.steps, "end to end": parts.whole.call}, rounds=(rounds, rounds))
    whole = taken.seconds["end to end"]
    each = list(zip(*(taken.seconds[name] for name in parts.steps), strict=True))
    sums = [sum(step) / all_of_it for step, all_of_it in zip(each, whole, strict=True)]
    places = [list(parts.steps).index(name) for name in LIMITS]
    limits = [sum(step[at] for at in places) / all_of_it for step, all_of_it in zip(each, whole, strict=True)]
    print(f"{kind}, batch {images}, ms an image\n\n| step | ms | share |\n|---|---:|---:|")
    for name in taken.seconds:
        share = taken.p50(name) / taken.p50("end to end")
        print(f"| {name} | {1e3 * taken.p50(name) / images:.1f} | {share:.1%} |")
    for name, shares in (("sum of steps", sums), ("graph and guidance", limits)):
        middle = sorted(shares)
        print(f"\n{name} / end to end: {middle[rounds // 2]:.3f} ({middle[0]:.3f} - {middle[-1]:.3f})", end="")
    print(f"\n\nparameters: {parts.whole.parameters / 1e6:.1f} M")


if __name__ == "__main__":
    detector = cast(table2.DetectorKind, sys.argv[1] if len(sys.argv) > 1 else "c4")
    print_steps(detector, int(sys.argv[2]) if len(sys.argv) > 2 else table2.IMAGES)
