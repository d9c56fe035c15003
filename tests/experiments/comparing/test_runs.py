import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from regioncap.experiments.comparing.runs import default_name, known_references, read_run, run_names


@pytest.fixture(scope="module")
def study(invent_runs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return invent_runs(tmp_path_factory.mktemp("runs") / "study", {"baseline": 0.0, "+graph": 0.1}, seeds=3)


def test_an_arm_is_all_its_seeds(study: Path) -> None:
    run = read_run(study / "+graph")
    assert (run.name, run.numbers) == ("+graph", (0, 1, 2))
    assert run.metrics == ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SUM")
    assert set(run.images) == set(run.names)
    assert run.images["3.jpg"].captions == ("a dog runs on the beach", "the man sits on grass")


def test_seeds_are_ordered_by_number(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study / "+graph", tmp_path / "arm")
    (tmp_path / "arm" / "seed1").rename(tmp_path / "arm" / "seed10")
    assert read_run(tmp_path / "arm").numbers == (0, 2, 10)


@pytest.mark.parametrize(
    ("place", "name", "number"),
    [
        ("+graph/seed2", "+graph seed2", 2),
        ("+graph/seed2/scores.json", "+graph seed2", 2),
        ("retrieval floor", "retrieval floor", 0),
    ],
)
def test_one_seed_by_folder_or_file(study: Path, place: str, name: str, number: int) -> None:
    run = read_run(study / place)
    assert (run.name, run.numbers) == (name, (number,))
    assert run.images


def test_a_file_of_another_split_has_no_references_of_the_study(study: Path) -> None:
    stored = json.loads((study / "+graph" / "seed0" / "scores.json").read_text())
    stored["per_image"] = {f"test-{name}": row for name, row in stored["per_image"].items()}
    file = study / "+graph" / "seed0" / "test.json"
    file.write_text(json.dumps(stored))
    run = read_run(file)
    assert (run.name, run.images) == ("test", {})
    file.unlink()


def test_a_file_that_tells_its_images_needs_no_study(study: Path, tmp_path: Path) -> None:
    stored = json.loads((study / "+graph" / "seed0" / "scores.json").read_text())
    rows = [{"name": name, "path": f"/photos/{name}", "captions": ["own"]} for name in stored["per_image"]]
    (tmp_path / "mine.json").write_text(json.dumps(stored | {"images": rows}))
    run = read_run(tmp_path / "mine.json")
    assert run.images["0.jpg"].captions == ("own",)
    assert known_references([run], None)["0.jpg"] == ("own",)


def test_references_from_a_file(study: Path, tmp_path: Path) -> None:
    run = read_run(study / "+graph")
    file = tmp_path / "r.jsonl"
    file.write_text("".join(json.dumps({"image": name, "references": [f"of {name}"]}) + "\n" for name in run.names))
    assert known_references([run], file)["5.jpg"] == ("of 5.jpg",)
    file.write_text(json.dumps({"image": "0.jpg", "references": ["one"]}) + "\n")
    with pytest.raises(ValueError, match=r"r\.jsonl has none for '1\.jpg' \(and 10 more images\)"):
        known_references([run], file)


def test_what_is_no_run_says_what_to_name(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"it is a study: name an arm of it, of \+graph, baseline, retrieval floor"):
        read_run(study)
    with pytest.raises(ValueError, match="is not there; want an arm's"):
        read_run(tmp_path / "nowhere")
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(ValueError, match=r"is a checkpoint: name .*regioncap evaluate"):
        read_run(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=r"holds no scores\.json"):
        read_run(tmp_path)


def test_seeds_of_different_images_are_refused(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study / "+graph", tmp_path / "arm")
    file = tmp_path / "arm" / "seed1" / "scores.json"
    stored = json.loads(file.read_text())
    del stored["per_image"]["4.jpg"]
    file.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"different images, such as '4\.jpg'"):
        read_run(tmp_path / "arm")


def test_names_tell_runs_apart(study: Path, tmp_path: Path) -> None:
    assert run_names((study / "baseline", study / "+graph")) == ("baseline", "+graph")
    assert run_names((study / "baseline", study / "baseline" / "seed1")) == ("baseline", "baseline seed1")
    assert run_names((tmp_path / "a" / "+graph", tmp_path / "b" / "+graph")) == ("a/+graph", "b/+graph")
    assert run_names((tmp_path / "a.json", tmp_path / "b.json")) == ("a", "b")
    assert default_name(tmp_path / "v1.2") == "v1.2"
    with pytest.raises(ValueError, match="is named twice"):
        run_names((study / "baseline", study / "baseline"))
