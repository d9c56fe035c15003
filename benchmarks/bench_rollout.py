"""What drawing captions costs a self-critical step: new weights laid out, then 16 images x 5 captions word by word.

    pytest benchmarks/bench_rollout.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'
    python benchmarks/bench_rollout.py     # the same as a plain table

`snapshot` lays out weights that have just changed, `draw` draws with them and both are what a step pays. The same with
`plain` products, which read the weights where they stand and need no layout, is the other exact way. Decoders: that of
the preset `photos` (2 x 256, 2,539 words, prefixes of 66 slots) and GPT-2 small (12 x 768, 50,257 words, prefixes of
10; under pytest in the full set alone). Random weights end captions seldom: captions have 12 tokens. CPU time of one
thread; the table's cases take turns. It takes two minutes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from regioncap.decoder import Gpt2Decoder, Gpt2DecoderConfig, IncrementalGpt2, draw_captions, incremental
from regioncap.decoder.projections import _PlainProjection
from regioncap.experiments.benchmarking.case import Case, Work, run_case
from regioncap.experiments.benchmarking.measure import CLOCK, in_turns

IMAGES, SAMPLES, TOKENS = 16, 5, 12
ROUNDS = 5
CASES = ("snapshot", "draw", "plain snapshot", "plain draw")


@dataclass(frozen=True)
class Size:
    """A decoder and its prefixes."""

    layers: int
    heads: int
    width: int
    words: int
    slots: int

    def build(self) -> Gpt2Decoder:
        """With random weights."""
        torch.manual_seed(0)
        config = Gpt2DecoderConfig(layers=self.layers, heads=self.heads, width=self.width, positions=128, dropout=0.0)
        return config.build(self.words, bos=1, eos=2, pad=0).eval()


SIZES = {"photos": Size(2, 4, 256, 2539, 66), "GPT-2 small": Size(12, 12, 768, 50257, 10)}


@cache
def calls(size: str) -> dict[str, Callable[[], object]]:
    """Case -> its call. Both ways must draw the same captions."""
    torch.set_num_threads(1)
    shape = SIZES[size]
    decoder = shape.build()
    prefix, valid = torch.randn(IMAGES, shape.slots, shape.width), torch.ones(IMAGES, shape.slots, dtype=torch.bool)
    uniform = torch.rand(IMAGES, SAMPLES, TOKENS)
    packed, plain = decoder.incremental(), _plain(decoder)
    tokens = [draw_captions(stepping, prefix, valid, uniform).tokens for stepping in (packed, plain)]
    assert (tokens[0] == tokens[1]).float().mean() > 0.99  # a number may fall between two roundings
    return {
        "snapshot": decoder.incremental,
        "draw": lambda: draw_captions(packed, prefix, valid, uniform),
        "plain snapshot": lambda: _plain(decoder),
        "plain draw": lambda: draw_captions(plain, prefix, valid, uniform),
    }


def _plain(decoder: Gpt2Decoder) -> IncrementalGpt2:
    """A decoder that multiplies by torch's own product, by views of the weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            incremental,
            "project_by",
            lambda weight, bias, precision, activation="none": _PlainProjection(
                weight, bias, torch.float32, activation
            ),
        )
        return decoder.incremental()


def drawing(size: str, case: str) -> Work:
    """One of the calls."""
    shape = SIZES[size]
    sizes = {"P": shape.slots, "H": shape.width, "layers": shape.layers, "V": shape.words}
    return Work(call=calls(size)[case], images=IMAGES, sizes={**sizes, "captions": SAMPLES, "tokens": TOKENS})


STAGE_CASES = tuple(
    Case(
        stage="training step",
        name=f"drawing captions, {case}, {size}",
        make=drawing,
        arguments=(size, case),
        seconds=2.0,
        rounds=(3, 5),
        memory=False,
        full=size == "GPT-2 small",
    )
    for size in SIZES
    for case in CASES
)


@pytest.mark.benchmark(timer=CLOCK)
def test_rollout_speed(benchmark: BenchmarkFixture, stage_case: Case) -> None:
    run_case(benchmark, stage_case)


def print_table() -> None:
    """CPU milliseconds as Markdown."""
    cases = ("snapshot", "draw", "both")
    print("| decoder | " + " | ".join((*cases, *(f"plain {case}" for case in cases))) + " |\n|---|" + "---:|" * 6)
    for size in SIZES:
        taken = in_turns(calls(size), rounds=(ROUNDS, ROUNDS))
        cells = []
        for way in ("", "plain "):
            parts = [1e3 * taken.p50(f"{way}{case}") for case in cases[:2]]
            cells += [f"{value:.1f}" for value in (*parts, sum(parts))]
        print(f"| {size} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    print_table()
