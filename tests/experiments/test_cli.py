import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.checkpoint import load_checkpoint
from regioncap.experiments.cli import COMMANDS, main
from regioncap.experiments.config_io import flatten
from regioncap.experiments.presets import PRESETS

Command = Callable[..., Any]


# Help


def test_help_names_every_command(command: Command) -> None:
    for arguments in ([], ["-h"], ["--help"]):
        outcome = command(*arguments)
        assert outcome.status == 0
        assert all(f"regioncap {name}" in outcome.out for name in COMMANDS)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", ["ablate", "train"])
def test_help_of_a_preset_lists_every_config_field_as_a_dotted_flag(command: Command, name: str, preset: str) -> None:
    outcome = command(name, preset, "--help")
    assert outcome.status == 0
    for flag in ("--graph.k", "--train.steps", "--out", "--resume", "--data.root", "--seed"):
        assert f" {flag} " in outcome.out or f" {flag}," in outcome.out
    experiment = PRESETS[preset]()
    stages = {key for key in flatten(experiment) if any(other.startswith(f"{key}.") for other in flatten(experiment))}
    empty = set(empty_stages(experiment))
    assert "--preset" not in outcome.out  # it is chosen by the command's first word
    for key in flatten(experiment).keys() - stages - empty - {"preset"}:
        assert f"--{key.replace('_', '-')}" in outcome.out, key


def empty_stages(config: Any, prefix: str = "") -> Iterator[str]:
    """Keys of null stages, which have nothing to set."""
    for field in fields(config):
        if is_dataclass(value := getattr(config, field.name)):
            if fields(value):
                yield from empty_stages(value, f"{prefix}{field.name}.")
            else:
                yield f"{prefix}{field.name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(command: Command, name: str) -> None:
    outcome = command(name, "--help")
    assert outcome.status == 0, outcome.err
    assert f"regioncap {name}" in outcome.out
    wanted = {
        "ablate": {"--out"},
        "train": {"--out"},
        "train-scenes-encoders": {"--out"},
        "evaluate": {"--out", "--split", "--data.root"},
        "caption": {"--out", "--overlay"},
        "self-critical": {"--out", "--objective.samples", "--train.steps"},
    }
    assert wanted.get(name, set()) <= set(outcome.out.split())


@pytest.mark.parametrize("name", ["train", "self-critical"])
def test_what_trains_one_captioner_takes_no_flags_of_a_study(command: Command, name: str) -> None:
    """One that is taken and not read leaves a user waiting for five seeds."""
    assert not {"--seeds", "--arms", "--jobs"} & set(command(name, "--help").out.split())


def test_reader_of_the_output_may_leave() -> None:
    """`regioncap ... | head` is quiet, and ends as a process that SIGPIPE ended."""
    script = "import sys; from regioncap.experiments.cli import main; sys.exit(main(['score', '--help']))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_another_broken_pipe_is_told(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def broken(name: str, arguments: Sequence[str]) -> int:
        raise BrokenPipeError("a worker died")

    monkeypatch.setattr("regioncap.experiments.cli._run", broken)
    assert main(["score"]) == 1
    assert "a worker died" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["score", "metrics"])
def test_scoring_does_not_wait_for_pytorch(name: str) -> None:
    script = f"import sys; from regioncap.experiments.cli import main; main(['{name}', '--help']); "
    loaded = (
        "print([m for m in ('torch', 'mlflow', 'matplotlib', 'transformers') if m in sys.modules], file=sys.stderr)"
    )
    path = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", f"import atexit; atexit.register(lambda: {loaded}); {script}"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.stderr.strip() == "[]"
    assert "regioncap" in done.stdout


# train


def test_train_writes_a_checkpoint_of_the_config_on_the_command_line(trained: tuple[Any, Path]) -> None:
    outcome, out = trained
    assert (outcome.status, outcome.err) == (0, "")
    experiment = load_checkpoint(out / "checkpoint").experiment
    assert experiment.train.steps == 8
    assert experiment.graph.layers == 1
    assert experiment.guidance == PRESETS["scenes"]().guidance  # the full captioner unless --arm says otherwise
    assert {"CIDEr", "METEOR"} <= set(json.loads((out / "scores.json").read_text())["corpus"])


# What a user can get wrong


