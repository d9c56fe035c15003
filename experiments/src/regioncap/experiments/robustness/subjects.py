"""The captioners whose robustness is measured: checkpoints, all arms of a study, and captioners of transformers."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from regioncap.encoders import ImageEncoder
from regioncap.encoders.store import FeatureStore
from regioncap.experiments.arms import ARMS
from regioncap.experiments.checkpoint import Checkpoint, CheckpointError, load_checkpoint, weights_digest
from regioncap.experiments.config_io import to_dict
from regioncap.experiments.encoders import Encoders
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.peers.hf_captioner import PREFIX, HfCaptioner, HfCaptionerConfig, hf_search

_CHECKPOINT = "checkpoint"
Captioning = Callable[[Sequence[int]], Sequence[str]]
"""Numbers of pictures -> their captions."""


@runtime_checkable
class Pictures(Protocol):
    """Changed pictures, made and encoded once somebody asks for them."""

    def files(self) -> Sequence[Path]:
        """The pictures on disk, in order."""
        ...

    def features(self, key: str, encoder: ImageEncoder) -> FeatureStore:
        """What an encoder, named by `key`, sees in them; encoded once for all captioners that share it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A captioner, and what to call it."""

    name: str
    maker: dict[str, Any]
    """All that decides what it says of a picture, as JSON values."""
    of: Callable[[Pictures], Captioning]
    """Captions of these pictures. Nothing is encoded before the first is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subjects:
    """All that were asked for."""

    subjects: tuple[Subject, ...]
    checkpoints: tuple[Checkpoint, ...]
    """Those that are our own."""


def load_subjects(names: Sequence[str]) -> Subjects:
    """`names` are checkpoints, runs, studies (the first seed of every arm) and `hf:` names or folders, in any mix.

    Captioners of transformers search as the first checkpoint does. Raises CheckpointError or ValueError naming what
    cannot be used.
    """
    folders = [folder for name in names if not name.startswith(PREFIX) for folder in checkpoints_in(Path(name))]
    peers = [name for name in names if name.startswith(PREFIX)]
    titles = _titles(folders)
    twice = next((name for name in [*titles, *peers] if [*titles, *peers].count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is named twice: name every captioner once")
    encoders: dict[str, Encoders] = {}
    subjects, checkpoints = [], []
    for title, folder in zip(titles, folders, strict=True):
        checkpoint = load_checkpoint(folder)
        own = checkpoint.experiment.encoders.build()
        checkpoints.append(checkpoint)
        subjects.append(_of_checkpoint(title, folder, checkpoint, encoders.setdefault(own.key, own)))
    search = hf_search(checkpoints[0].experiment.search if checkpoints else None)
    for name in peers:
        captioner = HfCaptionerConfig(weights=name.removeprefix(PREFIX), search=search).build()
        subjects.append(_of_peer(name, captioner))
    return Subjects(subjects=tuple(subjects), checkpoints=tuple(checkpoints))


def checkpoints_in(path: Path) -> list[Path]:
    """A checkpoint, that of a run, or the first seed's of every arm of a study, in the order of the study's table."""
    if (path / "model.safetensors").is_file():
        return [path]
    if (path / _CHECKPOINT).is_dir():
        return [path / _CHECKPOINT]
    arms: dict[str, Path] = {}
    for folder in sorted(path.glob(f"*/seed*/{_CHECKPOINT}"), key=_seed):
        arms.setdefault(folder.parents[1].name, folder)
    if not arms:
        raise CheckpointError(
            f"{path} is neither a checkpoint nor a study: it has no model.safetensors, no {_CHECKPOINT} and no "
            f"ARM/seed0/{_CHECKPOINT}. Give a folder that `regioncap train` or `ablate` wrote"
        )
    table = list(ARMS)
    return [arms[arm] for arm in sorted(arms, key=lambda arm: table.index(arm) if arm in table else len(table))]


def _seed(folder: Path) -> int:
    digits = folder.parent.name.removeprefix("seed")
    return int(digits) if digits.isdigit() else 0


def _titles(folders: Sequence[Path]) -> list[str]:
    """The arms' names where they tell the folders apart, else the folders."""
    short = [_arm(folder) for folder in folders]
    return [name if short.count(name) == 1 else str(folder) for name, folder in zip(short, folders, strict=True)]


def _arm(folder: Path) -> str:
    run = folder.parent if folder.name == _CHECKPOINT else folder
    return run.parent.name if run.name.startswith("seed") else run.name


def _of_checkpoint(name: str, folder: Path, checkpoint: Checkpoint, encoders: Encoders) -> Subject:
    search = checkpoint.experiment.search
    generator = CaptionGenerator(checkpoint.captioner, checkpoint.tokenizer, search)

    def of(pictures: Pictures) -> Captioning:
        def caption(rows: Sequence[int]) -> Sequence[str]:
            store = pictures.features(encoders.key, encoders.image)
            return generator(store.images(torch.tensor(rows)), [store.names[row] for row in rows]).texts

        return caption

    settings = json.dumps([to_dict(checkpoint.experiment), encoders.key], sort_keys=True)
    maker = {
        "weights": weights_digest(folder),
        "settings": hashlib.sha256(settings.encode()).hexdigest()[:20],
        "search": to_dict(search),
    }
    return Subject(name=name, maker=maker, of=of)


def _of_peer(name: str, peer: HfCaptioner) -> Subject:
    def of(pictures: Pictures) -> Captioning:
        return lambda rows: peer([pictures.files()[row] for row in rows])

    return Subject(name=name, maker=peer.maker, of=of)
