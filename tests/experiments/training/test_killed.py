"""Training in processes of their own: killed at random moments, and shared by two."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from regioncap.experiments.config import Experiment
from regioncap.experiments.config_io import to_dict
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.config import TrainConfig

PROGRAM = Path(__file__).with_name("trainer.py")
CLOCKED = ("images_per_s", "images_per_cpu_s", "memory_mb")


@dataclass(frozen=True)
class Ended:
    """What a training left behind."""

    history: list[dict[str, float]]
    captions: list[str]
    weights: Mapping[str, Tensor]


def start(what: str, experiment: Experiment, prepared: Prepared, out: Path, *more: object, **env: object) -> Any:
    out.mkdir(parents=True, exist_ok=True)
    settings = out / "experiment.json"
    settings.write_text(json.dumps(to_dict(experiment)))
    arguments = [sys.executable, PROGRAM, what, settings, prepared.folder, out, *more]
    variables = os.environ | {name: str(value) for name, value in env.items()} | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [str(argument) for argument in arguments],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: Any) -> str:
    said, complained = process.communicate(timeout=300)
    assert process.returncode == 0, complained[-2000:]
    return str(said)


def ended(out: Path) -> Ended:
    result = json.loads((out / "result.json").read_text())
    return Ended(
        history=[{k: v for k, v in point.items() if k not in CLOCKED} for point in result["history"]],
        captions=result["captions"],
        weights=torch.load(out / "weights.pt", weights_only=True),
    )


@pytest.mark.parametrize("seed", [0])
def test_killed_ten_times_it_ends_with_the_very_same_weights(
    tiny: Experiment, prepared: Prepared, tmp_path: Path, seed: int
) -> None:
    """kill -9, mid-epoch and while a state is written, through both phases; dropout, average and best weights too."""
    experiment = replace(
        tiny,
        decoder=replace(tiny.decoder, dropout=0.2),
        train=TrainConfig(
            steps=90, images_per_step=4, evaluations=5, evaluation_images=4, save_every=2, ema=0.9, keep="best", lr=5e-3
        ),
    )
    end(start("once", experiment, prepared, tmp_path / "whole"))
    hit = json.loads(end(start("killed", experiment, prepared, tmp_path / "killed", 10, seed)).splitlines()[-1])
    assert len(hit) == 10
    assert {"state", "training"} <= set(hit)
    whole, killed = ended(tmp_path / "whole"), ended(tmp_path / "killed")
    assert killed.history == whole.history
    assert killed.captions == whole.captions
    assert set(killed.weights) == set(whole.weights)
    for name, tensor in whole.weights.items():
        assert torch.equal(killed.weights[name], tensor), name


def test_two_processes_learn_what_one_does(tiny: Experiment, prepared: Prepared, tmp_path: Path) -> None:
    """gloo: the loss curve to 1e-4, the same dev captions; every dev image once, in order."""
    experiment = replace(
        tiny,
        adapter=replace(tiny.adapter, dropout=0.0),
        train=TrainConfig(
            steps=40,
            images_per_step=7,  # not to be halved
            captions_per_image=3,
            evaluations=2,
            evaluation_images=5,
            precision="fp32",
            lr=1e-3,
            accumulate=2,
        ),
    )
    one = start("once", replace(experiment, train=replace(experiment.train, accumulate=1)), prepared, tmp_path / "one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launched = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    both = [
        start("once", experiment, prepared, tmp_path / "two", **launched, RANK=rank, LOCAL_RANK=rank)
        for rank in range(2)
    ]
    for process in (one, *both):
        end(process)
    alone, shared = ended(tmp_path / "one"), ended(tmp_path / "two")
    assert len(shared.captions) == len(prepared.dev)
    assert shared.captions == alone.captions
    assert len(shared.history) == len(alone.history)
    for mine, theirs in zip(alone.history, shared.history, strict=True):
        for name, value in mine.items():
            if name.startswith(("loss.", "dev.")):
                assert theirs[name] == pytest.approx(value, abs=1e-4), (mine["step"], name)
