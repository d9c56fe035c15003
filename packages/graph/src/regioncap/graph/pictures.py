"""A graph and its attention over the photograph, as PNG, SVG or whatever matplotlib writes."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_WIDTH = 5.2
"""Inches of a panel."""
_BROADEST = 4.5
"""Points of the broadest line among few; among `_MANY` it is half as broad."""
_MANY = 60
_INK, _HEAT = "#ffffff", "inferno"
_COLOURS = (
    "#ffbe3d",
    "#58c8f5",
    "#ff70a6",
    "#8ce99a",
    "#ff8a5c",
    "#bea5fa",
    "#faf078",
    "#40e0d0",
    "#e296f0",
    "#b2d65a",
)


def draw_graph(
    image: Any,
    boxes: Float[Tensor, "N 4"],
    weights: Float[Tensor, "N N"],
    attention: Float[Tensor, "H N N"],
    targets: Sequence[Path],
    *,
    focus: int | None = None,
) -> None:
    """Draw the regions of one image, their edges and their attention; write the picture to every path in `targets`.

    The left panel has the regions with arcs as broad as e_ij. In the right one regions are as bright as the attention
    they receive, the mean over heads and over the listeners; arrows show whom the region `focus` listens to, as broad
    as its shares. `focus` None takes the region that receives most. Self-loops are not drawn.

    `image`: what matplotlib's imshow takes (a PIL image will do). `boxes`: x0 y0 x1 y1 in fractions of the image, real
    regions only. `weights`: e_ij, 0 where no edge. `attention`: how much i listens to j. Suffixes choose the formats.
    Raises ValueError if `focus` is no region, ImportError if matplotlib is missing.
    """
    if focus is not None and not 0 <= focus < len(boxes):
        raise ValueError(f"focus must be one of the {len(boxes)} regions, got {focus}")
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise ImportError("matplotlib is not installed: pip install 'regioncap-graph[pictures]'") from error
    boxes, weights, attention = boxes.detach().cpu(), weights.detach().cpu(), attention.detach().float().mean(0).cpu()
    figure = figures.Figure(figsize=(2 * _WIDTH, _WIDTH + 0.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    width, height = _photograph(left, image, "edges, as broad as $e_{ij}$")
    _photograph(right, image, "attention: received (fill), and whom one region listens to")
    pixels = boxes * torch.tensor([width, height, width, height])
    centres = (pixels[:, :2] + pixels[:, 2:]) / 2

    for region, box in enumerate(pixels):
        _frame(left, box, edgecolor=_COLOURS[region % len(_COLOURS)], linewidth=1.6)
    joined = weights.triu(1)
    pairs = joined.nonzero().tolist()
    for i, j in pairs:
        _line(left, centres[i], centres[j], float(joined[i, j] / joined.max()), style="-", lines=len(pairs))
    if len(boxes):
        left.scatter(*centres.T.numpy(), s=18, c=[_COLOURS[i % len(_COLOURS)] for i in range(len(boxes))], zorder=3)
        _draw_attention(right, pixels, centres, attention, focus)
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, dpi=110)


def _draw_attention(
    axes: Any,
    pixels: Float[Tensor, "N 4"],
    centres: Float[Tensor, "N 2"],
    attention: Float[Tensor, "N N"],
    focus: int | None,
) -> None:
    received = attention.mean(0)
    if focus is None:
        focus = int(received.argmax())
    heat = importlib.import_module("matplotlib").colormaps[_HEAT]
    # The smallest last, so that none is covered.
    for region in (pixels[:, 2:] - pixels[:, :2]).prod(1).argsort(descending=True).tolist():
        bright = float(received[region] / received.max().clamp_min(1e-12))
        colour = heat(0.2 + 0.8 * bright)[:3]
        _frame(axes, pixels[region], facecolor=(*colour, 0.05 + 0.4 * bright), edgecolor=colour)
    heard = attention[focus].clone()
    heard[focus] = 0
    speakers = heard.nonzero().flatten().tolist()
    for j in speakers:
        _line(axes, centres[j], centres[focus], float(heard[j] / heard.max()), style="-|>", lines=len(speakers))
    _frame(axes, pixels[focus], edgecolor=_INK, linewidth=2.2)


def _photograph(axes: Any, image: Any, title: str) -> tuple[int, int]:
    """Show the image dimmed, so that lines can be read; returns its width and height in pixels."""
    shown = axes.imshow(image, alpha=0.75)
    axes.set_facecolor("black")
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    height, width = shown.get_array().shape[:2]
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    return width, height


def _frame(axes: Any, box: Float[Tensor, "4"], **style: Any) -> None:
    patches = importlib.import_module("matplotlib.patches")
    x0, y0, x1, y1 = box.tolist()
    axes.add_patch(patches.Rectangle((x0, y0), x1 - x0, y1 - y0, **{"facecolor": "none", **style}))


def _line(
    axes: Any, start: Float[Tensor, "2"], end: Float[Tensor, "2"], share: float, *, style: str, lines: int
) -> None:
    """An arc, one of so many lines: straight ones would run into each other on a grid."""
    patches = importlib.import_module("matplotlib.patches")
    arc = patches.FancyArrowPatch(
        start.tolist(),
        end.tolist(),
        connectionstyle="arc3,rad=0.15",
        arrowstyle=style,
        mutation_scale=5 + 5 * share,
        linewidth=0.3 + _BROADEST * share / (1 + lines / _MANY),
        color=_INK,
        alpha=0.3 + 0.6 * share,
        shrinkA=0,
        shrinkB=0,
        zorder=2,
    )
    axes.add_patch(arc)
