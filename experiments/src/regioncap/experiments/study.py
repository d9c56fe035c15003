"""The ablation study: every arm with every seed, scored on dev, as a table, a figure and a tree of MLflow runs.

Arms train in processes of their own, one thread each, as many at a time as there are cores. This process alone
scores captions and writes to MLflow. What is finished stays: `resume` skips it.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from regioncap.experiments.arms import ARMS, RETRIEVAL, UNTRAINED, arm_named
from regioncap.experiments.checkpoint import load_checkpoint
from regioncap.experiments.config import Experiment
from regioncap.experiments.data.dataset import CaptionData
from regioncap.experiments.data.sources import read_data
from regioncap.experiments.dev_pictures import COUNT
from regioncap.experiments.features import FeaturesSource
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.language import refuse_leaked_weights
from regioncap.experiments.measures_table import print_measures
from regioncap.experiments.metrics import CaptionScorer, Measuring, Scores
from regioncap.experiments.own_detector import with_detector
from regioncap.experiments.pictures import draw
from regioncap.experiments.prepare import Prepared, dev_split, prepare
from regioncap.experiments.progress import StudyProgress, shown_values
from regioncap.experiments.report import StudyRow, measure_texts, missing_measures, print_table, write_study
from regioncap.experiments.reporting.rows import ScoredRun, study_rows
from regioncap.experiments.scores_file import SCORES, write_scores
from regioncap.experiments.study_file import write_study_file
from regioncap.experiments.study_log import StudyLog
from regioncap.experiments.study_options import RunOptions, StudyError, StudyOptions
from regioncap.experiments.training.length import with_steps
from regioncap.experiments.training.processes import rank, world
from regioncap.experiments.untrained import untrained_captions
from regioncap.experiments.worker import ArmJob, finished, follow
from regioncap.experiments.workers import ArmWorkers

_LOGGED = "logged"


def run_study(base: Experiment, options: StudyOptions) -> list[StudyRow]:
    """Run, score and report; returns the table's rows.

    Raises DataError for data that cannot be used, StudyError after all arms were tried if one of them failed.
    """
    if world() > 1:
        raise ValueError(
            "a study trains its arms beside each other, each in one process: call `ablate` without a launcher, or "
            "launch `train` for one arm over several processes"
        )
    places = [
        (arm, base.seed + seed, options.out / arm / f"seed{base.seed + seed}")
        for seed in range(options.seeds)
        for arm in options.arms
    ]
    return _run(base, options, places, jobs=options.jobs or os.cpu_count() or 1)


def train_one(base: Experiment, arm: str, options: RunOptions) -> list[StudyRow]:
    """One arm with the experiment's own seed, straight into `options.out`; scored and logged as in a study.

    An experiment that goes on from a checkpoint (`init_from`) is taken as it is, and `arm` only names it.

    Started by a launcher (`accelerate launch`, `torchrun`), the first process does so and the others train with it;
    they return no rows.
    """
    if rank():
        follow()
        return []
    return _run(base, options, [(arm, base.seed, options.out)], jobs=1)


def _run(
    base: Experiment, options: RunOptions, places: Sequence[tuple[str, int, Path]], *, jobs: int
) -> list[StudyRow]:
    """Train the arms of `places` (arm, seed, folder), `jobs` of them at the same time."""
    out = options.out
    if not options.resume and out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty: add --resume to go on with it, or choose another --out")
    torch.set_num_threads(1)  # torch's threads wait for each other; beside the metrics' worker that takes longer
    # METEOR takes seconds to load: it does so while the data are read.
    with options.metrics.build() as scorer:
        scorer.warm_up()
        data = read_data(base.data, options.cache)
        for reason, count in data.skipped.items():
            print(f"{data.root}: left out {count} x {reason}")
        base = with_detector(base, data, options.cache)
        encoders = base.encoders.build()
        refuse_leaked_weights(base.decoder.weights, data.names)
        training = [caption for image in data.split("train") for caption in image.captions]
        measuring = options.measures.build(training, encoders.image)
        features = FeaturesSource(cache=options.cache, store=options.features, unreadable=options.unreadable)
        prepared = prepare(base, data, encoders, options.cache, features)
        base = with_steps(base, len(prepared.train))
        language = base.language.weights(base.decoder, prepared.tokenizer, base.vocabulary, data.names, options.cache)
        job = partial(ArmJob, prepared=prepared.folder, language=language, metrics=options.metrics)
        todo = [
            job(
                arm=arm,
                experiment=replace(base if base.init_from else ARMS[arm].make(base), seed=seed),
                out=place,
                pictures=COUNT if seed == base.seed else 0,  # of one seed: pictures of the others look alike
            )
            for arm, seed, place in places
        ]
        return _Study(base, options, data, prepared, scorer, measuring, jobs).run(todo)


class _Study:
    """State of one run of `run_study`."""

    def __init__(
        self,
        base: Experiment,
        options: RunOptions,
        data: CaptionData,
        prepared: Prepared,
        scorer: CaptionScorer,
        measuring: Measuring,
        at_once: int,
    ) -> None:
        self.base, self.options, self.data, self.at_once = base, options, data, at_once
        self.prepared, self.scorer, self.measuring = prepared, scorer, measuring
        self.references = {image.name: image.captions for image in prepared.dev_images}
        self.files = {image.name: image.path for image in prepared.dev_images}
        self.title = f"Ablation study on {base.preset}: {len(self.references)} {dev_split(data)} images"
        self.scores: dict[str, dict[int, Scores]] = {}
        self.results: dict[str, dict[int, dict[str, Any]]] = {}
        self.taken: dict[tuple[str, int], ArmJob] = {}

    def run(self, jobs: Sequence[ArmJob]) -> list[StudyRow]:
        self.log = StudyLog(self.base, self.options.out, self.title, jobs)
        self.log.data(self.data, dev_split(self.data), self.prepared.folder.name)
        write_study_file(self.options.out, title=self.title, preset=self.base.preset, images=self.prepared.dev_images)
        status = "FAILED"
        try:
            failed = self._run_jobs(jobs)
            rows = self._rows()
            self._report(rows)
            status = "FAILED" if failed else "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            self.log.end(status)
        if failed:
            raise StudyError(
                "; ".join(f"{name}: {error}" for name, error in failed.items())
                + f". The other arms are finished and kept: mend the cause and call again with --resume --out "
                f"{self.options.out}"
            )
        return rows

    def _run_jobs(self, jobs: Sequence[ArmJob]) -> dict[str, str]:
        """Train and score what is not finished; returns the jobs that failed and why."""
        todo, failed = [], {}
        for job in jobs:
            result = finished(job)
            if result is None:
                todo.append(job)
            else:
                self._take(job, result)
        if len(todo) < len(jobs):
            kept = f"{len(jobs) - len(todo)} of {len(jobs)} arms were finished before and are kept; {len(todo)} to go"
            print(f"{kept}. To run them anew, remove {self.options.out}", flush=True)
        if not todo:
            self._score_untrained()
            return {}
        steps = self.base.train.steps
        with (
            StudyProgress(len(todo)) as progress,
            ArmWorkers(todo, self.at_once) as workers,
        ):
            for job, message in workers:
                if message is not None and RETRIEVAL not in self.scores:
                    # Not before arms train: SPICE parses the references first, for a minute or more.
                    self._score_untrained()
                if message is None:
                    for left in (job.out / _LOGGED, job.out / "error.txt"):
                        left.unlink(missing_ok=True)
                    job.out.mkdir(parents=True, exist_ok=True)
                    self.log.begin(job)
                    progress.start(job.name, steps)
                elif message.error is not None:
                    failed[job.name] = message.error
                    self.log.fail(job, message.error)
                    progress.fail(job.name, message.error)
                elif message.done:
                    result = finished(job)
                    assert result is not None
                    cider = self._take(job, result)
                    progress.finish(job.name, f"CIDEr {100 * cider:.1f}")
                elif message.pid is not None:
                    self.log.watch(job, message.pid)
                else:
                    self.log.message(job, message)
                    show = progress.recall if message.kept else progress.update
                    show(job.name, message.step, **shown_values(message.values))
        return failed

    def _take(self, job: ArmJob, result: dict[str, Any]) -> float:
        """Score a finished job, log it and keep it for the table; returns its CIDEr."""
        seed = job.experiment.seed
        scores = self._scored(job.out, result["captions"])
        self.results.setdefault(job.arm, {})[seed] = result
        self.scores.setdefault(job.arm, {})[seed] = scores
        self.taken[job.arm, seed] = job
        if not (job.out / _LOGGED).exists():
            self.log.finish(job, result, scores, self._caption_table(scores, result["captions"]), self._draw(job))
            (job.out / _LOGGED).touch()
        return scores.corpus["CIDEr"]

    def _score_untrained(self) -> None:
        """The rows that train nothing."""
        for row, captions in untrained_captions(self.base, self.prepared):
            self.scores[row] = {self.base.seed: self._scored(self.options.out / row, captions)}
            self.results[row] = {self.base.seed: {"parameters": 0, "train_cpu_s": 0.0, "history": []}}

    def _scored(self, folder: Path, captions: Mapping[str, str]) -> Scores:
        """Score captions of the dev images and keep the scores beside them."""
        file = folder / SCORES
        measures = self.measuring.measure(captions, self.references, self.files)
        scores = replace(self.scorer.score(self.references, captions), measures=measures)
        folder.mkdir(parents=True, exist_ok=True)
        write_scores(file, scores, captions)
        return scores

    def _caption_table(self, scores: Scores, captions: Mapping[str, str]) -> dict[str, list[Any]]:
        names = list(captions)
        return {
            "image": names,
            "caption": [captions[name] for name in names],
            "references": [" | ".join(self.references[name]) for name in names],
            "CIDEr": [round(100 * scores.per_image[name]["CIDEr"], 1) for name in names],
        }

    def _draw(self, job: ArmJob) -> Path:
        """The first dev images as this arm saw them."""
        checkpoint = load_checkpoint(job.out / "checkpoint")
        count = min(COUNT, len(self.prepared.dev))
        images = self.prepared.dev.images(torch.arange(count))
        generator = CaptionGenerator(checkpoint.captioner, checkpoint.tokenizer, job.experiment.search)
        generated = generator(images, self.prepared.dev.names[:count])
        folder = job.out / "pictures"
        folder.mkdir(exist_ok=True)
        paths = [image.path for image in self.prepared.dev_images[:count]]
        draw(checkpoint.captioner, generated, paths, [folder / f"{path.stem}.jpg" for path in paths])
        return folder

    def _rows(self) -> list[StudyRow]:
        return study_rows(
            [
                ScoredRun(
                    arm=arm,
                    corpus=scores.corpus,
                    cider=scores.of("CIDEr"),
                    missing=scores.missing,
                    measures=scores.measures.corpus,
                    missing_measures=scores.measures.missing,
                    parameters=self.results[arm][seed]["parameters"],
                    train_cpu_s=self.results[arm][seed]["train_cpu_s"],
                )
                for arm, seeds in self.scores.items()
                for seed, scores in seeds.items()
            ]
        )

    def _report(self, rows: Sequence[StudyRow]) -> None:
        curves = {
            arm: {
                seed: [(point["step"], point["dev.cider"]) for point in result["history"] if "dev.cider" in point]
                for seed, result in results.items()
            }
            for arm, results in self.results.items()
            if arm not in UNTRAINED
        }
        said = {arm: known.says for arm in self.results if (known := arm_named(arm)) is not None} | UNTRAINED
        notes = [f"{arm}: {said[arm]}" for arm in self.results if arm in said]
        floor = next(iter(self.scores[RETRIEVAL].values()))
        notes += [*floor.warnings, *floor.measures.warnings]
        write_study(self.options.out, rows, curves, self.title, notes)
        print_table(rows, self.title)
        print_measures(measure_texts(rows), missing_measures(rows), Console())
        self.log.table(rows)
        self._keep_best(rows)
        print(f"Table, figure, captions and checkpoints: {self.options.out}; dashboard: {self.log.tracker.dashboard}")

    def _keep_best(self, rows: Sequence[StudyRow]) -> None:
        """The best seed of the arm of the best mean CIDEr, as a model to be served."""
        trained = [row for row in rows if row.arm not in UNTRAINED]
        if trained:
            best = max(trained, key=lambda row: row.metrics["CIDEr"].mean).arm
            seed, scores = max(self.scores[best].items(), key=lambda item: item[1].corpus["CIDEr"])
            self.log.model(self.taken[best, seed], scores, self.prepared.dev_images[0].path)
