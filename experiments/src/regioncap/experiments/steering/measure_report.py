"""The figures of steering as a table and a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

_MEANINGS = {
    "add colour": "a colour that the picture does not have",
    "add object": "an object that it does not show",
    "add scene": "a scene word that is not said of it",
    "be elsewhere": "`--scene` PLACE, where it is not",
    "rename region": "`--region` 1=OBJECT that it does not show",
    "add true word": "control: a word of the references that the captioner had not said",
    "drop": "a word that was said and guidance had chosen",
    "drop true word": "of these, those that a reference says",
    "drop false word": "and those that none says",
}


def table(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """Markdown."""
    lines = [
        f"Steering: {about['images']} images, CIDEr {about['CIDEr']:.1f} without edits, seed {about['seed']}",
        "",
        "| edit | images | strength | said without | said with | CIDEr without | CIDEr with | change | p |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        cells = [
            row["edit"],
            row["images"],
            f"{row['strength']:g}",
            f"{100 * row['said_without']:.0f} %",
            f"{100 * row['said_with']:.0f} %",
            f"{row['CIDEr_without']:.1f}",
            f"{row['CIDEr_with']:.1f}",
            f"{row['CIDEr_with'] - row['CIDEr_without']:+.1f}",
            f"{row['p']:.3f}",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    told = [f"- {name}: {_MEANINGS[name]}." for name in dict.fromkeys(row["edit"] for row in rows)]
    notes = (
        "One word a picture, drawn by its frequency in the training captions. CIDEr is over the row's images; p is the "
        "paired bootstrap on it, with against without."
    )
    return "\n".join([*lines, "", *told, "", notes]) + "\n"


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """How often the word is said, and the CIDEr that the edit costs, over strengths."""
    figure, (said, cost) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    edits = list(dict.fromkeys(row["edit"] for row in rows))
    for at, edit in enumerate(edits):
        own = sorted((row for row in rows if row["edit"] == edit), key=lambda row: row["strength"])
        strengths = [row["strength"] for row in own]
        style = {
            "color": plt.get_cmap("tab10")(at % 10), "marker": "osD^vPX*d"[at % 9], "markersize": 5,
            "linestyle": "--" if edit.startswith("drop") else "-", "linewidth": 1.3,
            "label": f"{edit} ({own[0]['images']})",
        }  # fmt: skip
        said.plot(strengths, [100 * row["said_with"] for row in own], **style)
        cost.plot(strengths, [row["CIDEr_with"] - row["CIDEr_without"] for row in own], **style)
    said.set(xlabel="strength, log-odds", ylabel="captions that say the word, %", ylim=(-3, 103))
    cost.set(xlabel="strength, log-odds", ylabel="change in CIDEr of the edited images")
    cost.axhline(0, color="0.5", linewidth=0.8)
    for axes in (said, cost):
        axes.grid(alpha=0.3)
    figure.legend(*said.get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".draft-{path.name}")
    figure.savefig(draft, dpi=130, format="png")
    plt.close(figure)
    draft.replace(path)
