import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.arms import ARMS
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.checkpoint import Checkpoint, save_checkpoint
from regioncap.experiments.config import Experiment
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.robustness.measure import RobustnessOptions, measure_robustness

Command = Callable[..., Any]
Folder = Callable[[str], Path]


def test_command_measures_ours_beside_a_captioner_of_transformers(
    hf_folder: Folder,
    command: Command,
    cache: Path,
    tmp_path: Path,
    make_captioner: Callable[[str], Captioner],
    prepared: Prepared,
    tiny: Experiment,
) -> None:
    checkpoint = Checkpoint.of(ARMS["baseline"].make(tiny), make_captioner("baseline"), prepared)
    save_checkpoint(checkpoint, tmp_path / "ours" / "checkpoint")
    out, peer = tmp_path / "out", f"hf:{hf_folder('git')}"
    flags = ["--out", out, "--cache", cache, "--corruptions", "occlusion", "jpeg", "--levels", 5, "--images", 4]
    outcome = command("robustness", tmp_path / "ours", peer, *flags)
    assert outcome.status == 0, outcome.err
    assert "| ours |" in outcome.out
    assert f"| {peer} |" in outcome.out
    stored = json.loads((out / "robustness.json").read_text())
    assert [(row["captioner"], row["corruption"]) for row in stored["rows"]] == [
        (name, corruption) for corruption in ("clean", "occlusion", "jpeg") for name in ("ours", peer)
    ]
    figures = {file.name for file in out.iterdir() if file.suffix == ".png"}
    assert {"robustness.png", "robustness_absolute.png", "worst_ours.png"} < figures
    assert len(figures) == 4


def test_peers_alone_need_a_folder(hf_folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.root is not given"):
        measure_robustness([f"hf:{hf_folder('git')}"], RobustnessOptions(out=tmp_path))
