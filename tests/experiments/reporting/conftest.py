"""Studies as the commands leave them, with invented scores: nothing is trained."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regioncap.experiments.arms import ARMS, RETRIEVAL
from regioncap.experiments.config_io import to_dict
from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.metrics import METRICS, SUMMED
from regioncap.experiments.presets import scenes
from regioncap.experiments.study_file import write_study_file

WORDS = ("a", "dog", "cat", "man", "runs", "sits", "on", "the", "grass", "beach")


@pytest.fixture(scope="session")
def invent() -> Callable[..., Path]:
    """Writes the folder of an ablation study."""
    return _invent


def _invent(
    folder: Path,
    *,
    arms: Sequence[str] = ("baseline", "+graph", "+graph+guidance"),
    seeds: int = 2,
    images: int = 12,
    texts: Sequence[str] = (),
    evaluations: int = 3,
    title: str = "Ablation study on scenes: invented",
) -> Path:
    """Each arm gains on the one before; `texts` are the first captions of every arm."""
    generator = np.random.default_rng(0)
    names = [f"{index}.jpg" for index in range(images)]
    photographs = folder.parent / f"{folder.name}-photographs"
    photographs.mkdir(parents=True)
    for index, name in enumerate(names[:6]):
        Image.new("RGB", (90, 60 + 10 * index), (200, 30 * index, 60)).save(photographs / name)

    def caption() -> str:
        return " ".join(generator.choice(WORDS, size=6))

    def scores(gain: float) -> dict[str, Any]:
        rows = {}
        for index, name in enumerate(names):
            row = {
                metric: float(generator.uniform(10, 60) + gain) for metric in METRICS if metric not in {"SUM", "SPICE"}
            }
            row["SUM"] = sum(row[metric] for metric in SUMMED if metric in row)
            rows[name] = {"caption": texts[index] if index < len(texts) else caption()} | row
        corpus = {
            metric: float(np.mean([row[metric] for row in rows.values()]))
            for metric in rows[names[0]]
            if metric != "caption"
        }
        missing = {"SPICE": "no jars"}
        return {"unit": "percent", "corpus": corpus, "missing": missing, "warnings": ["one warning"], "per_image": rows}

    def put(file: Path, content: Any) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))

    put(folder / RETRIEVAL / "scores.json", scores(-5.0))
    for number, arm in enumerate(arms):
        for seed in range(seeds):
            place = folder / arm / f"seed{seed}"
            found = scores(8.0 * number)
            put(place / "scores.json", found)
            experiment = replace(ARMS[arm].make(scenes()) if arm in ARMS else scenes(), seed=seed)
            history = []
            for step in range(1, evaluations + 1):
                history.append({"step": 20 * step, "loss.total": 3.0 / step, "lr": 1e-3, "images_per_cpu_s": 100.0})
                history.append({"step": 20 * step, "dev.cider": 0.1 * step + 0.01 * seed, "dev.distinct": 0.5})
            put(
                place / "result.json",
                {
                    "arm": arm,
                    "experiment": to_dict(experiment),
                    "parameters": 1000 + number,
                    "train_cpu_s": 60.0 + number + seed,
                    "history": history,
                    "graph": {"graph.regions": 4.0},
                    "captions": {name: row["caption"] for name, row in found["per_image"].items()},
                },
            )
            evidence = {
                "shown": 2,
                "boxes": [[0.1, 0.1, 0.5, 0.6], [0.4, 0.3, 0.9, 0.9], [0.0, 0.0, 0.2, 0.2]],
                "words": ["dog", "beach", ""],
                "edges": [[0, 1, 0.9], [1, 2, 0.2]],
                "scene": [["sunset", 0.75], ["grass", 0.25]],
            }
            put(place / "evidence.json", dict.fromkeys(names, evidence))
    rows = [CaptionedImage(name=name, path=photographs / name, captions=(caption(), caption())) for name in names]
    write_study_file(folder, title=title, preset="scenes", images=rows)
    return folder
