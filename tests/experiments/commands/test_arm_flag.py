"""Which arm a command works on: the one that is named, or the preset's captioner."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.checkpoint import Checkpoint, save_checkpoint
from regioncap.experiments.commands.profile import profile_command
from regioncap.experiments.commands.study import STUDY_COMMANDS
from regioncap.experiments.config import Experiment
from regioncap.experiments.prepare import Prepared


@pytest.mark.parametrize(
    ("preset", "captioner"),
    [("scenes", "+graph+guidance"), ("photos", "+graph+guidance"), ("photos-best", "clipcap+guidance")],
)
def test_help_says_which_arm_is_the_presets_captioner(
    preset: str, captioner: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        STUDY_COMMANDS["train"]([preset, "--help"])
    assert f"Which row of the study to train. (default: {captioner})" in capsys.readouterr().out


def test_a_profile_is_of_the_arm_that_is_named(tmp_path: Path) -> None:
    few = ["--units", "2", "--traced", "2", "--train.images-per-step", "4", "--out", str(tmp_path)]
    assert profile_command(["scenes", "--arm", "clipcap", "--cache", str(tmp_path / "cache"), *few]) == 0
    page = (tmp_path / "profile.md").read_text()
    assert page.startswith("# Profile: train, the preset scenes, clipcap")
    operators = (tmp_path / "operators.md").read_text()
    assert "## decoder, backward" in operators
    assert "## graph, backward" not in operators  # clipcap has none


def test_a_profiled_checkpoint_has_no_arm_to_choose(
    tiny: Experiment, prepared: Prepared, make_captioner: Callable[[str], Any], tmp_path: Path
) -> None:
    stored = Checkpoint.of(tiny, make_captioner("+graph+guidance"), prepared)
    save_checkpoint(stored, tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=r"--arm 'clipcap' is for presets; .* is the captioner that it is"):
        profile_command([str(tmp_path / "checkpoint"), "--arm", "clipcap"])
    with pytest.raises(ValueError, match=r"--arm: no arm '\+wings'; there are 'clipcap'"):
        profile_command(["scenes", "--arm", "+wings"])
