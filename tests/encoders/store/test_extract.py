import errno
import multiprocessing
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from regioncap.encoders.store import ExtractConfig, FeatureStore, Observer, StoreError, Team

Pictures = dict[str, Path]
Extracted = Callable[..., FeatureStore]
Contents = Callable[[Path], dict[str, bytes]]
FORK = multiprocessing.get_context("fork")
"""Children that need not import torch again."""


def test_second_extraction_reads_the_first(
    pictures: Pictures, root: Path, extracted: Extracted, patches: type[Any]
) -> None:
    first = extracted(pictures, root)
    encoder = patches()
    assert extracted(pictures, root, encoder).folder == first.folder
    assert encoder.sizes == []


def test_another_encoder_has_a_store_of_its_own(
    pictures: Pictures, root: Path, extracted: Extracted, patches: type[Any]
) -> None:
    first = extracted(pictures, root)
    other = extracted(pictures, root, patches(scale=2.0))
    assert other.folder != first.folder
    torch.testing.assert_close(other.pooled(), 2 * first.pooled(), rtol=1e-3, atol=0)


def test_picture_of_other_bytes_is_encoded_again_and_its_shard_alone(
    pictures: Pictures, root: Path, extracted: Extracted, patches: type[Any]
) -> None:
    first = extracted(pictures, root)
    Image.new("RGB", (8, 8), (255, 255, 255)).save(pictures["5.png"])
    encoder = patches()
    again = extracted(pictures, root, encoder)
    assert again.folder != first.folder
    assert sum(encoder.sizes) == 4
    torch.testing.assert_close(again.pooled(torch.tensor([5])), torch.ones(1, 3))
    assert first.pooled(torch.tensor([5])).max() < 0.9
    others = torch.tensor([0, 1, 2, 3, 4, 6, 7, 8, 9, 10])
    assert torch.equal(again.pooled(others), first.pooled(others))


def test_same_bytes_elsewhere_and_later_are_the_same_pictures(
    pictures: Pictures, make_pictures: Callable[..., Pictures], root: Path, extracted: Extracted, patches: type[Any]
) -> None:
    first = extracted(pictures, root)
    copies = make_pictures(11, folder="copies")
    os.utime(copies["0.png"], (1, 1))
    encoder = patches()
    assert extracted(copies, root, encoder).folder == first.folder
    assert encoder.sizes == []


@pytest.mark.parametrize(
    ("settings", "batches"), [({"batch_size": 3}, [1, 1, 3, 3, 3]), ({"batch_size": 9}, [3, 4, 4]), ({}, [1, *[2] * 5])]
)
def test_batches_never_cross_shards(
    pictures: Pictures,
    root: Path,
    settings: dict[str, int],
    batches: list[int],
    extracted: Extracted,
    patches: type[Any],
) -> None:
    encoder = patches()
    extracted(pictures, root, encoder, **settings)
    assert sorted(encoder.sizes) == batches


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing_but_how_many_batches_run_at_once(
    pictures: Pictures, root: Path, threads: int, extracted: Extracted, patches: type[Any], contents: Contents
) -> None:
    encoder = patches(seconds=0.02)
    store = extracted(pictures, root / "many", encoder, threads=threads)
    assert contents(store.folder) == contents(extracted(pictures, root / "two").folder)
    assert encoder.most == threads


def test_order_of_pictures_is_that_of_rows(pictures: Pictures, root: Path, extracted: Extracted) -> None:
    backwards = dict(reversed(pictures.items()))
    one, other = extracted(pictures, root), extracted(backwards, root)
    assert other.names == one.names[::-1]
    assert torch.equal(other.pooled(), one.pooled().flip(0))


def test_progress_is_told(pictures: Pictures, root: Path, extracted: Extracted) -> None:
    told: list[tuple[int, int]] = []
    extracted(pictures, root, observer=Observer(encoded=lambda done, total: told.append((done, total))))
    assert told == [(done, 11) for done in (2, 4, 6, 8, 10, 11)]


def test_nothing_to_encode_is_said(root: Path, extracted: Extracted) -> None:
    with pytest.raises(StoreError, match="no picture to encode for train"):
        extracted({}, root)


@pytest.mark.parametrize(("field", "value"), [("batch_size", 0), ("threads", -1)])
def test_bad_setting_is_named(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"extract\.{field} must .*, got {value}"):
        ExtractConfig(**{field: value})


# Being killed.


