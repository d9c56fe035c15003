"""One arm with one seed in a process of its own: train, caption dev, write the folder that `--resume` looks for."""

import hashlib
import json
import os
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from regioncap.experiments.captioner import Captioner
from regioncap.experiments.checkpoint import Checkpoint, save_checkpoint
from regioncap.experiments.config import Experiment
from regioncap.experiments.config_io import to_dict
from regioncap.experiments.dev_pictures import DevPictures
from regioncap.experiments.generate import Generated, generate_over
from regioncap.experiments.language import load_language
from regioncap.experiments.metrics import MetricsConfig
from regioncap.experiments.pictures import evidence_of, evidence_record
from regioncap.experiments.prepare import Prepared, open_prepared
from regioncap.experiments.scoring.whole_file import write_whole
from regioncap.experiments.training.config import TrainConfig
from regioncap.experiments.training.engine import STATE, Keeping
from regioncap.experiments.training.processes import Processes, rank, world
from regioncap.experiments.training.train import train
from regioncap.graph import GraphSummary, summarise

RESULT = "result.json"
_TRAINING = "training"
"""Folder of what a killed training goes on from; gone when it is done."""
EVIDENCE = "evidence.json"
"""Of every dev image what its caption rests on: regions, edges, words (`pictures.evidence_record`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmJob:
    """What a worker is told."""

    arm: str
    experiment: Experiment
    """The seed is the experiment's."""
    prepared: Path
    language: Path | None
    out: Path
    """`DIR/<arm>/seed<k>`."""
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    """For the curve on dev."""
    pictures: int = 0
    """Dev pictures drawn at every dev evaluation."""

    @property
    def name(self) -> str:
        """As shown to people."""
        return f"{self.arm} seed {self.experiment.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """From a worker to the study: a point of the curve, pictures, the end, or what went wrong."""

    job: str
    step: int = 0
    values: dict[str, float] = field(default_factory=dict)
    pictures: tuple[Path, ...] = ()
    """Dev pictures as the captioner sees them at this step."""
    kept: bool = False
    """The point is of a training that was killed and is gone on with."""
    pid: int | None = None
    """Of the worker, in its first message."""
    done: bool = False
    error: str | None = None


def run_arm(job: ArmJob, messages: Connection) -> None:
    """The body of a worker process. An error is sent as its last line, with the traceback in `DIR/.../error.txt`."""
    try:
        # Ctrl-C goes to the whole group; the study ends its workers itself, and says so in one line.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        torch.set_num_threads(1)
        messages.send(Message(job=job.name, pid=os.getpid()))
        _run(_told(job), messages.send)
        messages.send(Message(job=job.name, done=True))
    except Exception as error:
        job.out.mkdir(parents=True, exist_ok=True)
        (job.out / "error.txt").write_text(traceback.format_exc())
        messages.send(Message(job=job.name, error=f"{type(error).__name__}: {error}"))


def finished(job: ArmJob) -> dict[str, Any] | None:
    """What a worker with this very experiment wrote, or None."""
    try:
        result: dict[str, Any] = json.loads((job.out / RESULT).read_text())
    except (OSError, json.JSONDecodeError):
        return None
    return result if result.get("experiment") == to_dict(job.experiment) else None


def follow() -> None:
    """What every process of a launch but the first does: take part in the job that the first one's worker is told."""
    torch.set_num_threads(1)
    _run(_told(None), lambda message: None)


def _told(job: ArmJob | None) -> ArmJob:
    """The job of the first process, in every process of a launch."""
    told = Processes(TrainConfig(precision="fp32")).told(job) if world() > 1 else job
    assert told is not None
    return told


def _run(job: ArmJob, tell: Callable[[Message], None]) -> None:
    started = time.time()
    prepared = open_prepared(job.prepared)
    pictures = DevPictures(job.out / "evaluations", [image.path for image in prepared.dev_images], job.pictures)

    def report(step: int, values: Mapping[str, float], *, kept: bool = False) -> None:
        tell(Message(job=job.name, step=step, values=dict(values), kept=kept))

    def watch(step: int, captioner: Captioner, generated: Generated) -> None:
        if job.pictures:
            tell(Message(job=job.name, step=step, pictures=tuple(pictures(step, captioner, generated))))

    def checkpoint(name: str, captioner: Captioner) -> None:
        save_checkpoint(Checkpoint.of(job.experiment, captioner, prepared), job.out / name)

    keeping = Keeping(
        state=job.out / _TRAINING / STATE, key=_key(job), checkpoint=checkpoint, recall=partial(report, kept=True)
    )
    language = load_language(job.language) if job.language else None
    with job.metrics.build() as scorer:
        trained = train(job.experiment, prepared, scorer, report, language, watch, keeping)
    captions, graph, evidence = _on_dev(trained.captioner, prepared, job.experiment)
    if rank():
        return
    names = [image.name for image in prepared.dev_images]
    write_whole(job.out / EVIDENCE, json.dumps(dict(zip(names, evidence, strict=True)), separators=(",", ":")))
    save_checkpoint(Checkpoint.of(job.experiment, trained.captioner, prepared), job.out / "checkpoint")
    result = {
        "arm": job.arm,
        "experiment": to_dict(job.experiment),
        "parameters": trained.parameters,
        "train_cpu_s": trained.cpu_s,
        "steps": trained.steps,
        "started": started,
        "ended": time.time(),
        "graph": {f"graph.{name}": value for name, value in asdict(graph).items()},
        "history": trained.history,
        "captions": dict(zip(names, captions, strict=True)),
    }
    write_whole(job.out / RESULT, json.dumps(result))
    # `checkpoint` is the one of these that was kept; the other one stays beside it.
    for name in (_TRAINING, job.experiment.train.keep):
        shutil.rmtree(job.out / name, ignore_errors=True)


def _on_dev(
    captioner: Captioner, prepared: Prepared, experiment: Experiment
) -> tuple[list[str], GraphSummary, list[dict[str, Any]]]:
    """Captions of all dev images, what their graphs are like, and what each caption rests on."""
    processes = Processes(experiment.train)
    captions: list[str] = []
    graphs, evidence = [], []
    rows = processes.slice_of(torch.arange(len(prepared.dev)))
    for part in generate_over(captioner, prepared.dev, prepared.tokenizer, experiment.search, rows=rows):
        # Not the parts themselves: prefix and word bias of some thousand images would fill the memory.
        captions += part.texts
        graphs.append(part.regions.graph)
        evidence += [evidence_record(seen) for seen in evidence_of(captioner, part)]
    return processes.gathered(captions), summarise(processes.gathered(graphs)), processes.gathered(evidence)


def _key(job: ArmJob) -> str:
    """Of all that decides what training does."""
    parts = [to_dict(job.experiment), job.prepared.name, str(job.language)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]
