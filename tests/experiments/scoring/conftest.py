"""Caption files in every format, and comparisons of invented scores that need no Java."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regioncap.experiments.metrics import METRICS, SUMMED, Scores
from regioncap.experiments.scoring import Comparison, System, compare

REFERENCES = {
    "a.jpg": ["A dog runs on the beach.", "A brown dog on sand"],
    "b.jpg": ["Two children play with a red ball", "Kids playing ball"],
    "c.jpg": ["A man rides a horse", "A man on a horse in a field"],
}
CAPTIONS = {"a.jpg": "a dog on the beach", "b.jpg": "children play ball", "c.jpg": "a man rides a brown horse"}
IDS = {"a.jpg": 7, "b.jpg": 8, "c.jpg": 9}


@pytest.fixture
def references() -> dict[str, list[str]]:
    return {name: list(group) for name, group in REFERENCES.items()}


@pytest.fixture
def captions() -> dict[str, str]:
    return dict(CAPTIONS)


@pytest.fixture
def coco_annotations() -> dict[str, Any]:
    return {
        "images": [{"id": IDS[name], "file_name": name} for name in REFERENCES],
        "annotations": [
            {"id": 10 * IDS[name] + number, "image_id": IDS[name], "caption": text}
            for name, group in REFERENCES.items()
            for number, text in enumerate(group)
        ],
    }


@pytest.fixture
def coco_results() -> list[dict[str, Any]]:
    return [{"image_id": IDS[name], "caption": text} for name, text in CAPTIONS.items()]


@pytest.fixture
def karpathy() -> dict[str, Any]:
    """The three images are the test split; val has one more."""
    images = [
        {
            "filepath": "val2014",
            "filename": name,
            "cocoid": IDS[name],
            "imgid": 1000 + IDS[name],
            "split": "test",
            "sentences": [{"raw": text, "tokens": text.lower().split()} for text in group],
        }
        for name, group in REFERENCES.items()
    ]
    other = images[0] | {"filename": "other.jpg", "cocoid": 70, "split": "val", "sentences": [{"raw": "A cat"}]}
    return {"images": [other, *images], "dataset": "coco"}


@pytest.fixture
def json_lines() -> str:
    """Images, captions and references in one."""
    rows = ({"image": name, "caption": CAPTIONS[name], "references": group} for name, group in REFERENCES.items())
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Writes a file: text as it is, everything else as JSON."""

    def put(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return put


@pytest.fixture
def invented() -> Callable[..., Comparison]:
    """Makes a comparison of random scores, in which every system gains on the one before."""
    return _invented


def _invented(
    images: int = 30,
    names: Sequence[str] = ("old", "new"),
    *,
    data_seed: int = 0,
    gain: float = 0.1,
    absent: Mapping[str, str] | None = None,
    texts: Sequence[str] = (),
    warnings: Sequence[tuple[str, ...]] = (),
    parts: Sequence[str] = (),
    **options: Any,
) -> Comparison:
    """`absent` metrics could not be computed, `texts` are the first captions of every system, and of the `parts` of
    SPICE all images have the first, half the second."""
    generator = np.random.default_rng(data_seed)
    image_names = [f"{index}.jpg" for index in range(images)]
    words = ["a", "dog", "cat", "man", "runs", "sits", "on", "the", "grass", "beach"]

    def caption() -> str:
        return " ".join(generator.choice(words, size=6))

    references = {image: [caption() for _ in range(3)] for image in image_names}
    base = {metric: generator.random(images) for metric in METRICS if metric not in {"SUM", *(absent or {})}}
    systems = []
    for number, name in enumerate(names):
        columns = {metric: values + gain * number * generator.random(images) for metric, values in base.items()}
        columns["SUM"] = np.sum([columns[metric] for metric in SUMMED if metric in columns], axis=0)
        captions = {image: caption() for image in image_names} | dict(zip(image_names, texts, strict=False))
        scores = Scores(
            corpus={metric: float(np.mean(values)) for metric, values in columns.items()},
            per_image={
                image: {metric: float(values[index]) for metric, values in columns.items()}
                for index, image in enumerate(image_names)
            },
            missing=absent or {},
            spice_parts=dict.fromkeys(parts, 0.4 + 0.1 * number),
            spice_parts_per_image={
                image: dict.fromkeys(parts[: 1 + index % len(parts)], 0.4 + 0.1 * number) if parts else {}
                for index, image in enumerate(image_names)
            },
            warnings=warnings[number] if warnings else (),
        )
        systems.append(System(name=name, file=Path(f"/home/someone/{name}.json"), captions=captions, scores=scores))
    return compare(references, systems, **{"samples": 200, **options})
