"""What a command starts from."""

from regioncap.experiments.commands.preset import starting_point
from regioncap.experiments.presets import scenes


def test_a_preset_alone_is_enough() -> None:
    assert starting_point("train", ["scenes"]) == ("scenes", scenes(), [])
