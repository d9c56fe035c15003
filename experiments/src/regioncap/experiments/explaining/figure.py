"""The evidence for a caption as one picture."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from regioncap.experiments.explaining.evidence import CAPTION, Evidence, SeenRegion
from regioncap.experiments.overlay import PALETTE, place_labels

SHOWN = 8
"""Regions drawn in colour, the most heeded; the others are outlines."""
LISTED = 3
"""Words told of each region."""
NAMES = {
    "fused": "global (fused)",
    "regions": "regions",
    "scene": "scene words",
    "detail": "detail words",
    "top_detail": "detail words",
    "keywords": "keywords",
    CAPTION: CAPTION,
}
INK, FAINT, BAR = "#1b1f27", "#8a919e", "#2f7fb8"


def draw_evidence(image: Image.Image, evidence: Evidence, path: Path) -> None:
    """Draw the photograph with its numbered regions, their words, the picture's words, and what each word of the
    caption heeded; write it to `path` as PNG."""
    kinds = list(evidence.words[0].attention) if evidence.words else [CAPTION]
    shown = _most_heeded(evidence.regions)
    with plt.rc_context({"font.size": 9, "text.color": INK, "axes.labelcolor": INK, "ytick.color": INK}):
        figure = plt.figure(figsize=(12, 7.2 + 0.3 * len(kinds)), layout="constrained")
        figure.suptitle(evidence.caption or "(no words)", fontsize=16, x=0.012, ha="left", fontweight="bold")
        halves: Any = figure.subfigures(2, 1, height_ratios=[5.6, 1.3 + 0.36 * len(kinds)])
        above, below = halves
        photo, words, regions = above.subplots(1, 3, width_ratios=[5.2, 3, 3.6])
        _photograph(photo, image, shown, evidence.regions)
        _bars(words, evidence)
        _regions(regions, shown, len(evidence.regions))
        _heard(below, evidence, kinds)
        _write(figure, path)


def _most_heeded(regions: Sequence[SeenRegion]) -> list[SeenRegion]:
    return sorted(regions, key=lambda region: -(region.attention or 0.0))[:SHOWN]


def _colour(rank: int) -> tuple[float, ...]:
    return tuple(channel / 255 for channel in PALETTE[rank])


def _photograph(axes: Axes, image: Image.Image, shown: Sequence[SeenRegion], regions: Sequence[SeenRegion]) -> None:
    width, height = image.size
    axes.imshow(np.asarray(image.convert("RGB")))
    axes.set_axis_off()
    numbers = {region.number for region in shown}
    for region in regions:
        if region.number not in numbers:
            axes.add_patch(_frame(region, width, height, colour=(1, 1, 1, 0.35), line=0.7))
    for rank, region in reversed(list(enumerate(shown))):
        axes.add_patch(_frame(region, width, height, colour=(0, 0, 0, 0.55), line=3.2))
        axes.add_patch(_frame(region, width, height, colour=_colour(rank), line=1.6))
    unit = max(width, height) / 100
    texts = [f"{region.number} {region.words[0][0] if region.words else ''}".strip() for region in shown]
    boxes = [tuple(side * (width, height)[at % 2] for at, side in enumerate(region.box)) for region in shown]
    sizes = [(unit * (2.2 + 1.75 * len(text)), unit * 4.2) for text in texts]
    places = place_labels([(b[0], b[1], b[2], b[3]) for b in boxes], sizes, (width, height), gap=unit / 2)
    for rank, (text, place) in enumerate(zip(texts, places, strict=True)):
        if place is not None:
            axes.text(
                (place[0] + place[2]) / 2, (place[1] + place[3]) / 2, text, ha="center", va="center", fontsize=8.5,
                color=_colour(rank), bbox={"boxstyle": "round,pad=0.25", "facecolor": "#15181ee6", "edgecolor": "none"},
            )  # fmt: skip


def _frame(region: SeenRegion, width: int, height: int, *, colour: Any, line: float) -> Rectangle:
    x0, y0, x1, y1 = region.box
    corner, sides = (x0 * width, y0 * height), ((x1 - x0) * width, (y1 - y0) * height)
    return Rectangle(corner, *sides, fill=False, edgecolor=colour, linewidth=line)


def _bars(axes: Axes, evidence: Evidence) -> None:
    """Scene words by weight, and below them the picture's keywords."""
    keywords = evidence.keywords
    if evidence.keywords_are == "log-odds":
        keywords = tuple((word, 1 / (1 + math.exp(-score))) for word, score in keywords)
    title = "probability" if evidence.keywords_are == "log-odds" else "weight"
    groups = [("Scene words, weight", evidence.scene), (f"Keywords, {title}", keywords)]
    axes.set_axis_off()
    rows = sum(len(words) + 2 for _, words in groups)
    axes.set(xlim=(0, 1), ylim=(max(rows, 18), -0.5))
    row = 0.0
    for title, words in groups:
        axes.text(0, row, title, fontweight="bold", va="center")
        longest = max((weight for _, weight in words), default=1.0) or 1.0
        for word, weight in words:
            row += 1
            axes.text(0.36, row, word, ha="right", va="center")
            axes.barh(row, 0.48 * weight / longest, left=0.39, height=0.62, color=BAR)
            axes.text(0.4 + 0.48 * weight / longest, row, f" {weight:.2f}", va="center", fontsize=8, color=FAINT)
        if not words:
            row += 1
            axes.text(0.03, row, "none", va="center", color=FAINT)
        row += 2


