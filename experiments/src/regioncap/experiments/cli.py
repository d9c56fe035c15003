"""The command line. Config fields are dotted flags, the same everywhere: `--graph.k 7 --train.steps 1300`."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from regioncap.experiments.arms import ARMS
from regioncap.experiments.caption import CaptionOptions, caption
from regioncap.experiments.config import Experiment
from regioncap.experiments.evaluate import EvaluateOptions, evaluate
from regioncap.experiments.metrics import JavaWorkerError
from regioncap.experiments.metrics.spice_models import default_spice_folder
from regioncap.experiments.metrics.spice_setup import SpiceSetup, setup_spice
from regioncap.experiments.presets import PRESETS
from regioncap.experiments.report import MetricSummary, StudyRow, print_table
from regioncap.experiments.scenes_encoders import ScenesEncodersConfig, train_scenes_encoders
from regioncap.experiments.scoring.command import ScoreOptions, score
from regioncap.experiments.study import StudyError, StudyOptions, run_study, train_one

_HELP = """\
RegionCap: image captioning by region graphs and multi-scale semantic guidance (Wang et al. 2025)

  regioncap ablate PRESET --seeds N --out DIR      the study: every arm, scored on dev, as a table and in MLflow
  regioncap train PRESET --out DIR                 one captioner; its checkpoint is DIR/checkpoint
  regioncap evaluate CHECKPOINT --data.root DIR --split S --out FILE.json
  regioncap caption CHECKPOINT PATH... --out FILE.jsonl --overlay DIR
  regioncap score --references R.json --predictions A.json B.json     anybody's captions: intervals, p, an HTML page
  regioncap metrics setup-spice --from DIR_OR_URL  what SPICE needs; from then on every command scores it
  regioncap train-scenes-encoders                  the small encoders that ship with the project, made anew

