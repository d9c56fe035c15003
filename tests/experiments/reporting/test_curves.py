from collections.abc import Callable
from pathlib import Path

import pytest

from regioncap.experiments.reporting.curves import learning_curves
from regioncap.experiments.reporting.finished import read_runs
from regioncap.experiments.reporting.rows import by_arm


def test_curves_are_mean_and_range_over_seeds(invent: Callable[..., Path], tmp_path: Path) -> None:
    arms = by_arm(read_runs(invent(tmp_path / "study", seeds=3)))
    curves = learning_curves(arms)
    assert list(curves)[:2] == ["dev.cider", "loss.total"]
    assert set(curves) == {"dev.cider", "dev.distinct", "loss.total", "lr", "images_per_cpu_s"}
    cider = curves["dev.cider"]["+graph"]
    assert cider["steps"] == [20, 40, 60]
    assert cider["mean"] == pytest.approx([11, 21, 31])
    assert cider["low"] == pytest.approx([10, 20, 30])
    assert cider["high"] == pytest.approx([12, 22, 32])
    assert curves["loss.total"]["baseline"]["mean"] == pytest.approx([3, 1.5, 1])
    assert set(curves["lr"]) == set(arms) - {"retrieval floor"}
