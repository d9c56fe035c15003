"""`regioncap data check`: look at a data set before hours are spent on it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import tyro

from regioncap.experiments.cache import cache_folder
from regioncap.experiments.commands.parsing import fail, parse
from regioncap.experiments.commands.preset import chosen_data
from regioncap.experiments.data.check.contact_sheet import contact_sheet
from regioncap.experiments.data.check.detect import detect
from regioncap.experiments.data.check.health import check_health
from regioncap.experiments.data.check.page import health_page
from regioncap.experiments.data.check.report import markdown, print_health
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.data.sources import DataSource
from regioncap.experiments.scoring.whole_file import write_whole

_HELP = """\
Data sets

  regioncap data check DIR --out DIR               counts, leaks, duplicates, captions, words, a contact sheet

`regioncap data check --help` says more.
"""
_SHEET = "contact_sheet.jpg"


@dataclass(frozen=True, kw_only=True)
class DataCheckCommand:
    """Say whether a data set is fit to train on: a report here, and as report.html, report.md and contact_sheet.jpg.

      regioncap data check flickr8k --out runs/flickr8k-check
      regioncap data check coco --data coco --data.splits paper --out runs/coco-check

    The kind is told by the files that lie in the folder, unless --data names it: flickr8k, flickr30k, coco, folder or
    scenes, whose fields are then flags. Ends with status 1 if something would stop training.
    """

    folder: tyro.conf.Positional[Path]
    """The data set."""
    out: Path | None = None
    """Folder for the report; without, it is printed alone."""
    pictures: int | None = None
    """Open so many pictures, drawn at random; without, all of them."""
    jobs: int = 0
    """Threads that open pictures; 0: as many as there are cores."""
    sheet: int = 24
    """Pictures of the contact sheet."""
    seed: int = 0
    """Draws the pictures of the sheet, and those that are opened."""
    cache: Path = field(default_factory=cache_folder)
    """Where it is kept which files were looked at."""
    data: DataSource = field(default_factory=Flickr8kConfig)
    """How the folder is read."""

    def __post_init__(self) -> None:
        if self.pictures is not None and self.pictures < 0:
            raise ValueError(f"--pictures must be at least 0, got {self.pictures}")
        if self.jobs < 0 or self.sheet < 1:
            raise ValueError(f"--jobs must be at least 0 and --sheet at least 1, got {self.jobs} and {self.sheet}")


def data_command(arguments: Sequence[str]) -> int:
    """Run a command of DATA_COMMANDS."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_HELP)
        return 0
    if arguments[0] not in DATA_COMMANDS:
        return fail(f"data has no command {arguments[0]!r}; there is {', '.join(DATA_COMMANDS)}", status=2)
    return DATA_COMMANDS[arguments[0]](arguments[1:])


def _check(arguments: Sequence[str]) -> int:
    named, rest = chosen_data(arguments)
    folder = next((Path(word) for word in rest if not word.startswith("-")), None)
    source = named or (detect(folder) if folder is not None else Flickr8kConfig())
    default = DataCheckCommand(folder=tyro.MISSING, data=source)
    command = parse(DataCheckCommand, "regioncap data check", rest, default)
    source = replace(command.data, root=command.folder)
    try:
        health = check_health(source, command.cache, pictures=command.pictures, jobs=command.jobs, seed=command.seed)
    except DataError as error:
        return fail(f"stops training: {error}")
    print_health(health)
    if command.out is not None:
        sheet = contact_sheet(health.images, count=command.sheet, seed=command.seed)
        command.out.mkdir(parents=True, exist_ok=True)
        sheet.save(command.out / _SHEET, quality=88)
        write_whole(command.out / "report.md", markdown(health, _SHEET))
        write_whole(command.out / "report.html", health_page(health, sheet))
        print(f"Report: {command.out / 'report.html'}, {command.out / 'report.md'}, {command.out / _SHEET}")
    return 1 if health.problems else 0


DATA_COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {"check": _check}
