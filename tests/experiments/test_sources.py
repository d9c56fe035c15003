from pathlib import Path

import pytest

from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.data.scenes import ScenesConfig
from regioncap.experiments.data.sources import ScenesSource, read_data


def test_scenes_on_disk_are_read_where_they_lie(scenes_root: Path, tmp_path: Path) -> None:
    found = read_data(ScenesSource(root=scenes_root), tmp_path)  # the default config would make 2,400
    assert {name: len(images) for name, images in found.splits.items()} == {"train": 24, "val": 8, "test": 4}
    assert not list(tmp_path.iterdir())


def test_scenes_are_made_in_the_cache_once_for_each_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    source = ScenesSource(scenes=ScenesConfig(train=2, val=1, test=1))
    first = read_data(source, tmp_path)
    picture = first.split("train")[0].path
    stamp = picture.stat().st_mtime_ns
    assert read_data(source, tmp_path).split("train") == first.split("train")
    assert picture.stat().st_mtime_ns == stamp
    other = read_data(ScenesSource(scenes=ScenesConfig(train=2, val=1, test=1, seed=1)), tmp_path)
    assert other.root != first.root
    assert other.root.parent == first.root.parent


def test_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty and has no"):
        read_data(ScenesSource(root=tmp_path), tmp_path / "cache")
    assert (tmp_path / "notes.txt").read_text() == "mine"
