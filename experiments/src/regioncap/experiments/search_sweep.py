"""What each way of searching is worth: time and CIDEr of one checkpoint over greedy tokens, beams and precisions."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from regioncap.decoder import Prefix, SearchConfig
from regioncap.decoder.projections import Precision
from regioncap.experiments.cache import cache_folder
from regioncap.experiments.checkpoint import Checkpoint, load_checkpoint, weights_digest
from regioncap.experiments.config_io import to_dict
from regioncap.experiments.data.sources import read_data
from regioncap.experiments.evaluate import DataFolder
from regioncap.experiments.features import FeaturesSource
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.metrics import MetricsConfig
from regioncap.experiments.prepare import dev_split
from regioncap.experiments.progress import track
from regioncap.experiments.scoring.whole_file import write_whole
from regioncap.experiments.statistics import paired_bootstrap


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSweepOptions:
    """Which searches are compared, and on what."""

    out: Path
    """Folder for sweep.json, sweep.md and sweep.png; a sweep that was interrupted goes on from it."""
    data: DataFolder = field(default_factory=DataFolder)
    greedy_tokens: tuple[int, ...] = (0, 1, 2, 4, 8)
    """n: tokens taken greedily before the beams open; 0 is plain beam search."""
    beams: tuple[int, ...] = (1, 2, 3, 5, 8)
    """k: beams; 1 is greedy search, whatever n is."""
    precisions: tuple[Precision, ...] = ("float32",)
    """Arithmetic of the decoder; the first is what the others' captions are compared with."""
    images: int = 0
    """Only the first of dev, for a quick look; 0 takes them all."""
    batch_size: int = 8
    """Images decoded together."""
    threads: int = 1
    """CPU threads: with one, time in a busy machine is still CPU time."""
    cache: Path = field(default_factory=cache_folder)
    """Where features are kept."""
    features: Path | None = None
    """A folder that `regioncap extract` wrote, to read features from instead."""
    metrics: MetricsConfig = field(default_factory=MetricsConfig)

    def __post_init__(self) -> None:
        if not self.greedy_tokens or not self.beams or not self.precisions:
            raise ValueError("greedy-tokens, beams and precisions must each name a value or more")
        if self.batch_size < 1 or self.threads < 1 or self.images < 0:
            raise ValueError(
                f"batch-size and threads must be at least 1 and images at least 0, got {self.batch_size}, "
                f"{self.threads} and {self.images}"
            )

    def searches(self, base: SearchConfig) -> Iterator[SearchConfig]:
        """Every search once: n does not matter to greedy search."""
        for precision in self.precisions:
            for beams in self.beams:
                for greedy in self.greedy_tokens if beams > 1 else self.greedy_tokens[:1]:
                    yield replace(
                        base, method="beam", captions=1, diversity=0.0, precision=precision, beams=beams,
                        greedy_tokens=greedy,
                    )  # fmt: skip


def sweep_search(folder: Path, options: SearchSweepOptions) -> list[dict[str, Any]]:
    """Caption dev with every search, and write what each costs and gives.

    Encoders, graph, guidance and prefix run once, and are not in the times. p is from the paired bootstrap on CIDEr
    against plain beam search with as many beams. Raises CheckpointError or DataError naming what cannot be used.
    """
    checkpoint = load_checkpoint(folder)
    torch.set_num_threads(options.threads)
    source = checkpoint.experiment.data
    source = source if options.data.root is None else replace(source, root=options.data.root)
    data = read_data(source, options.cache)
    images = data.split(dev_split(data))[: options.images or None]
    encoders = checkpoint.experiment.encoders.build()
    features = FeaturesSource(cache=options.cache, store=options.features)
    store, _ = features.open(data.split(dev_split(data)), encoders.image, dev_split(data))
    prefixes = _prefixes(checkpoint, store, len(images), options.batch_size)
    searches = list(options.searches(checkpoint.experiment.search))
    kept = _Kept(options.out / "sweep.json", folder, [image.name for image in images])
    for search in track(searches, description="sweep searches", total=len(searches)):
        if kept.has(search):
            continue
        generator = CaptionGenerator(checkpoint.captioner, checkpoint.tokenizer, search)
        generator.from_prefix(prefixes[0], kept.names[: options.batch_size])  # warm-up
        start, wall, texts = time.process_time(), time.perf_counter(), []
        for at, prefix in enumerate(prefixes):
            names = kept.names[at * options.batch_size :][: options.batch_size]
            texts += [own[0] for own in generator.from_prefix(prefix, names)[1]]
        kept.add(search, texts, (time.process_time() - start) / len(texts), (time.perf_counter() - wall) / len(texts))
    with options.metrics.build() as scorer:
        references = {image.name: image.captions for image in images}
        per_image = []
        for row in kept.of(searches):
            scores = scorer.score(references, dict(zip(kept.names, row["captions"], strict=True)), ("CIDEr",))
            row["CIDEr"] = 100 * scores.corpus["CIDEr"]
            per_image.append(scores.of("CIDEr"))
    rows = _compared(kept.of(searches), per_image)
    _write(options.out, rows, f"{len(images)} images, {options.threads} thread, batch {options.batch_size}")
    return rows


