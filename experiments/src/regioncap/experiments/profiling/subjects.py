"""What is profiled: the real code of captioning, training and encoding, on the user's data or at Table 2's sizes."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regioncap.decoder import CaptionTokenizer
from regioncap.encoders import ClipEncoder, ImageEncoder
from regioncap.encoders.store import ExtractConfig, Observer, extract
from regioncap.experiments.benchmarking import table2
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.checkpoint import load_checkpoint
from regioncap.experiments.config import Experiment
from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.data.sources import read_data
from regioncap.experiments.encoders import PaperEncodersSource
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.image_progress import ImageProgress
from regioncap.experiments.metrics import MetricsConfig
from regioncap.experiments.own_detector import with_detector
from regioncap.experiments.prepare import dev_split, open_prepared
from regioncap.experiments.profiling.clockwork import Clockwork, Enough
from regioncap.experiments.profiling.spans import replaced
from regioncap.experiments.training.stepper import Stepper
from regioncap.experiments.training.train import fresh_captioner, train
from regioncap.experiments.tuning.run_trial import make_inputs
from regioncap.experiments.tuning.trial_job import InputsMaker


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioning:
    """A captioner with what it needs for pictures."""

    captioner: Captioner
    tokenizer: CaptionTokenizer
    encoder: ImageEncoder
    files: tuple[Path, ...]
    experiment: Experiment
    note: str = ""


def has_random_weights(experiment: Experiment) -> bool:
    """Whether the preset is profiled by its sizes alone: Table 2's, where no data are named."""
    return isinstance(experiment.encoders, PaperEncodersSource) and getattr(experiment.data, "root", None) is None


def trained_captioning(checkpoint: Path, experiment: Experiment, cache: Path) -> Captioning:
    """A checkpoint over the dev pictures of its data; `experiment` is the checkpoint's with flags."""
    stored = load_checkpoint(checkpoint)
    images, experiment = _dev_images(experiment, cache)
    return Captioning(
        captioner=stored.captioner,
        tokenizer=stored.tokenizer,
        encoder=experiment.encoders.build().image,
        files=tuple(image.path for image in images),
        experiment=experiment,
    )


def fresh_captioning(experiment: Experiment, cache: Path) -> Captioning:
    """A preset as training finds it."""
    made = make_inputs(experiment, InputsMaker(cache=cache, features=None, unreadable="leave-out"))
    prepared = open_prepared(made.inputs.prepared)
    return Captioning(
        captioner=fresh_captioner(made.experiment, prepared).eval(),
        tokenizer=prepared.tokenizer,
        encoder=made.experiment.encoders.build().image,
        files=tuple(image.path for image in prepared.dev_images),
        experiment=made.experiment,
        note="fresh weights: captions run to search.max_new_tokens",
    )


def random_captioning(experiment: Experiment, folder: Path, images: int) -> Captioning:
    """Table 2's sizes with random weights, over pictures of photographs' size that are drawn into `folder`."""
    # Stored weights of the decoder are not asked for: its shape is the preset's.
    experiment = replace(experiment, decoder=replace(experiment.decoder, weights=None))
    encoder = table2.encoders()
    assert isinstance(encoder.whole, ClipEncoder)
    return Captioning(
        captioner=table2.captioner(encoder.whole, settings=experiment),
        tokenizer=table2.tokenizer(),
        encoder=encoder,
        files=tuple(table2.photographs(folder, images)),
        experiment=experiment,
        note="random weights at Table 2's sizes, invented pictures of 640 x 480: captions run to search.max_new_tokens",
    )


def run_captioning(subject: Captioning, work: Clockwork, batch: int, device: torch.device) -> None:
    """Caption batch after batch, as `regioncap caption` does, until it is enough."""
    encoder = _on(subject.encoder, device)
    generator = CaptionGenerator(subject.captioner.to(device), subject.tokenizer, subject.experiment.search)
    with suppress(Enough):
        for start in count(0, batch):
            files = _cycled(subject.files, start, batch)
            pixels = [encoder.load(file) for file in files]
            with torch.inference_mode():
                images = encoder(*(torch.stack(column).to(device) for column in zip(*pixels, strict=True)))
            generator(images, [file.name for file in files])
            work.tick()


def run_training(experiment: Experiment, cache: Path, features: Path | None, work: Clockwork) -> None:
    """Train by the engine itself, both phases in their shares, until it is enough: before the first dev evaluation."""
    made = make_inputs(experiment, InputsMaker(cache=cache, features=features, unreadable="leave-out"))
    prepared = open_prepared(made.inputs.prepared)

    def ticking(step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            result = step(*arguments, **named)
            work.tick()
            return result

        return call

    settings = replace(made.experiment.train, steps=work.units + 1, warmup=0, evaluations=1)
    with suppress(Enough), replaced(Stepper, "__call__", ticking), MetricsConfig().build() as scorer:
        train(replace(made.experiment, train=settings), prepared, scorer)


def run_encoding(
    encoder: ImageEncoder,
    files: Sequence[Path],
    work: Clockwork,
    *,
    batch: int,
    threads: int,
    batches: int,
    traced_batches: int,
    device: torch.device,
) -> None:
    """Extract features as `regioncap extract` does, timed; then trace some batches in this thread.

    The profiler has no memory for threads that it did not start in.
    """
    own = _on(encoder, device)
    pictures = {f"{number}{file.suffix}": file for number, file in enumerate(_cycled(files, 0, batch * batches))}
    with tempfile.TemporaryDirectory() as folder:
        extract({"0": files[0]}, own, Path(folder), "warm-up", ExtractConfig(batch_size=1, threads=1))
        work.begin()
        config = ExtractConfig(batch_size=batch, threads=threads)
        with ImageProgress("encode") as bar:
            extract(pictures, own, Path(folder), "profile", config, observer=Observer(encoded=bar.update))
        work.end(batches, batch * batches, threads=threads)
    with suppress(Enough), work.tracing(traced_batches):
        for start in count(0, batch):
            pixels = [own.load(file) for file in _cycled(files, start, batch)]
            with torch.inference_mode():
                own(*(torch.stack(column).to(device) for column in zip(*pixels, strict=True)))
            work.tick()


def pictures_of(experiment: Experiment, cache: Path) -> tuple[tuple[Path, ...], Experiment]:
    """Dev pictures of an experiment's data, and the experiment with its detector."""
    images, experiment = _dev_images(experiment, cache)
    return tuple(image.path for image in images), experiment


def _dev_images(experiment: Experiment, cache: Path) -> tuple[Sequence[CaptionedImage], Experiment]:
    data = read_data(experiment.data, cache)
    return data.split(dev_split(data)), with_detector(experiment, data, cache)


def _cycled(files: Sequence[Path], start: int, length: int) -> list[Path]:
    return [files[place % len(files)] for place in range(start, start + length)]


def _on(encoder: ImageEncoder, device: torch.device) -> ImageEncoder:
    if isinstance(encoder, nn.Module):
        encoder.to(device)
    return encoder
