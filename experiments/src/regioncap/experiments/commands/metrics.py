"""`regioncap score` and `regioncap metrics`: what needs neither a model nor PyTorch, and so starts at once."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from regioncap.experiments.commands.parsing import fail, parse
from regioncap.experiments.metrics.spice_models import default_spice_folder
from regioncap.experiments.metrics.spice_setup import SpiceSetup, setup_spice
from regioncap.experiments.scoring.command import ScoreOptions, score

_METRICS_HELP = """\
What the caption metrics need beside their wheels

  regioncap metrics setup-spice --from DIR_OR_URL  CoreNLP 3.6.0 for SPICE; from then on every command scores it

BLEU, METEOR, ROUGE-L and CIDEr need nothing. `regioncap metrics setup-spice --help` says where to get what SPICE needs.
"""


@dataclass(frozen=True, kw_only=True)
class SetupSpiceCommand:
    """Get what SPICE needs beside its wheel: CoreNLP 3.6.0, once, for every later command.

    From the address of a Maven repository (Maven Central or a mirror of it) about 17 MB are fetched: the jar of the
    code, and of the models' jar (378 MB) the 14 files that SPICE needs. A run that was interrupted goes on with the
    same command. From a folder that holds stanford-corenlp-3.6.0.jar and stanford-corenlp-3.6.0-models.jar, or a Maven
    repository on disk such as ~/.m2/repository, nothing is fetched. Checksums of all files are checked.

    CoreNLP is under GPL v3 or later, SPICE under AGPL v3.
    """

    source: Annotated[str, tyro.conf.arg(name="from", metavar="DIR_OR_URL")]
    """Folder with the two jars, or a Maven repository's address, such as https://HOST/maven2."""
    to: Path | None = None
    """Folder to make; without, spice-models in the project's cache folder (~/.cache/regioncap or REGIONCAP_CACHE),
    where every command looks. Any other is to be named with --metrics.spice-folder or REGIONCAP_SPICE later on."""
    force: bool = False
    """Make the folder anew although it is complete."""


def score_command(arguments: Sequence[str]) -> int:
    """Score caption files; 2 for input that cannot be scored, 1 for a metric that failed."""
    try:
        score(parse(ScoreOptions, "regioncap score", arguments))
    except BrokenPipeError:
        raise  # nobody reads on: `main` knows
    except (ValueError, OSError) as error:
        return fail(str(error), status=2)
    except KeyboardInterrupt:
        return fail("interrupted; tokenized references and SPICE's parses are kept")
    return 0


def metrics_command(arguments: Sequence[str]) -> int:
    """Run a command of METRICS_COMMANDS."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_METRICS_HELP)
        return 0
    if arguments[0] not in METRICS_COMMANDS:
        return fail(f"metrics has no command {arguments[0]!r}; there is {', '.join(METRICS_COMMANDS)}", status=2)
    return METRICS_COMMANDS[arguments[0]](arguments[1:])


def _setup_spice(arguments: Sequence[str]) -> int:
    command = parse(SetupSpiceCommand, "regioncap metrics setup-spice", arguments)
    try:
        setup = setup_spice(command.source, command.to, force=command.force)
    except ValueError as error:
        return fail(str(error), status=2)
    except KeyboardInterrupt:
        return fail("interrupted; what is fetched is kept, the same command goes on from it")
    print(_spice_report(setup))
    return 0


def _spice_report(setup: SpiceSetup) -> str:
    already = " already; --force makes it anew" if setup.was_complete else ""
    lines = [f"SPICE has what it needs in {setup.folder}{already}"]
    lines += [f"  {size / 1e6:5.1f} MB  {jar}" for jar, size in setup.sizes.items()]
    if setup.fetched:
        lines.append(f"  {setup.fetched / 1e6:5.1f} MB  fetched")
    named = os.environ.get("REGIONCAP_SPICE")
    if setup.folder == (Path(named).expanduser() if named else default_spice_folder()).resolve():
        lines.append("SPICE is on: every command that scores captions scores it.")
    elif named:
        lines.append(f"REGIONCAP_SPICE names {named}, which goes first: unset it, or set it to the folder above.")
    else:
        lines.append(f"To score SPICE from there: export REGIONCAP_SPICE={setup.folder}, or --metrics.spice-folder.")
    lines.append("Licences: CoreNLP GPL v3 or later, SPICE AGPL v3. They bind whoever passes these files on.")
    return "\n".join(lines)


METRICS_COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {"setup-spice": _setup_spice}
