import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from regioncap.experiments.checkpoint import load_checkpoint
from regioncap.experiments.cli import COMMANDS
from regioncap.experiments.commands.metrics import METRICS_COMMANDS
from regioncap.experiments.config_io import flatten
from regioncap.experiments.metrics.ranged_file import FetchError
from regioncap.experiments.metrics.spice_models import default_spice_folder, find_spice_folder, spice_jars
from regioncap.experiments.metrics.spice_setup import SpiceSetup
from regioncap.experiments.presets import PRESETS

Command = Callable[..., Any]


def assert_one_line(outcome: Any, *parts: str, status: int = 1) -> None:
    """A status, and one line on stderr that says all of this."""
    assert outcome.status == status
    (line,) = outcome.err.splitlines()
    assert line.startswith("regioncap: ")
    assert "Traceback" not in outcome.out
    for part in parts:
        assert part in line


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
    for flag in ("--graph.k", "--train.steps", "--seeds", "--out", "--resume", "--data.root", "--seed"):
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


@pytest.mark.parametrize("name", ["evaluate", "caption", "train-scenes-encoders", "ablate", "train"])
def test_every_command_has_help(command: Command, name: str) -> None:
    outcome = command(name, "--help")
    assert outcome.status == 0
    assert "--out" in outcome.out
    if name == "evaluate":
        assert {"--split", "--data.root"} <= set(outcome.out.split())
    if name == "caption":
        assert "--overlay" in outcome.out


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


# train, caption


def test_train_writes_a_checkpoint_of_the_config_on_the_command_line(trained: tuple[Any, Path]) -> None:
    outcome, out = trained
    assert (outcome.status, outcome.err) == (0, "")
    experiment = load_checkpoint(out / "checkpoint").experiment
    assert experiment.train.steps == 8
    assert experiment.graph.layers == 1
    assert experiment.guidance == PRESETS["scenes"]().guidance  # the full captioner unless --arm says otherwise
    assert {"CIDEr", "METEOR"} <= set(json.loads((out / "scores.json").read_text())["corpus"])


