"""METEOR's paraphrases cut down, against a loop over the lines of a small file of the same format."""

import gzip
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regioncap.experiments.metrics import paraphrases
from regioncap.experiments.metrics.paraphrases import ParaphraseTable

WORDS = ["a", "dog", "hound", "runs", "is", "running", "né", "x", "1.5", "%"]


def lines(pairs: int, seed: int) -> list[tuple[str, str]]:
    """Pairs in the order of METEOR's file: by their first phrase."""
    generator = random.Random(seed)

    def phrase() -> str:
        return " ".join(generator.choices(WORDS, k=generator.choice([1, 1, 2, 2, 3, 7])))

    return sorted((phrase(), phrase()) for _ in range(pairs))


def write(file: Path, pairs: list[tuple[str, str]]) -> Path:
    text = "".join(f"{number / 997}\n{one}\n{other}\n" for number, (one, other) in enumerate(pairs))
    file.write_bytes(gzip.compress(text.encode()))
    return file


def read_back(text: bytes) -> list[tuple[str, str]]:
    rows = gzip.decompress(text).decode().split("\n")
    assert rows.pop() == ""
    assert set(rows[::3]) <= {"1"}
    return list(zip(rows[1::3], rows[2::3], strict=True))


def stands_in(phrase: str, captions: list[str]) -> bool:
    """Word by word: `hound` does not stand in `hounds`, nor a phrase across two captions."""
    return any(f" {phrase} " in f" {' '.join(caption.split())} " for caption in captions)


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    return lines(400, 0)


@pytest.fixture(scope="module")
def table(pairs: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> ParaphraseTable:
    return ParaphraseTable.read(write(tmp_path_factory.mktemp("meteor") / "table.gz", pairs))


def test_everything_is_there_in_its_order(table: ParaphraseTable, pairs: list[tuple[str, str]]) -> None:
    assert read_back(table.text(table.pairs)) == pairs
    assert len(table.lengths) == len({phrase for pair in pairs for phrase in pair})
    assert (np.diff(table.hashes.astype(object)) > 0).all()


@settings(max_examples=60)
@given(captions=st.lists(st.lists(st.sampled_from([*WORDS, "unknown"]), max_size=9).map(" ".join), max_size=5))
def test_pairs_are_those_whose_phrases_stand_in_captions(
    table: ParaphraseTable, pairs: list[tuple[str, str]], captions: list[str]
) -> None:
    kept = table.among(table.phrases_in(captions))
    wanted = [pair for pair in pairs if all(stands_in(phrase, captions) for phrase in pair)]
    assert read_back(table.text(kept)) == wanted


def test_phrases_of_more_captions_add_up(table: ParaphraseTable) -> None:
    some, more = ["a dog runs", "né"], ["is running % x", "hound 1.5"]
    together = table.phrases_in(some) | table.phrases_in(more)
    assert np.array_equal(together, table.phrases_in(some + more))


def test_pieces_may_end_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "table.gz", lines(3000, 1))
    whole = ParaphraseTable.read(file)
    monkeypatch.setattr(paraphrases, "_READ_AT_ONCE", 997)
    pieces = ParaphraseTable.read(file)
    assert read_back(pieces.text(pieces.pairs)) == read_back(whole.text(whole.pairs))


def test_is_read_once_and_kept(pairs: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, folder = write(tmp_path / "table.gz", pairs), tmp_path / "kept"
    first = ParaphraseTable.open(file, folder)
    monkeypatch.setattr(ParaphraseTable, "read", None)
    again = ParaphraseTable.open(file, folder)
    assert read_back(again.text(again.pairs)) == read_back(first.text(first.pairs)) == pairs
    monkeypatch.undo()
    (kept,) = folder.iterdir()
    kept.write_bytes(kept.read_bytes()[:-100])
    assert read_back(ParaphraseTable.open(file, folder).text(first.pairs)) == pairs
    np.savez(kept, other=np.zeros(3))
    assert read_back(ParaphraseTable.open(file, folder).text(first.pairs)) == pairs
    ParaphraseTable.open(write(tmp_path / "other.gz", pairs[:7]), folder)
    assert len(list(folder.iterdir())) == 2  # another table is another file


def test_a_folder_that_cannot_be_written_is_no_failure(pairs: list[tuple[str, str]], tmp_path: Path) -> None:
    file = write(tmp_path / "table.gz", pairs)
    table = ParaphraseTable.open(file, file / "below a file")
    assert read_back(table.text(table.pairs)) == pairs
