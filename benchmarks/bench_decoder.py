"""Latency and peak memory of the decoder package on random boundary values, beside transformers in the same run.

    python benchmarks/bench_decoder.py compare    # GPT-2's own size, 20 tokens by 5 beams: ratios to `generate`
    python benchmarks/bench_decoder.py bias       # the gated word bias: what it adds to a search and to a training step

    pytest benchmarks/bench_decoder.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'

`compare` runs both in turn, on one CPU thread or a GPU, and says how many of the captions' tokens are the same; three
minutes. The rest: `fused` and `tokens` make prefixes; `train` is one step (loss and gradients, bf16 autocast) with the
captions of an image behind one prefix, `train_transformers` the same with the prefix repeated for each; `greedy`,
`beam`, `hybrid` and `sample` search (`beam_bfloat16`, `beam_int8`: with weights laid out in that format),
`generate_greedy` and `generate_beam` are transformers' `generate` with the same weights (tests show equal tokens);
`train_bias` and `beam_bias` have a gated word bias.
Without `-m "not slow"` GPT-2's own size is measured too. Takes about two CPU-minutes without it.
Times are CPU time on one thread, so that a busy machine does not count; wall time where there is a GPU.
`extra_info["peak_mib"]` is what a call adds: peak RSS of a fresh process over its level before the call (Linux), or
`max_memory_allocated` where there is a GPU.
"""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.nn import functional

from regioncap.decoder import (
    FusedPrefixConfig,
    GatedWordBiasConfig,
    Gpt2Decoder,
    Gpt2DecoderConfig,
    SearchConfig,
    TokenPrefixConfig,
    search,
)
from regioncap.decoder.projections import Precision

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BOS, EOS, PAD = 1, 2, 3
DIM, REGIONS, SCENE_WORDS, CAPTIONS, TOKENS = 256, 49, 8, 5, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of one comparison."""

    decoder: Gpt2DecoderConfig
    images: int
    slots: int
    vocabulary: int
    rounds: int = 7


PHOTOS = Shape(decoder=Gpt2DecoderConfig(), images=16, slots=60, vocabulary=2500)
GPT2 = Shape(
    decoder=Gpt2DecoderConfig(layers=12, heads=12, width=768, positions=1024),
    images=8,
    slots=10,
    vocabulary=50257,
    rounds=2,
)
SHAPES = {"photos": PHOTOS, "photos-single": replace(PHOTOS, images=1), "gpt2": GPT2}
BEAM = SearchConfig(greedy_tokens=0, beams=5, max_new_tokens=20, min_new_tokens=20)
SEARCHES = {
    "greedy": replace(BEAM, beams=1),
    "beam": BEAM,
    "beam_bfloat16": replace(BEAM, precision="bfloat16"),
    "beam_int8": replace(BEAM, precision="int8"),
    "hybrid": replace(BEAM, greedy_tokens=4),
    "sample": replace(BEAM, method="sample"),
}
CASES = (
    *("fused", "tokens", "train", "train_bias", "train_transformers"),
    *(*SEARCHES, "beam_bias", "generate_greedy", "generate_beam"),
)
KNOWN = 0.02
"""Share of the vocabulary that is said to be known; the time does not depend on it."""


def prefix_call(case: str, shape: Shape) -> Callable[[], object]:
    """Making prefixes of everything that guidance and graph hand over."""
    config = FusedPrefixConfig() if case == "fused" else TokenPrefixConfig()
    stage = config.build(DIM, shape.decoder.width, guided=True).to(DEVICE)
    fused, scene, detail = torch.randn(3, shape.images, DIM, device=DEVICE)
    regions, region_detail = torch.randn(2, shape.images, REGIONS, DIM, device=DEVICE)
    valid = torch.ones(shape.images, REGIONS, dtype=torch.bool, device=DEVICE)
    words = torch.randn(shape.images, SCENE_WORDS, DIM, device=DEVICE)
    return lambda: stage(fused, scene, detail, regions, valid, region_detail, words)


def word_bias(decoder: Gpt2Decoder, images: int) -> Tensor:
    """Scores of some words of each image."""
    return torch.rand(images, decoder.vocab_size, device=DEVICE) * (
        torch.rand(images, decoder.vocab_size, device=DEVICE) < KNOWN
    )


def train_call(case: str, decoder: Gpt2Decoder, prefix: Tensor, valid: Tensor) -> Callable[[], object]:
    """One step on captions of 8 to 16 tokens."""
    bias = word_bias(decoder, len(prefix)).requires_grad_() if case == "train_bias" else None
    tokens = torch.randint(PAD + 1, decoder.vocab_size, (len(prefix), CAPTIONS, TOKENS), device=DEVICE)
    lengths = torch.randint(8, TOKENS + 1, (len(prefix), CAPTIONS, 1), device=DEVICE)
    mask = torch.arange(TOKENS, device=DEVICE) < lengths
    decoder.train()

    def repeated() -> Tensor:
        words = decoder.model.transformer.wte(tokens[..., :-1]).flatten(0, 1)
        seen = torch.cat([valid.repeat_interleave(CAPTIONS, 0), mask[..., 1:].flatten(0, 1)], 1).long()
        logits = decoder.model(
            inputs_embeds=torch.cat([prefix.repeat_interleave(CAPTIONS, 0), words], 1),
            attention_mask=seen,
            position_ids=(seen.cumsum(1) - 1).clamp(min=0),
            use_cache=False,
        ).logits[:, prefix.shape[1] :]
        targets = tokens[..., 1:].masked_fill(~mask[..., 1:], -100)
        return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    def step() -> None:
        decoder.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = repeated() if case == "train_transformers" else decoder.loss(prefix, valid, tokens, mask, bias=bias)
        loss.backward()

    return step


def generate_call(config: SearchConfig, decoder: Gpt2Decoder, prefix: Tensor, valid: Tensor) -> Callable[[], object]:
    """transformers' search over the same prefixes."""
    bos = decoder.model.transformer.wte(torch.full((len(prefix), 1), BOS, device=DEVICE))
    given = torch.cat([prefix, bos], 1).detach()
    seen = functional.pad(valid, (0, 1), value=True).long()
    return lambda: decoder.model.generate(  # type: ignore[misc]
        inputs_embeds=given,
        attention_mask=seen,
        num_beams=config.beams,
        do_sample=False,
        max_new_tokens=config.max_new_tokens,
        min_new_tokens=config.min_new_tokens,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )


