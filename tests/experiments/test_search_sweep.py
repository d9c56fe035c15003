import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from regioncap.decoder import SearchConfig
from regioncap.experiments import search_sweep
from regioncap.experiments.search_sweep import SearchSweepOptions

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def swept(trained: tuple[Any, Path], command: Command, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("sweep")
    arguments = ["sweep-search", trained[1] / "checkpoint", "--out", out, "--cache", cache]
    arguments += ["--greedy-tokens", 0, 2, "--beams", 1, 3, "--precisions", "float32", "int8", "--batch-size", 3]
    return command(*arguments), out, arguments


def test_every_search_has_a_row_with_what_it_costs_and_gives(swept: Any):
    outcome, out, _ = swept
    assert (outcome.status, outcome.err) == (0, "")
    rows = [
        row for row in (out / "sweep.md").read_text().splitlines() if row.startswith("| float32") or "int8 |" in row
    ]
    assert [re.split(r" *\| *", row)[1:4] for row in rows] == [
        [precision, n, k] for precision in ("float32", "int8") for n, k in (("–", "1"), ("0", "3"), ("2", "3"))
    ]
    for row in rows[:3]:
        assert row.endswith("| 100.0 % |")  # the captions that the others are compared with
    assert (out / "sweep.md").read_text() in outcome.out
    with Image.open(out / "sweep.png") as picture:
        assert min(picture.size) > 400


def test_captions_are_those_of_evaluate(
    swept: Any, trained: tuple[Any, Path], command: Command, tmp_path: Path, cache: Path
):
    _, out, _ = swept
    file = tmp_path / "scores.json"
    command(
        "evaluate", trained[1] / "checkpoint", "--split", "val", "--out", file, "--cache", cache,
        "--search.greedy-tokens", 2, "--search.beams", 3,
    )  # fmt: skip
    captions = {name: own["caption"] for name, own in json.loads(file.read_text())["per_image"].items()}
    stored = json.loads((out / "sweep.json").read_text())
    (row,) = [
        row
        for row in stored["rows"]
        if (row["search"]["greedy_tokens"], row["search"]["beams"], row["search"]["precision"]) == (2, 3, "float32")
    ]
    assert dict(zip(stored["about"]["images"], row["captions"], strict=True)) == captions


def test_an_interrupted_sweep_goes_on(swept: Any, command: Command, monkeypatch: pytest.MonkeyPatch):
    _, out, arguments = swept
    stored = json.loads((out / "sweep.json").read_text())
    kept = stored["rows"].pop()
    (out / "sweep.json").write_text(json.dumps(stored))
    made: list[SearchConfig] = []
    generator = search_sweep.CaptionGenerator

    def spy(captioner: Any, tokenizer: Any, search: SearchConfig) -> Any:
        made.append(search)
        return generator(captioner, tokenizer, search)

    monkeypatch.setattr(search_sweep, "CaptionGenerator", spy)
    assert command(*arguments).status == 0
    assert [(search.greedy_tokens, search.beams, search.precision) for search in made] == [(2, 3, "int8")]
    assert json.loads((out / "sweep.json").read_text())["rows"][-1]["captions"] == kept["captions"]


def test_another_checkpoint_or_other_images_want_another_folder(swept: Any, command: Command):
    _, _, arguments = swept
    outcome = command(*arguments, "--images", 2)
    assert outcome.status == 1
    assert "another checkpoint or other images: give another --out" in outcome.err


def test_a_captioner_trained_again_in_the_same_folder_is_another_one(
    swept: Any, trained: tuple[Any, Path], command: Command, tmp_path: Path
):
    _, out, arguments = swept
    again, weights = tmp_path / "checkpoint", "model.safetensors"
    shutil.copytree(trained[1] / "checkpoint", again)
    shutil.copytree(out, tmp_path / "sweep")
    flags = ["sweep-search", again, "--out", tmp_path / "sweep", *arguments[4:]]
    assert command(*flags).status == 0  # the same captioner, moved
    tensors = load_file(again / weights)
    save_file({name: tensor * 1.5 for name, tensor in tensors.items()}, again / weights)
    assert "another checkpoint or other images" in command(*flags).err


def test_greedy_search_comes_once():
    options = SearchSweepOptions(out=Path("x"), greedy_tokens=(0, 4), beams=(1, 5))
    found = [(search.greedy_tokens, search.beams) for search in options.searches(SearchConfig())]
    assert found == [(0, 1), (0, 5), (4, 5)]


@pytest.mark.parametrize("change", [{"beams": ()}, {"batch_size": 0}, {"images": -1}])
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any]):
    with pytest.raises(ValueError, match="must"):
        replace(SearchSweepOptions(out=Path("x")), **change)
