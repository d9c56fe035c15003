"""Names of metrics in MLflow. Its charts form a section of what stands before the slash, so every name has one.

`dev/` what training measures on the way, `score/` the final metrics of the table, `measure/` what is measured beside
them (distinct-n, novelty, CLIPScore, ...), `loss/` the terms of eq. 19,
`guidance/`, `graph/` and `optimizer/` what happens inside, `cost/` what it takes, `CIDEr/` a study's arms side by side.
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
    "parameters": "cost/parameters",
    "train_cpu_s": "cost/train_cpu_s",
}
_NAMES |= {metric: f"score/{metric}" for metric in METRICS} | {name: f"measure/{name}" for name in MEASURES}


def metric_name(name: str) -> str:
    """The name that MLflow shows for a value: the section, a slash, the value.

    A name that is none of ours keeps its words; its first dot becomes the slash, and what MLflow refuses is replaced.
    """
    if name in _NAMES:
        return _NAMES[name]
    section, slash, value = name.partition("/") if "/" in name else name.partition(".")
    parts = [_allowed(part) for part in (section, value) if part]
    return "/".join(parts) if slash else parts[0]


def _allowed(text: str) -> str:
    """Letters, digits and `_-. :/`, and no leading blank: what MLflow takes."""
    words = text.replace("+", " plus ").strip()
    return re.sub(r"[^\w\-. :/]", "_", re.sub(r" +", " ", words))
