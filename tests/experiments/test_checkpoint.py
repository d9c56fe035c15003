import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from regioncap.experiments.arms import ARMS
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from regioncap.experiments.config import Experiment
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.prepare import Prepared


@pytest.fixture(scope="module")
def make_checkpoint(
    make_captioner: Callable[[str], Captioner], tiny: Experiment, prepared: Prepared
) -> Callable[[str], Checkpoint]:
    def make(arm: str) -> Checkpoint:
        captioner = make_captioner(arm)
        torch.manual_seed(5)
        with torch.no_grad():  # weights that no seed gives
            for parameter in captioner.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        return Checkpoint.of(ARMS[arm].make(tiny), captioner, prepared)

    return make


@pytest.mark.parametrize("arm", ARMS)
def test_loaded_captioner_says_the_very_same(
    make_checkpoint: Callable[[str], Checkpoint], prepared: Prepared, tmp_path: Path, arm: str
) -> None:
    saved = make_checkpoint(arm)
    save_checkpoint(saved, tmp_path / "checkpoint")
    loaded = load_checkpoint(tmp_path / "checkpoint")
    assert loaded.experiment == saved.experiment
    images = prepared.dev.images(torch.arange(8))
    search = saved.experiment.search
    one, other = (CaptionGenerator(c.captioner, c.tokenizer, search)(images, "abcdefgh") for c in (saved, loaded))
    assert one.texts == other.texts
    assert torch.equal(one.captions.scores, other.captions.scores)
    words = [c.captioner.guidance.chosen_words(one.guidance) for c in (saved, loaded)]
    assert words[0] == words[1]
    assert not loaded.captioner.training
    state = loaded.captioner.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in saved.captioner.state_dict().items())


def test_saving_again_replaces_the_folder(make_checkpoint: Callable[[str], Checkpoint], tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    save_checkpoint(make_checkpoint("+graph"), folder)
    (folder / "left").write_text("over")
    save_checkpoint(make_checkpoint("baseline"), folder)
    assert load_checkpoint(folder).experiment == make_checkpoint("baseline").experiment
    assert not (folder / "left").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.fixture(scope="module")
def written(make_checkpoint: Callable[[str], Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "checkpoint"
    save_checkpoint(make_checkpoint("+graph+guidance"), folder)
    return folder


@pytest.fixture
def broken(written: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(written, tmp_path / "checkpoint"))


FILES = (
    "config.json",
    "model.safetensors",
    "clip_head.json",
    "tokenizer/tokenizer.json",
    "banks/scene/words.tsv",
    "banks/scene/embeddings.safetensors",
    "banks/detail/words.tsv",
)


def refused(folder: Path, *parts: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    for part in (str(folder), *parts):
        assert part in str(caught.value)
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize("file", FILES)
def test_missing_file_is_named(broken: Path, file: str) -> None:
    (broken / file).unlink()
    refused(broken, Path(file).name)


@pytest.mark.parametrize("file", FILES)
def test_truncated_file_is_named(broken: Path, file: str) -> None:
    whole = (broken / file).read_bytes()
    (broken / file).write_bytes(whole[: len(whole) // 2] if not file.endswith(".tsv") else b"")
    refused(broken, Path(file).name)


def test_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "is no checkpoint")


@pytest.mark.parametrize(
    "change",
    [
        lambda stored: stored["experiment"]["decoder"].update(width=64),
        lambda stored: stored["experiment"]["graph"].update(layers=3),
        lambda stored: stored["experiment"].update(guidance={"type": "NoGuidanceConfig"}),
        lambda stored: stored.update(region_dim=7),
    ],
)
def test_weights_of_another_config_are_named(broken: Path, change: Callable[[dict[str, Any]], None]) -> None:
    stored = json.loads((broken / "config.json").read_text())
    change(stored)
    (broken / "config.json").write_text(json.dumps(stored))
    refused(broken, "model.safetensors does not fit config.json")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda stored: stored["experiment"].update(wings=2), "unknown field wings"),
        (lambda stored: stored["experiment"]["train"].update(steps="many"), "experiment.train.steps"),
        (lambda stored: stored["experiment"]["train"].update(steps=0), "train.steps must be at least 1"),
        (lambda stored: stored.pop("region_dim"), "region_dim"),
        (lambda stored: stored.pop("experiment"), "experiment"),
    ],
)
def test_config_that_does_not_fit_this_version_is_named(
    broken: Path, change: Callable[[dict[str, Any]], None], part: str
) -> None:
    stored = json.loads((broken / "config.json").read_text())
    change(stored)
    (broken / "config.json").write_text(json.dumps(stored))
    refused(broken, "config.json", part)
