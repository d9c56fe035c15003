"""`regioncap pretrain-decoder`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from regioncap.decoder import CaptionTokenizer
from regioncap.experiments import language

SMALL = ("--decoder.layers", 1, "--decoder.heads", 2, "--decoder.width", 16, "--decoder.positions", 48)
SHORT = ("--language.steps", 20, "--language.batch", 8, "--language.evaluations", 2, "--vocabulary.min-count", 1)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Captions of ten other pictures, about the same things."""
    file = tmp_path / "text.txt"
    captions = [(i, k, word) for i in range(10) for k, word in enumerate(("red", "big"))]
    file.write_text("".join(f"other{i}.jpg#{k}\tA {word} dog sleeps on the beach .\n" for i, k, word in captions))
    return file


@pytest.fixture
def pretrain(command: Callable[..., Any], runs: Path, tmp_path: Path) -> Callable[..., tuple[Any, Path]]:
    """The command with everything small; what it said, and its folder."""

    def run(captions: Path, *arguments: object) -> tuple[Any, Path]:
        out = runs / f"decoder {tmp_path.name}"
        return command("pretrain-decoder", captions, "--out", out, *SMALL, *SHORT, *arguments), out

    return run


def assert_refused(outcome: Any, *parts: str) -> None:
    assert outcome.status == 1
    (line,) = outcome.err.splitlines()
    for part in parts:
        assert part in line


def test_it_says_what_came_of_it_and_mlflow_shows_it(
    pretrain: Callable[..., tuple[Any, Path]], text: Path, runs: Path
) -> None:
    done, out = pretrain(text)
    assert (done.status, done.err) == (0, "")
    record = json.loads((out / "pretraining.json").read_text())
    assert f"-> {record['perplexity']['after']['word']:.2f}" in done.out
    assert f"regioncap train photos --data.root DIR --decoder.weights {out}" in done.out
    client = MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")
    (run_id,) = json.loads((out / "mlflow_runs.json").read_text()).values()
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["language.steps"] == "20"
    history = client.get_metric_history(run_id, "perplexity/word")
    assert [point.step for point in history] == [0, 10, 20]
    assert history[-1].value == record["history"][-1]["perplexity.word"]

    again, _ = pretrain(text)
    assert again.status == 0
    assert again.out == done.out


def test_vocabulary_is_that_of_the_training_captions(
    pretrain: Callable[..., tuple[Any, Path]], text: Path, photographs: Path
) -> None:
    done, out = pretrain(text, "--data.root", photographs)
    assert (done.status, done.err) == (0, "")
    words = CaptionTokenizer.load(out).words
    assert {"red", "green", "beach"} <= set(words)
    assert not {"sleeps", "big"} & set(words)  # of the text alone


def test_without_photographs_it_is_that_of_what_is_learned_from(
    pretrain: Callable[..., tuple[Any, Path]], tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{i}.jpg#0\ta dog named {'abcdefghij'[i] * 3}\n" for i in range(10)))
    done, out = pretrain(text, "--language.held-out", 0.2)
    assert (done.status, done.err) == (0, "")
    assert len(CaptionTokenizer.load(out)) == 4 + 3 + 8  # two names are in held-out captions alone


def test_text_about_scored_photographs_is_refused(
    pretrain: Callable[..., tuple[Any, Path]], text: Path, photographs: Path
) -> None:
    for split, name in (("dev", "1007_photo.jpg"), ("test", "1010_photo.jpg")):
        text.write_text(f"{name}#0\ta dog\n{text.read_text()}")
        done, out = pretrain(text, "--data.root", photographs)
        assert_refused(done, f"text.txt holds captions of 1 of the {split} split's 3 pictures", name)
        text.write_text(text.read_text().split("\n", 1)[1])
    assert not out.exists()


def test_interrupted_training_says_how_it_goes_on(
    pretrain: Callable[..., tuple[Any, Path]], text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(language, "train_language", interrupt)
        done, out = pretrain(text)
    assert_refused(done, "interrupted; the same command goes on from the last checkpoint")
    done, _ = pretrain(text)
    assert (done.status, done.err) == (0, "")
    assert (out / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--language.lr", "1e30"), "lower language.lr (now 1e+30)"),
        (("--vocabulary.kind", "bpe", "--vocabulary.size", 9), "tokenizer.size must exceed the"),
        (("--data.root", "nowhere"), "data.root nowhere does not exist"),
        (("--decoder.weights", "nowhere/gpt2"), "decoder.weights: found no tokenizer"),
    ],
)
def test_setting_that_cannot_be_used_is_one_line(
    pretrain: Callable[..., tuple[Any, Path]], text: Path, arguments: tuple[object, ...], said: str
) -> None:
    assert_refused(pretrain(text, *arguments)[0], said)


def test_file_that_cannot_be_used_is_one_line(pretrain: Callable[..., tuple[Any, Path]], tmp_path: Path) -> None:
    assert_refused(pretrain(tmp_path / "none.txt")[0], "none.txt does not exist; wanted a text file")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    assert_refused(pretrain(tmp_path / "bytes.txt")[0], "bytes.txt is no UTF-8 text")
    (tmp_path / "one.txt").write_text("a dog\n")
    assert_refused(pretrain(tmp_path / "one.txt")[0], "describe one picture")


def test_help_teaches_both_commands(command: Callable[..., Any]) -> None:
    outcome = command("pretrain-decoder", "--help")
    assert outcome.status == 0
    for part in ("regioncap train photos --data.root DIR --decoder.weights", "--language.steps", "--vocabulary.kind"):
        assert part in outcome.out


def test_photographs_may_be_of_any_kind(
    pretrain: Callable[..., tuple[Any, Path]], text: Path, photographs: Path, tmp_path: Path
) -> None:
    root = tmp_path / "mine"
    shutil.copytree(photographs / "images", root / "images")
    captions = {file.name: ["A zebra has 12 stripes"] for file in (root / "images").iterdir()}
    (root / "captions.json").write_text(json.dumps(captions))
    done, out = pretrain(text, "--data", "folder", "--data.root", root, "--data.text.captions", "normalised")
    assert (done.status, done.err) == (0, "")
    assert {"zebra", "<num>"} <= set(CaptionTokenizer.load(out).words)
    assert_refused(pretrain(text, "--data", "scenes")[0], "--data scenes", "name photographs")
