import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from regioncap.decoder import SearchConfig
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.evaluate import DataFolder
from regioncap.experiments.kept_captions import KeptCaptionsError
from regioncap.experiments.metrics import CaptionScorer, MetricsConfig
from regioncap.experiments.peers.evaluate import PeerOptions, data_in, evaluate_peer
from regioncap.experiments.peers.hf_captioner import HfCaptioner, HfCaptionerConfig, hf_search

Folder = Callable[[str], Path]
Command = Callable[..., Any]
SEARCH = hf_search(SearchConfig(beams=2, max_new_tokens=6))


@pytest.fixture(autouse=True)
def one_scorer(scorer: CaptionScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading METEOR takes seconds."""
    monkeypatch.setattr(MetricsConfig, "build", lambda self: scorer)


def options(root: Path, out: Path | None = None, **more: Any) -> PeerOptions:
    return PeerOptions(data=DataFolder(root=root), split="val", out=out, **more)


def test_captions_and_scores_are_the_captioners(
    hf_folder: Folder, scenes_root: Path, scorer: CaptionScorer, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "scores.json"
    scores = evaluate_peer(str(hf_folder("blip")), options(scenes_root, out, batch_size=3), SEARCH)
    images = data_in(scenes_root).split("val")
    captioner = HfCaptionerConfig(weights=str(hf_folder("blip")), search=SEARCH).build()
    said = {image.name: captioner([image.path])[0] for image in images}
    stored = json.loads(out.read_text())
    assert {name: row["caption"] for name, row in stored["per_image"].items()} == said
    want = scorer.score({image.name: image.captions for image in images}, said)
    assert scores.corpus == pytest.approx(want.corpus)
    assert stored["corpus"]["CIDEr"] == pytest.approx(100 * want.corpus["CIDEr"])
    assert list(out.parent.iterdir()) == [out]  # kept captions are gone once they are scored


def test_a_killed_run_loses_one_batch_and_goes_on(
    hf_folder: Folder, scenes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "scores.json"
    call = HfCaptioner.__call__
    asked: list[int] = []

    def dies_at_the_second(self: HfCaptioner, files: Sequence[Path]) -> list[str]:
        asked.append(len(files))
        if len(asked) == 2:
            raise RuntimeError("the power is gone")
        return call(self, files)

    monkeypatch.setattr(HfCaptioner, "__call__", dies_at_the_second)
    images = len(data_in(scenes_root).split("val"))
    weights, small = str(hf_folder("git")), options(scenes_root, out, batch_size=2)
    with pytest.raises(RuntimeError, match="the power is gone"):
        evaluate_peer(weights, small, SEARCH)
    with pytest.raises(KeptCaptionsError, match="captions of another run: search is"):
        evaluate_peer(weights, small, hf_search(SearchConfig(beams=1)))
    asked[:] = [0, 0]
    evaluate_peer(weights, small, SEARCH)
    assert sum(asked) == images - 2
    monkeypatch.setattr(HfCaptioner, "__call__", call)
    whole = evaluate_peer(weights, options(scenes_root), SEARCH)
    assert json.loads(out.read_text())["corpus"]["CIDEr"] == pytest.approx(100 * whole.corpus["CIDEr"])


def test_command_prints_a_table(hf_folder: Folder, scenes_root: Path, tmp_path: Path, command: Command) -> None:
    folder, out = f"hf:{hf_folder('vision-encoder-decoder')}", tmp_path / "scores.json"
    flags = ["--data.root", scenes_root, "--split", "val", "--out", out, "--search.max-new-tokens", 5]
    outcome = command("evaluate", folder, *flags)
    assert outcome.status == 0, outcome.err
    assert "CIDEr" in outcome.out
    assert max(len(row["caption"].split()) for row in json.loads(out.read_text())["per_image"].values()) <= 5
    refused = command("evaluate", folder, *flags, "--search.greedy-tokens", 3)
    assert refused.status == 1
    assert "search.greedy_tokens is 3, which hf: captioners cannot follow" in refused.err


def test_what_is_missing_is_named(hf_folder: Folder, scenes_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root is not given"):
        evaluate_peer(str(hf_folder("git")), PeerOptions(), SEARCH)
    with pytest.raises(DataError, match="has no split 'holiday'; it has"):
        evaluate_peer(str(hf_folder("git")), PeerOptions(data=DataFolder(root=scenes_root), split="holiday"), SEARCH)
    with pytest.raises(ValueError, match=r"batch_size must be at least 1, got 0"):
        PeerOptions(batch_size=0)
    with pytest.raises(DataError, match="is missing: put the photographs there"):
        data_in(tmp_path)