def test_unknown_commands_presets_and_arms_are_answered_with_those_there_are(
    command: Command, flags: list[str], tmp_path: Path
) -> None:
    command("abblate").assert_one_line("no command 'abblate'", "ablate, train, evaluate, caption")
    command("ablate", "sceens").assert_one_line(
        "or photos-grid or photos-best or photos-best-detected or photos-paper or paper or coco-paper or "
        "flickr30k-paper)",
        "got 'sceens'",
    )
    command("train").assert_one_line("wants a preset first", "got nothing")
    out = tmp_path / "out"
    command("train", "scenes", "--arm", "+wings", "--out", out).assert_one_line("--arm: no arm '+wings'", "'baseline'")
    assert not out.exists()


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--seeds", "0", "--seeds must be at least 1, got 0"),
        ("--arms", "+wings", "--arms: no arm '+wings'; there are 'clipcap'"),
        ("--phase1.share", "0.9", "phase1.share and phase2.share must add up to 1, got 0.9 and 0.3"),
        ("--metrics.spice-folder", "nowhere", "nowhere, which does not hold stanford-corenlp-3.6.0.jar"),
        ("--encoders.weights", "nowhere", "clip_head.json is missing"),
        ("--dim", "64", "dim must be 32, the width of the scenes encoders; got 64"),
    ],
)
def test_setting_that_does_not_fit_is_one_line(
    command: Command, flags: list[str], runs: Path, flag: str, value: str, said: str
) -> None:
    command("ablate", "scenes", *flags, "--out", runs / "refused", flag, value).assert_one_line(said)
    assert not (runs / "refused").exists()


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--graph.k", "0", "graph.k must be at least 1, got 0"),
        ("--graph.k", "three", "--graph.k: invalid literal"),
        ("--train.steps", "0", "train.steps must be at least 1, got 0"),
        ("--no-such-flag", "1", "--no-such-flag"),
    ],
)
def test_flag_that_cannot_be_read_is_named(
    command: Command, flags: list[str], runs: Path, flag: str, value: str, said: str
) -> None:
    outcome = command("ablate", "scenes", *flags, "--out", runs / "refused", flag, value)
    assert outcome.status == 2
    assert said in outcome.err
    assert "--help" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.fixture
def folder(photographs: Path, tmp_path: Path) -> Path:
    """A copy of the photographs to damage."""
    return Path(shutil.copytree(photographs, tmp_path / "folder"))


def remove_caption(folder: Path) -> None:
    lines = (folder / "captions.txt").read_text().splitlines()
    (folder / "captions.txt").write_text("\n".join(line for line in lines if not line.startswith("1003_")))


def write_csv(folder: Path) -> None:
    (folder / "captions.txt").write_text("image,caption\n1000_photo.jpg,A dog\n")


def empty_images(folder: Path) -> None:
    shutil.rmtree(folder / "images")
    (folder / "images").mkdir()


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (shutil.rmtree, ("folder does not exist", "--data.root DIR")),
        (empty_images, ("images is empty", "put the photographs there")),
        (remove_caption, ("1003_photo.jpg has no caption", "add a line")),
        (write_csv, ("captions.txt, line 1: found 'image,caption', want 'name.jpg#0<TAB>caption'",)),
        (lambda folder: (folder / "dev.txt").unlink(), ("has no 'dev' or 'val' split to choose on",)),
        (lambda folder: (folder / "train.txt").unlink(), ("has no split 'train'",)),
    ],
)
def test_folder_of_photographs_that_cannot_be_used_is_one_line(
    command: Command, folder: Path, runs: Path, cache: Path, damage: Callable[[Path], None], parts: tuple[str, ...]
) -> None:
    damage(folder)
    outcome = command("ablate", "photos-grid", "--data.root", folder, "--out", runs / "refused", "--cache", cache)
    outcome.assert_one_line(*parts)


def test_photographs_without_a_folder_ask_for_one(command: Command, runs: Path) -> None:
    command("ablate", "photos", "--out", runs / "refused").assert_one_line("data.root is not given", "--data.root DIR")


def test_training_picture_that_does_not_decode_is_one_line(
    command: Command, flags: list[str], scenes_root: Path, runs: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(scenes_root, tmp_path / "scenes"))
    broken = sorted((root / "images" / "train").iterdir())[5]
    broken.write_bytes(broken.read_bytes()[:1000])
    outcome = command("ablate", "scenes", "--out", runs / "refused", *flags, "--data.root", root)
    outcome.assert_one_line(str(broken), "does not decode", "remove it")


def test_folder_without_scenes_is_not_written_to(
    command: Command, runs: Path, flags: list[str], tmp_path: Path
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    outcome = command("ablate", "scenes", "--out", runs / "refused", *flags, "--data.root", tmp_path)
    outcome.assert_one_line(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_checkpoint_that_cannot_be_used_is_one_line(
    trained: tuple[Any, Path], command: Command, scenes_root: Path, tmp_path: Path
) -> None:
    pictures = scenes_root / "images"
    command("caption", tmp_path / "none", pictures).assert_one_line("none is no checkpoint", "`regioncap train`")
    command("evaluate", tmp_path / "none").assert_one_line("none is no checkpoint")
    copy = Path(shutil.copytree(trained[1] / "checkpoint", tmp_path / "copy"))
    stored = json.loads((copy / "config.json").read_text())
    stored["experiment"]["decoder"]["width"] = 48
    (copy / "config.json").write_text(json.dumps(stored))
    for name in ("caption", "evaluate"):
        arguments = (name, copy, *([pictures] if name == "caption" else []))
        command(*arguments).assert_one_line(str(copy / "model.safetensors"), "does not fit config.json")


def test_split_that_is_not_there_is_answered_with_those_there_are(
    trained: tuple[Any, Path], command: Command, cache: Path
) -> None:
    outcome = command("evaluate", trained[1] / "checkpoint", "--split", "dev", "--cache", cache)
    outcome.assert_one_line("has no split 'dev'; it has train, val, test")


def test_store_of_runs_that_cannot_be_opened_is_one_line(
    command: Command, flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "carrier-pigeon://loft")
    outcome = command("ablate", "scenes", "--out", tmp_path / "out", *flags)
    outcome.assert_one_line("carrier-pigeon", status=2)
