"""Guidance on random boundary values: search in large banks beside faiss, and what guidance adds to a caption.

    python benchmarks/bench_guidance.py compare        # nearest words: ours, a full product and faiss; a minute
    python benchmarks/bench_guidance.py share          # guidance beside the rest of a caption at Table 2's sizes
    python benchmarks/bench_guidance.py scaling FILE   # 100 to 50,000 words, time as curves with exponents
    python benchmarks/bench_guidance.py forms          # the two searches: where `nearest.ROUGH_FROM` is from
    pytest benchmarks/bench_guidance.py --benchmark-only -o addopts=--import-mode=importlib -o python_files='bench_*.py'

A caption's guidance is 8 images of 36 regions at width 512: a scene bank asked 8 times and a detail bank 288 times.
Random vectors are the worst case: all words are about as near, so that the rough pass leaves the most in question.
faiss' IndexFlatIP searches the same keys with the bias as one more number. Times are CPU time on one thread, so that a
busy machine counts less; wall time where there is a GPU. The sides take turns, medians are compared.

Under pytest `null` is the floor, `1k` to `50k` the detail bank; `caption` is 8 images forward, `train` a forward and
backward of 16 in bfloat16. `extra_info["peak_mib"]` is what the stage and a call add: peak RSS of a fresh process over
its level before the stage was built (Linux), or `max_memory_allocated` where there is a GPU.
"""

import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import faiss
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from regioncap.decoder import Gpt2DecoderConfig, SearchConfig, search
from regioncap.guidance import (
    KeywordBank,
    KeywordHeadsConfig,
    KeywordInputs,
    NoGuidanceConfig,
    SemanticGuidanceConfig,
    StandardisedSimilarity,
)
from regioncap.guidance.nearest import ROUGH_FROM, RoughKeys, nearest_keys

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLOCK = time.perf_counter if DEVICE == "cuda" else time.process_time
DIM, IMAGES, REGIONS, CHOSEN = 512, 8, 36, 4
SCENE_WORDS = 300
REGION_DIM = 2048
DETAIL_WORDS = {"null": 1, "1k": 1_000, "10k": 10_000, "50k": 50_000}
SIZES = (100, 300, 1_000, 3_000, 5_000, 10_000, 20_000, 50_000)
JOBS = ("caption", "train")
Call = Callable[[], object]


