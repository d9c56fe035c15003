"""The preset that a command's first word names."""

from collections.abc import Sequence

from regioncap.experiments.presets import PRESETS


def preset_of(command: str, arguments: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The preset's name and the words after it. Raises ValueError naming the presets if there is none."""
    if arguments and arguments[0] in PRESETS:
        return arguments[0], arguments[1:]
    if arguments and arguments[0] in ("-h", "--help"):
        return next(iter(PRESETS)), arguments
    got = repr(arguments[0]) if arguments else "nothing"
    raise ValueError(f"regioncap {command} wants a preset first ({' or '.join(PRESETS)}), got {got}")
