"""References kept by content: what is kept, and what is not trusted."""

import multiprocessing
import os
import resource
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from regioncap.experiments.metrics.references import References, prepare_references, references_key

TRUTH = {"x.jpg": ["A dog.", "a red dog runs"], "ü.jpg": ["!", "a CAT 🐈 sits\u2028here"]}


class Tokenizer:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, captions: Sequence[str]) -> list[str]:
        self.calls += 1
        return [" ".join(caption.lower().replace(".", "").replace("!", "").split()) for caption in captions]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer()


def same(one: References, other: References) -> bool:
    plain = all(getattr(one, name) == getattr(other, name) for name in ("images", "captions", "blank", "key"))
    arrays = [(one.image, other.image), *zip(one.index.keys, other.index.keys, strict=True)]
    for mine, theirs in zip(one.counts, other.counts, strict=True):
        arrays += [(mine.caption, theirs.caption), (mine.gram, theirs.gram), (mine.times, theirs.times)]
    return (
        plain
        and list(one.index.words) == list(other.index.words)
        and all(np.array_equal(mine, theirs) for mine, theirs in arrays)
    )


def test_are_tokenized_once_and_read_back_the_same(tokenizer, tmp_path):
    first, problem = prepare_references(TRUTH, tokenizer, tmp_path / "new")
    again, _ = prepare_references(TRUTH, tokenizer, tmp_path / "new")
    assert problem is None
    assert tokenizer.calls == 1
    assert same(first, again)
    assert first.captions == ("a dog", "a red dog runs", "a cat 🐈 sits here")
    assert first.blank == 1
    assert first.of_images(0, 2) == [["a dog", "a red dog runs"], ["a cat 🐈 sits here"]]
    assert first.of_images(1, 2) == [["a cat 🐈 sits here"]]


@pytest.mark.parametrize(
    "other",
    [
        {"x.jpg": ["A dog.", "a red dog ran"], "ü.jpg": TRUTH["ü.jpg"]},
        dict(reversed(TRUTH.items())),
        {"x.jpg": TRUTH["x.jpg"]},
        {"y.jpg": TRUTH["x.jpg"], "ü.jpg": TRUTH["ü.jpg"]},
        {"x.jpg": ["A dog."], "ü.jpg": ["a red dog runs", *TRUTH["ü.jpg"]]},
    ],
    ids=["another caption", "another order", "a subset", "another name", "another image's caption"],
)
def test_other_content_is_another_file(tokenizer, tmp_path, other):
    prepare_references(TRUTH, tokenizer, tmp_path)
    prepared, _ = prepare_references(other, tokenizer, tmp_path)
    assert tokenizer.calls == 2
    assert prepared.images == tuple(other)
    assert references_key(other) != references_key(TRUTH)


@pytest.mark.parametrize("damage", [b"", b"no archive at all", None], ids=["empty", "text", "cut"])
def test_a_damaged_file_is_made_anew(tokenizer, tmp_path, damage):
    first, _ = prepare_references(TRUTH, tokenizer, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-200] if damage is None else damage)
    again, _ = prepare_references(TRUTH, tokenizer, tmp_path)
    assert tokenizer.calls == 2
    assert same(first, again)
    prepare_references(TRUTH, tokenizer, tmp_path)
    assert tokenizer.calls == 2


def test_a_folder_that_cannot_be_written_says_so_and_costs_nothing_else(tokenizer, tmp_path):
    (tmp_path / "file").touch()
    prepared, problem = prepare_references(TRUTH, tokenizer, tmp_path / "file" / "references")
    assert len(prepared.captions) == 3
    assert "file" in problem


def _with_a_full_disk(folder: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is then an error, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
    prepared, problem = prepare_references(TRUTH, Tokenizer(), folder)
    os._exit(0 if problem and len(prepared.captions) == 3 else 1)


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_with_a_full_disk, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert list(tmp_path.iterdir()) == []


def test_references_without_a_word_name_the_image(tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"image 'b' \(and 1 more\) has references, but not a word in any"):
        prepare_references({"a": ["x"], "b": ["!", ""], "c": ["."]}, tokenizer, tmp_path)