def test_killed_at_ten_random_moments_the_store_is_byte_for_byte_the_same(
    make_pictures: Callable[..., Pictures], root: Path, extracted: Extracted, patches: type[Any], contents: Contents
) -> None:
    pictures = make_pictures(60)
    started = time.monotonic()
    process = FORK.Process(target=extracted, args=(pictures, root / "whole", patches(seconds=0.05)))
    process.start()
    process.join()
    seconds = time.monotonic() - started
    whole = extracted(pictures, root / "whole")
    chance = random.Random(0)
    finished_shards = []
    for _ in range(10):
        process = FORK.Process(target=extracted, args=(pictures, root / "killed", patches(seconds=0.05)))
        process.start()
        time.sleep(chance.uniform(0.0, 0.5 * seconds))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        finished_shards.append(len(list((root / "killed").glob("train-*/*.safetensors"))))
    encoder = patches()
    resumed = extracted(pictures, root / "killed", encoder)
    assert contents(resumed.folder) == contents(whole.folder)
    assert finished_shards == sorted(finished_shards)
    assert finished_shards[-1] > 0
    assert sum(encoder.sizes) == 60 - 4 * finished_shards[-1]  # what was finished was kept


def test_interrupted_extraction_is_not_taken_for_a_finished_one(
    pictures: Pictures, root: Path, extracted: Extracted, patches: type[Any]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        extracted(pictures, root, patches(fail_at=4), threads=1)
    encoder = patches()
    store = extracted(pictures, root, encoder)
    assert len(store) == 11
    assert sum(encoder.sizes) <= 7  # the first shard was finished


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:-5]), Path.unlink])
def test_damaged_shard_is_encoded_again(
    pictures: Pictures,
    root: Path,
    damage: Callable[[Path], None],
    extracted: Extracted,
    patches: type[Any],
    contents: Contents,
) -> None:
    store = extracted(pictures, root)
    before = contents(store.folder)
    damage(sorted(store.folder.glob("*.safetensors"))[1])
    encoder = patches()
    assert contents(extracted(pictures, root, encoder).folder) == before
    assert sum(encoder.sizes) == 4


def test_remains_of_a_killed_extraction_are_removed(
    pictures: Pictures, root: Path, extracted: Extracted, contents: Contents
) -> None:
    store = extracted(pictures, root)
    before = contents(store.folder)
    next(store.folder.glob("*.safetensors")).unlink()
    (store.folder / "00000-0.safetensors.partial").write_bytes(b"half")
    assert contents(extracted(pictures, root).folder) == before


# Several processes.


@pytest.mark.parametrize("size", [2, 3])
def test_team_writes_what_one_process_writes(
    pictures: Pictures, root: Path, size: int, extracted: Extracted, patches: type[Any], contents: Contents
) -> None:
    alone = extracted(pictures, root / "alone")
    barrier, sizes = FORK.Barrier(size), FORK.SimpleQueue()

    def work(index: int) -> None:
        encoder = patches(seconds=0.01)
        extracted(pictures, root / "team", encoder, team=Team(index=index, size=size, meet=barrier.wait))
        sizes.put((index, sum(encoder.sizes)))

    members = [FORK.Process(target=work, args=(index,)) for index in range(size)]
    for member in members:
        member.start()
    for member in members:
        member.join(30)
    shares = dict(sizes.get() for _ in members)
    assert shares == {2: {0: 7, 1: 4}, 3: {0: 4, 1: 4, 2: 3}}[size]
    folder = root / "team" / alone.folder.name
    assert contents(folder) == contents(alone.folder)


def test_second_extraction_waits_and_says_for_whom(
    make_pictures: Callable[..., Pictures], root: Path, extracted: Extracted, patches: type[Any]
) -> None:
    pictures = make_pictures(40)
    process = FORK.Process(target=extracted, args=(pictures, root, patches(seconds=0.2)))
    process.start()
    until(lambda: any(root.glob("train-*/*.safetensors")))
    with pytest.raises(StoreError, match=rf"train-\w+ is being written by process {process.pid} on .+: call again"):
        extracted(pictures, root, wait=False)
    said: list[str] = []
    encoder = patches()
    store = extracted(pictures, root, encoder, observer=Observer(say=said.append))
    process.join()
    assert len(store) == 40
    assert encoder.sizes == []
    assert len(said) == 1
    assert f"is being written by process {process.pid} on " in said[0]


def test_lock_of_a_killed_process_is_no_obstacle(
    make_pictures: Callable[..., Pictures], root: Path, extracted: Extracted, patches: type[Any]
) -> None:
    pictures = make_pictures(40)
    process = FORK.Process(target=extracted, args=(pictures, root, patches(seconds=0.2)))
    process.start()
    until(lambda: any(root.glob("train-*/*.safetensors")))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(extracted(pictures, root, wait=False)) == 40


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.001)


# A full disk.