def call_of(case: str, name: str) -> Callable[[], object]:
    """What one round of `case` does, on inputs made beforehand."""
    torch.manual_seed(0)
    shape = SHAPES[name]
    if case in ("fused", "tokens"):
        return prefix_call(case, shape)
    config = replace(shape.decoder, word_bias=GatedWordBiasConfig()) if case.endswith("_bias") else shape.decoder
    decoder = config.build(shape.vocabulary, bos=BOS, eos=EOS, pad=PAD).to(DEVICE).eval()
    prefix = torch.randn(shape.images, shape.slots, decoder.width, device=DEVICE)
    valid = torch.ones(shape.images, shape.slots, dtype=torch.bool, device=DEVICE)
    if case.startswith("train"):
        return train_call(case, decoder, prefix, valid)
    if case.startswith("generate"):
        return generate_call(SEARCHES[case.removeprefix("generate_")], decoder, prefix, valid)
    looked_for = SEARCHES[case.removesuffix("_bias")]
    stepping = decoder.incremental(looked_for.precision)
    bias = word_bias(decoder, len(prefix)) if case.endswith("_bias") else None
    return lambda: search(stepping, prefix, valid, looked_for, bias=bias)


def synchronised(call: Callable[[], object]) -> None:
    call()
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def added_mib(case: str, name: str) -> float:
    """Memory that the calls of `case` add in this process; meaningful in a fresh one only."""
    call = call_of(case, name)
    if DEVICE == "cuda":
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        synchronised(call)
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    torch.set_num_threads(1)
    Path("/proc/self/clear_refs").write_text("5")  # imports peak higher than what stays: start the peak anew
    before = peak_rss_mib()
    call()
    return peak_rss_mib() - before


def peak_rss_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 2**10


