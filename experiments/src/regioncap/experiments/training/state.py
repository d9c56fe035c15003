"""All that a killed training needs to go on, in one file that is whole or not there."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


class StateError(ValueError):
    """A saved state cannot be used; the message names the file and the way out."""


def save_state(values: Mapping[str, Any], file: Path) -> None:
    """Replace `file` in one move: a kill leaves the old one or the new one, never half of one.

    `values` are tensors, numbers, texts, and dicts and lists of such. A full disk raises OSError and leaves the old
    file as it was.
    """
    partial = file.with_name(file.name + ".partial")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as stream:
            torch.save(dict(values), stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise OSError(
            f"{file} cannot be written ({' '.join(str(error).split())[:200]}); the state that was saved before is "
            "whole: make room, then go on from it with --resume"
        ) from error
    partial.replace(file)
    _sync_folder(file.parent)


def load_state(file: Path) -> dict[str, Any] | None:
    """What `save_state` wrote; None if there is none. Raises StateError for a file that is broken."""
    if not file.is_file():
        return None
    try:
        values: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, ValueError, OSError, KeyError, pickle.UnpicklingError) as error:
        raise StateError(
            f"{file} cannot be read ({' '.join(str(error).split())[:200]}): remove it to begin anew"
        ) from error
    return values


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Where this process's sources of chance stand: what dropout and sampling draw from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Go back to where `random_state` was asked."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _sync_folder(folder: Path) -> None:
    """Make a rename outlive a crash of the machine."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
