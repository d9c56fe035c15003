import hashlib
import json
import os

import pytest

from regioncap.encoders.store.digests import UNREADABLE, digest_files


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(path.name * 100)
        os.utime(path, (1, 1))
    return paths


def test_digests_are_those_of_the_bytes(files, tmp_path):
    found = digest_files(files, tmp_path / "book.json", threads=2)
    assert found == [(100, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]


def test_settled_file_is_not_read_again(files, tmp_path):
    first = digest_files(files, tmp_path / "book.json", threads=1)
    files[1].write_text("x" * 100)
    os.utime(files[1], (1, 1))  # which only a forger would do
    assert digest_files(files, tmp_path / "book.json", threads=1) == first
    os.utime(files[1], (2, 2))
    assert digest_files(files, tmp_path / "book.json", threads=1)[1] != first[1]


def test_file_that_was_just_written_is_read_again(files, tmp_path):
    files[0].write_text("y" * 100)
    status = files[0].stat()
    first = digest_files(files, tmp_path / "book.json", threads=1)
    files[0].write_text("z" * 100)
    os.utime(files[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digest_files(files, tmp_path / "book.json", threads=1)[0] != first[0]


def test_missing_file_has_no_digest(files, tmp_path):
    files[2].unlink()
    assert digest_files(files, tmp_path / "book.json", threads=1)[2] == (0, UNREADABLE)


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": [1, 2]}', "\0"])
def test_damaged_book_is_begun_anew(files, tmp_path, content):
    first = digest_files(files, tmp_path / "other.json", threads=1)
    (tmp_path / "book.json").write_text(content)
    assert digest_files(files, tmp_path / "book.json", threads=1) == first
    assert (tmp_path / "book.json").read_bytes() == (tmp_path / "other.json").read_bytes()


def test_what_was_read_before_an_interruption_is_remembered(files, tmp_path):
    seen = []

    def interrupt() -> None:
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        digest_files(files, tmp_path / "book.json", threads=1, seen=interrupt)
    assert set(json.loads((tmp_path / "book.json").read_text())) == {str(path) for path in files[:2]}
    counted = []
    digest_files(files, tmp_path / "book.json", threads=1, seen=lambda: counted.append(1))
    assert len(counted) == 3