@pytest.mark.benchmark(timer=time.perf_counter if DEVICE == "cuda" else time.process_time)
@pytest.mark.parametrize("name", ["photos", "photos-single", pytest.param("gpt2", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES)
def test_decoder_speed(benchmark: BenchmarkFixture, case: str, name: str) -> None:
    torch.set_num_threads(1)
    call, shape = call_of(case, name), SHAPES[name]
    kind = "prefix" if case in ("fused", "tokens") else "train" if case.startswith("train") else "search"
    benchmark.group = f"decoder {kind}, {name}: B, P, V = {shape.images}, {shape.slots}, {shape.vocabulary}"
    benchmark.pedantic(synchronised, args=(call,), rounds=shape.rounds, warmup_rounds=1)  # type: ignore[no-untyped-call]
    fresh = subprocess.run([sys.executable, __file__, case, name], check=True, capture_output=True, text=True)
    benchmark.extra_info["peak_mib"] = round(float(fresh.stdout.split()[-1]), 1)


COMPARED: tuple[tuple[int, int, int, Precision], ...] = (
    (8, 0, 5, "float32"),
    (1, 0, 5, "float32"),
    (8, 4, 5, "float32"),
    (8, 0, 1, "float32"),
    (1, 0, 1, "float32"),
    (8, 0, 5, "bfloat16"),
    (1, 0, 5, "bfloat16"),
    (8, 0, 5, "int8"),
    (1, 0, 5, "int8"),
)
"""Images, greedy tokens, beams, precision. `generate` has no hybrid: there it does plain beam search."""


def compare(rounds: int = 5) -> None:
    """Search and `generate` in turn on GPT-2's own size: time over time, least and most of the rounds, memory."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    decoder = GPT2.decoder.build(GPT2.vocabulary, bos=BOS, eos=EOS, pad=PAD).to(DEVICE).eval()
    with torch.no_grad():
        decoder.model.transformer.wpe.weight.mul_(20)  # else random weights say one word for ever
    clock = time.perf_counter if DEVICE == "cuda" else time.process_time
    print("| images | n greedy | k beams | precision | ours, s | `generate`, s | ratio | least - most | same tokens |")
    print("| ---: | ---: | ---: | --- | ---: | ---: | ---: | --- | ---: |")
    for images, n, k, precision in COMPARED:
        if precision == "int8" and DEVICE == "cuda":
            continue
        config = replace(BEAM, beams=k, greedy_tokens=n, precision=precision)
        prefix = torch.randn(images, GPT2.slots, decoder.width, device=DEVICE)
        valid = torch.ones(images, GPT2.slots, dtype=torch.bool, device=DEVICE)
        stepping = decoder.incremental(precision)
        theirs = generate_call(replace(config, precision="float32"), decoder, prefix, valid)
        times: list[tuple[float, float]] = []
        for _ in range(rounds + 1):
            start = clock()
            found = search(stepping, prefix, valid, config)
            middle = clock()
            said = theirs()
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            times.append((middle - start, clock() - middle))
        ours, peer = (sorted(pair[i] for pair in times[1:])[rounds // 2] for i in (0, 1))
        ratios = sorted(pair[1] / pair[0] for pair in times[1:])
        same = float(torch.eq(found.tokens[:, 0], cast(Tensor, said)).float().mean())
        print(
            f"| {images} | {n} | {k} | {precision} | {ours:.2f} | {peer:.2f} | {ratios[rounds // 2]:.2f} | "
            f"{ratios[0]:.2f} - {ratios[-1]:.2f} | {100 * same:.1f} % |",
            flush=True,
        )
    for case in ("beam", "beam_bfloat16", "beam_int8", "generate_beam"):
        fresh = subprocess.run([sys.executable, __file__, case, "gpt2"], check=True, capture_output=True, text=True)
        print(f"{case}: a search of 8 images adds {float(fresh.stdout.split()[-1]):.0f} MiB")


def compare_bias() -> None:
    """With and without the word bias in turn: time over time, middle half of the rounds; then memory."""
    torch.set_num_threads(1)
    print("| sizes | case | images | k beams | precision | without, s | with, s | ratio | middle half |")
    print("| --- | --- | ---: | ---: | --- | ---: | ---: | ---: | --- |")
    for name, rounds in (("gpt2", 11), ("photos", 101)):
        shape = SHAPES[name]
        torch.manual_seed(0)
        config = replace(shape.decoder, word_bias=GatedWordBiasConfig())
        decoder = config.build(shape.vocabulary, bos=BOS, eos=EOS, pad=PAD).to(DEVICE).eval()
        for images, greedy, k, precision in COMPARED:
            if greedy or (precision == "int8" and DEVICE == "cuda"):
                continue
            prefix = torch.randn(images, shape.slots, decoder.width, device=DEVICE)
            valid = torch.ones(images, shape.slots, dtype=torch.bool, device=DEVICE)
            looked_for, stepping = replace(BEAM, beams=k, precision=precision), decoder.incremental(precision)
            without = partial(search, stepping, prefix, valid, looked_for)
            ratio = in_turn(without, partial(without, bias=word_bias(decoder, images)), rounds)
            print(f"| {name} | search | {images} | {k} | {precision} | {ratio} |", flush=True)
        ratio = in_turn(call_of("train", name), call_of("train_bias", name), rounds // 2)
        print(f"| {name} | train | {shape.images} | | bfloat16 | {ratio} |", flush=True)
    for case in ("beam", "beam_bias", "train", "train_bias"):
        fresh = subprocess.run([sys.executable, __file__, case, "gpt2"], check=True, capture_output=True, text=True)
        print(f"{case}: adds {float(fresh.stdout.split()[-1]):.0f} MiB")


def in_turn(one: Callable[[], object], other: Callable[[], object], rounds: int) -> str:
    """Medians of two calls, and of the second's time over the first's with the quarters around it."""
    clock = time.perf_counter if DEVICE == "cuda" else time.process_time
    times: list[tuple[float, float]] = []
    for turn in range(rounds + 1):
        took = {}
        for call in (one, other) if turn % 2 else (other, one):
            start = clock()
            synchronised(call)
            took[call] = clock() - start
        times.append((took[one], took[other]))
    first, second = (sorted(pair[i] for pair in times[1:])[rounds // 2] for i in (0, 1))
    ratios = sorted(pair[1] / pair[0] for pair in times[1:])
    around = f"{ratios[rounds // 4]:.3f} - {ratios[-1 - rounds // 4]:.3f}"
    return f"{first:.3f} | {second:.3f} | {ratios[rounds // 2]:.3f} | {around}"


if __name__ == "__main__":
    if sys.argv[1] == "compare":
        compare()
    elif sys.argv[1] == "bias":
        compare_bias()
    else:
        print(added_mib(sys.argv[1], sys.argv[2]))
