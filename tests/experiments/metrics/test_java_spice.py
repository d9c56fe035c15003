"""SPICE on CoreNLP's real models."""

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from regioncap.experiments.metrics import METRICS, SPICE_PARTS, CaptionScorer, MetricsConfig


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def spice(spice_folder: Path, kept: Path) -> Iterator[CaptionScorer]:
    with MetricsConfig(spice_folder=spice_folder, cache_folder=kept).build() as scorer:
        yield scorer


# F of scene graph tuples counted by hand.
REFERENCES = {
    "half": ["a dog"],  # (dog) of (dog), (dog, brown)
    "all": ["a red car", "a car is on the road"],  # (car), (car, red) of those and (road), (car, on, road)
    "none": ["two children play"],
    "empty": ["a dog"],
}
CANDIDATES = {"half": "a brown dog", "all": "a red car", "none": "the sea", "empty": ""}


def test_counts_tuples(spice: CaptionScorer) -> None:
    scores = spice.score(REFERENCES, CANDIDATES)
    assert scores.of("SPICE") == pytest.approx({"half": 2 / 3, "all": 2 / 3, "none": 0, "empty": 0})
    assert scores.corpus["SPICE"] == pytest.approx(1 / 3)
    assert list(scores.corpus) == list(METRICS)
    assert not scores.missing
    parts = ("BLEU-1", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE")
    assert scores.corpus["SUM"] == pytest.approx(sum(scores.corpus[name] for name in parts))


def test_scores_each_kind_of_tuple(spice: CaptionScorer) -> None:
    """A kind counts where the references have it: one red car, one relation, two children."""
    scores = spice.score(REFERENCES, CANDIDATES, ("SPICE",))
    assert scores.spice_parts_per_image["half"] == pytest.approx({"Object": 1.0})
    assert scores.spice_parts_per_image["all"] == pytest.approx(
        {"Object": 2 / 3, "Attribute": 1.0, "Relation": 0.0, "Color": 1.0}
    )
    assert scores.spice_parts_per_image["none"]["Count"] == 0.0
    assert set(scores.spice_parts) <= set(SPICE_PARTS)
    for part, value in scores.spice_parts.items():
        each = [values[part] for values in scores.spice_parts_per_image.values() if part in values]
        assert value == pytest.approx(np.mean(each))


def test_parses_once_and_keeps_it(spice: CaptionScorer, spice_folder: Path, kept: Path) -> None:
    scores = spice.score(REFERENCES, CANDIDATES, ("SPICE",))
    (file,) = kept.glob("parses-*.sqlite")
    with sqlite3.connect(file) as store:
        parses = {caption: json.loads(tuples) for caption, tuples in store.execute("SELECT * FROM parses")}
        assert {caption for group in REFERENCES.values() for caption in group} | set(CANDIDATES.values()) == set(parses)
        assert sorted(parses["a red car"]) == [["car"], ["car", "red"]]
        store.execute("UPDATE parses SET tuples = '[[\"horse\"]]' WHERE caption = 'a brown dog'")
    with MetricsConfig(spice_folder=spice_folder, cache_folder=kept).build() as other:
        changed = other.score(REFERENCES, CANDIDATES, ("SPICE",))
    assert changed.of("SPICE") == scores.of("SPICE") | {"half": 0.0}  # what is kept is what is used
    with sqlite3.connect(file) as store:
        store.execute("DELETE FROM parses WHERE caption = 'a brown dog'")
    assert spice.score(REFERENCES, CANDIDATES, ("SPICE",)) == scores


def test_killed_while_parsing_keeps_what_was_parsed(spice: CaptionScorer, kept: Path) -> None:
    """Comes last: the worker that the others share dies here, and its successor loads the parser once more."""
    captions = {f"{number}": f"dog number {number} is red" for number in range(200)}  # two writes of the store
    references = {image: [caption] for image, caption in captions.items()}
    (file,) = kept.glob("parses-*.sqlite")
    before, first, at_death = _kept(file), spice._worker.pid, []
    assert first is not None

    def kill_after_the_first_write() -> None:
        while _kept(file) == before:
            time.sleep(0.01)
        os.kill(first, signal.SIGKILL)
        at_death.append(_kept(file))

    killer = threading.Thread(target=kill_after_the_first_write)
    killer.start()
    scores = spice.score(references, captions, ("SPICE",))
    killer.join()
    assert spice._worker.pid != first
    assert before < at_death[0] < before + len(captions) == _kept(file)
    assert scores.corpus["SPICE"] == pytest.approx(1)


def _kept(file: Path) -> int:
    try:
        with sqlite3.connect(file) as store:
            count: int = store.execute("SELECT count(*) FROM parses").fetchone()[0]
            return count
    except sqlite3.Error:
        return 0
