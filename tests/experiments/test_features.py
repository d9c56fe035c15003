import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regioncap.encoders.store import ExtractConfig, StoreError
from regioncap.experiments.config import Experiment
from regioncap.experiments.data.dataset import CaptionData, CaptionedImage, DataError
from regioncap.experiments.encoders import Encoders
from regioncap.experiments.features import FeaturesSource, encode
from regioncap.experiments.prepare import prepare


@pytest.fixture
def images(data: CaptionData, tmp_path: Path) -> tuple[CaptionedImage, ...]:
    """Six training pictures of which two cannot be read."""
    found = []
    for i, image in enumerate(data.split("train")[:6]):
        path = tmp_path / image.name
        path.write_bytes(b"" if i in (1, 4) else image.path.read_bytes())
        found.append(replace(image, path=path))
    return tuple(found)


def test_unreadable_pictures_are_an_error_that_names_them(
    images: tuple[CaptionedImage, ...], built: Encoders, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"2 pictures cannot be read: .* or leave them out with --unreadable") as caught:
        FeaturesSource(cache=tmp_path).open(images, built.image, "train")
    assert images[1].name in str(caught.value)
    assert images[4].name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_pictures_are_left_out_where_that_is_wanted(
    images: tuple[CaptionedImage, ...], built: Encoders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, kept = FeaturesSource(cache=tmp_path, unreadable="leave-out").open(images, built.image, "train")
    assert kept == tuple(image for i, image in enumerate(images) if i not in (1, 4))
    assert store.names == tuple(image.name for image in kept)
    assert "left out of train: 2 pictures cannot be read" in capsys.readouterr().out


def test_training_goes_on_without_them(
    tiny: Experiment, images: tuple[CaptionedImage, ...], data: CaptionData, built: Encoders, tmp_path: Path
) -> None:
    partly = replace(data, splits={**data.splits, "train": images})
    source = FeaturesSource(cache=tmp_path, unreadable="leave-out")
    prepared = prepare(tiny, partly, built, tmp_path, source)
    assert len(prepared.train) == len(prepared.train_images) == len(prepared.captions.tokens) == 4


def test_store_that_is_named_must_hold_the_features(data: CaptionData, built: Encoders, tmp_path: Path) -> None:
    source = FeaturesSource(cache=tmp_path / "cache", store=tmp_path / "store")
    images = data.split("val")
    with pytest.raises(StoreError, match="is no folder"):
        source.open(images, built.image, "val")
    (tmp_path / "store").mkdir()
    with pytest.raises(StoreError, match="has no features of val; it has none at all"):
        source.open(images, built.image, "val")
    written = encode(images, built.image, tmp_path / "store", "val", ExtractConfig(batch_size=3))
    store, kept = source.open(images, built.image, "val")
    assert (store.folder, kept) == (written.folder, images)
    with pytest.raises(StoreError, match=rf"1 are gone, {images[0].name} first"):
        source.open(images[1:], built.image, "val")
    assert not (tmp_path / "cache").exists()


def test_name_that_occurs_twice_is_told(data: CaptionData, built: Encoders, tmp_path: Path) -> None:
    images = data.split("val")
    with pytest.raises(DataError, match=f"the name {images[0].name} occurs twice"):
        FeaturesSource(cache=tmp_path).open((*images, images[0]), built.image, "val")


# The command.


def test_command_extracts_and_training_reads_what_it_wrote(
    command: Callable[..., Any], flags: list[str], tmp_path: Path, runs: Path
) -> None:
    cut = flags.index("--train.steps")
    short = [*flags[:cut], "--train.steps", "2", *flags[cut + 2 :]]
    out = tmp_path / "store"
    done = command("extract", "scenes", *flags, "--out", out)
    assert (done.status, done.err) == (0, "")
    assert "train: 24 images" in done.out
    assert "bytes an image" in done.out
    assert {folder.name.split("-")[0] for folder in out.glob("*/")} == {"train", "val"}
    again = command("extract", "scenes", *flags, "--out", out)
    assert again.status == 0
    trained = command("train", "scenes", *short, "--features", out, "--out", runs / "stored")
    assert (trained.status, trained.err) == (0, "")


def test_command_lists_what_it_left_out_and_ends_with_status_1(
    command: Callable[..., Any], photographs: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(photographs, tmp_path / "photographs"))
    (root / "images" / "1001_photo.jpg").write_bytes(b"")
    done = command("extract", "photos-grid", "--data.root", root, "--splits", "train", "--out", tmp_path / "store")
    assert done.status == 1
    assert "train: 5 images" in done.out
    assert "1001_photo.jpg is empty" in done.err
    assert "1 pictures are left out" in done.err


@pytest.mark.slow
def test_two_processes_of_accelerate_write_what_one_writes(photographs: Path, tmp_path: Path) -> None:
    arguments = ["-m", "regioncap.experiments.cli", "extract", "photos-grid", "--data.root", str(photographs)]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    stores = []
    for name, program in (("one", [sys.executable]), ("two", [*launch, "--main_process_port", "0"])):
        out = tmp_path / name
        subprocess.run([*program, *arguments, "--splits", "train", "--out", str(out)], check=True, timeout=240)
        (folder,) = out.glob("train-*")
        stores.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert stores[0] == stores[1]
