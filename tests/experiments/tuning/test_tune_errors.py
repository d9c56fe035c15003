"""What a user can get wrong, and what the world can: one line each, and a status."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.config_io import to_dict
from regioncap.experiments.presets import scenes
from regioncap.experiments.tuning.locks import taken_or_none


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "refused"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--vary", "graph.kk=1:2"), "--vary graph.kk=1:2: no config field 'graph.kk' in this experiment; near to it"),
        (("--trials", 0), "--trials must be at least 1, got 0"),
        (("--hours", -1), "--hours must be above 0, got -1.0"),
        (("--max-latency", 5, "--objective", "cider,latency"), "give one of the two"),
        (("--arm", "+wings"), "--arm: no arm '+wings'"),
        (("--graph.k", 0), "graph.k must be at least 1, got 0"),
    ],
)
def test_settings_of_no_use(tune: Callable[..., Any], out: Path, words: tuple[object, ...], said: str) -> None:
    outcome = tune("--out", out, *words)
    assert outcome.status in (1, 2)
    assert said in " ".join(outcome.err.replace("│", " ").split())
    assert not out.exists()


def test_a_preset_is_wanted(command: Callable[..., Any]) -> None:
    command("tune").assert_one_line("regioncap tune wants a preset first", "got nothing")


def test_an_unreachable_database_is_status_2(tune: Callable[..., Any], out: Path) -> None:
    outcome = tune("--out", out, "--storage", "postgresql://me:secret@127.0.0.1:1/db")
    outcome.assert_one_line("postgresql://me:***@127.0.0.1:1/db cannot be reached", status=2)


@pytest.fixture
def tracking() -> Iterator[Callable[[str], None]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        yield lambda uri: patch.setenv("MLFLOW_TRACKING_URI", uri)


def test_an_unreachable_tracking_server_is_status_2(
    tune: Callable[..., Any], out: Path, tracking: Callable[[str], None]
) -> None:
    tracking("http://127.0.0.1:1")
    tune("--out", out).assert_one_line("MLflow's store http://127.0.0.1:1 cannot be opened", status=2)


def test_a_folder_of_other_things_is_not_written_to(tune: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    tune("--out", tmp_path).assert_one_line(f"{tmp_path} is not empty and holds no study")
    assert os.listdir(tmp_path) == ["letter.txt"]


def test_a_second_command_in_the_same_folder_is_told_what_to_do(tune: Callable[..., Any], out: Path) -> None:
    lock = taken_or_none(out / "tune.lock")
    assert lock is not None
    with lock:
        tune("--out", out).assert_one_line(f"another `regioncap tune` works in {out}", "--workers")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("{", "is no JSON file"),
        ("[]", "holds no experiment; want best.json of `regioncap tune`"),
        (json.dumps(to_dict(scenes().graph)), "holds no experiment"),
        (json.dumps(to_dict(scenes()) | {"wings": 2}), "unknown field wings"),
        (json.dumps(to_dict(scenes()) | {"preset": "photos"}), "settings of the preset 'photos', not 'scenes'"),
    ],
)
@pytest.mark.parametrize("name", ["train", "ablate", "tune"])
def test_a_config_file_of_no_use_is_named(
    command: Callable[..., Any], tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    file = tmp_path / "config.json"
    if text is not None:
        file.write_text(text)
    command(name, "scenes", "--out", tmp_path / "out", "--config", file).assert_one_line(str(file), said)


def test_help_teaches(command: Callable[..., Any]) -> None:
    outcome = command("tune", "scenes", "--help")
    assert outcome.status == 0
    for part in ("--trials", "--storage", "--vary", "--objective", "--max-latency", "--config", "--graph.k"):
        assert part in outcome.out
    assert "regioncap train scenes --config runs/tune/best.json" in " ".join(outcome.out.replace("│", " ").split())