def random_bank(words: int) -> KeywordBank:
    """Counts fall as words' do in a language: the one of rank r is said about 1/r as often as the first."""
    return KeywordBank(
        words=tuple(f"word{row}" for row in range(words)),
        counts=tuple(max(1, 100_000 // (row + 1)) for row in range(words)),
        embeddings=torch.randn(words, DIM),
    )


def fitted(words: int) -> StandardisedSimilarity:
    similarity = StandardisedSimilarity(random_bank(words), momentum=1.0, prior=0.5).to(DEVICE).eval()
    similarity.fit(torch.randn(2_000, DIM, device=DEVICE))
    return similarity


def searches_of(words: int, queries: int) -> dict[str, Call]:
    """The same question put to each side."""
    torch.manual_seed(0)
    similarity = fitted(words)
    asked = torch.randn(queries, DIM, device=DEVICE)
    keys, bias, centred = similarity.keys, similarity.prior, asked - similarity.mean
    index = faiss.IndexFlatIP(DIM + 1)
    index.add(torch.cat([keys, bias[:, None]], dim=1).cpu().numpy())
    extended = torch.cat([centred, centred.new_ones(queries, 1)], dim=1).cpu().numpy()
    found = similarity.nearest(asked, CHOSEN)
    theirs = torch.from_numpy(index.search(extended, CHOSEN)[1]).to(DEVICE)
    gap = similarity.scores(asked, found) - similarity.scores(asked, theirs)
    assert gap.abs().max() < 1e-3, f"ours and faiss' words differ by up to {gap.abs().max()} in score"
    return {
        "ours": lambda: similarity.nearest(asked, CHOSEN),
        "full product": lambda: nearest_keys(centred, keys, bias, CHOSEN),
        "faiss": lambda: index.search(extended, CHOSEN),
    }


def stage_call(scene_words: int, detail_words: int, images: int = IMAGES) -> Call:
    """Guidance of a batch of captions."""
    torch.manual_seed(0)
    stage = SemanticGuidanceConfig().build(DIM, random_bank(scene_words), random_bank(detail_words)).to(DEVICE).eval()
    fused, g, regions, valid = inputs(images)
    return torch.inference_mode()(lambda: stage(fused, g, regions, valid))


def learned_call(scene_words: int, detail_words: int, images: int = IMAGES) -> Call:
    """The same by keyword heads, from features of the pipeline's sizes to words."""
    torch.manual_seed(0)
    banks = random_bank(scene_words), random_bank(detail_words)
    heads = KeywordHeadsConfig().build(DIM, REGION_DIM, *banks).to(DEVICE).eval()
    stage = SemanticGuidanceConfig(retrieval="learned").build(DIM, *banks).to(DEVICE).eval()
    fused, g, regions, valid = inputs(images)
    seen = KeywordInputs(
        pooled=g,
        regions=torch.randn(images, REGIONS, REGION_DIM, device=DEVICE),
        boxes=torch.rand(images, REGIONS, 4, device=DEVICE),
        valid=valid,
    )
    return torch.inference_mode()(lambda: stage(fused, g, regions, valid, heads(seen)))


def inputs(images: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.randn(images, DIM, device=DEVICE, requires_grad=True),
        torch.nn.functional.normalize(torch.randn(images, DIM, device=DEVICE), dim=-1),
        torch.randn(images, REGIONS, DIM, device=DEVICE, requires_grad=True),
        torch.ones(images, REGIONS, dtype=torch.bool, device=DEVICE),
    )


def compare() -> None:
    """Nearest words, as a Markdown table."""
    print("| queries | words | full product, ms | faiss, ms | ours, ms | product / ours | faiss / ours |")
    print("|---:" * 7 + "|")
    for queries in (IMAGES, IMAGES * REGIONS):
        for words in (1_000, 4_000, 10_000, 20_000, 50_000):
            ours, product, peer = (1e3 * time_s for time_s in in_turns(list(searches_of(words, queries).values())))
            print(
                f"| {queries} | {words:,} | {product:.2f} | {peer:.2f} | {ours:.2f} | {product / ours:.2f} "
                f"| {peer / ours:.2f} |",
                flush=True,
            )


def share(bank: int = 10_000) -> None:
    """Guidance beside the rest of a caption, per image of a batch of 8; both banks hold 10,000 words."""
    beam = SearchConfig(greedy_tokens=0, beams=5, max_new_tokens=20, min_new_tokens=20)
    decoder = Gpt2DecoderConfig(layers=12, heads=12, width=768, positions=1024).build(50257, bos=1, eos=2, pad=3)
    stepping = decoder.to(DEVICE).eval().incremental(beam.precision)
    prefix = torch.randn(IMAGES, 10, decoder.width, device=DEVICE)
    seen = torch.ones(IMAGES, 10, dtype=torch.bool, device=DEVICE)
    greedy = SearchConfig(greedy_tokens=0, beams=1, max_new_tokens=20, min_new_tokens=20)
    calls: dict[str, Call] = {
        "guidance": stage_call(bank, bank),
        "guidance by keyword heads": learned_call(bank, bank),
        "GPT-2, 5 beams": lambda: search(stepping, prefix, seen, beam),
        "GPT-2, greedy": lambda: search(stepping, prefix, seen, greedy),
        **encoder_calls(),
    }
    times = dict(zip(calls, in_turns(list(calls.values()), seconds=1.0), strict=True))
    for name, seconds in times.items():
        print(f"{name}: {1e3 * seconds / IMAGES:.2f} ms an image")
    encoders = times["CLIP ViT-B/32"] + times["Faster R-CNN FPN at 224"]
    for stage, name in product(("guidance", "guidance by keyword heads"), ("GPT-2, 5 beams", "GPT-2, greedy")):
        alone, whole = times[stage] / times[name], times[stage] / (times[name] + encoders)
        print(f"{stage} adds {alone:.2%} to {name}, {whole:.2%} to it with the encoders")


def encoder_calls() -> dict[str, Call]:
    """The published towers with random weights."""
    from torchvision.models.detection import fasterrcnn_resnet50_fpn
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    clip: nn.Module = CLIPVisionModelWithProjection(CLIPVisionConfig())
    detector: nn.Module = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=224, max_size=224)
    for tower in (clip, detector):
        tower.to(DEVICE).eval()
    pictures = torch.rand(IMAGES, 3, 224, 224, device=DEVICE)
    return {
        "CLIP ViT-B/32": torch.inference_mode()(lambda: clip(pictures)),
        "Faster R-CNN FPN at 224": torch.inference_mode()(lambda: detector(list(pictures))),
    }


def scaling(target: Path) -> None:
    """Time against words, printed and drawn, with the slope of log time over log words from each size to the last."""
    from matplotlib.figure import Figure

    curves: dict[str, list[float]] = {}
    for words in SIZES:
        calls = {
            "guidance, whole stage": stage_call(SCENE_WORDS, words),
            "guidance, keyword heads": learned_call(SCENE_WORDS, words),
            **searches_of(words, IMAGES * REGIONS),
        }
        for name, seconds in zip(calls, in_turns(list(calls.values())), strict=True):
            curves.setdefault(name, []).append(1e3 * seconds)
        print(f"{words}: " + ", ".join(f"{name} {curve[-1]:.2f} ms" for name, curve in curves.items()), flush=True)
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    colours = ("#0b7fab", "#d9822b", "#4fb3d4", "#c0c5ce", "#8a919e")
    for (name, curve), colour in zip(curves.items(), colours, strict=True):
        whole, high = slope(SIZES, curve), slope(SIZES[-3:], curve[-3:])
        print(f"{name}: exponent {whole:.2f} over all, {high:.2f} over the last three")
        label = f"{'search, ' if ',' not in name else ''}{name} (exponent {whole:.2f})"
        axes.plot(SIZES, curve, "o-", color=colour, label=label)
    axes.set(xscale="log", yscale="log", xlabel="words of the detail bank", ylabel="CPU ms, 8 images x 36 regions")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(target, dpi=110)


def slope(sizes: Sequence[int], values: Sequence[float]) -> float:
    return statistics.linear_regression(list(map(math.log, sizes)), list(map(math.log, values))).slope


def forms() -> None:
    """Both searches in turns, and how long rounding the keys takes, once per bank."""
    for queries in (IMAGES, 64, IMAGES * REGIONS):
        for words in (1_024, 2_048, 3_072, 4_096, 6_144, 8_192):
            similarity = fitted(words)
            asked = torch.randn(queries, DIM)
            rough = RoughKeys.of(similarity.keys, similarity.prior)
            calls: list[Call] = [
                lambda keys=similarity.keys, bias=similarity.prior, asked=asked: nearest_keys(
                    asked, keys, bias, CHOSEN
                ),  # type: ignore[misc]
                lambda rough=rough, asked=asked: rough.nearest(asked, CHOSEN),  # type: ignore[misc]
                lambda similarity=similarity: RoughKeys.of(similarity.keys, similarity.prior),  # type: ignore[misc]
            ]
            product, found, once = (1e3 * seconds for seconds in in_turns(calls, seconds=1.0))
            print(f"Q {queries}, W {words}: product {product:.2f} ms, rough {found:.2f} ms, rounding {once:.2f} ms")
    print(f"rough from {ROUGH_FROM} words on")


def in_turns(calls: Sequence[Call], seconds: float = 2.0) -> list[float]:
    """Median seconds of each call; they take turns for about `seconds`, at least five rounds, after two to warm up."""
    for _ in range(2):
        start = CLOCK()
        for call in calls:
            synchronised(call)
        once = CLOCK() - start
    times: list[list[float]] = [[] for _ in calls]
    rest = torch.zeros(2**25, device=DEVICE)
    for _ in range(max(5, min(51, round(seconds / once)))):
        for call, kept in zip(calls, times, strict=True):
            rest.add_(1)  # the rest of a captioner passes through the cache in between
            start = CLOCK()
            synchronised(call)
            kept.append(CLOCK() - start)
    return [statistics.median(kept) for kept in times]


def synchronised(call: Call) -> None:
    call()
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def call_of(case: str, job: str) -> Call:
    """What one round of `job` does, on inputs made beforehand."""
    if case != "null" and job == "caption":
        return stage_call(SCENE_WORDS, DETAIL_WORDS[case])
    torch.manual_seed(0)
    config = NoGuidanceConfig() if case == "null" else SemanticGuidanceConfig()
    stage = config.build(DIM, random_bank(SCENE_WORDS), random_bank(DETAIL_WORDS[case])).to(DEVICE)
    fused, g, regions, valid = inputs(IMAGES if job == "caption" else 16)
    if job == "caption":
        return lambda: stage(fused, g, regions, valid)

    def train() -> None:
        with torch.autocast(DEVICE, torch.bfloat16):
            guidance = stage(fused, g, regions, valid)
        vectors = guidance.scene.sum() + guidance.detail.sum() + guidance.region_detail.abs().sum()
        (vectors + fused.sum()).backward()

    return train


def added_mib(case: str, job: str) -> float:
    """Memory that the stage and its calls add in this process; meaningful in a fresh one only."""
    if DEVICE == "cuda":
        before = torch.cuda.memory_allocated()
        synchronised(call_of(case, job))
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # imports peak higher than what stays: start the peak anew
    before = peak_kib()
    call = call_of(case, job)
    for _ in range(3):
        call()
    return (peak_kib() - before) / 2**10


def peak_kib() -> int:
    # Not getrusage: its ru_maxrss outlives exec, so that a fresh process starts with its parent's peak.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("case", DETAIL_WORDS)
def test_guidance_speed(benchmark: BenchmarkFixture, case: str, job: str) -> None:
    torch.set_num_threads(1)
    call = call_of(case, job)
    benchmark.group = f"guidance, {job}"
    benchmark.pedantic(synchronised, args=(call,), rounds=10, warmup_rounds=2)  # type: ignore[no-untyped-call]
    fresh = subprocess.run([sys.executable, __file__, "memory", case, job], check=True, capture_output=True, text=True)
    benchmark.extra_info["peak_mib"] = round(float(fresh.stdout), 1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    match sys.argv[1:]:
        case ["memory", name, what]:
            print(added_mib(name, what))
        case ["compare"]:
            compare()
        case ["share"]:
            share()
        case ["scaling", file]:
            scaling(Path(file))
        case ["forms"]:
            forms()
        case _:
            sys.exit(__doc__)
