"""`regioncap extract`: encode the pictures of a data set once, on one process or on many."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import tyro
from accelerate import PartialState
from torch import nn

from regioncap.encoders.store import ExtractConfig, FeatureStore, Team
from regioncap.experiments.cache import cache_folder
from regioncap.experiments.commands.parsing import fail, parse
from regioncap.experiments.commands.preset import starting_point
from regioncap.experiments.config import Experiment
from regioncap.experiments.data.sources import read_data
from regioncap.experiments.features import encode
from regioncap.experiments.prepare import dev_split

_PATIENCE = timedelta(days=7)
"""How long a process waits for the others, whose shares of the images may be slower."""


@dataclass(frozen=True, kw_only=True)
class ExtractCommand:
    """Write what the frozen image encoder says of every picture; `train` and `ablate` read it with --features OUT.

    The same command goes on where it was interrupted. On several GPUs or processes: accelerate launch -m
    regioncap.experiments.cli extract ... Ends with status 1 if pictures cannot be read; they are listed and left out.
    """

    out: Path | None = None
    """Folder of the feature store. None takes the cache, where `train` and `ablate` look without being told."""
    splits: tuple[str, ...] = ()
    """Which splits; none named: train and dev (or val)."""
    cache: Path = field(default_factory=cache_folder)
    """Where scenes are made, and the place of the store if no other is named."""
    extract: Annotated[ExtractConfig, tyro.conf.arg(name="")] = field(default_factory=ExtractConfig)
    experiment: Annotated[Experiment, tyro.conf.arg(name="")]


def extract_command(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    preset, experiment, rest = starting_point("extract", arguments)
    default = ExtractCommand(experiment=experiment)
    command = parse(ExtractCommand, f"regioncap extract {preset}", rest, default)
    state = PartialState(timeout=_PATIENCE)
    team = Team(index=state.process_index, size=state.num_processes, meet=state.wait_for_everyone)
    with state.main_process_first():  # which makes what the others read
        data = read_data(command.experiment.data, command.cache)
    encoder = command.experiment.encoders.build().image
    if isinstance(encoder, nn.Module):
        encoder.to(state.device)
    problems = 0
    for split in command.splits or ("train", dev_split(data)):
        root = command.out or command.cache / "features"
        store = encode(data.split(split), encoder, root, split, command.extract, team)
        if state.is_main_process:
            problems += _report(split, store)
    return 1 if problems else 0


def _report(split: str, store: FeatureStore) -> int:
    """Say what is there now; returns how many pictures are not."""
    size = store.manifest.bytes
    print(
        f"{split}: {len(store):,} images, {size / 1e6:,.1f} MB, {size / len(store):,.0f} bytes an image: {store.folder}"
    )
    for reason in store.unreadable.values():
        fail(reason)
    if store.unreadable:
        fail(f"{split}: {len(store.unreadable)} pictures are left out, see above and {store.folder / 'manifest.json'}")
    return len(store.unreadable)