PRESET is `scenes` (procedural pictures, made on the spot) or `photos` (a folder in Flickr8k's layout: --data.root).
Every config field is a flag, such as --graph.k 7 or --train.steps 1300; `regioncap COMMAND [PRESET] --help` lists them.
"""

_METRICS_HELP = """\
What the caption metrics need beside their wheels

  regioncap metrics setup-spice --from DIR_OR_URL  CoreNLP 3.6.0 for SPICE; from then on every command scores it

BLEU, METEOR, ROUGE-L and CIDEr need nothing. `regioncap metrics setup-spice --help` says where to get what SPICE needs.
"""


@dataclass(frozen=True, kw_only=True)
class AblateCommand:
    """The ablation study: every arm with every seed, scored on dev."""

    study: Annotated[StudyOptions, tyro.conf.arg(name="")]
    experiment: Annotated[Experiment, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Train one captioner and score it on dev."""

    arm: str = "+graph+guidance"
    """Which row of the study to train."""
    study: Annotated[StudyOptions, tyro.conf.arg(name="")]
    experiment: Annotated[Experiment, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Caption a split with a checkpoint and score it."""

    checkpoint: tyro.conf.Positional[Path]
    """Folder written by `regioncap train` or `ablate`."""
    options: Annotated[EvaluateOptions, tyro.conf.arg(name="")] = field(default_factory=EvaluateOptions)


@dataclass(frozen=True, kw_only=True)
class CaptionCommand:
    """Caption pictures with a checkpoint."""

    checkpoint: tyro.conf.Positional[Path]
    """Folder written by `regioncap train` or `ablate`."""
    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Picture files, and folders to look for them in."""
    options: Annotated[CaptionOptions, tyro.conf.arg(name="")] = field(default_factory=CaptionOptions)


@dataclass(frozen=True, kw_only=True)
class SetupSpiceCommand:
    """Get what SPICE needs beside its wheel: CoreNLP 3.6.0, once, for every later command.

    From the address of a Maven repository (Maven Central or a mirror of it) about 17 MB are fetched: the jar of the
    code, and of the models' jar (378 MB) the 18 files that SPICE reads. A run that was interrupted goes on with the
    same command. From a folder that holds stanford-corenlp-3.6.0.jar and stanford-corenlp-3.6.0-models.jar, or a Maven
    repository on disk such as ~/.m2/repository, nothing is fetched. Checksums of all files are checked.

    CoreNLP is under GPL v3 or later, SPICE under AGPL v3.
    """

    source: Annotated[str, tyro.conf.arg(name="from", metavar="DIR_OR_URL")]
    """Folder with the two jars, or a Maven repository's address, such as https://HOST/maven2."""
    to: Path | None = None
    """Folder to make; without, spice-models in the project's cache folder (~/.cache/regioncap or REGIONCAP_CACHE),
    where every command looks. Any other is to be named with --metrics.spice-folder or REGIONCAP_SPICE later on."""
    force: bool = False
    """Make the folder anew although it is complete."""


Command = TypeVar("Command")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. What a user can mend is one line on stderr, without a traceback."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_HELP)
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        return _fail(f"no command {name!r}; there are {', '.join(COMMANDS)}")
    try:
        return COMMANDS[name](rest)
    except KeyboardInterrupt:
        return _fail("interrupted; what is finished is kept, --resume goes on from it")
    except (ValueError, StudyError, JavaWorkerError, OSError) as error:
        # Everything that a user can mend is raised as one of these, with a message that names the file or the field.
        return _fail(" ".join(str(error).split()))


def _ablate(arguments: Sequence[str]) -> int:
    preset, rest = _preset("ablate", arguments)
    default = AblateCommand(study=StudyOptions(out=Path("runs") / preset), experiment=PRESETS[preset]())
    command = _parse(AblateCommand, f"regioncap ablate {preset}", rest, default)
    run_study(command.experiment, command.study)
    return 0


def _train(arguments: Sequence[str]) -> int:
    preset, rest = _preset("train", arguments)
    default = TrainCommand(study=StudyOptions(out=Path("runs") / f"{preset}-train"), experiment=PRESETS[preset]())
    command = _parse(TrainCommand, f"regioncap train {preset}", rest, default)
    if command.arm not in ARMS:
        raise ValueError(f"--arm: no arm {command.arm!r}; there are {', '.join(map(repr, ARMS))}")
    train_one(command.experiment, command.arm, command.study)
    return 0


def _evaluate(arguments: Sequence[str]) -> int:
    command = _parse(EvaluateCommand, "regioncap evaluate", arguments)
    scores = evaluate(command.checkpoint, command.options)
    row = StudyRow(
        arm=command.options.split,
        seeds=1,
        metrics={name: MetricSummary.of([value]) for name, value in scores.corpus.items()},
        p=None,
        parameters=0,
        train_cpu_s=0.0,
        missing=scores.missing,
    )
    print_table([row], f"{command.checkpoint}: {len(scores.per_image)} images")
    for warning in scores.warnings:
        print(warning)
    return 0


def _caption(arguments: Sequence[str]) -> int:
    command = _parse(CaptionCommand, "regioncap caption", arguments)
    problems = caption(command.checkpoint, command.paths, command.options)
    for problem in problems:
        _fail(problem)
    return 1 if problems else 0


def _score(arguments: Sequence[str]) -> int:
    try:
        score(_parse(ScoreOptions, "regioncap score", arguments))
    except (ValueError, OSError) as error:
        # Scripts tell input that cannot be scored (2) from a metric that failed (1).
        return _fail(" ".join(str(error).split()), status=2)
    return 0


def _train_scenes_encoders(arguments: Sequence[str]) -> int:
    config = _parse(ScenesEncodersConfig, "regioncap train-scenes-encoders", arguments)
    train_scenes_encoders(config)
    return 0


def _metrics(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_METRICS_HELP)
        return 0
    if arguments[0] not in METRICS_COMMANDS:
        return _fail(f"metrics has no command {arguments[0]!r}; there is {', '.join(METRICS_COMMANDS)}", status=2)
    return METRICS_COMMANDS[arguments[0]](arguments[1:])


def _setup_spice(arguments: Sequence[str]) -> int:
    command = _parse(SetupSpiceCommand, "regioncap metrics setup-spice", arguments)
    try:
        setup = setup_spice(command.source, command.to, force=command.force)
    except ValueError as error:
        return _fail(str(error), status=2)
    except KeyboardInterrupt:
        return _fail("interrupted; what is fetched is kept, the same command goes on from it")
    print(_spice_report(setup))
    return 0


def _spice_report(setup: SpiceSetup) -> str:
    already = " already; --force makes it anew" if setup.was_complete else ""
    lines = [f"SPICE has what it needs in {setup.folder}{already}"]
    lines += [f"  {size / 1e6:5.1f} MB  {jar}" for jar, size in setup.sizes.items()]
    if setup.fetched:
        lines.append(f"  {setup.fetched / 1e6:5.1f} MB  fetched")
    named = os.environ.get("REGIONCAP_SPICE")
    if setup.folder == (Path(named).expanduser() if named else default_spice_folder()).resolve():
        lines.append("SPICE is on: every command that scores captions scores it.")
    elif named:
        lines.append(f"REGIONCAP_SPICE names {named}, which goes first: unset it, or set it to the folder above.")
    else:
        lines.append(f"To score SPICE from there: export REGIONCAP_SPICE={setup.folder}, or --metrics.spice-folder.")
    lines.append("Licences: CoreNLP GPL v3 or later, SPICE AGPL v3. They bind whoever passes these files on.")
    return "\n".join(lines)


METRICS_COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {"setup-spice": _setup_spice}


COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "ablate": _ablate,
    "train": _train,
    "evaluate": _evaluate,
    "caption": _caption,
    "score": _score,
    "metrics": _metrics,
    "train-scenes-encoders": _train_scenes_encoders,
}


def _preset(command: str, arguments: Sequence[str]) -> tuple[str, Sequence[str]]:
    if arguments and arguments[0] in PRESETS:
        return arguments[0], arguments[1:]
    if arguments and arguments[0] in ("-h", "--help"):
        return next(iter(PRESETS)), arguments
    got = repr(arguments[0]) if arguments else "nothing"
    raise ValueError(f"regioncap {command} wants a preset first ({' or '.join(PRESETS)}), got {got}")


def _parse(kind: type[Command], program: str, arguments: Sequence[str], default: Command | None = None) -> Command:
    config = (tyro.conf.AvoidSubcommands,)
    if default is None:
        return tyro.cli(kind, prog=program, args=arguments, config=config)
    return tyro.cli(kind, prog=program, args=arguments, default=default, config=config)


def _fail(message: str, status: int = 1) -> int:
    print(f"regioncap: {message}", file=sys.stderr)
    return status
