"""One arm with one seed in a process of its own: train, caption dev, write the folder that `--resume` looks for."""

import json
import signal
import time
import traceback
from dataclasses import asdict, dataclass, field
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
from regioncap.experiments.prepare import open_prepared
from regioncap.experiments.scoring.whole_file import write_whole
from regioncap.experiments.training.train import train
from regioncap.graph import summarise

RESULT = "result.json"
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
    done: bool = False
    error: str | None = None


def run_arm(job: ArmJob, messages: Connection) -> None:
    """The body of a worker process. An error is sent as its last line, with the traceback in `DIR/.../error.txt`."""
    try:
        # Ctrl-C goes to the whole group; the study ends its workers itself, and says so in one line.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        torch.set_num_threads(1)
        _run(job, messages)
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


def _run(job: ArmJob, messages: Connection) -> None:
    started = time.time()
    prepared = open_prepared(job.prepared)
    history: list[dict[str, float]] = []

    def report(step: int, values: Any) -> None:
        history.append({"step": step, **values})
        messages.send(Message(job=job.name, step=step, values=dict(values)))

    pictures = DevPictures(job.out / "evaluations", [image.path for image in prepared.dev_images], job.pictures)

    def watch(step: int, captioner: Captioner, generated: Generated) -> None:
        if job.pictures:
            messages.send(Message(job=job.name, step=step, pictures=tuple(pictures(step, captioner, generated))))

    language = load_language(job.language) if job.language else None
    with job.metrics.build() as scorer:
        trained = train(job.experiment, prepared, scorer, report, language, watch)
    captions: list[str] = []
    graphs, evidence = [], []
    for part in generate_over(trained.captioner, prepared.dev, prepared.tokenizer, job.experiment.search):
        # Not the parts themselves: prefix and word bias of some thousand images would fill the memory.
        captions += part.texts
        graphs.append(part.regions.graph)
        evidence += [evidence_record(seen) for seen in evidence_of(trained.captioner, part)]
    graph = summarise(graphs)
    names = [image.name for image in prepared.dev_images]
    job.out.mkdir(parents=True, exist_ok=True)
    write_whole(job.out / EVIDENCE, json.dumps(dict(zip(names, evidence, strict=True)), separators=(",", ":")))
    save_checkpoint(
        Checkpoint(
            experiment=job.experiment,
            captioner=trained.captioner,
            tokenizer=prepared.tokenizer,
            scene_bank=prepared.scene_bank,
            detail_bank=prepared.detail_bank,
            region_dim=prepared.train.region_dim,
            text_dim=prepared.text_dim,
        ),
        job.out / "checkpoint",
    )
    result = {
        "arm": job.arm,
        "experiment": to_dict(job.experiment),
        "parameters": trained.parameters,
        "train_cpu_s": trained.cpu_s,
        "started": started,
        "ended": time.time(),
        "graph": {f"graph.{name}": value for name, value in asdict(graph).items()},
        "history": history,
        "captions": dict(zip(names, captions, strict=True)),
    }
    partial = job.out / (RESULT + ".partial")
    partial.write_text(json.dumps(result))
    partial.rename(job.out / RESULT)
