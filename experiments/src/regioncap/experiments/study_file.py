"""`study.json`: what a report has to know of a study that its runs do not say."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.scores_file import image_records
from regioncap.experiments.scoring.whole_file import write_whole

STUDY = "study.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFile:
    """A study's title, command and dev images."""

    title: str
    preset: str
    command: str
    references: Mapping[str, tuple[str, ...]]
    """Dev image -> captions; empty for a study of an older version."""
    pictures: Mapping[str, Path]
    """Dev image -> photograph, where it lay when the study ran."""


def write_study_file(folder: Path, *, title: str, preset: str, images: Sequence[CaptionedImage]) -> None:
    """Write it; a study that is resumed with other words keeps the last ones."""
    # Here alone, as it brings MLflow: who reads a study, as `regioncap compare` does, shall not wait for that.
    from regioncap.experiments.tracking.notes import command_line

    content = {"title": title, "preset": preset, "command": command_line(), "images": image_records(images)}
    write_whole(folder / STUDY, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_study_file(folder: Path) -> StudyFile:
    """Read it; a folder without one is called by its name. Raises ValueError if it is broken."""
    file = folder / STUDY
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        return StudyFile(
            title=str(stored["title"]),
            preset=str(stored["preset"]),
            command=str(stored["command"]),
            references={row["name"]: tuple(row["captions"]) for row in stored["images"]},
            pictures={row["name"]: Path(row["path"]) for row in stored["images"]},
        )
    except FileNotFoundError:
        return StudyFile(title=folder.resolve().name, preset="", command="", references={}, pictures={})
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is no study's file ({error}): remove it, or call the study again") from error
