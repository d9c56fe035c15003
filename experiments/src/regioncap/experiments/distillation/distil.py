"""A light student of a trained captioner: `regioncap distil`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from regioncap.decoder import CaptionTokenizer, Gpt2DecoderConfig, SearchConfig
from regioncap.experiments.cache import cache_folder
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.checkpoint import experiment_to_go_on, load_checkpoint, save_checkpoint, weights_digest
from regioncap.experiments.config import Experiment
from regioncap.experiments.config_io import to_dict
from regioncap.experiments.data.sources import read_data
from regioncap.experiments.distillation.objective import DistilObjectiveConfig
from regioncap.experiments.distillation.student import make_student, student_experiment
from regioncap.experiments.distillation.targets import TargetKind, make_targets
from regioncap.experiments.distillation.teacher_table import make_table
from regioncap.experiments.distillation.timing import caption_times
from regioncap.experiments.evaluate import DataFolder
from regioncap.experiments.generate import generate_over
from regioncap.experiments.metrics import CaptionScorer, MetricsConfig
from regioncap.experiments.prepare import Prepared, prepare
from regioncap.experiments.progress import StudyProgress, shown_values
from regioncap.experiments.scores_file import write_scores
from regioncap.experiments.training.config import TrainConfig
from regioncap.experiments.training.engine import STATE, Keeping, Trained, fit
from regioncap.experiments.training.train import check_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilConfig:
    """Who the student is and how it learns. Its prefix is of the teacher's form, in the student's width."""

    decoder: Gpt2DecoderConfig = field(default_factory=lambda: Gpt2DecoderConfig(layers=1, heads=4, width=128))
    """The student's decoder."""
    objective: DistilObjectiveConfig = field(default_factory=DistilObjectiveConfig)
    targets: TargetKind = "captions"
    """What it learns to say: the training `captions`, the `teacher`'s own captions of the training images as its search
    finds them (sequence-level distillation), or `both`."""
    train: TrainConfig = field(default_factory=TrainConfig)
    seed: int = 0
    """Seeds the weights, the order of the data and dropout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilOptions:
    """Where things are, and what is measured at the end."""

    out: Path = Path("runs/student")
    """Folder for the student's checkpoint, its scores on dev and result.json."""
    data: DataFolder = field(default_factory=DataFolder)
    cache: Path = field(default_factory=cache_folder)
    """Where features are kept, and what the teacher says of the training captions."""
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    timed_images: int = 32
    """Dev images that teacher and student are timed on beside each other; 0 times nothing."""

    def __post_init__(self) -> None:
        if self.timed_images < 0:
            raise ValueError(f"--timed-images must not be negative, got {self.timed_images}")


def distil(folder: Path, config: DistilConfig, options: DistilOptions) -> dict[str, Any]:
    """Train a student of the checkpoint in `folder`, score it on dev, time it beside its teacher; returns result.json.

    Only training captions are learned from, and only training images are shown to the teacher. Raises ValueError if
    `options.out` holds something, or the data give another vocabulary than the teacher's.
    """
    if options.out.exists() and any(options.out.iterdir()):
        raise ValueError(f"{options.out} is not empty: choose another --out, or remove it")
    torch.set_num_threads(1)
    teacher = replace(load_checkpoint(folder), experiment=experiment_to_go_on(folder))
    source = teacher.experiment.data
    source = source if options.data.root is None else replace(source, root=options.data.root)
    experiment = student_experiment(replace(teacher.experiment, data=source), config.decoder, config.train, config.seed)
    with options.metrics.build() as scorer:
        scorer.warm_up()
        encoders = teacher.experiment.encoders.build()
        prepared = prepare(teacher.experiment, read_data(source, options.cache), encoders, options.cache)
        _check_vocabulary(teacher.tokenizer, prepared.tokenizer, folder)
        check_heads(teacher.captioner, prepared, folder)
        kept = options.cache / "distil" / _digest(weights_digest(folder), prepared.folder.name)
        trained = _train(experiment, config, teacher.captioner, prepared, scorer, kept)
        captioner = trained.captioner
        parts = generate_over(captioner, prepared.dev, prepared.tokenizer, experiment.search, describe="caption images")
        texts = [text for part in parts for text in part.texts]
        captions = {image.name: text for image, text in zip(prepared.dev_images, texts, strict=True)}
        scores = scorer.score({image.name: image.captions for image in prepared.dev_images}, captions, progress=True)
    save_checkpoint(replace(teacher, experiment=experiment, captioner=captioner), options.out / "checkpoint")
    write_scores(options.out / "scores.json", scores, captions)
    result = {
        "teacher": str(folder),
        "config": to_dict(config),
        "scores": {name: 100 * score for name, score in scores.corpus.items()},
        "missing": dict(scores.missing),
        "parameters": {"teacher": _sizes(teacher.captioner), "student": _sizes(captioner)},
        "train_cpu_s": trained.cpu_s,
        "ms_per_caption": _times(teacher.captioner, captioner, prepared, experiment.search, options.timed_images),
        "history": trained.history,
    }
    (options.out / "result.json").write_text(json.dumps(result, indent=1))
    return result


