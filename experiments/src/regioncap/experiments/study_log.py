"""An ablation study in MLflow: the study as a parent run, an arm with a seed as a child, each with a description."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from regioncap.experiments.arms import arm_named
from regioncap.experiments.config import Experiment
from regioncap.experiments.data.dataset import CaptionData
from regioncap.experiments.metrics import METRICS, Scores, in_print
from regioncap.experiments.report import StudyRow
from regioncap.experiments.scoring.table import p_text
from regioncap.experiments.tracking import StudyTracker
from regioncap.experiments.tracking.notes import command_line, note, picture_address, table_of
from regioncap.experiments.worker import ArmJob, Message

_THUMBNAIL = "thumbnail.png"
_WIDEST = 320
"""Pixels of the picture in a description."""


class StudyLog:
    """Writes one study into MLflow, from the study's own process; no method but `end` waits for MLflow."""

    def __init__(self, base: Experiment, folder: Path, title: str, jobs: Sequence[ArmJob]) -> None:
        self.folder, self.title, self.name = folder, title, f"regioncap-{base.preset}"
        self.tracker = StudyTracker(
            folder,
            self.name,
            f"Captioners of the preset `{base.preset}`. A run that opens is a study; below it stands one run for every "
            "arm and seed. Metrics: `score/` final, on all dev images; `dev/` on the way, on the first of them; "
            "`loss/`, `guidance/`, `graph/`, `optimizer/` what happens inside; `cost/` what it takes.",
        )
        arms = list(dict.fromkeys(job.arm for job in jobs))
        seeds = len({job.experiment.seed for job in jobs})
        size = arms[0] if len(arms) == 1 else f"{len(arms)} arms"
        name = f"{folder.resolve().name}: {size}, {seeds} seed{'s' if seeds > 1 else ''}"
        self.parent = self.tracker.run("study", base, title=name, kind="study")
        self.tracker.describe(self.parent, note(f"{title}. Training goes on.", command=command_line()))
        self._open: dict[str, str] = {}  # job -> run that goes on

    def data(self, data: CaptionData, dev: str, digest: str) -> None:
        """Say which data the study reads."""
        self.tracker.data(self.parent, data, {"train": "training", dev: "validation"}, digest)

    def begin(self, job: ArmJob) -> str:
        """Open the run of a job, unless it is open; returns its name."""
        if job.name not in self._open:
            says = _says(job)
            run = self.tracker.run(job.name, job.experiment, self.parent, arm=job.arm, says=says)
            self.tracker.describe(run, note(f"**{job.name}**: {says}. {self.title}. Training goes on."))
            self._open[job.name] = run
        return self._open[job.name]

    def watch(self, job: ArmJob, pid: int) -> None:
        """Sample memory, processors, disk and GPU of the process that computes a job, until the job ends."""
        self.tracker.watch(self._open[job.name], pid)

    def message(self, job: ArmJob, message: Message) -> None:
        """A point of the curve, or pictures of an evaluation."""
        run = self._open[job.name]
        if message.values:
            self.tracker.curve(run, message.step, _in_percent(message.values))
        for file in message.pictures:
            self.tracker.image(run, file.stem, message.step, file)

    def finish(
        self, job: ArmJob, result: Mapping[str, Any], scores: Scores, table: Mapping[str, Sequence[Any]], pictures: Path
    ) -> None:
        """Everything of a finished job: metrics, captions, pictures, description; its run ends."""
        run = self.begin(job)
        figures = {name: float(result[name]) for name in ("parameters", "train_cpu_s")} | result["graph"]
        percent = {name: 100 * score for name, score in scores.corpus.items()}
        measures = {name: in_print(name, value) for name, value in scores.measures.corpus.items()}
        self.tracker.scores(run, percent, measures, figures)
        self.tracker.captions(run, table)
        self.tracker.pictures(run, pictures)
        first = next(iter(sorted(pictures.iterdir())), None)
        shown = self._thumbnail(run, first) if first else ""
        names = [name for name in METRICS if name in percent]
        lines = table_of(names, [[f"{percent[name]:.1f}" for name in names]])
        says = f"**{job.name}**: {_says(job)}. {self.title}."
        self.tracker.describe(run, note(says, command=command_line(), table=lines, picture=shown))
        self.tracker.end(self._open.pop(job.name))

    def fail(self, job: ArmJob, error: str) -> None:
        """A job that ended without a result."""
        run = self._open.pop(job.name)
        self.tracker.describe(run, note(f"**{job.name}** failed: {error}. {self.title}.", command=command_line()))
        self.tracker.end(run, "FAILED")

    def table(self, rows: Sequence[StudyRow]) -> None:
        """The study's result: files, the arms' CIDEr, and the description."""
        for name in ("table.json", "table.md", "table.png"):
            self.tracker.file(self.parent, self.folder / name)
        self.tracker.scores(self.parent, {f"CIDEr/{row.arm}": 100 * row.metrics["CIDEr"].mean for row in rows})
        names = [name for name in ("BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE") if name in rows[0].metrics]
        lines = [
            [
                row.arm,
                *(f"{100 * row.metrics[name].mean:.1f}" for name in names),
                "" if row.p is None else p_text(row.p).removeprefix("p").strip(),
            ]
            for row in rows
        ]
        shown = self._thumbnail(self.parent, self.folder / "table.png")
        table = table_of(["arm", *names, "p"], lines)
        says = f"{self.title}. p: against the row above, or the arm that a control controls."
        self.tracker.describe(self.parent, note(says, table=table, picture=shown, command=command_line()))

    def model(self, job: ArmJob, scores: Scores, picture: Path) -> None:
        """Keep a finished job's captioner as a model that `mlflow models serve` serves, and register it."""
        cider, images = 100 * scores.corpus["CIDEr"], len(scores.per_image)
        self.tracker.model(job.name, job.out / "checkpoint", self.name, picture=picture, cider=cider, images=images)

    def end(self, status: str) -> None:
        """Close what is open: FINISHED, FAILED or KILLED is the study, KILLED its jobs that go on.

        Waits until MLflow has everything, or has taken nothing for a while; what is left then is kept and said.
        """
        for run in self._open.values():
            self.tracker.end(run, "KILLED")
        self._open.clear()
        self.tracker.end(self.parent, status)
        self.tracker.close()

    def _thumbnail(self, run: str, file: Path) -> str:
        """A small copy among the run's files; returns its address for a description."""
        with Image.open(file) as picture:
            small = picture.convert("RGB")
        small.thumbnail((_WIDEST, 2 * _WIDEST))
        folder = self.folder / ".thumbnail"
        folder.mkdir(exist_ok=True)
        small.save(folder / _THUMBNAIL)
        self.tracker.file(run, folder / _THUMBNAIL)
        shutil.rmtree(folder)
        return picture_address(_THUMBNAIL)


def _says(job: ArmJob) -> str:
    """What the job's row is."""
    arm = arm_named(job.arm)
    assert arm is not None
    return arm.says


def _in_percent(values: Mapping[str, float]) -> dict[str, float]:
    """A point of the curves with its metric as the table prints it."""
    return {name: 100 * value if name == "dev.cider" else value for name, value in values.items()}
