"""Names of metrics in MLflow. Its charts form a section of what stands before the slash, so every name has one.

`dev/` what training measures on the way, `score/` the final metrics of the table, `measure/` what is measured beside
them (distinct-n, novelty, CLIPScore, ...), `loss/` the terms of eq. 19, `reward/` what self-critical training earns,
`guidance/`, `graph/`, `gradient_norm/` and `optimizer/` what happens inside, `cost/` what it takes, `system/` the
machine, `CIDEr/` a study's arms side by side.
"""

import re

from regioncap.experiments.metrics import MEASURES, METRICS

_NAMES = {
    "dev.cider": "dev/CIDEr",
    "gate_mean": "guidance/gate_mean",
    "gate_closed": "guidance/gate_closed",
    "scene_entropy": "guidance/scene_entropy",
    "loss": "loss/total",
    "lr": "optimizer/lr",
    "gradient_norm": "optimizer/gradient_norm",
    "images_per_cpu_s": "cost/images_per_cpu_s",
    "images_per_s": "cost/images_per_s",
    "memory_mb": "cost/memory_mb",
    "parameters": "cost/parameters",
    "train_cpu_s": "cost/train_cpu_s",
}
_NAMES |= {metric: f"score/{metric}" for metric in METRICS} | {name: f"measure/{name}" for name in MEASURES}
_SECTIONS = {"lr": "optimizer/lr.", "gate": "guidance/gate_"}
"""What the first word of a dotted name becomes, where that word is not itself the section."""


def metric_name(name: str) -> str:
    """The name that MLflow shows for a value: the section, a slash, the value.

    A name that is none of ours keeps its words; its first dot becomes the slash, and what MLflow refuses is replaced.
    """
    if name in _NAMES:
        return _NAMES[name]
    section, slash, value = name.partition("/") if "/" in name else name.partition(".")
    if slash == "." and section in _SECTIONS:
        return _SECTIONS[section] + _allowed(value)
    parts = [_allowed(part) for part in (section, value) if part]
    return "/".join(parts) if slash else parts[0]


def _allowed(text: str) -> str:
    """Letters, digits and `_-. :/`, and no leading blank: what MLflow takes."""
    words = text.replace("+", " plus ").strip()
    return re.sub(r"[^\w\-. :/]", "_", re.sub(r" +", " ", words))
