from pathlib import Path

import pytest

from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.study_file import read_study_file, write_study_file


def test_study_is_told_as_it_was(tmp_path: Path) -> None:
    images = [CaptionedImage(name="a.jpg", path=tmp_path / "a.jpg", captions=("ein Café", "b"))]
    write_study_file(tmp_path, title="A study", preset="scenes", images=images)
    found = read_study_file(tmp_path)
    assert (found.title, found.preset) == ("A study", "scenes")
    assert found.references == {"a.jpg": ("ein Café", "b")}
    assert found.pictures == {"a.jpg": tmp_path / "a.jpg"}
    assert found.command.startswith("regioncap")


def test_folder_without_the_file_is_called_by_its_name(tmp_path: Path) -> None:
    found = read_study_file(tmp_path / "scenes")
    assert (found.title, found.command, found.references) == ("scenes", "", {})


def test_broken_file_is_named(tmp_path: Path) -> None:
    for text in ("{", "{}", "[]"):
        (tmp_path / "study.json").write_text(text)
        with pytest.raises(ValueError, match=r"study\.json is no study's file"):
            read_study_file(tmp_path)
