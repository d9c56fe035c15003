"""Arrays on disk that can be made again: written whole or not at all, and not trusted when they are read."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np


def write_arrays(file: Path, arrays: Mapping[str, Any]) -> None:
    """Write an npz file that other processes may be about to read. Raises OSError, and then nothing is left behind."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=file.parent, prefix=".draft-", delete=False) as draft:
        try:
            np.savez(draft, allow_pickle=False, **arrays)
            draft.close()
            os.replace(draft.name, file)
        except BaseException:
            os.unlink(draft.name)
            raise


def read_arrays(file: Path) -> dict[str, Any] | None:
    """What `write_arrays` wrote; None if it is not there, or damaged."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