def _train(
    experiment: Experiment,
    config: DistilConfig,
    teacher: Captioner,
    prepared: Prepared,
    scorer: CaptionScorer,
    kept: Path,
) -> Trained:
    """Train a student from fresh weights of prefix and decoder; `kept` is where what the teacher says is kept, and the
    state from which the same call goes on after a kill.

    With weight 0 the teacher is asked for nothing but its own captions, where `targets` wants them.
    """
    search = replace(experiment.search, prompt="")  # a prompt is not said: the student would learn captions without it
    targets = make_targets(config.targets, teacher, prepared, search, kept / _digest(to_dict(search)))
    lesson = config.objective
    table = None
    if lesson.weight:
        asked = [lesson.temperature, lesson.top, config.targets, to_dict(search)]
        table = make_table(
            teacher, prepared, targets, temperature=lesson.temperature, top=lesson.top, folder=kept / _digest(asked)
        )
    student = make_student(experiment, teacher, prepared)
    key = _digest(to_dict(experiment), to_dict(config))
    with StudyProgress(1) as progress:
        progress.start("student", experiment.train.steps)

        def report(step: int, values: Mapping[str, float]) -> None:
            progress.update("student", step, **shown_values(values))

        def recall(step: int, values: Mapping[str, float]) -> None:
            progress.recall("student", step, **shown_values(values))

        keeping = Keeping(state=kept / key / STATE, key=key, recall=recall)
        trained = fit(
            student,
            experiment,
            prepared,
            scorer,
            report,
            objective=lesson.build(targets, table),
            free=lambda captioner, phase: student.free(phase),
            keeping=keeping,
        )
        progress.finish("student", f"{trained.cpu_s:.0f} CPU s")
    keeping.state.unlink(missing_ok=True)
    return trained


def _times(
    teacher: Captioner, student: Captioner, prepared: Prepared, search: SearchConfig, images: int
) -> dict[str, dict[str, dict[str, float]]]:
    """CPU ms per caption, by images at a time, of both."""
    if not images:
        return {}
    both = {"teacher": teacher, "student": student}
    return {
        f"batch {batch}": {
            name: asdict(times)
            for name, times in caption_times(
                both, prepared.dev, prepared.tokenizer, search, images=images, batch=batch
            ).items()
        }
        for batch in (1, 16)
    }


def _check_vocabulary(teacher: CaptionTokenizer, prepared: CaptionTokenizer, folder: Path) -> None:
    if teacher.words != prepared.words:
        raise ValueError(
            f"{folder} knows {len(teacher)} tokens and the training captions give {len(prepared)}, or others: a "
            "student says its teacher's words, so distil on the data that the teacher was trained on (--data.root)"
        )


def _sizes(captioner: Captioner) -> dict[str, int]:
    """Parameters that captions are made with, and those of the decoder among them."""
    unused = {
        id(p)
        for module in (captioner.text_projection, captioner.clip_head.text_projection)
        for p in module.parameters()
    }
    return {
        "captioner": sum(p.numel() for p in captioner.parameters() if id(p) not in unused),
        "decoder": sum(p.numel() for p in captioner.decoder.parameters()),
    }


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]
