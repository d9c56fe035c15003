"""Guidance on random boundary values: search in large banks beside faiss, and what guidance adds to a caption.

    python benchmarks/bench_guidance.py compare        # nearest words: ours, a full product and faiss; a minute
    python benchmarks/bench_guidance.py share          # guidance beside the rest of a caption at Table 2's sizes
    python benchmarks/bench_guidance.py scaling FILE   # 100 to 50,000 words, time as curves with exponents
    python benchmarks/bench_guidance.py memory         # of the stage with its banks, while it is made and used
    python benchmarks/bench_guidance.py forms          # the two searches: where `nearest.ROUGH_FROM` is from
    pytest benchmarks/bench_guidance.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'

A caption's guidance is 8 images of 36 regions at width 512: a scene bank asked 8 times and a detail bank 288 times.
Random vectors are the worst case: all words are about as near, so that the rough pass leaves the most in question.
faiss' IndexFlatIP searches the same keys with the bias as one more number. Times are CPU time on one thread, so that a
busy machine counts less; wall time where there is a GPU. The sides take turns with cold caches, medians are compared.

Under pytest: the stage at Table 2's sizes by similarity and by keyword heads, its null form, a step of training
(forward and backward of 16 images in bfloat16), and curves over the words of the detail bank and over images.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import faiss
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from regioncap.decoder import Gpt2DecoderConfig, SearchConfig, search
from regioncap.experiments.benchmarking import measure, table2, table2_stages
from regioncap.experiments.benchmarking.case import Case, Work, run_case
from regioncap.experiments.benchmarking.measure import CLOCK, DEVICE
from regioncap.experiments.benchmarking.memory import peak_mib
from regioncap.experiments.benchmarking.scaling import along, exponent
from regioncap.guidance import (
    KeywordBank,
    KeywordHeadsConfig,
    KeywordInputs,
    NoGuidanceConfig,
    SemanticGuidanceConfig,
    StandardisedSimilarity,
)
from regioncap.guidance.nearest import ROUGH_FROM, RoughKeys, nearest_keys

DIM, IMAGES, REGIONS, CHOSEN = 512, 8, 36, 4
SCENE_WORDS = 300
REGION_DIM = 2048
SIZES = (100, 300, 1_000, 3_000, 5_000, 10_000, 20_000, 50_000)
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


def by_similarity(images: int, detail_words: int, scene_words: int = SCENE_WORDS) -> Work:
    """Guidance of a batch of captions by nearness, as in the paper."""
    torch.manual_seed(0)
    stage = SemanticGuidanceConfig().build(DIM, random_bank(scene_words), random_bank(detail_words)).to(DEVICE).eval()
    fused, g, regions, valid = inputs(images)
    return _work(
        torch.inference_mode()(lambda: stage(fused, g, regions, valid)), images, detail_words, scene_words, stage
    )


def by_heads(images: int, detail_words: int, scene_words: int = SCENE_WORDS) -> Work:
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
    call = torch.inference_mode()(lambda: stage(fused, g, regions, valid, heads(seen)))
    return _work(call, images, detail_words, scene_words, stage, heads)


def null(images: int) -> Work:
    """No words."""
    stage = NoGuidanceConfig().build(DIM, random_bank(1), random_bank(1)).to(DEVICE)
    told = inputs(images)
    return _work(torch.inference_mode()(lambda: stage(*told)), images, 1, 1, stage)


def training(images: int, detail_words: int) -> Work:
    """Forward and backward."""
    torch.manual_seed(0)
    banks = random_bank(SCENE_WORDS), random_bank(detail_words)
    stage = SemanticGuidanceConfig().build(DIM, *banks).to(DEVICE)
    fused, g, regions, valid = inputs(images)

    def call() -> None:
        with torch.autocast(DEVICE, torch.bfloat16):
            guidance = stage(fused, g, regions, valid)
        vectors = guidance.scene.sum() + guidance.detail.sum() + guidance.region_detail.abs().sum()
        (vectors + fused.sum()).backward()

    return _work(call, images, detail_words, SCENE_WORDS, stage)


def _work(call: Call, images: int, detail_words: int, scene_words: int, *modules: nn.Module) -> Work:
    sizes = {"N": REGIONS, "D": DIM, "words of the scene bank": scene_words, "words of the detail bank": detail_words}
    return Work(call=call, images=images, sizes=sizes, modules=modules)


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
        "guidance": by_similarity(IMAGES, bank, bank),
        "guidance by keyword heads": by_heads(IMAGES, bank, bank),
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
        calls: dict[str, Call] = {
            "guidance, whole stage": by_similarity(IMAGES, words),
            "guidance, keyword heads": by_heads(IMAGES, words),
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


def memory() -> None:
    """What a stage and a call of it add, from making its bank on."""
    for words in (1_000, 10_000, 50_000):
        print(f"{words:,} detail words: {peak_mib(made_and_called, words):.0f} MiB", flush=True)


def made_and_called(detail_words: int) -> Call:
    """Make a stage and call it."""
    return lambda: by_similarity(IMAGES, detail_words)()


def slope(sizes: Sequence[int], values: Sequence[float]) -> float:
    return exponent(list(zip(sizes, values, strict=True))).slope


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
    """Median seconds of each call; they take turns for about `seconds`, the rest of a captioner between them."""
    named = {str(place): call for place, call in enumerate(calls)}
    taken = measure.in_turns(named, seconds=seconds, rounds=(5, 51), warm_up=2, cold=True)
    return [taken.p50(name) for name in named]


STAGE = "guidance"
WORDS = (100, 300, 1_000, 3_000, 10_000, 20_000, 50_000)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
SIMILARITY = Case(stage=STAGE, name="by similarity", make=by_similarity, seconds=0.5)
HEADS = Case(stage=STAGE, name="by keyword heads", make=by_heads, seconds=0.5)
WHOLE = Case(stage=STAGE, name="scene and detail words", make=table2_stages.guidance, seconds=0.5, memory=False)
STAGE_CASES = (
    *(step for step in table2_stages.steps() if step.stage == STAGE),
    Case(stage=STAGE, name="null", make=null, arguments=(IMAGES,), null=True),
    replace(HEADS, arguments=(IMAGES, table2.BANK)),
    Case(stage=STAGE, name="training by similarity", make=training, arguments=(16, table2.BANK)),
    *along(SIMILARITY, "words of the bank", WORDS, (100, 1_000, 50_000), lambda words: (IMAGES, words)),
    *along(replace(HEADS, memory=False), "words of the bank", WORDS, (100, 1_000, 50_000), lambda n: (IMAGES, n)),
    *along(WHOLE, "images of a batch", BATCHES, (1, 8, 64), lambda images: (images,)),
)


@pytest.mark.benchmark(timer=CLOCK)
def test_guidance_speed(benchmark: BenchmarkFixture, stage_case: Case) -> None:
    run_case(benchmark, stage_case)


if __name__ == "__main__":
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    match sys.argv[1:]:
        case ["compare"]:
            compare()
        case ["share"]:
            share()
        case ["memory"]:
            memory()
        case ["scaling", file]:
            scaling(Path(file))
        case ["forms"]:
            forms()
        case _:
            sys.exit(__doc__)
