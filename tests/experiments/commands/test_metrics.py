from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.commands.metrics import METRICS_COMMANDS
from regioncap.experiments.metrics.ranged_file import FetchError
from regioncap.experiments.metrics.spice_models import default_spice_folder, find_spice_folder, spice_jars
from regioncap.experiments.metrics.spice_setup import SpiceSetup

Command = Callable[..., Any]


@pytest.fixture
def spice_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is set up; the folder is where setup-spice makes it."""
    monkeypatch.delenv("REGIONCAP_SPICE", raising=False)
    monkeypatch.setenv("REGIONCAP_CACHE", str(tmp_path / "cache"))
    return default_spice_folder()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """setup-spice makes empty jars; what it was asked to make them from."""
    asked = []

    def make(source: str, to: Path | None, *, force: bool) -> SpiceSetup:
        folder = to or default_spice_folder()
        folder.mkdir(parents=True, exist_ok=True)
        for jar in spice_jars(folder):
            jar.touch()
        asked.append((source, force))
        sizes = {"code.jar": 7_270_741, "models.jar": 9_468_937}
        return SpiceSetup(folder=folder, sizes=sizes, fetched=16_700_000, was_complete=False)

    monkeypatch.setattr("regioncap.experiments.commands.metrics.setup_spice", make)
    return asked


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_metrics_alone_explains_its_commands(command: Command, arguments: list[str]) -> None:
    outcome = command("metrics", *arguments)
    assert (outcome.status, outcome.err) == (0, "")
    assert all(f"regioncap metrics {name}" in outcome.out for name in METRICS_COMMANDS)


def test_help_of_setup_spice_says_what_it_gets_from_where_and_under_which_licence(command: Command) -> None:
    outcome = command("metrics", "setup-spice", "--help")
    assert outcome.status == 0
    for part in ("--from DIR_OR_URL", "--to", "--force", "Maven", "17 MB", "GPL v3 or later", "AGPL v3"):
        assert part in outcome.out


def test_setup_spice_tells_what_came_that_spice_is_on_and_the_licences(
    command: Command, spice_environment: Path, made: list[tuple[str, bool]]
) -> None:
    outcome = command("metrics", "setup-spice", "--from", "https://repository.invalid/maven2", "--force")
    assert (outcome.status, outcome.err) == (0, "")
    assert made == [("https://repository.invalid/maven2", True)]
    for part in (str(spice_environment), "7.3 MB", "9.5 MB", "16.7 MB  fetched", "SPICE is on", "GPL v3", "AGPL v3"):
        assert part in outcome.out
    assert find_spice_folder(None) == spice_environment


def test_a_folder_that_no_command_would_find_is_said_to_need_naming(
    command: Command, spice_environment: Path, made: list[tuple[str, bool]], tmp_path: Path, monkeypatch: Any
) -> None:
    mine = tmp_path / "mine"
    outcome = command("metrics", "setup-spice", "--from", "jars", "--to", mine)
    assert f"export REGIONCAP_SPICE={mine}" in outcome.out
    monkeypatch.setenv("REGIONCAP_SPICE", str(mine))
    assert "SPICE is on" in command("metrics", "setup-spice", "--from", "jars", "--to", mine).out
    assert f"REGIONCAP_SPICE names {mine}, which goes first" in command("metrics", "setup-spice", "--from", "jars").out


def test_setup_spice_leaves_a_complete_folder_as_it_is(command: Command, spice_environment: Path) -> None:
    spice_environment.mkdir(parents=True)
    for jar in spice_jars(spice_environment):
        jar.write_text("kept")
    outcome = command("metrics", "setup-spice", "--from", "https://repository.invalid/maven2")
    assert (outcome.status, outcome.err) == (0, "")
    assert f"{spice_environment} already" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "no command 'nonsense'; there is setup-spice"),
        (["setup-spice", "--from", "/nowhere"], "--from /nowhere: no such folder"),
        (["setup-spice", "--from", "ftp://host/"], "want a folder or an address that begins with http"),
    ],
)
def test_bad_input_of_metrics_is_one_line_and_status_2(
    command: Command, spice_environment: Path, arguments: list[str], message: str
) -> None:
    outcome = command("metrics", *arguments)
    (line,) = outcome.err.splitlines()
    assert outcome.status == 2
    assert line.startswith("regioncap: ")
    assert message in line


def test_setup_spice_wants_a_source(command: Command, spice_environment: Path) -> None:
    outcome = command("metrics", "setup-spice")
    assert outcome.status == 2
    assert "--from DIR_OR_URL" in outcome.err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt(), "the same command goes on"),
        (FetchError("http://host/file: the connection ended"), "http://host/file: the connection ended"),
    ],
)
def test_what_ends_setup_spice_from_outside_is_one_line_and_status_1(
    command: Command, spice_environment: Path, monkeypatch: Any, error: BaseException, message: str
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr("regioncap.experiments.commands.metrics.setup_spice", fail)
    command("metrics", "setup-spice", "--from", "http://host").assert_one_line(message)