def _regions(axes: Axes, shown: Sequence[SeenRegion], count: int) -> None:
    """What the regions in colour are called."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(18, -0.5))
    axes.text(0, 0, f"Detail words of {len(shown)} of {count} regions", fontweight="bold", va="center")
    for rank, region in enumerate(shown):
        row = 1.2 + 2.1 * rank
        axes.text(
            0.035, row, str(region.number), ha="center", va="center", fontsize=8.5, color=_colour(rank),
            bbox={"boxstyle": "round,pad=0.25", "facecolor": "#15181e", "edgecolor": "none"},
        )  # fmt: skip
        words = ", ".join(f"{word} {weight:.2f}" for word, weight in region.words[:LISTED])
        axes.text(0.09, row, words or "no words", va="center", color=INK if words else FAINT)
        told = [] if region.gate is None else [f"gate {region.gate:.2f} open"]
        told += [] if region.attention is None else [f"heeded {100 * region.attention:.1f} %"]
        axes.text(0.09, row + 0.85, ", ".join(told), va="center", fontsize=8, color=FAINT)


def _heard(figure: Any, evidence: Evidence, kinds: Sequence[str]) -> None:
    """Generated words by kinds of prefix tokens; the gate of the word bias and what it added, below."""
    if not evidence.words:
        return
    shares, biases = figure.subplots(2, 1, height_ratios=[len(kinds), 2], sharex=True)
    words = evidence.words
    attention = 100 * np.array([[word.attention[kind] for word in words] for kind in kinds]).reshape(len(kinds), -1)
    own = attention[:-1] if len(kinds) > 1 else attention
    _strip(shares, attention, [NAMES.get(kind, kind) for kind in kinds], top=float(own.max(initial=1.0)), form="{:.0f}")
    told = "" if not words or words[0].region is None else "; below each word, the region heeded most"
    shares.set_title(
        f"Share of attention on each kind of prefix token, %{told}", loc="left", fontsize=9, fontweight="bold"
    )
    openness = np.array([[word.gate for word in words], [word.bias for word in words]]).reshape(2, -1)
    _strip(biases, openness, ["bias gate open", "bias on the word"], top=1.0, form="{:.2f}", colours="Greens")
    biases.set_xticks(range(len(words)), [_under(word.word, word.region) for word in words], fontsize=10)
    biases.tick_params(length=0, labelbottom=True)


def _under(word: str, region: int | None) -> str:
    return word if region is None else f"{word}\n({region})"


def _strip(axes: Axes, values: Any, names: Sequence[str], *, top: float, form: str, colours: str = "Blues") -> None:
    axes.imshow(values, aspect="auto", cmap=colours, vmin=0, vmax=1.35 * top)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0, labelbottom=False)
    axes.spines[:].set_visible(False)
    for row, column in np.ndindex(values.shape):
        dark = values[row, column] > 0.8 * top
        axes.text(
            column, row, form.format(values[row, column]), ha="center", va="center", fontsize=8,
            color="white" if dark else INK,
        )  # fmt: skip


def _write(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".draft-{path.name}")
    figure.savefig(draft, dpi=110, format="png")
    plt.close(figure)
    draft.replace(path)
