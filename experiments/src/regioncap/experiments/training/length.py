"""Phases that count epochs, as steps of this data set."""

from dataclasses import replace

from regioncap.experiments.config import Experiment


def steps_per_epoch(experiment: Experiment, images: int) -> int:
    """Steps that pass over so many training images once."""
    return max(1, images // experiment.train.images_per_step)


def with_steps(experiment: Experiment, images: int) -> Experiment:
    """The experiment with `train.steps` and shares in the place of epochs; itself where its phases count none."""
    first, second = experiment.phase1, experiment.phase2
    if first.epochs is None or second.epochs is None:
        return experiment
    per_epoch = steps_per_epoch(experiment, images)
    lengths = [round(phase.epochs * per_epoch) for phase in (first, second) if phase.epochs is not None]
    total = max(1, sum(lengths))
    return replace(
        experiment,
        train=replace(experiment.train, steps=total),
        phase1=replace(first, epochs=None, share=1 - lengths[1] / total),
        phase2=replace(second, epochs=None, share=lengths[1] / total),
    )
