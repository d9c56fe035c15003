import json
import os
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from regioncap.encoders import (
    AttributeHeadConfig,
    EfficientNetFpnConfig,
    FasterRcnnEncoderConfig,
    NoAttributesConfig,
)
from regioncap.experiments.config_io import to_dict
from regioncap.experiments.detection import training
from regioncap.experiments.detection.training import (
    MEASURED,
    STATE,
    TrainDetectorConfig,
    build_detector,
    train_detector_on,
)

WEIGHTS = "detector.safetensors"


def test_it_leaves_a_detector_that_the_encoder_loads_and_its_figures(job: TrainDetectorConfig) -> None:
    scores = train_detector_on(job)
    assert scores is not None
    encoder = FasterRcnnEncoderConfig(weights=job.out).build()
    assert encoder.words == ("dark", "light", "red", "blue", "big")
    record = json.loads((job.out / MEASURED).read_text())
    assert record["measured_on_dev"] == scores.as_json()
    assert record["pictures"] == {"train": 8, "dev": 4}
    assert record["boxes"] == {"train": 16, "dev": 8}
    assert record["cpu_s"]["with_evaluation"] >= record["cpu_s"]["with_maps"] > 0
    assert not (job.out / STATE).exists()
    curve = [json.loads(line) for line in (job.out / "curve.jsonl").read_text().splitlines()]
    assert [point["step"] for point in curve] == [3]
    assert str(job.cache) not in json.dumps(record)


def test_a_finished_one_is_kept_and_another_config_refused(
    job: TrainDetectorConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train_detector_on(job)
    before = (job.out / WEIGHTS).stat().st_mtime_ns
    assert train_detector_on(replace(job, checkpoint_every=5)) is None
    assert "is finished" in capsys.readouterr().out
    assert (job.out / WEIGHTS).stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"out holds a detector of another config"):
        train_detector_on(replace(job, training=replace(job.training, seed=5)))


_KILLED = """
import sys
from pathlib import Path
import torch
from regioncap.experiments.detection import training
from regioncap.experiments.config_io import from_dict
import json
config = from_dict(training.TrainDetectorConfig, json.loads(Path(sys.argv[1]).read_text()), "config")
step = training.DetectorTraining._step
def slow(self):
    print("step", self.step, flush=True)
    return step(self)
training.DetectorTraining._step = slow
torch.set_num_threads(1)
training.train_detector_on(config)
"""


def test_killed_twice_it_ends_with_the_same_weights(job: TrainDetectorConfig, tmp_path: Path) -> None:
    """Real processes, killed at a step that no state was saved at."""
    job = replace(job, training=replace(job.training, steps=7))
    train_detector_on(replace(job, out=tmp_path / "whole"))
    (tmp_path / "job.json").write_text(json.dumps(to_dict(job)))
    for last in ("step 3", "step 5"):
        process = subprocess.Popen(
            [sys.executable, "-c", _KILLED, str(tmp_path / "job.json")],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(last):
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait(timeout=60) == -signal.SIGKILL
        assert (job.out / STATE).is_file()
        assert not (job.out / MEASURED).exists()
    train_detector_on(job)
    whole, resumed = load_file(tmp_path / "whole" / WEIGHTS), load_file(job.out / WEIGHTS)
    assert whole.keys() == resumed.keys()
    assert all(whole[name].equal(resumed[name]) for name in whole)


def test_stored_maps_and_a_trunk_that_runs_in_every_step_teach_the_same(
    job: TrainDetectorConfig, tmp_path: Path
) -> None:
    frozen = replace(
        job,
        detector=replace(
            job.detector, trunk=EfficientNetFpnConfig(strides=(16, 32), channels=8), anchor_sizes=(16, 24)
        ),
        training=replace(job.training, steps=2),
    )
    train_detector_on(replace(frozen, out=tmp_path / "stored"))
    assert list((job.cache / "trunk_maps").iterdir())
    train_detector_on(replace(frozen, out=tmp_path / "computed", stored_kb=0))
    stored, computed = (load_file(tmp_path / name / WEIGHTS) for name in ("stored", "computed"))
    assert all(stored[name].equal(computed[name]) for name in stored)


def test_maps_are_written_once(job: TrainDetectorConfig, tmp_path: Path) -> None:
    frozen = replace(
        job,
        detector=replace(
            job.detector, trunk=EfficientNetFpnConfig(strides=(16, 32), channels=8), anchor_sizes=(16, 24)
        ),
        training=replace(job.training, steps=1),
    )
    train_detector_on(frozen)
    before = {path: path.stat().st_mtime_ns for path in job.cache.rglob("*.npy")}
    train_detector_on(replace(frozen, out=tmp_path / "again", training=replace(frozen.training, seed=3)))
    assert {path: path.stat().st_mtime_ns for path in job.cache.rglob("*.npy")} == before
    assert len(list((job.cache / "trunk_maps").iterdir())) == 2  # train and dev, nothing half-written


def test_a_full_disk_is_said_before_anything_is_written(
    job: TrainDetectorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(training.shutil, "disk_usage", lambda path: usage)
    trunk = EfficientNetFpnConfig(strides=(16, 32), channels=8)
    with pytest.raises(ValueError, match=r"trunk_maps has 0\.0 GB left.*REGIONCAP_CACHE.*--stored-kb 0"):
        train_detector_on(replace(job, detector=replace(job.detector, trunk=trunk)))


def test_attributes_are_left_out_on_demand_or_where_there_are_none(job: TrainDetectorConfig) -> None:
    train, _ = job.data.read()
    assert isinstance(build_detector(job, train).config.attributes, AttributeHeadConfig)
    assert isinstance(build_detector(replace(job, attributes="none"), train).config.attributes, NoAttributesConfig)
    plain = replace(train, attributes=(), attribute_groups=())
    assert isinstance(build_detector(job, plain).config.attributes, NoAttributesConfig)


def test_weights_follow_the_seed_and_nothing_else(job: TrainDetectorConfig) -> None:
    train, _ = job.data.read()
    one, same = build_detector(job, train).state_dict(), build_detector(job, train).state_dict()
    other = build_detector(replace(job, training=replace(job.training, seed=1)), train).state_dict()
    assert all(one[name].equal(same[name]) for name in one)
    assert not all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1"),
        ({"evaluations": 0}, "evaluations must be at least 1"),
        ({"evaluation_images": 0}, "evaluation_images must be at least 1"),
        ({"stored_kb": -1}, "stored_kb must not be negative"),
    ],
)
def test_bad_config_names_the_field(job: TrainDetectorConfig, change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(job, **change)


def test_classes_are_not_for_the_user_to_give(job: TrainDetectorConfig) -> None:
    with pytest.raises(ValueError, match=r"detector\.classes come from the boxes"):
        replace(job, detector=replace(job.detector, classes=("cat",)))
    assert {field.name for field in fields(job)} >= {"out", "data", "detector", "training"}
