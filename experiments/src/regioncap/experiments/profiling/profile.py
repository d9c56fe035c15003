"""`regioncap profile`: run the real thing for some seconds, and write where the time went."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from regioncap.encoders import ImageEncoder
from regioncap.experiments.benchmarking import table2
from regioncap.experiments.benchmarking.machine import cores
from regioncap.experiments.config import Experiment
from regioncap.experiments.profiling.clockwork import Clockwork
from regioncap.experiments.profiling.measured import Profile, What
from regioncap.experiments.profiling.report import write_profile
from regioncap.experiments.profiling.spans import LOADING, Spans
from regioncap.experiments.profiling.subjects import (
    Captioning,
    fresh_captioning,
    has_random_weights,
    pictures_of,
    random_captioning,
    run_captioning,
    run_encoding,
    run_training,
    trained_captioning,
)

TRACE = "trace.json.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOptions:
    """What is run, and for how long."""

    what: What | None = None
    """None: `caption` for a checkpoint and where there are no data, else `train`."""
    out: Path = Path("runs/profile")
    """Folder for profile.md, operators.md, memory.png and trace.json.gz, which ui.perfetto.dev opens."""
    units: int = 8
    """Steps of training, or batches, that are timed without the profiler."""
    traced: int = 3
    """Steps or batches that are traced afterwards."""
    batch: int = 8
    """Pictures of a batch of captioning or encoding; a step of training has --train.images-per-step."""
    threads: int = 0
    """Threads of encoding; 0: as many as there are cores. Captioning and training have one."""
    features: Path | None = None
    """Feature store that training reads, as `regioncap extract` wrote it; None: the cache."""

    def __post_init__(self) -> None:
        for name in ("units", "traced", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}")
        if self.threads < 0:
            raise ValueError(f"--threads must not be negative, got {self.threads}")


def profile_subject(
    subject: str, experiment: Experiment, options: ProfileOptions, cache: Path, checkpoint: Path | None = None
) -> str:
    """Profile and write `options.out`; returns the verdict in one line.

    A preset without data of its own has random weights at Table 2's sizes, which cannot be trained.
    Raises ValueError then, DataError for data of no use.
    """
    torch.set_num_threads(1)
    what = options.what or ("caption" if checkpoint or has_random_weights(experiment) else "train")
    if what == "train" and has_random_weights(experiment):
        raise ValueError("--what train wants data: name them with --data.root, or profile caption or encode")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options.out.mkdir(parents=True, exist_ok=True)
    with Spans(device) as spans, TemporaryDirectory() as drawn:
        images = experiment.train.images_per_step if what == "train" else options.batch
        work = Clockwork(
            spans,
            warm_up=2,
            timed=options.units,
            traced_units=options.traced,
            images=images,
            waiting=LOADING if what == "train" else "preprocessing",
            file=options.out / TRACE,
        )
        notes: tuple[str, ...] = ()
        match what:
            case "train":
                run_training(experiment, cache, options.features, work)
            case "caption":
                captioning = _captioning(experiment, options, cache, checkpoint, Path(drawn))
                run_captioning(captioning, work, options.batch, device)
                notes = (captioning.note,) if captioning.note else ()
            case "encode":
                encoder, files, experiment = _encoding(experiment, options, cache, Path(drawn))
                run_encoding(
                    encoder,
                    files,
                    work,
                    batch=options.batch,
                    threads=options.threads or cores(),
                    batches=options.units,
                    traced_batches=options.traced,
                    device=device,
                )
    assert work.timed is not None
    assert work.trace is not None
    profile = Profile(
        what=what,
        subject=subject,
        device=device.type,
        unit="step" if what == "train" else "batch",
        timed=work.timed,
        trace=work.trace,
        traced_units=options.traced,
        notes=notes,
    )
    return write_profile(profile, experiment, options.out, TRACE)


def _captioning(
    experiment: Experiment, options: ProfileOptions, cache: Path, checkpoint: Path | None, drawn: Path
) -> Captioning:
    if checkpoint is not None:
        return trained_captioning(checkpoint, experiment, cache)
    if has_random_weights(experiment):
        return random_captioning(experiment, drawn, options.batch)
    return fresh_captioning(experiment, cache)


def _encoding(
    experiment: Experiment, options: ProfileOptions, cache: Path, drawn: Path
) -> tuple[ImageEncoder, tuple[Path, ...], Experiment]:
    if has_random_weights(experiment):
        return table2.encoders(), tuple(table2.photographs(drawn, options.batch)), experiment
    files, experiment = pictures_of(experiment, cache)
    return experiment.encoders.build().image, files, experiment
