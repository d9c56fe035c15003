"""`regioncap compare` from words to files. The captions are scored for real where BLEU's interval needs it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.cli import main
from regioncap.experiments.comparing.command import CompareOptions
from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.scores_file import read_scores, write_scores

METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")
REFERENCES = {
    "a.jpg": ("A dog runs on the beach.", "A brown dog on sand"),
    "b.jpg": ("Two children play with a red ball", "Kids playing ball"),
    "c.jpg": ("A man rides a horse", "A man on a horse in a field"),
    "d.jpg": ("A cat sleeps on a mat", "The cat is asleep"),
}


@pytest.fixture(scope="module")
def files(scorer: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two files as `regioncap evaluate --out` writes them."""
    folder = tmp_path_factory.mktemp("evaluated")
    images = [CaptionedImage(name=name, path=folder / name, captions=own) for name, own in REFERENCES.items()]
    said = {
        "old": ("a dog on the beach", "children play", "a man rides a horse", "a dog sleeps"),
        "new": ("a dog runs on the beach", "kids play with a ball", "a man on a horse", "a cat sleeps on a mat"),
    }
    for name, texts in said.items():
        captions = dict(zip(REFERENCES, texts, strict=True))
        write_scores(folder / f"{name}.json", scorer.score(REFERENCES, captions, METRICS), captions, images)
    return folder / "old.json", folder / "new.json"


def test_files_of_evaluate_are_compared_with_all_intervals(
    command: Callable[..., Any], files: tuple[Path, Path], tmp_path: Path
) -> None:
    outcome = command("compare", *files, "--json", "--samples", 50, "--per-image", tmp_path / "rows.csv")
    assert outcome.status == 0
    found = json.loads(outcome.out)
    assert (found["base"]["name"], found["run"]["name"], found["images"]) == ("old", "new", 4)
    assert list(found["metrics"]) == list(METRICS)
    assert all(metric["interval"] is not None for metric in found["metrics"].values())
    difference = read_scores(files[1]).scores.corpus["CIDEr"] - read_scores(files[0]).scores.corpus["CIDEr"]
    assert found["metrics"]["CIDEr"]["difference"] == pytest.approx(100 * difference, abs=1e-5)
    assert found["metrics"]["CIDEr"]["per_image"]["better"] + found["metrics"]["CIDEr"]["per_image"]["worse"] <= 4
    rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
    assert [(row["image"], row["system"]) for row in rows[:2]] == [("a.jpg", "old"), ("a.jpg", "new")]


def test_page_and_markdown_are_written(command: Callable[..., Any], files: tuple[Path, Path], tmp_path: Path) -> None:
    page, text = tmp_path / "deep" / "page.html", tmp_path / "deep" / "page.md"
    outcome = command("compare", *files, "--html", page, "--markdown", text, "--samples", 20, "--names", "A", "B")
    assert outcome.status == 0
    assert "B against A: 4 images" in outcome.out
    assert "Largest CIDEr gains" in text.read_text()
    assert "kids play with a ball" in page.read_text()


def test_references_that_the_runs_were_not_scored_against_are_refused(
    command: Callable[..., Any], files: tuple[Path, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({"image": name, "references": ["a red car"]}) + "\n" for name in REFERENCES))
    outcome = command("compare", *files, "--references", other)
    assert outcome.status == 1
    assert "name those that it was scored against with --references" in outcome.err


def test_study_without_references_is_compared_but_for_bleu(
    invent_runs: Callable[..., Path], command: Callable[..., Any], tmp_path: Path
) -> None:
    study = invent_runs(tmp_path / "study", {"baseline": 0.0, "+graph": 0.2}, told=False)
    outcome = command("compare", study / "baseline", study / "+graph", "--samples", 20, "--shown", 1)
    assert outcome.status == 0
    assert "No interval for BLEU-1" in outcome.out
    assert "Seeds 0, 1 on both sides" in outcome.out
    refused = command("compare", study / "baseline", study / "+graph", "--html", tmp_path / "x.html")
    assert "add --references FILE" in refused.err
    unknown = command("compare", study / "baseline", study / "+graph", "--metric", "SPICE")
    assert "--metric must be one of BLEU-1" in unknown.err


def test_scores_that_do_not_belong_to_the_captions_are_found(
    invent_runs: Callable[..., Path], command: Callable[..., Any], tmp_path: Path
) -> None:
    study = invent_runs(tmp_path / "study", {"baseline": 0.0, "+graph": 0.2}, seeds=1)
    outcome = command("compare", study / "baseline", study / "+graph")
    assert outcome.status == 1
    assert "but against these references its captions get" in outcome.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ("one",)}, "--names must be two different names, got one"),
        ({"names": ("one", "one")}, "two different names"),
        ({"samples": 0}, "--samples must be at least 1"),
        ({"shown": -1}, "--shown must be at least 0"),
        ({"html_images": -1}, "--html-images must be at least 0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CompareOptions(**options)


def test_a_place_that_is_not_there_ends_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "a is not there" in line