def _prefixes(checkpoint: Checkpoint, store: Any, images: int, batch_size: int) -> list[Prefix]:
    captioner = checkpoint.captioner
    with torch.inference_mode():
        return [captioner.condition(store.images(rows)).prefix for rows in torch.arange(images).split(batch_size)]


class _Kept:
    """What was decoded so far, in a file that survives an interruption."""

    def __init__(self, file: Path, checkpoint: Path, names: Sequence[str]) -> None:
        self.file, self.names = file, list(names)
        self._about = {"checkpoint": weights_digest(checkpoint), "images": self.names}
        self._rows: list[dict[str, Any]] = []
        if file.exists():
            stored = json.loads(file.read_text())
            if stored["about"] != self._about:
                raise ValueError(f"{file} is the sweep of another checkpoint or other images: give another --out")
            self._rows = stored["rows"]

    def has(self, search: SearchConfig) -> bool:
        return any(row["search"] == to_dict(search) for row in self._rows)

    def add(self, search: SearchConfig, captions: list[str], cpu_s: float, wall_s: float) -> None:
        row = {"search": to_dict(search), "cpu_ms": 1e3 * cpu_s, "wall_ms": 1e3 * wall_s, "captions": captions}
        self._rows.append(row)
        write_whole(self.file, json.dumps({"about": self._about, "rows": self._rows}))

    def of(self, searches: Sequence[SearchConfig]) -> list[dict[str, Any]]:
        """The rows of these, in this order."""
        return [next(row for row in self._rows if row["search"] == to_dict(search)) for search in searches]


def _compared(rows: list[dict[str, Any]], per_image: list[Any]) -> list[dict[str, Any]]:
    """Every row beside plain beam search with as many beams, and beside the first precision."""
    at = {(row["search"]["precision"], row["search"]["beams"], row["search"]["greedy_tokens"]): i
          for i, row in enumerate(rows)}  # fmt: skip
    first = rows[0]["search"]["precision"]
    table = []
    for i, row in enumerate(rows):
        search = row["search"]
        plain = at.get((search["precision"], search["beams"], 0))
        exact = at[first, search["beams"], search["greedy_tokens"]]
        same = sum(a == b for a, b in zip(row["captions"], rows[exact]["captions"], strict=True))
        table.append(
            {
                "precision": search["precision"],
                "n": search["greedy_tokens"] if search["beams"] > 1 else None,
                "k": search["beams"],
                "CIDEr": row["CIDEr"],
                "cpu_ms": row["cpu_ms"],
                "wall_ms": row["wall_ms"],
                "time_over_beam": None if plain is None else row["cpu_ms"] / rows[plain]["cpu_ms"],
                "p": None if plain in (None, i) else paired_bootstrap([per_image[i]], [per_image[plain]]),
                "same_captions": same / len(row["captions"]),
            }
        )
    return table


def _write(folder: Path, rows: list[dict[str, Any]], about: str) -> None:
    lines = [
        f"Search: {about}",
        "",
        "| precision | n greedy | k beams | CIDEr | CPU ms an image | time over plain beam | p | same captions |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        cells = [
            row["precision"],
            "–" if row["n"] is None else row["n"],
            row["k"],
            f"{row['CIDEr']:.1f}",
            f"{row['cpu_ms']:.1f}",
            "–" if row["time_over_beam"] is None else f"{row['time_over_beam']:.2f}",
            "–" if row["p"] is None else f"{row['p']:.3f}",
            f"{100 * row['same_captions']:.1f} %",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    notes = (
        "p: paired bootstrap on CIDEr against plain beam search (n = 0) with as many beams. Same captions: as in "
        f"{rows[0]['precision']} with the same n and k. Times leave encoders, graph and guidance out."
    )
    write_whole(folder / "sweep.md", "\n".join([*lines, "", notes]) + "\n")
    draft = folder / ".sweep.png"
    _plot(rows).savefig(draft, dpi=150)
    plt.close("all")
    draft.replace(folder / "sweep.png")


def _plot(rows: list[dict[str, Any]]) -> Figure:
    """CIDEr against time, a line for each n (and precision), a point for each k."""
    figure, axes = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    greedy = [row for row in rows if row["k"] == 1]
    lines = sorted({(row["precision"], row["n"]) for row in rows if row["n"] is not None})
    marks = "osD^vPX*"
    for i, (precision, n) in enumerate(lines):
        own = [row for row in greedy if row["precision"] == precision]
        own += [row for row in rows if (row["precision"], row["n"]) == (precision, n)]
        own.sort(key=lambda row: row["k"])
        name = ("beam search" if n == 0 else f"greedy for {n}, then beams") + (
            f", {precision}" if len({row["precision"] for row in rows}) > 1 else ""
        )
        x, y = [row["cpu_ms"] for row in own], [row["CIDEr"] for row in own]
        axes.plot(x, y, marker=marks[i % len(marks)], markersize=5, linewidth=1.2, label=name)
        if n == lines[0][1]:
            for row in own:
                axes.annotate(f"k={row['k']}", (row["cpu_ms"], row["CIDEr"]), xytext=(4, -11), fontsize=8,
                              textcoords="offset points")  # fmt: skip
    axes.set_xlabel("CPU ms an image, search alone")
    axes.set_ylabel("CIDEr, dev")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    return figure
