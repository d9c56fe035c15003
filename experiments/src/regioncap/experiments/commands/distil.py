"""The command that makes a light student of a trained captioner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from regioncap.decoder import Gpt2DecoderConfig
from regioncap.experiments.checkpoint import load_experiment
from regioncap.experiments.commands.parsing import parse
from regioncap.experiments.distillation.distil import DistilConfig, DistilOptions, distil


@dataclass(frozen=True, kw_only=True)
class DistilCommand:
    """Train a small decoder to say what a trained captioner would say.

    The student takes over its teacher's stages up to the prefix, frozen, and its vocabulary; prefix and decoder are its
    own. OUT/checkpoint is a checkpoint like any other. What the teacher says of the training captions is kept in the
    cache, so that a second student costs its own training alone.
    """

    checkpoint: tyro.conf.Positional[Path]
    """The teacher: a folder written by `regioncap train` or `ablate`."""
    student: Annotated[DistilConfig, tyro.conf.arg(name="")] = field(default_factory=DistilConfig)
    options: Annotated[DistilOptions, tyro.conf.arg(name="")] = field(default_factory=DistilOptions)


def distil_command(arguments: Sequence[str]) -> int:
    """Distil, and say what the student lost and gained."""
    default = None
    if arguments and not arguments[0].startswith("-"):
        teacher = load_experiment(Path(arguments[0]))
        light = Gpt2DecoderConfig(
            layers=1, heads=4, width=128, positions=teacher.decoder.positions, dropout=teacher.decoder.dropout
        )
        default = DistilCommand(
            checkpoint=Path(arguments[0]), student=replace(DistilConfig(), decoder=light, train=teacher.train)
        )
    command = parse(DistilCommand, "regioncap distil", arguments, default)
    print(_summary(distil(command.checkpoint, command.student, command.options), command.options.out))
    return 0


def _summary(result: Mapping[str, Any], out: Path) -> str:
    scores = ", ".join(f"{name} {score:.1f}" for name, score in result["scores"].items())
    sizes = result["parameters"]
    lines = [
        f"Student on dev: {scores}",
        f"Parameters: {sizes['student']['captioner'] / 1e6:.2f} M of the teacher's "
        f"{sizes['teacher']['captioner'] / 1e6:.2f} M; {result['train_cpu_s']:.0f} CPU s of training",
    ]
    for batch, times in result["ms_per_caption"].items():
        student, teacher = times["student"], times["teacher"]
        lines.append(
            f"CPU ms per caption, {batch}: decoder {student['decoder']:.1f} for {teacher['decoder']:.1f}, "
            f"captioner without encoders {student['captioner']:.1f} for {teacher['captioner']:.1f}"
        )
    return "\n".join([*lines, f"Checkpoint, captions and figures: {out}"])
