"""`regioncap score` from files to files."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from regioncap.experiments.metrics import MEASURES, METRICS
from regioncap.experiments.scoring.command import choose_metrics, system_names


@pytest.fixture
def files(put, coco_annotations, coco_results) -> Callable[..., list[Path]]:
    """The arguments for references and one or two systems, the second a little worse."""

    def files(systems: int = 2) -> list[object]:
        worse = [row | {"caption": row["caption"].split(" ", 1)[1]} for row in coco_results]
        predictions = [put("A.json", coco_results), put("B.json", worse)]
        return ["--references", put("R.json", coco_annotations), "--predictions", *predictions[:systems]]

    return files


def refused(outcome: Any, *parts: object) -> None:
    """Status 2, nothing on stdout, and one line on stderr that says all of this."""
    assert outcome.status == 2
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith("regioncap: ")
    for part in parts:
        assert str(part) in line


# What comes out


def test_table_is_printed_and_warnings_are_apart(command, files):
    outcome = command("score", *files())
    assert outcome.status == 0
    for part in ("R.json: 3 images", "A", "B", "BLEU-4", "CIDEr", "SUM", "paired bootstrap", "p 0."):
        assert part in outcome.out
    assert "warning" not in outcome.out
    (few,) = [line for line in outcome.err.splitlines() if "3 images only" in line]
    assert few.startswith("regioncap: warning: ")


def test_json_is_all_that_standard_output_gets(command, files, coco_results, put):
    outcome = command("score", *files(), "--json", "--names", "good", "bad", "--samples", 300, "--seed", 5)
    content = json.loads(outcome.out)
    assert content["images"] == 3
    assert content["against"] == "good"
    assert content["bootstrap"] == {"samples": 300, "seed": 5, "level": 0.95}
    good, bad = content["systems"]
    assert (good["name"], bad["name"]) == ("good", "bad")
    assert good["scores"]["CIDEr"]["p"] is None
    assert 0 < bad["scores"]["CIDEr"]["p"] <= 1
    assert good["scores"]["BLEU-1"]["value"] > bad["scores"]["BLEU-1"]["value"]


def test_all_files_are_written(command, files, tmp_path):
    out = tmp_path / "deep" / "out"
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (30, 20), "red").save(tmp_path / "pictures" / "a.jpg")
    outcome = command(
        *("score", *files(), "--per-image", f"{out}.csv", "--html", f"{out}.html", "--markdown", f"{out}.md"),
        *("--latex", f"{out}.tex", "--images", tmp_path / "pictures", "--metrics", "cider", "bleu"),
    )
    assert outcome.status == 0
    rows = list(csv.DictReader(io.StringIO(Path(f"{out}.csv").read_text())))
    assert [row["system"] for row in rows] == ["A", "B"] * 3
    measures = ["distinct-1", "distinct-2", "vocabulary", "length", "repetition"]
    assert list(rows[0]) == ["image", "system", "caption", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "CIDEr", *measures]
    assert float(rows[0]["length"]) == len(rows[0]["caption"].split())
    page = Path(f"{out}.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 1
    assert "METEOR" not in outcome.out
    assert Path(f"{out}.md").read_text().startswith("| system | BLEU-1 |")
    assert r"\toprule" in Path(f"{out}.tex").read_text()
    assert len(list(out.parent.iterdir())) == 4


def test_measures_beside_the_metrics(command, files, put, coco_annotations, clip_folder, tmp_path):
    (tmp_path / "pictures").mkdir()
    for shade, image in enumerate(coco_annotations["images"]):
        Image.new("RGB", (30, 20), (80 * shade, 90, 30)).save(tmp_path / "pictures" / image["file_name"])
    known = put("train.jsonl", json.dumps({"image": "t.jpg", "references": ["Children play: ball!"]}))
    marked = {"categories": [{"id": 1, "name": "dog"}], "annotations": []}
    instances = put("instances.json", marked | {"images": coco_annotations["images"]})
    synonyms = put("synonyms.txt", "dog, puppy\nhorse, pony\nball, sphere\n")
    flags = (
        *("--training", known, "--measures.chair.instances", instances, "--measures.chair.synonyms", synonyms),
        *("--measures.clip-score.weights", clip_folder, "--images", tmp_path / "pictures", "--metrics", "cider"),
    )
    outcome = command("score", *files(1), *flags, "--per-image", tmp_path / "each.csv", "--json")
    assert outcome.status == 0
    content = json.loads(outcome.out)
    (system,) = content["systems"]
    assert list(system["measures"]) == list(MEASURES)
    assert content["missing_measures"] == {}
    measured = {name: own["value"] for name, own in system["measures"].items()}
    assert measured["novelty"] == pytest.approx(200 / 3)
    assert (measured["CHAIRs"], measured["length"]) == (0, pytest.approx(14 / 3))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "each.csv").read_text())))
    for name in ("CLIPScore", "RefCLIPScore", "novelty", "length", "CHAIRs"):
        assert sum(float(row[name]) for row in rows) / 3 == pytest.approx(measured[name], abs=1e-4)
    table = command("score", *files(1), *flags).out
    assert "Beside the metrics" in table
    assert f"{measured['CLIPScore']:.1f}" in table


def test_measures_that_are_not_set_up_say_how(command, files, tmp_path):
    outcome = command("score", *files(1), "--metrics", "cider", "--markdown", tmp_path / "t.md")
    for said in (outcome.out, (tmp_path / "t.md").read_text()):
        assert "distinct-1" in said
        for flag in ("--measures.clip-score.weights", "--measures.chair.synonyms", "--training"):
            assert flag in said


def test_training_wants_references(command, files):
    arguments = files()
    refused(command("score", *arguments, "--training", arguments[3]), "A.json", "want the captions of training")


def test_only_the_metrics_asked_for_are_told_of(command, files):
    outcome = command("score", *files(), "--metrics", "rouge")
    assert outcome.status == 0
    assert "SUM" not in outcome.out + outcome.err
    assert "3 images only" not in outcome.err
    content = json.loads(command("score", *files(), "--metrics", "sum", "--json").out)
    assert list(content["systems"][0]["scores"]) == ["SUM"]


def test_one_system_has_intervals_and_no_p(command, files):
    outcome = command("score", *files(1))
    assert outcome.status == 0
    assert "–" in outcome.out
    assert "bootstrap on the per-image" not in outcome.out


def test_baseline_is_named(command, files):
    content = json.loads(command("score", *files(), "--json", "--against", "B").out)
    assert content["against"] == "B"
    assert [system["scores"]["CIDEr"]["p"] is None for system in content["systems"]] == [False, True]


def test_json_lines_hold_everything(command, put, json_lines):
    content = json.loads(command("score", "--predictions", put("all.jsonl", json_lines), "--json").out)
    assert (content["references"], content["images"]) == (content["systems"][0]["file"], 3)


def test_split_and_subset(command, put, karpathy, coco_results):
    references, predictions = put("dataset_coco.json", karpathy), put("p.json", coco_results[1:])
    outcome = command("score", "--references", references, "--predictions", predictions, "--subset", "--json")
    assert json.loads(outcome.out)["images"] == 2
    refused(command("score", "--references", references, "--predictions", predictions, "--split", "dev"), "split 'dev'")


def test_empty_captions_are_scored_and_counted(command, files, put, coco_results):
    arguments = files(1)
    coco_results[0]["caption"] = ""
    put("A.json", coco_results)
    outcome = command("score", *arguments)
    assert outcome.status == 0
    assert "warning: 1 of 3 captions hold no word and score 0" in outcome.err


# What a user can get wrong


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (lambda rows: rows.pop(), ("A.json has no caption for image 'c.jpg' of", "--subset")),
        (lambda rows: rows.append({"image_id": 99, "caption": "x"}), ("A.json, entry 4", "'99' is not in", "R.json")),
        (lambda rows: rows.append(dict(rows[0])), ("A.json, entry 4", "'a.jpg' occurs twice")),
        (lambda rows: rows.clear(), ("A.json holds no captions at all",)),
        (lambda rows: rows[1].pop("caption"), ("entry 2 (image 'b.jpg') has no \"caption\"",)),
    ],
)
def test_predictions_that_do_not_fit_are_one_line(command, files, put, coco_results, damage, parts):
    arguments = files(1)
    damage(coco_results)
    put("A.json", coco_results)
    refused(command("score", *arguments), *parts)


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (lambda content: content["annotations"].clear(), ("R.json: image 'a.jpg' (and 2 more) has no references",)),
        (lambda content: content["images"].append(content["images"][0]), ("image 'a.jpg' occurs twice",)),
        (lambda content: (content["images"].clear(), content["annotations"].clear()), ("holds no captions at all",)),
    ],
)
def test_references_that_do_not_fit_are_one_line(command, files, put, coco_annotations, damage, parts):
    arguments = files()
    damage(coco_annotations)
    put("R.json", coco_annotations)
    refused(command("score", *arguments), *parts)


def test_truncated_files_are_one_line(command, files):
    arguments = files(1)
    for path in (arguments[1], arguments[3]):
        whole = path.read_text()
        path.write_text(whole[:-20])
        refused(command("score", *arguments), path, "no whole JSON", "cut off")
        path.write_text(whole)


def test_swapped_files_are_recognised(command, files, karpathy, put):
    _, references, _, predictions = files(1)
    swapped = command("score", "--references", predictions, "--predictions", references)
    refused(swapped, "references and predictions are swapped", f"--references {references} --predictions {predictions}")
    other = put("dataset_coco.json", karpathy)
    refused(command("score", "--references", predictions, "--predictions", other), "swapped", "Karpathy's JSON")
    twice = command("score", "--references", references, "--predictions", other)
    refused(twice, other, "that is references, but was given as predictions")
    refused(
        command("score", "--references", predictions, "--predictions", predictions),
        "that is predictions, but was given as references",
    )
    refused(command("score", "--predictions", predictions), "captions without references", "--references FILE")


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (("--against", "C"), ("no system 'C'", "A, B")),
        (("--metrics", "CLIPScore"), ("no metric 'CLIPScore'", "BLEU-1")),
        (("--names", "x"), ("--names must be one a file of predictions: got 1 for 2",)),
        (("--names", "x", "x"), ("--names must differ",)),
        (("--html", "."), (". is a folder; name a file",)),
        (("--html", "x.html", "--images", "nowhere"), ("--images nowhere is no folder",)),
        (("--split", "val"), ("--split val is for Karpathy's JSON",)),
        (("--metrics.spice-folder", "nowhere"), ("nowhere", "does not hold stanford-corenlp-3.6.0.jar")),
    ],
)
def test_flag_that_does_not_fit_is_one_line(command, files, tmp_path, monkeypatch, flags, parts):
    monkeypatch.chdir(tmp_path)
    refused(command("score", *files(), *flags), *parts)
    assert not list(tmp_path.glob("*.html"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--images", "."), "--images is for the HTML file"),
        (("--measures.clip-score.weights", "clip"), "judges pictures"),
        (("--measures.chair.synonyms", "file"), "measures.chair.synonyms is"),
        (("--samples", "0"), "--samples must be at least 1, got 0"),
        (("--html-images", "-1"), "--html-images must be at least 0, got -1"),
        (("--seed", "x"), "--seed"),
        (("--predictions",), "--predictions wants a file of captions at the least"),
    ],
)
def test_flag_that_cannot_be_read_is_named(command, files, flags, said):
    outcome = command("score", *files(), *flags)
    assert (outcome.status, outcome.out) == (2, "")
    assert said in outcome.err
    assert "Traceback" not in outcome.err


def test_file_that_is_given_twice_or_is_not_there(command, files):
    arguments = files(1)
    refused(command("score", *arguments, arguments[-1]), "--predictions names a file twice")
    refused(command("score", *arguments, "none.json"), "none.json does not exist")


# Names


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["A.json", "b/B.jsonl"], ("A", "B")),
        (["x/run1/out.json", "x/run2/out.json"], ("run1/out", "run2/out")),
        (["x/run1/out.json", "y/run1/out.json", "z.json"], ("x/run1/out", "y/run1/out", None)),
        (["a.json", "a.jsonl"], ("a.json", "a.jsonl")),
    ],
)
def test_systems_are_called_by_what_tells_their_files_apart(files, names):
    found = system_names([Path(file) for file in files])
    assert len(set(found)) == len(found)
    assert all(name in (None, got) for name, got in zip(names, found, strict=True))


def test_metrics_by_name():
    assert choose_metrics(()) == METRICS
    assert choose_metrics(("spice", "BLEU4", "rouge_l")) == ("BLEU-4", "ROUGE-L", "SPICE")
    assert choose_metrics(("Bleu",)) == ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")
