"""What a command starts from."""

from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.checkpoint import load_experiment
from regioncap.experiments.commands.preset import starting_point
from regioncap.experiments.presets import scenes


def test_a_preset_alone_is_enough() -> None:
    assert starting_point("train", ["scenes"]) == ("scenes", scenes(), [])


@pytest.mark.parametrize("one_word", [True, False])
def test_a_checkpoint_brings_its_settings(trained: tuple[Any, Path], one_word: bool) -> None:
    checkpoint = trained[1] / "checkpoint"
    words = [f"--init-from={checkpoint}"] if one_word else ["--init-from", str(checkpoint)]
    assert starting_point("train", ["scenes", *words, "--seed", "3"]) == (
        "scenes",
        load_experiment(checkpoint),
        [*words, "--seed", "3"],
    )
    with pytest.raises(
        ValueError, match=f"--init-from {checkpoint} holds settings of the preset 'scenes', not 'photos'"
    ):
        starting_point("train", ["photos", *words])
