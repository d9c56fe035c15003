"""Making SPICE's folder from small jars of the same make: from folders, from servers that fail, killed and resumed."""

import fcntl
import hashlib
import io
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import pytest

from regioncap.experiments.metrics import MetricsConfig
from regioncap.experiments.metrics.ranged_file import FetchError
from regioncap.experiments.metrics.spice_models import (
    CODE_JAR,
    MODELS_JAR,
    REPOSITORY_PATH,
    SPICE_FILES,
    PublishedFile,
    SpiceFiles,
    default_spice_folder,
    missing_jars,
)
from regioncap.experiments.metrics.spice_setup import setup_spice

CODE_PATH, MODELS_PATH = (f"maven2/{REPOSITORY_PATH}/{jar}" for jar in (CODE_JAR, MODELS_JAR))
CODE = random.Random(0).randbytes(400_000)
WANTED = {
    f"models/{name}": random.Random(name).randbytes(size) for name, size in {"a": 300_000, "b": 9, "d": 70_000}.items()
}
UNWANTED = {"models/c": random.Random(1).randbytes(2_000_000), "models/e": random.Random(2).randbytes(500_000)}


def published(name: str, content: bytes) -> PublishedFile:
    return PublishedFile(name, len(content), hashlib.sha256(content).hexdigest())


FILES = SpiceFiles(
    code=published(CODE_JAR, CODE),
    members=tuple(published(name, content) for name, content in reversed(WANTED.items())),
)


def jar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with ZipFile(file, "w", ZIP_STORED) as archive:
        for name, content in sorted(members.items()):
            archive.writestr(name, content)
    return file.getvalue()


MODELS = jar(WANTED | UNWANTED)


