"""One trial: train with every seed, as `regioncap train` does, caption dev, score and time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.experiments.data.dataset import CaptionData
from regioncap.experiments.data.sources import read_data
from regioncap.experiments.distillation.timing import caption_times
from regioncap.experiments.features import FeaturesSource
from regioncap.experiments.generate import generate_over
from regioncap.experiments.language import load_language, refuse_leaked_weights
from regioncap.experiments.metrics import CaptionScorer
from regioncap.experiments.own_detector import with_detector
from regioncap.experiments.prepare import Prepared, open_prepared, prepare
from regioncap.experiments.training.length import with_steps
from regioncap.experiments.training.train import train
from regioncap.experiments.tuning.locks import held
from regioncap.experiments.tuning.trial_job import Inputs, InputsMaker, Point, SeedCurves, TrialJob, TrialResult

_TIMED_BATCH = 8
_TIMED_IMAGES = 32

Tell = Callable[[Point], bool]
"""Called with what a trial measured; returns whether to go on."""


class Pruned(Exception):
    """The trial is not worth going on with."""


def run_trial(job: TrialJob, scorer: CaptionScorer, tell: Tell) -> TrialResult:
    """Train, score and, if asked for, time a trial. Raises Pruned when `tell` says so, ValueError as `train` does."""
    experiment, inputs = job.experiment, job.inputs
    if isinstance(inputs, InputsMaker):
        made = make_inputs(experiment, inputs)
        experiment, inputs = made.experiment, made.inputs
    prepared = open_prepared(inputs.prepared)
    language = load_language(inputs.language) if inputs.language else None
    references = {image.name: image.captions for image in prepared.dev_images}
    curves = SeedCurves()
    cider, captions, cpu_s, ms, parameters = [], [], 0.0, None, 0
    for index in range(job.seeds):
        own = replace(experiment, seed=experiment.seed + index)
        trained = train(own, prepared, scorer, _Report(own, index, curves, tell), language)
        parts = generate_over(trained.captioner, prepared.dev, prepared.tokenizer, own.search)
        said = dict(zip(references, (text for part in parts for text in part.texts), strict=True))
        cider.append(scorer.score(references, said, ("CIDEr",)).corpus["CIDEr"])
        captions.append(said)
        cpu_s += trained.cpu_s
        parameters = trained.parameters
        if job.latency and index == 0:  # what a caption costs is the settings' matter, not the seed's
            ms = _latency(trained.captioner, prepared, own)
    return TrialResult(
        cider=tuple(cider),
        ms_per_caption=ms,
        train_cpu_s=cpu_s,
        parameters=parameters,
        captions=tuple(captions),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Inputs, and what they were made from."""

    experiment: Experiment
    """With its detector named, as a study trains it."""
    inputs: Inputs
    data: CaptionData


def make_inputs(experiment: Experiment, maker: InputsMaker) -> Made:
    """What an experiment trains on, from the cache or made now, by one process at a time.

    Raises DataError for data of no use.
    """
    with held(maker.cache / "tune.lock"):
        data = read_data(experiment.data, maker.cache)
        for reason, count in data.skipped.items():
            print(f"{data.root}: left out {count} x {reason}")
        experiment = with_detector(experiment, data, maker.cache)
        encoders = experiment.encoders.build()
        refuse_leaked_weights(experiment.decoder.weights, data.names)
        source = FeaturesSource(cache=maker.cache, store=maker.features, unreadable=maker.unreadable)
        prepared = prepare(experiment, data, encoders, maker.cache, source)
        experiment = with_steps(experiment, len(prepared.train))
        language = experiment.language.weights(
            experiment.decoder, prepared.tokenizer, experiment.vocabulary, data.names, maker.cache
        )
    return Made(experiment=experiment, inputs=Inputs(prepared=prepared.folder, language=language), data=data)


class _Report:
    """`train`'s report of one seed, as points of the trial."""

    def __init__(self, experiment: Experiment, index: int, curves: SeedCurves, tell: Tell) -> None:
        self._config = experiment.train
        self._index, self._curves, self._tell = index, curves, tell
        self._place = 0

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        evaluation = cider = None
        if "dev.cider" in values:
            self._place += 1
            evaluation = self._index * self._config.evaluations + self._place
            cider = self._curves.add(self._place, values["dev.cider"])
        step += self._index * self._config.steps
        if not self._tell(Point(step=step, values=dict(values), evaluation=evaluation, cider=cider)):
            raise Pruned


def _latency(captioner: Captioner, prepared: Prepared, experiment: Experiment) -> float:
    assert torch.get_num_threads() == 1
    times = caption_times(
        {"trial": captioner}, prepared.dev, prepared.tokenizer, experiment.search,
        images=_TIMED_IMAGES, batch=_TIMED_BATCH,
    )  # fmt: skip
    return times["trial"].captioner
