"""The command that searches for better settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from regioncap.experiments.arms import arm_of, own_arm
from regioncap.experiments.commands.parsing import fail, parse
from regioncap.experiments.commands.preset import starting_point
from regioncap.experiments.config import Experiment
from regioncap.experiments.tuning.options import TuneOptions
from regioncap.experiments.tuning.storage import StorageError
from regioncap.experiments.tuning.trial_loop import TuneError
from regioncap.experiments.tuning.tune import tune


@dataclass(frozen=True, kw_only=True)
class TuneCommand:
    """Search for settings that caption dev better (Optuna).

    regioncap tune scenes --trials 30 --train.steps 200 --out runs/tune      K, sigma, alpha1, alpha2, lambda
    regioncap tune scenes --vary graph.k=2:8 train.lr=5e-4:5e-3:log --out runs/lr
    regioncap tune scenes --objective cider,latency --vary search.beams=1:6 decoder.layers=1:4 --out runs/front
    regioncap tune photos --data.root DIR --trials 200 --storage postgresql://me@db/tune --name photos --out runs/a
    regioncap train scenes --config runs/tune/best.json --out runs/best      what was found, trained anew

    The same command goes on with a study that was interrupted, and several share one by --storage and --name. The
    paper's values are tried first, then the preset's own, then what TPE suggests. Flags of the experiment, such as
    --train.steps, hold for every trial.
    """

    arm: str
    """Which row of the study to tune."""
    config: Path | None = None
    """Start from these settings, such as another study's best.json, in the place of the preset's."""
    tune: Annotated[TuneOptions, tyro.conf.arg(name="")]
    experiment: Annotated[Experiment, tyro.conf.arg(name="")]


def tune_command(arguments: Sequence[str]) -> int:
    """Tune. Status 2 if a store cannot be reached, 1 if no trial finished."""
    preset, experiment, rest = starting_point("tune", arguments)
    options = TuneOptions(out=Path("runs") / f"{preset}-tune")
    default = TuneCommand(arm=own_arm(experiment), tune=options, experiment=experiment)
    command = parse(TuneCommand, f"regioncap tune {preset}", rest, default)
    arm = arm_of(command.arm)
    try:
        tune(arm.make(command.experiment), command.tune)
    except StorageError as error:
        return fail(str(error), 2)
    except TuneError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        return fail(f"interrupted; what is finished is kept in {command.tune.out}, the same command goes on", 130)
    return 0