@pytest.fixture(autouse=True)
def target(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("REGIONCAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("REGIONCAP_SPICE", raising=False)
    return default_spice_folder()


@pytest.fixture
def repository(server) -> str:
    server.files = {CODE_PATH: CODE, MODELS_PATH: MODELS}
    return f"{server.address}/maven2"


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "jars"
    folder.mkdir()
    (folder / CODE_JAR).write_bytes(CODE)
    (folder / MODELS_JAR).write_bytes(MODELS)
    return folder


def setup(source, to=None, **options):
    return setup_spice(str(source), to, files=FILES, pause=lambda seconds: None, **options)


def assert_complete(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted([CODE_JAR, MODELS_JAR])
    assert (folder / CODE_JAR).read_bytes() == CODE
    with ZipFile(folder / MODELS_JAR) as archive:
        assert archive.testzip() is None
        content = {name: archive.read(name) for name in archive.namelist()}
    assert content == WANTED
    assert not folder.with_name(f"{folder.name}.partial").exists()


# From folders


@pytest.mark.parametrize("below", ["", REPOSITORY_PATH])
@pytest.mark.parametrize("prefix", ["", "file://"])
def test_from_a_folder_with_the_jars_or_a_maven_repository_on_disk(tmp_path, folder, target, below, prefix):
    root = tmp_path / "root"
    (root / below).parent.mkdir(parents=True, exist_ok=True)
    folder.rename(root / below)
    made = setup(f"{prefix}{root}")
    assert (made.folder, made.fetched, made.was_complete) == (target, 0, False)
    assert made.sizes == {name: (target / name).stat().st_size for name in (CODE_JAR, MODELS_JAR)}
    assert_complete(target)


def test_from_an_excerpt_as_good_as_from_the_whole(folder, target):
    (folder / MODELS_JAR).write_bytes(jar(WANTED))
    setup(folder)
    assert_complete(target)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{tmp}/nowhere", "no such folder"),
        ("{tmp}/empty", f"holds no {CODE_JAR} and no {MODELS_JAR}"),
        ("{tmp}/half", f"holds no {MODELS_JAR}"),
        ("ftp://host/maven2", "want a folder or an address that begins with http"),
        ("https:///maven2", "names no host"),
        ("https://user:secret@host/maven2", "address of host holds a user name"),
    ],
)
def test_a_source_that_is_none_is_refused_and_nothing_is_made(tmp_path, target, source, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / CODE_JAR).touch()
    with pytest.raises(ValueError, match=message) as caught:
        setup(source.format(tmp=tmp_path))
    assert "secret" not in str(caught.value)
    assert not target.parent.exists()


# The folder that is made


def test_a_complete_folder_is_left_alone_unless_forced(folder, target):
    target.mkdir(parents=True)
    (target / CODE_JAR).write_text("old")
    (target / MODELS_JAR).write_text("old")
    assert setup("nowhere").was_complete
    with pytest.raises(ValueError, match="no such folder"):
        setup("nowhere", force=True)
    assert (target / CODE_JAR).read_text() == "old"
    assert not setup(folder, force=True).was_complete
    assert_complete(target)


def test_another_place_may_be_named_and_what_an_earlier_try_left_there_is_replaced(tmp_path, folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine", CODE_JAR).write_text("half of it")
    made = setup(folder, Path("mine"))
    assert made.folder == tmp_path / "mine"
    assert_complete(made.folder)


def test_nothing_of_the_users_is_replaced(tmp_path, folder):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").touch()
    for to, message in ((tmp_path / "home", "thesis.tex"), (folder / CODE_JAR, "is a file"), (folder, "same folder")):
        with pytest.raises(ValueError, match=message):
            setup(folder, to, force=True)
    assert (tmp_path / "home" / "thesis.tex").exists()
    assert len(list(folder.iterdir())) == 2


def test_two_at_once_do_not_meet(folder, target):
    partial = target.with_name("spice-models.partial")
    partial.mkdir(parents=True)
    with (partial / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OSError, match=f"another setup-spice works in {partial}"):
            setup(folder)
    setup(folder)
    assert_complete(target)


def test_a_folder_that_cannot_be_written_says_what_to_set(tmp_path, folder):
    """As another user if this is root, whom no permission stops."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(OSError, match=r"cannot be written.*--to or the environment variable REGIONCAP_CACHE"):
            setup(folder, locked / "spice")
    finally:
        os.seteuid(user)


# From servers


def test_of_the_models_only_what_is_needed_travels(server, repository, target):
    made = setup(f"{repository}/")
    assert_complete(target)
    needed = len(CODE) + sum(map(len, WANTED.values()))
    assert needed < made.fetched < needed + 100_000 < len(CODE) + len(MODELS)
    assert sum(server.sent.values()) < needed + len(UNWANTED["models/e"])
    assert len(server.requests) <= 9  # two looks, the code, the zip's directory, and a run of members: a-b, d


def test_a_server_without_ranges_is_read_whole_and_said_to_be(server, repository, target):
    server.ranged = False
    told = []
    made = setup(repository, tell=told.append)
    assert_complete(target)
    assert made.fetched == len(CODE) + len(MODELS)
    assert f"{repository} does not send parts of files: fetching the whole of {MODELS_JAR}, 2.9 MB" in told[0]


@pytest.mark.parametrize("ranged", [True, False])
def test_dropped_connections_are_taken_up(server, repository, target, ranged):
    server.ranged = ranged
    server.cuts = [100_000, 50_000, 10, 200_000]
    setup(repository)
    assert server.cuts == []
    assert_complete(target)


def test_a_server_that_always_drops_is_given_up_and_gone_on_with_later(server, repository, target):
    server.cuts = [150_000] + [0] * 10
    with pytest.raises(FetchError, match=rf"{repository}/.*/{CODE_JAR}: .*tried 5 times"):
        setup(repository)
    assert not target.exists()
    server.cuts = []
    server.forget()
    setup(repository)
    assert server.sent[CODE_PATH] < len(CODE) - 80_000  # what came before is kept, but for the last piece
    assert_complete(target)


def test_a_wrong_address_is_named_and_leaves_no_trace(server, target):
    with pytest.raises(ValueError, match=f"--from {server.address}/maven3: no Maven repository.*{CODE_JAR}.* 404"):
        setup(f"{server.address}/maven3")
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("ranged", [True, False])
@pytest.mark.parametrize("damage", ["another member", "a flipped bit", "another code", "no member", "no zip", "a page"])
def test_what_is_not_as_published_is_refused_named_and_not_kept(server, repository, target, damage, ranged):
    server.ranged = ranged
    other = bytes(70_000)
    flipped = bytearray(MODELS)
    flipped[MODELS.index(WANTED["models/d"]) + 35_000] ^= 1
    files, message = {
        "another member": (
            {MODELS_PATH: jar(WANTED | UNWANTED | {"models/d": other})},
            f"models/d: wanted sha256 {FILES.members[0].sha256}, got {hashlib.sha256(other).hexdigest()}",
        ),
        "a flipped bit": ({MODELS_PATH: bytes(flipped)}, "no sound zip file.*models/d"),
        "another code": ({CODE_PATH: bytes(len(CODE))}, f"wanted sha256 {FILES.code.sha256}, got [0-9a-f]{{64}}"),
        "no member": ({MODELS_PATH: jar(UNWANTED)}, "does not hold models/d"),
        "no zip": ({MODELS_PATH: bytes(1000)}, "no sound zip file"),
        "a page": ({CODE_PATH: b"<html>sign in</html>"}, "has 20 bytes; CoreNLP 3.6.0's has 400,000"),
    }[damage]
    server.files |= files
    path = f"{server.address}/{next(iter(files))}"
    with pytest.raises(ValueError, match=f"{re.escape(path)} .*{message}"):
        setup(repository)
    assert not target.exists()
    server.files = {CODE_PATH: CODE, MODELS_PATH: MODELS}
    setup(repository)
    assert_complete(target)


# In a process of its own


def start(source: str, *, before: str = "") -> subprocess.Popen[str]:
    """`setup(source)` in another process, after the statement `before`."""
    script = f"""
import resource
from regioncap.experiments.metrics.spice_models import PublishedFile, SpiceFiles
from regioncap.experiments.metrics.spice_setup import setup_spice
{before}
setup_spice({source!r}, files={FILES!r})
"""
    path = os.pathsep.join(sys.path)
    return subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(("path", "reached"), [(CODE_PATH, 200_000), (MODELS_PATH, 150_000)])
def test_killed_at_any_moment_it_goes_on_with_what_is_missing(server, repository, target, path, reached):
    server.pause_s = 0.01
    child = start(repository)
    deadline = time.monotonic() + 60
    while server.sent[path] < reached:
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not target.exists()
    partial = target.with_name("spice-models.partial")
    code = next(file for file in (partial / f"{CODE_JAR}.part", partial / "ready" / CODE_JAR) if file.exists())
    kept = code.stat().st_size
    assert kept > reached - 150_000 if path == CODE_PATH else kept == len(CODE)
    server.pause_s = 0.0
    server.forget()
    setup(repository)
    assert_complete(target)
    # One byte more: a first look, for size and ranges.
    assert server.sent[CODE_PATH] == (len(CODE) - kept + 1 if kept < len(CODE) else 0)


def test_members_that_were_finished_are_not_fetched_again(server, repository, target):
    server.files[MODELS_PATH] = jar(WANTED | UNWANTED | {"models/d": bytes(70_000)})
    with pytest.raises(ValueError, match="models/d"):
        setup(repository)
    server.files[MODELS_PATH] = MODELS
    server.forget()
    setup(repository)
    assert server.sent[CODE_PATH] == 0
    assert len(WANTED["models/d"]) < server.sent[MODELS_PATH] < len(WANTED["models/a"])
    assert_complete(target)


def test_a_full_disk_is_said_to_be_one_and_costs_nothing_that_came(server, repository, target):
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))"
    _, errors = start(repository, before=limit).communicate(timeout=60)
    assert f"OSError: no room for {target} (File too large): free some" in errors
    assert "REGIONCAP_CACHE" in errors
    assert not target.exists()
    server.forget()
    setup(repository)
    assert server.sent[CODE_PATH] == len(CODE) - 200_000 + 1
    assert_complete(target)


# The real thing


def test_spice_runs_from_the_folder_that_is_made(server, spice_folder, target, tmp_path, capsys):
    for path, name in ((CODE_PATH, CODE_JAR), (MODELS_PATH, MODELS_JAR)):
        server.files[path] = (spice_folder / name).read_bytes()
    made = setup_spice(f"{server.address}/maven2")
    assert made.folder == target
    assert missing_jars(target) == []
    with ZipFile(target / MODELS_JAR) as archive:
        assert {member.name for member in SPICE_FILES.members} == set(archive.namelist())
    references = {"1": ["a dog runs on grass"], "2": ["two men ride horses"], "3": ["a red ball in the water"]}
    candidates = {"1": "a dog runs on grass", "2": "a cat sleeps", "3": "a ball in the water"}
    with MetricsConfig(spice_folder=target, cache_folder=tmp_path / "parses").build() as scorer:
        spice = scorer.score(references, candidates, ("SPICE",)).of("SPICE")
    assert (spice["1"], spice["2"]) == (1, 0)
    assert 0 < spice["3"] < 1
