"""Latency and peak memory of the decoder package on random boundary values, beside transformers in the same run.

    python benchmarks/bench_decoder.py compare    # GPT-2's own size, 20 tokens by 5 beams: ratios to `generate`
    python benchmarks/bench_decoder.py bias       # the gated word bias: what it adds to a search and to a training step

    pytest benchmarks/bench_decoder.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'

`compare` runs both in turn, on one CPU thread or a GPU, and says how many of the captions' tokens are the same; three
minutes. Under pytest: searches of Table 2's decoder (prefix of one token, 20 tokens forced), curves over beams, prefix
tokens and images, and the smaller decoder of the preset `photos`: its searches, and a training step (loss and
gradients, bf16 autocast) with the captions of an image behind one prefix, `train_transformers` the same with the prefix
repeated for each. `_bias` has a gated word bias.
Times are CPU time on one thread, so that a busy machine does not count; wall time where there is a GPU. Memory is what
two warm calls add (`benchmarking/memory.py`).
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.nn import functional

from regioncap.decoder import GatedWordBiasConfig, Gpt2Decoder, Gpt2DecoderConfig, SearchConfig, search
from regioncap.decoder.projections import Precision
from regioncap.experiments.benchmarking import table2_stages
from regioncap.experiments.benchmarking.case import Case, Work, run_case
from regioncap.experiments.benchmarking.measure import CLOCK, DEVICE, Rounds, in_turns, percentile
from regioncap.experiments.benchmarking.memory import peak_mib
from regioncap.experiments.benchmarking.scaling import along

BOS, EOS, PAD = 1, 2, 3
CAPTIONS, TOKENS = 5, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of one comparison."""

    decoder: Gpt2DecoderConfig
    images: int
    slots: int
    vocabulary: int


PHOTOS = Shape(decoder=Gpt2DecoderConfig(), images=16, slots=60, vocabulary=2500)
GPT2 = Shape(
    decoder=Gpt2DecoderConfig(layers=12, heads=12, width=768, positions=1024),
    images=8,
    slots=10,
    vocabulary=50257,
)
SHAPES = {"photos": PHOTOS, "gpt2": GPT2}
BEAM = SearchConfig(greedy_tokens=0, beams=5, max_new_tokens=20, min_new_tokens=20)
SEARCHES = {
    "greedy": replace(BEAM, beams=1),
    "beam": BEAM,
    "beam_bfloat16": replace(BEAM, precision="bfloat16"),
    "beam_int8": replace(BEAM, precision="int8"),
    "hybrid": replace(BEAM, greedy_tokens=4),
    "sample": replace(BEAM, method="sample"),
}
KNOWN = 0.02
"""Share of the vocabulary that is said to be known; the time does not depend on it."""


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
        ours = partial(search, stepping, prefix, valid, config)
        taken = in_turns({"ours": ours, "generate": theirs}, rounds=(rounds, rounds))
        ratios = _ratios(taken, "generate", "ours")
        same = float(torch.eq(ours().tokens[:, 0], cast(Tensor, theirs())).float().mean())
        print(
            f"| {images} | {n} | {k} | {precision} | {taken.p50('ours'):.2f} | {taken.p50('generate'):.2f} | "
            f"{percentile(ratios, 0.5):.2f} | "
            f"{ratios[0]:.2f} - {ratios[-1]:.2f} | {100 * same:.1f} % |",
            flush=True,
        )
    for case in ("beam", "beam_bfloat16", "beam_int8", "generate_beam"):
        print(f"{case}: a search of 8 images adds {peak_mib(call_of, case, 'gpt2'):.0f} MiB")


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
        print(f"{case}: adds {peak_mib(call_of, case, 'gpt2'):.0f} MiB")


def in_turn(one: Callable[[], object], other: Callable[[], object], rounds: int) -> str:
    """Medians of two calls, and of the second's time over the first's with the quarters around it."""
    taken = in_turns({"one": one, "other": other}, rounds=(rounds, rounds))
    ratio = taken.ratio("other", "one")
    around = f"{ratio.low:.3f} - {ratio.high:.3f}"
    return f"{taken.p50('one'):.3f} | {taken.p50('other'):.3f} | {ratio.median:.3f} | {around}"


def _ratios(taken: Rounds, peer: str, ours: str) -> Sequence[float]:
    """Of all rounds, smallest first."""
    return sorted(theirs / own for theirs, own in zip(taken.seconds[peer], taken.seconds[ours], strict=True))


def of_shape(case: str, name: str) -> Work:
    """`call_of` with what it takes to be a record."""
    shape = SHAPES[name]
    counted = shape.decoder.build(shape.vocabulary, bos=BOS, eos=EOS, pad=PAD)
    sizes = {"P": shape.slots, "H": shape.decoder.width, "layers": shape.decoder.layers, "V": shape.vocabulary}
    if case.startswith("train"):
        return Work(
            call=call_of(case, name), images=shape.images, sizes={**sizes, "captions": CAPTIONS}, modules=(counted,)
        )
    config = SEARCHES[case.removeprefix("generate_").removesuffix("_bias")]
    sizes |= {"tokens": config.max_new_tokens, "greedy tokens": config.greedy_tokens, "beams": config.beams}
    return Work(call=call_of(case, name), images=shape.images, sizes=sizes, modules=(counted,))


STAGE = "decoder"
IMAGES = 8
BEAMS, SLOTS, BATCHES = (1, 2, 3, 5, 10), (1, 3, 10, 30, 100), (1, 2, 4, 8, 16, 32, 64)
SEARCH = Case(stage=STAGE, name="beam, 5", make=table2_stages.decoder, rounds=(3, 5))
CURVE = replace(SEARCH, name="GPT-2, beam", rounds=(2, 3), seconds=0.1, memory=False)
STAGE_CASES = (
    *(step for step in table2_stages.steps() if step.stage == STAGE),
    replace(SEARCH, name="greedy", arguments=(IMAGES, 0, 1)),
    replace(SEARCH, arguments=(IMAGES, 0, 5), full=True),
    replace(SEARCH, name="hybrid, 4 greedy tokens then 5 beams", arguments=(IMAGES, 4, 5), full=True),
    *(
        replace(
            SEARCH,
            name=f"hybrid, 1 greedy token then 5 beams, {precision}",
            arguments=(IMAGES, 1, 5, 1, precision),
            full=True,
        )
        for precision in ("bfloat16", "int8")
    ),
    *(
        Case(stage=STAGE, name=f"{case}, decoder of photos", make=of_shape, arguments=(case, "photos"), memory=False)
        for case in ("greedy", "beam", "sample", "beam_bias")
    ),
    *(
        Case(
            stage="training step",
            name=f"{case}, decoder of photos",
            make=of_shape,
            arguments=(case, "photos"),
            full=full,
        )
        for case, full in (("train", False), ("train_bias", True), ("train_transformers", True))
    ),
    *along(CURVE, "beams", BEAMS, (1, 3, 10), lambda beams: (1, 0, beams)),
    *along(CURVE, "prefix tokens", SLOTS, (1, 10, 100), lambda slots: (1, 0, 5, slots)),
    *along(CURVE, "images of a batch", BATCHES, (1, 2, 4), lambda images: (images, 0, 5)),
)


@pytest.mark.benchmark(timer=CLOCK)
def test_decoder_speed(benchmark: BenchmarkFixture, stage_case: Case) -> None:
    run_case(benchmark, stage_case)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["compare"]:
            compare()
        case ["bias"]:
            compare_bias()
        case _:
            sys.exit(__doc__)
