"""An experiment whose encoders want a detector of their own data: it is trained where it is missing."""

from dataclasses import replace
from pathlib import Path

from regioncap.experiments.config import Experiment
from regioncap.experiments.data.dataset import CaptionData
from regioncap.experiments.data.entity_folder import entity_folder
from regioncap.experiments.encoders import PhotoEncodersSource
from regioncap.experiments.entity_regions import EntityRegionsConfig, trained_regions


def with_detector(experiment: Experiment, data: CaptionData, cache: Path) -> Experiment:
    """The experiment with its detector's weights named, so that encoders can be built from it anywhere.

    Raises DataError if the data have no boxes to learn from, with the ways out.
    """
    match experiment.encoders:
        case PhotoEncodersSource(image=EntityRegionsConfig(weights=None) as image) as encoders:
            trained = trained_regions(image, entity_folder(data, cache), cache)
            return replace(experiment, encoders=replace(encoders, image=trained))
    return experiment


def detector_folder(experiment: Experiment) -> Path | None:
    """Where the experiment's detector lies; None if it has none of its own."""
    match experiment.encoders:
        case PhotoEncodersSource(image=EntityRegionsConfig(weights=weights)):
            return weights
    return None


def with_detector_in(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment with the detector in `folder` in the place of its own."""
    match experiment.encoders:
        case PhotoEncodersSource(image=EntityRegionsConfig() as image) as encoders:
            return replace(experiment, encoders=replace(encoders, image=replace(image, weights=folder)))
    return experiment
