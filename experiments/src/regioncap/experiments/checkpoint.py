"""A trained captioner on disk: one folder that, with the package, is all one needs to caption.

config.json  model.safetensors  tokenizer/  banks/scene/  banks/detail/  clip_head.json  clip_head.safetensors,
decoder/config.json, the decoder's shape, where `decoder.weights` is gone into model.safetensors, and detector/ where
the experiment trained one
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from regioncap.decoder import CaptionTokenizer
from regioncap.encoders.clip_lora import without_adapters
from regioncap.experiments.assemble import blank_decoder, build_captioner
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.experiments.config_io import from_dict, to_dict
from regioncap.experiments.own_detector import detector_folder, with_detector_in
from regioncap.experiments.prepare import Prepared, load_head, save_head
from regioncap.guidance import KeywordBank

_CONFIG = "config.json"
_MODEL = "model.safetensors"
_DECODER = "decoder"
_DETECTOR = "detector"


class CheckpointError(ValueError):
    """A checkpoint folder cannot be used; the message names the file and the way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A captioner with what is needed to read its output."""

    experiment: Experiment
    captioner: Captioner
    tokenizer: CaptionTokenizer
    scene_bank: KeywordBank
    detail_bank: KeywordBank
    region_dim: int
    text_dim: int

    @classmethod
    def of(cls, experiment: Experiment, captioner: Captioner, prepared: Prepared) -> "Checkpoint":
        """Of a captioner that was built over what a study prepared."""
        return cls(
            experiment=experiment,
            captioner=captioner,
            tokenizer=prepared.tokenizer,
            scene_bank=prepared.scene_bank,
            detail_bank=prepared.detail_bank,
            region_dim=prepared.train.region_dim,
            text_dim=prepared.text_dim,
        )


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write `folder`, replacing what stood there only once the new one is complete."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    config = {
        "experiment": to_dict(checkpoint.experiment),
        "region_dim": checkpoint.region_dim,
        "text_dim": checkpoint.text_dim,
    }
    (partial / _CONFIG).write_text(json.dumps(config, indent=1))
    checkpoint.tokenizer.save(partial / "tokenizer")
    if checkpoint.experiment.decoder.weights is not None:
        checkpoint.captioner.decoder.model.config.save_pretrained(partial / _DECODER)
    checkpoint.scene_bank.save(partial / "banks" / "scene")
    checkpoint.detail_bank.save(partial / "banks" / "detail")
    save_head(without_adapters(checkpoint.captioner.clip_head), partial)
    save_model(checkpoint.captioner, str(partial / _MODEL))
    detector = detector_folder(checkpoint.experiment)
    if detector is not None:
        shutil.copytree(detector, partial / _DETECTOR, ignore=shutil.ignore_patterns("train.json", "dev.json"))
    _put(partial, folder)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a folder written by `save_checkpoint`; the captioner is in evaluation mode.

    Raises CheckpointError if a file is missing or broken, or was written for another config.
    """
    experiment = load_experiment(folder)
    with _reading(folder / _CONFIG):
        stored = json.loads((folder / _CONFIG).read_text())
        region_dim, text_dim = int(stored["region_dim"]), int(stored["text_dim"])
    with _reading(folder / "clip_head.json"):
        clip_head = load_head(folder)
    with _reading(folder / "tokenizer" / "tokenizer.json"):
        tokenizer = CaptionTokenizer.load(folder / "tokenizer")
    with _reading(folder / "banks"):
        scene_bank = KeywordBank.load(folder / "banks" / "scene")
        detail_bank = KeywordBank.load(folder / "banks" / "detail")
    decoder = None
    if experiment.decoder.weights is not None:
        with _reading(folder / _DECODER / _CONFIG):
            decoder = blank_decoder(experiment, tokenizer, folder / _DECODER)
    with _reading(folder / _MODEL, f"does not fit {_CONFIG} beside it"):
        captioner = build_captioner(
            experiment,
            region_dim=region_dim,
            text_dim=text_dim,
            clip_head=clip_head,
            tokenizer=tokenizer,
            scene_bank=scene_bank,
            detail_bank=detail_bank,
            decoder=decoder,
        )
        load_model(captioner, folder / _MODEL)
    return Checkpoint(
        experiment=experiment,
        captioner=captioner.eval(),
        tokenizer=tokenizer,
        scene_bank=scene_bank,
        detail_bank=detail_bank,
        region_dim=region_dim,
        text_dim=text_dim,
    )


def load_experiment(folder: Path) -> Experiment:
    """The experiment that a checkpoint was trained by.

    Raises CheckpointError if a file of the checkpoint is missing, or its config cannot be read.
    """
    for name in (_CONFIG, _MODEL, "clip_head.json", "clip_head.safetensors", "tokenizer", "banks"):
        if not (folder / name).exists():
            raise CheckpointError(
                f"{folder} is no checkpoint: it has no {name}. Give a folder that `regioncap train` or `ablate` wrote, "
                "such as OUT/+graph+guidance/seed0/checkpoint"
            )
    experiment = _stored_experiment(folder)
    return with_detector_in(experiment, folder / _DETECTOR) if (folder / _DETECTOR).is_dir() else experiment


def experiment_to_go_on(folder: Path) -> Experiment:
    """`load_experiment`, but with the detector where training had it, if it lies there yet.

    What was prepared beside it is found by its place; made anew, heads and their cross-fit offsets are others.
    """
    moved, stored = load_experiment(folder), _stored_experiment(folder)
    place = detector_folder(stored)
    return stored if place is not None and place.is_dir() else moved


def weights_digest(folder: Path) -> str:
    """A checkpoint by its weights, wherever it lies: one that was trained again in the same folder is another."""
    with (folder / _MODEL).open("rb") as weights:
        return hashlib.file_digest(weights, "sha256").hexdigest()


def _put(folder: Path, place: Path) -> None:
    """Move a complete folder to its place. What stood there is moved away whole before it is deleted, so that a kill
    leaves no half of one."""
    old = place.with_name(place.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    folder.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def _stored_experiment(folder: Path) -> Experiment:
    with _reading(folder / _CONFIG):
        return from_dict(Experiment, json.loads((folder / _CONFIG).read_text())["experiment"], "experiment")


@contextmanager
def _reading(file: Path, found: str = "cannot be read") -> Iterator[None]:
    """Whatever the libraries below raise about `file`, as one line that names it."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:300]
        raise CheckpointError(f"{file} {found} ({what}): copy the whole folder again, or train again") from error