@pytest.fixture
def pictures(scenes_root: Path, tmp_path: Path) -> Path:
    """A folder with two pictures, one below another folder and upper case, a broken one, and a text."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    source = sorted((scenes_root / "images" / "test").iterdir())
    shutil.copy(source[0], folder / "b.jpg")
    shutil.copy(source[1], folder / "deep" / "B.JPG")
    (folder / "a_broken.jpg").write_bytes(source[2].read_bytes()[:900])
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_folder_is_captioned_but_for_the_picture_that_does_not_decode(
    trained: tuple[Any, Path], command: Command, pictures: Path, tmp_path: Path
) -> None:
    out, overlay = tmp_path / "sub" / "captions.jsonl", tmp_path / "overlay"
    outcome = command("caption", trained[1] / "checkpoint", pictures, "--out", out, "--overlay", overlay)
    assert_one_line(outcome, str(pictures / "a_broken.jpg"), "does not decode")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["image"] for row in rows] == [str(pictures / "b.jpg"), str(pictures / "deep" / "B.JPG")]
    for row in rows:
        assert isinstance(row["caption"], str)
        assert len(row["scene_words"]) == 4
        assert row["detail_words"]
    assert len(list(overlay.iterdir())) == 2
    for path in overlay.iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) >= 224


def test_a_picture_gets_as_many_captions_as_are_asked_for_each_with_its_confidence(
    trained: tuple[Any, Path], command: Command, pictures: Path, tmp_path: Path
) -> None:
    out, picture = tmp_path / "captions.jsonl", pictures / "b.jpg"
    for flags in (["--n", 5], ["--n", 5, "--search.method", "sample", "--search.top-p", 0.99]):
        outcome = command("caption", trained[1] / "checkpoint", picture, "--out", out, *flags)
        assert outcome.status == 0
        row = json.loads(out.read_text())
        captions = [row, *row["alternatives"]]
        assert len({each["caption"] for each in captions}) == 5
        scores = [each["score"] for each in captions]
        assert scores == sorted(scores, reverse=True)
        assert all(0 < each["confidence"] <= 1 for each in captions)
        product = 1.0
        for _, probability in row["tokens"]:
            product *= probability
        assert product ** (1 / len(row["tokens"])) == pytest.approx(row["confidence"], rel=0.02)
    printed = command("caption", trained[1] / "checkpoint", picture, "--n", 3).out
    assert len([line for line in printed.splitlines() if line.startswith(str(picture))]) == 3


def test_search_flags_change_what_the_checkpoint_says(
    trained: tuple[Any, Path], command: Command, pictures: Path, tmp_path: Path
) -> None:
    def said(*flags: object) -> str:
        out = tmp_path / "captions.jsonl"
        assert command("caption", trained[1] / "checkpoint", pictures / "b.jpg", "--out", out, *flags).status == 0
        caption: str = json.loads(out.read_text())["caption"]
        return caption

    plain = said()
    assert len(said("--search.max-new-tokens", 2).split()) == 2 < len(plain.split())
    assert said("--search.prompt", "there is a").startswith("there is a ")
    first = plain.split()[0]
    assert first not in said("--search.bad-words", first).split()


@pytest.mark.parametrize(("flag", "name"), [("--search.prompt", "prompt"), ("--search.bad-words", "bad_words")])
def test_a_word_that_the_decoder_does_not_know_is_named(
    trained: tuple[Any, Path], command: Command, pictures: Path, flag: str, name: str
) -> None:
    outcome = command("caption", trained[1] / "checkpoint", pictures / "b.jpg", flag, "zebra")
    assert_one_line(outcome, f"search.{name}", "'zebra'", "not in the decoder's vocabulary")


def test_captioning_wants_pictures(trained: tuple[Any, Path], command: Command) -> None:
    assert_one_line(command("caption", trained[1] / "checkpoint"), "wants pictures", "got none")


def test_files_are_captioned_alone_as_in_a_folder_and_printed_without_out(
    trained: tuple[Any, Path], command: Command, pictures: Path, tmp_path: Path
) -> None:
    file, out = pictures / "b.jpg", tmp_path / "captions.jsonl"
    outcome = command("caption", trained[1] / "checkpoint", file, pictures / "deep", "--out", out)
    assert (outcome.status, outcome.err) == (0, "")
    together = [json.loads(line)["caption"] for line in out.read_text().splitlines()]
    alone = command("caption", trained[1] / "checkpoint", file)
    assert (alone.status, alone.err) == (0, "")
    assert alone.out == f"{file}\t{together[0]}\n"


def test_pictures_of_one_name_get_an_overlay_each(
    trained: tuple[Any, Path], command: Command, pictures: Path, tmp_path: Path
) -> None:
    shutil.copy(pictures / "b.jpg", pictures / "deep" / "b.png")
    overlay = tmp_path / "overlay"
    (pictures / "a_broken.jpg").unlink()
    outcome = command("caption", trained[1] / "checkpoint", pictures, "--overlay", overlay)
    assert outcome.status == 0
    assert len(list(overlay.iterdir())) == 3


def test_only_broken_pictures_give_an_empty_file_and_a_status(
    trained: tuple[Any, Path], command: Command, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "captions.jsonl"
    outcome = command("caption", trained[1] / "checkpoint", pictures / "a_broken.jpg", "--out", out)
    assert_one_line(outcome, "a_broken.jpg")
    assert out.read_text() == ""


# What a user can get wrong


def test_unknown_commands_presets_and_arms_are_answered_with_those_there_are(
    command: Command, flags: list[str], tmp_path: Path
) -> None:
    assert_one_line(command("abblate"), "no command 'abblate'", "ablate, train, evaluate, caption")
    assert_one_line(
        command("ablate", "sceens"),
        "or photos-grid or photos-best or photos-paper or paper or coco-paper or flickr30k-paper), got 'sceens'",
    )
    assert_one_line(command("train"), "wants a preset first", "got nothing")
    out = tmp_path / "out"
    assert_one_line(command("train", "scenes", "--arm", "+wings", "--out", out), "--arm: no arm '+wings'", "'baseline'")
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
    assert_one_line(command("ablate", "scenes", *flags, "--out", runs / "refused", flag, value), said)
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
    assert_one_line(outcome, *parts)


def test_photographs_without_a_folder_ask_for_one(command: Command, runs: Path) -> None:
    assert_one_line(command("ablate", "photos", "--out", runs / "refused"), "data.root is not given", "--data.root DIR")


def test_training_picture_that_does_not_decode_is_one_line(
    command: Command, flags: list[str], scenes_root: Path, runs: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(scenes_root, tmp_path / "scenes"))
    broken = sorted((root / "images" / "train").iterdir())[5]
    broken.write_bytes(broken.read_bytes()[:1000])
    outcome = command("ablate", "scenes", "--out", runs / "refused", *flags, "--data.root", root)
    assert_one_line(outcome, str(broken), "does not decode", "remove it")


def test_folder_without_scenes_is_not_written_to(
    command: Command, runs: Path, flags: list[str], tmp_path: Path
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    outcome = command("ablate", "scenes", "--out", runs / "refused", *flags, "--data.root", tmp_path)
    assert_one_line(outcome, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_checkpoint_that_cannot_be_used_is_one_line(
    trained: tuple[Any, Path], command: Command, pictures: Path, tmp_path: Path
) -> None:
    assert_one_line(command("caption", tmp_path / "none", pictures), "none is no checkpoint", "`regioncap train`")
    assert_one_line(command("evaluate", tmp_path / "none"), "none is no checkpoint")
    copy = Path(shutil.copytree(trained[1] / "checkpoint", tmp_path / "copy"))
    stored = json.loads((copy / "config.json").read_text())
    stored["experiment"]["decoder"]["width"] = 48
    (copy / "config.json").write_text(json.dumps(stored))
    for name in ("caption", "evaluate"):
        arguments = (name, copy, *([pictures] if name == "caption" else []))
        assert_one_line(command(*arguments), str(copy / "model.safetensors"), "does not fit config.json")


def test_paths_without_pictures_are_one_line(trained: tuple[Any, Path], command: Command, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    checkpoint = trained[1] / "checkpoint"
    assert_one_line(command("caption", checkpoint, empty), "empty holds no picture; wanted files ending in")
    assert_one_line(command("caption", checkpoint, tmp_path / "gone.jpg"), "gone.jpg: no such file or folder")


def test_split_that_is_not_there_is_answered_with_those_there_are(
    trained: tuple[Any, Path], command: Command, cache: Path
) -> None:
    outcome = command("evaluate", trained[1] / "checkpoint", "--split", "dev", "--cache", cache)
    assert_one_line(outcome, "has no split 'dev'; it has train, val, test")


def test_store_of_runs_that_cannot_be_opened_is_one_line(
    command: Command, flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "carrier-pigeon://loft")
    outcome = command("ablate", "scenes", "--out", tmp_path / "out", *flags)
    assert_one_line(outcome, "carrier-pigeon", status=2)


# metrics


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
    assert_one_line(command("metrics", "setup-spice", "--from", "http://host"), message)