def test_no_room_is_said_and_what_is_finished_is_kept(
    make_pictures: Callable[..., Pictures],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    extracted: Extracted,
    patches: type[Any],
) -> None:
    pictures = make_pictures(12)
    real, room = os.fsync, [2]

    def fsync(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".safetensors.partial"):
            room[0] -= 1
            if room[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(
            StoreError, match=r"no room in .+: 1 shards to go need about 0 MB, .+ make room and call"
        ) as e:
            extracted(pictures, root)
    assert "\n" not in str(e.value)
    assert [path.suffix for path in root.glob("train-*/*")] == [".safetensors"] * 2  # and nothing half-written
    encoder = patches()
    assert len(extracted(pictures, root, encoder)) == 12
    assert sum(encoder.sizes) == 4


def test_limit_on_file_sizes_is_a_full_disk(pictures: Pictures, root: Path, extracted: Extracted) -> None:
    answers = FORK.SimpleQueue()

    def limited() -> None:
        # From the first batch on: the fingerprint's probe pictures are larger than these shards.
        limit = Observer(encoded=lambda done, total: resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900)))
        with pytest.raises(StoreError) as caught:
            extracted(pictures, root, observer=limit)
        answers.put(str(caught.value))

    process = FORK.Process(target=limited)
    process.start()
    process.join(30)
    assert "no room in" in answers.get()
    assert len(extracted(pictures, root)) == 11


# Pictures that cannot be read.


def test_unreadable_pictures_are_left_out_and_listed(
    pictures: Pictures, root: Path, extracted: Extracted, patches: type[Any]
) -> None:
    pictures["1.png"].write_bytes(b"")
    pictures["6.png"].write_text("no picture")
    pictures["9.png"].unlink()
    store = extracted(pictures, root)
    assert store.names == tuple(f"{i}.png" for i in (0, 2, 3, 4, 5, 7, 8, 10))
    reasons = {"1.png": "is empty", "6.png": "does not decode (not an image)", "9.png": "there is no image file"}
    assert store.unreadable.keys() == reasons.keys()
    assert all(name in why and reasons[name] in why for name, why in store.unreadable.items())
    for row, name in enumerate(store.names):
        wanted = patches()(*(column[None] for column in patches().load(pictures[name])))
        torch.testing.assert_close(store.pooled(torch.tensor([row])), wanted.pooled.half().float())


def test_shard_without_a_readable_picture_is_empty(pictures: Pictures, root: Path, extracted: Extracted) -> None:
    for i in range(4):
        pictures[f"{i}.png"].write_bytes(b"")
    store = extracted(pictures, root)
    assert store.names == tuple(f"{i}.png" for i in range(4, 11))
    assert store.images(torch.tensor([0, 6])).pooled.shape == (2, 3)
    assert len(extracted(pictures, root)) == 7


def test_pictures_of_which_none_can_be_read_are_an_error(pictures: Pictures, root: Path, extracted: Extracted) -> None:
    for path in pictures.values():
        path.write_bytes(b"")
    with pytest.raises(StoreError, match=r"none of the 11 pictures of train can be read; the first: .*0\.png is empty"):
        extracted(pictures, root)


def test_mended_picture_is_encoded_with_its_shard(
    pictures: Pictures, root: Path, extracted: Extracted, patches: type[Any]
) -> None:
    good = pictures["5.png"].read_bytes()
    pictures["5.png"].write_bytes(b"")
    assert len(extracted(pictures, root)) == 10
    pictures["5.png"].write_bytes(good)
    encoder = patches()
    store = extracted(pictures, root, encoder)
    assert len(store) == 11
    assert sum(encoder.sizes) == 4
    assert store.unreadable == {}


def test_picture_that_could_not_be_read_for_a_moment_is_tried_again(
    pictures: Pictures,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    extracted: Extracted,
    patches: type[Any],
    contents: Contents,
) -> None:
    real = patches.load

    def load(self: Any, path: Path) -> tuple[torch.Tensor]:
        if path.name == "5.png":
            raise ValueError(f"image file {path} does not decode (Input/output error)")
        return real(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(patches, "load", load)
        assert extracted(pictures, root).unreadable.keys() == {"5.png"}
        assert extracted(pictures, root).unreadable.keys() == {"5.png"}
    assert extracted(pictures, root).unreadable == {}
    assert contents(extracted(pictures, root).folder) == contents(extracted(pictures, root / "clean").folder)


def test_values_that_half_precision_cannot_hold_are_refused(
    pictures: Pictures, root: Path, extracted: Extracted, patches: type[Any]
) -> None:
    with pytest.raises(StoreError, match=r"pooled is not finite in float16 for .*0\.png: check its weights"):
        extracted(pictures, root, patches(scale=1e6))


def test_error_of_the_encoder_ends_the_threads(
    pictures: Pictures, root: Path, extracted: Extracted, patches: type[Any]
) -> None:
    before = threading.active_count()
    with pytest.raises(StoreError):
        extracted(pictures, root, patches(scale=float("nan")))
    until(lambda: threading.active_count() == before)
