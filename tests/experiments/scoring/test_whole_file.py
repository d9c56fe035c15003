"""Files that are there whole or not at all."""

import pytest

from regioncap.experiments.scoring.whole_file import check_target, write_whole


def test_folders_are_made_and_an_old_file_is_replaced(tmp_path):
    path = tmp_path / "a" / "b" / "out.csv"
    for text in ("old\r\n", "ä\r\nnew\n"):
        check_target(path)
        write_whole(path, text)
    assert path.read_bytes() == "ä\r\nnew\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_target_that_cannot_be_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a folder; name a file"):
        check_target(tmp_path)
    with pytest.raises(ValueError, match="is no folder that may be written to"):
        check_target(tmp_path / "file" / "out.csv")
    check_target(tmp_path / "none" / "out.csv")
    assert not (tmp_path / "none").exists()
