import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from regioncap.graph import draw_graph


@pytest.fixture
def evidence() -> dict[str, Tensor]:
    """Four quarters in a ring, the first attended most."""
    boxes = torch.tensor([[0.0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]])
    weights = torch.eye(4)
    for i, j, weight in ((0, 1, 0.9), (1, 3, 0.1)):
        weights[i, j] = weights[j, i] = weight
    attention = torch.tensor([[0.4, 0.6, 0, 0], [0.7, 0.1, 0, 0.2], [0, 0, 1, 0], [0, 0.5, 0, 0.5]])[None]
    return {"boxes": boxes, "weights": weights, "attention": attention}


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), dtype=int)


def draw(folder: Path, evidence: dict[str, Tensor], focus: int | None = None) -> np.ndarray:
    path = folder / "new" / "graph.png"
    draw_graph(Image.new("RGB", (120, 90), (40, 90, 60)), **evidence, targets=[path], focus=focus)
    return pixels(path)


def changed(before: np.ndarray, after: np.ndarray) -> tuple[bool, bool]:
    """Whether the left and the right half differ."""
    apart = np.abs(before - after).max(axis=2) > 8
    half = apart.shape[1] // 2
    return bool(apart[:, :half].any()), bool(apart[:, half:].any())


def test_png_and_svg_are_written(evidence: dict[str, Tensor], tmp_path: Path) -> None:
    targets = [tmp_path / "graph.png", tmp_path / "graph.svg"]
    draw_graph(np.zeros((30, 40, 3)), **evidence, targets=targets)
    assert pixels(targets[0]).shape[1] > 1000
    assert "<svg" in targets[1].read_text()


def test_edges_are_left_and_attention_is_right(evidence: dict[str, Tensor], tmp_path: Path) -> None:
    before = draw(tmp_path, evidence)
    weights = evidence["weights"].clone()
    weights[1, 3] = weights[3, 1] = 0.8
    assert changed(before, draw(tmp_path, evidence | {"weights": weights})) == (True, False)
    attention = evidence["attention"].clone()
    attention[0, 1] = torch.tensor([0.1, 0.1, 0.0, 0.8])
    assert changed(before, draw(tmp_path, evidence | {"attention": attention})) == (False, True)


def test_focus_is_the_region_that_receives_most(evidence: dict[str, Tensor], tmp_path: Path) -> None:
    most = int(evidence["attention"].mean((0, 1)).argmax())
    assert changed(draw(tmp_path, evidence), draw(tmp_path, evidence, focus=most)) == (False, False)
    assert changed(draw(tmp_path, evidence), draw(tmp_path, evidence, focus=3)) == (False, True)


def test_self_loops_are_not_drawn(evidence: dict[str, Tensor], tmp_path: Path) -> None:
    without = evidence["weights"] * (1 - torch.eye(4))
    assert changed(draw(tmp_path, evidence), draw(tmp_path, evidence | {"weights": without})) == (False, False)


def test_image_without_regions_is_only_the_photograph(tmp_path: Path) -> None:
    nothing = {"boxes": torch.zeros(0, 4), "weights": torch.zeros(0, 0), "attention": torch.zeros(1, 0, 0)}
    assert draw(tmp_path, nothing).shape[1] > 1000


def test_unknown_focus_and_missing_library(
    evidence: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="focus must be one of the 4 regions, got 4"):
        draw(tmp_path, evidence, focus=4)

    def absent(name: str) -> object:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ImportError, match=r"pip install 'regioncap-graph\[pictures\]'"):
        draw(tmp_path, evidence)
