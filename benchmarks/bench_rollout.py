"""What drawing captions costs a self-critical step: new weights laid out, then 16 images x 5 captions word by word.

    pytest benchmarks/bench_rollout.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'
    python benchmarks/bench_rollout.py     # the same as a plain table

`snapshot` lays out weights that have just changed, `draw` draws with them and `both` is what a step pays. The same with
`plain` products, which read the weights where they stand and need no layout, is the other exact way. Decoders: that of
the preset `photos` (2 x 256, 2,539 words, prefixes of 66 slots) and GPT-2 small (12 x 768, 50,257 words, prefixes of
10). Random weights end captions seldom: captions have 12 tokens. CPU time of one thread, medians of rounds taken in
turn. Takes two minutes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import median

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from regioncap.decoder import Gpt2Decoder, Gpt2DecoderConfig, IncrementalGpt2, draw_captions, incremental
from regioncap.decoder.projections import _PlainProjection

IMAGES, SAMPLES, TOKENS = 16, 5, 12
ROUNDS = 5
CASES = ("snapshot", "draw", "both", "plain snapshot", "plain draw", "plain both")


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
def measure(size: str) -> dict[str, float]:
    """Case -> CPU seconds. Both ways must draw the same captions."""
    torch.set_num_threads(1)
    shape = SIZES[size]
    decoder = shape.build()
    prefix, valid = torch.randn(IMAGES, shape.slots, shape.width), torch.ones(IMAGES, shape.slots, dtype=torch.bool)
    uniform = torch.rand(IMAGES, SAMPLES, TOKENS)
    packed, plain = decoder.incremental(), _plain(decoder)
    tokens = [draw_captions(stepping, prefix, valid, uniform).tokens for stepping in (packed, plain)]
    assert (tokens[0] == tokens[1]).float().mean() > 0.99  # a number may fall between two roundings
    calls: dict[str, Callable[[], object]] = {
        "snapshot": decoder.incremental,
        "draw": lambda: draw_captions(packed, prefix, valid, uniform),
        "plain snapshot": lambda: _plain(decoder),
        "plain draw": lambda: draw_captions(plain, prefix, valid, uniform),
    }
    spent: dict[str, list[float]] = {case: [] for case in calls}
    for _ in range(ROUNDS):
        for case, call in calls.items():
            begin = time.process_time()
            call()
            spent[case].append(time.process_time() - begin)
    seconds = {case: median(times) for case, times in spent.items()}
    for way in ("", "plain "):
        seconds[f"{way}both"] = seconds[f"{way}snapshot"] + seconds[f"{way}draw"]
    return seconds


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


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", SIZES)
def test_rollout_speed(benchmark: BenchmarkFixture, size: str, case: str) -> None:
    seconds = measure(size)[case]
    benchmark.group = f"drawing captions, {size}"
    benchmark.pedantic(time.sleep, (seconds,), rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info["ms_a_caption"] = round(1e3 * seconds / (IMAGES * SAMPLES), 2)


def print_table() -> None:
    """CPU milliseconds as Markdown."""
    print("| decoder | " + " | ".join(CASES) + " |\n|---|" + "---:|" * len(CASES))
    for size in SIZES:
        seconds = measure(size)
        print(f"| {size} | " + " | ".join(f"{1e3 * seconds[case]:.1f}" for case in CASES) + " |")


if __name__ == "__main__":
    print_table()
