from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from regioncap.experiments.arms import RETRIEVAL
from regioncap.experiments.reporting.costs import STAGES, cost_table, stage_parameters
from regioncap.experiments.reporting.finished import read_runs
from regioncap.experiments.reporting.rows import by_arm


def test_stages_are_counted_as_torch_counts_them(
    trained: tuple[Any, Path], make_captioner: Callable[[str], Any]
) -> None:
    captioner = make_captioner("+graph+guidance")
    counted = stage_parameters(trained[1] / "checkpoint")
    assert set(counted) <= set(STAGES)
    stages = dict(captioner.named_children())
    for stage in ("adapter", "graph", "fusion", "text_projection"):
        assert counted[stage] == sum(parameter.numel() for parameter in stages[stage].parameters())


def test_a_checkpoint_that_is_not_there_or_torn_counts_nothing(tmp_path: Path) -> None:
    assert stage_parameters(tmp_path) == {}
    (tmp_path / "model.safetensors").write_bytes(b"\x09")
    assert stage_parameters(tmp_path) == {}


def test_each_arm_has_a_row_with_its_spread(invent: Callable[..., Path], tmp_path: Path) -> None:
    study = invent(tmp_path / "study")
    checkpoint = study / "+graph" / "seed0" / "checkpoint"
    checkpoint.mkdir()
    save_file({"graph.w": torch.zeros(3, 4), "decoder.b": torch.zeros(5)}, checkpoint / "model.safetensors")
    table = cost_table(by_arm(read_runs(study)))
    assert [row[0] for row in table.rows] == ["baseline", "+graph", "+graph+guidance"]
    assert RETRIEVAL not in {row[0] for row in table.rows}
    assert table.head == ("arm", "training, CPU s", "images per CPU s", "trained", "graph", "decoder")
    assert table.rows[1] == ("+graph", "62 ± 1", "100 ± 0", "1,001", "12", "5")
    assert table.rows[0][4:] == ("0", "0")
