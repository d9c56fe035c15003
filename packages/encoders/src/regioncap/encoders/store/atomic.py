"""Files that are there whole or not at all, whatever is killed and whenever the power fails."""

import os
from pathlib import Path

PARTIAL = ".partial"


def write_durably(path: Path, content: bytes) -> None:
    """Put `content` at `path`: written beside it, flushed to the disk, then renamed. Raises OSError as `open` does."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        _sync_folder(path.parent)
    except OSError:
        partial.unlink(missing_ok=True)  # it would only take room on a full disk
        raise


def _sync_folder(folder: Path) -> None:
    """Make a rename last: until then a power failure may take it back."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
