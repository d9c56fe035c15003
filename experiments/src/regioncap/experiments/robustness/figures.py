"""Curves of what is left against the strength, and the pictures that suffer most."""

import textwrap
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from PIL import Image

from regioncap.encoders.images import read_image
from regioncap.experiments.robustness.corruptions import CORRUPTIONS, corrupt
from regioncap.experiments.robustness.results import Measured, Results

_COLUMNS = 4
_THUMBNAIL = 320
_LINE = 34
"""Letters of a caption in a line below its picture."""


def draw_curves(results: Results, folder: Path) -> None:
    """`robustness.png`, CIDEr in percent of the clean one with its interval, and `robustness_absolute.png`."""
    for name, relative in (("robustness.png", True), ("robustness_absolute.png", False)):
        figure, panels = _panels(len(results.corruptions) + 1)
        for axes, corruption in zip(panels, results.corruptions, strict=False):
            for number, subject in enumerate(results.subjects):
                _curve(axes, results, results.of(subject, corruption), number, relative=relative)
            rows = results.of(results.subjects[0], corruption)
            axes.set_title(corruption)
            axes.set_xticks([row.level for row in rows], ["clean", *(f"{row.strength:g}" for row in rows[1:])])
            axes.set_xlabel("\n".join(textwrap.wrap(CORRUPTIONS[corruption].unit, _LINE)), fontsize="small")
            axes.grid(alpha=0.3)
        for row in range(0, len(results.corruptions), _COLUMNS):
            panels[row].set_ylabel("CIDEr kept, %" if relative else "CIDEr, %")
        panels[0].set_ylim(bottom=0)  # of all: they share it, and before the last curve it would cut the later ones
        handles, labels = panels[0].get_legend_handles_labels()
        for axes in panels[len(results.corruptions) :]:
            axes.axis("off")
        panels[len(results.corruptions)].legend(handles, labels, loc="center", frameon=False)
        _save(figure, folder / name)


def draw_worst(results: Results, folder: Path, count: int) -> None:
    """`worst_CAPTIONER.png`: the pictures whose CIDEr falls most, clean and at the highest level, with the captions."""
    for subject in results.subjects:
        shown = [
            (changed, name)
            for corruption in results.corruptions
            for changed in results.of(subject, corruption)[-1:]
            for name in worst_images(results, changed, count)
        ]
        figure, panels = plt.subplots(
            len(results.corruptions),
            2 * count,
            figsize=(3.0 * 2 * count, 4.2 * len(results.corruptions) + 0.4),
            squeeze=False,
            layout="constrained",
        )
        clean = results.clean(subject)
        for at, (changed, name) in enumerate(shown):
            picture = read_image(results.images[name])
            left, right = panels[at // count, 2 * (at % count) : 2 * (at % count) + 2]
            _picture(left, picture, "clean", clean, name)
            spoilt = corrupt(picture, changed.corruption, changed.strength, name)
            _picture(right, spoilt, f"{changed.corruption} {changed.strength:g}", changed, name)
        for axes in panels.flat:
            axes.set(xticks=[], yticks=[], frame_on=False)
        figure.suptitle(f"{subject}: pictures whose CIDEr falls most")
        _save(figure, folder / f"worst_{subject.replace('/', '_').replace(' ', '_')}.png")


def worst_images(results: Results, changed: Measured, count: int) -> list[str]:
    """Images by what they lose of their CIDEr, most first; those that lose nothing are left out."""
    clean = results.clean(changed.subject).cider
    lost = {name: clean[name] - changed.cider[name] for name in results.images}
    return sorted((name for name in lost if lost[name] > 0), key=lambda name: -lost[name])[:count]


def _curve(axes: Any, results: Results, rows: tuple[Measured, ...], number: int, *, relative: bool) -> None:
    levels, colour = [row.level for row in rows], f"C{number}"
    kept = [results.kept(row) for row in rows]
    factor = 100.0 if relative else 100 * rows[0].scores["CIDEr"]
    axes.plot(levels, [factor * one.share for one in kept], marker="o", ms=3.5, color=colour, label=rows[0].subject)
    if relative:
        axes.fill_between(
            levels, [factor * one.low for one in kept], [factor * one.high for one in kept], color=colour, alpha=0.12
        )


def _picture(axes: Any, picture: Image.Image, what: str, row: Measured, name: str) -> None:
    shown = picture.copy()
    shown.thumbnail((_THUMBNAIL, _THUMBNAIL))
    axes.imshow(shown)
    axes.set_title(f"{what}, CIDEr {100 * row.cider[name]:.0f}", fontsize="small")
    axes.set_xlabel("\n".join(textwrap.wrap(row.captions[name], _LINE)), fontsize="small")


def _panels(count: int) -> tuple[Any, list[Any]]:
    """So many axes, with an empty one at the end for the legend."""
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.4 * columns, 3.1 * rows), squeeze=False, sharey=True, layout="constrained"
    )
    return figure, list(axes.flat)


def _save(figure: Any, file: Path) -> None:
    draft = file.with_name(f".draft-{file.name}")
    figure.savefig(draft, dpi=110)
    plt.close(figure)
    draft.replace(file)
