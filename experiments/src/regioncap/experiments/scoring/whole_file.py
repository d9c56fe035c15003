"""Output files that are there whole or not at all."""

import os
from pathlib import Path


def check_target(path: Path) -> None:
    """Refuse a path that cannot become a file before minutes are spent on what goes into it. Raises ValueError."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file to write")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ValueError(f"{path} cannot be written: {parent} is no folder that may be written to")


def write_whole(path: Path, text: str) -> None:
    """Write UTF-8 text, its line ends as they are; parent folders are made and an old file is replaced at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".draft-{os.getpid()}-{path.name}")
    try:
        draft.write_text(text, encoding="utf-8", newline="")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
