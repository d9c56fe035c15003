"""A remote file against the same bytes in memory, and what travelled to read it."""

import io
import random
import socket

import pytest

from regioncap.experiments.metrics import ranged_file
from regioncap.experiments.metrics.ranged_file import ATTEMPTS, FetchError, RangedFile

CONTENT = random.Random(0).randbytes(300_000)


@pytest.fixture
def file(server):
    server.files["file"] = CONTENT
    return f"{server.address}/file"


@pytest.mark.parametrize("ranged", [True, False])
def test_reads_anywhere_as_a_file_on_disk_does(server, file, ranged):
    server.ranged = ranged
    generator = random.Random(1)
    here = io.BytesIO(CONTENT)
    with io.BufferedReader(RangedFile(file), 5000) as there:
        assert there.raw.ranged is ranged
        for _ in range(40):
            whence = generator.choice([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END])
            offset = generator.randint(0, len(CONTENT)) * (-1 if whence == io.SEEK_END else 1)
            assert there.seek(offset, whence) == here.seek(offset, whence)
            count = generator.choice([0, 1, 300, 20_000])
            assert there.read(count) == here.read(count)
            assert there.tell() == here.tell()


def test_only_what_is_read_travels(server, file):
    arrived = []
    with RangedFile(file, arrived=arrived.append) as there:
        there.stop_at([150_000, 100_000])
        there.seek(90_000)
        assert there.read(40_000) == CONTENT[90_000:100_000]
        assert there.read(20_000) == CONTENT[100_000:120_000]
        assert there.read(30_000) == CONTENT[120_000:150_000]
    assert server.requests[1:] == [("file", "bytes=90000-99999"), ("file", "bytes=100000-149999")]
    assert sum(arrived) == 60_000


def test_a_dropped_connection_is_taken_up_where_it_ended(server, file):
    server.cuts = [100_000, 0, 50_000]
    pauses = []
    with RangedFile(file, pause=pauses.append) as there:
        assert there.readall() == CONTENT
    assert server.sent["file"] == len(CONTENT) + 1  # the first look asks for a byte
    assert pauses == [1, 1, 2] or pauses == [1, 2, 1]


def test_a_server_that_drops_every_connection_is_given_up(server, file):
    server.cuts = [0] * ATTEMPTS
    pauses = []
    with RangedFile(file, pause=pauses.append) as there, pytest.raises(FetchError, match=rf"{file}: .*tried 5 times"):
        there.readall()
    assert pauses == [1, 2, 4, 8]


def test_a_busy_server_is_asked_again(server, file):
    server.statuses = [503, 429]
    pauses = []
    with RangedFile(file, pause=pauses.append) as there:
        assert there.size == len(CONTENT)
    assert pauses == [1, 2]


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_final(server, file, status):
    server.statuses = [status]
    with pytest.raises(FetchError, match=f"{file}: the server answers {status}") as caught:
        RangedFile(file, pause=pytest.fail)
    assert caught.value.status == status


def test_a_host_that_does_not_answer_is_final():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/file"
        with pytest.raises(FetchError, match=f"{address}: Connection refused"):
            RangedFile(address, pause=pytest.fail)


def test_a_silent_server_is_not_waited_for(server, file, monkeypatch):
    monkeypatch.setattr(ranged_file, "TIMEOUT_S", 0.05)
    with RangedFile(file, pause=lambda seconds: None) as there:
        server.pause_s = 0.5
        with pytest.raises(FetchError, match=r"nothing came for .*tried 5 times"):
            there.readall()


def test_the_proxy_of_the_environment_is_used(server, monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", server.address)
    server.files["http://repository.invalid/file"] = CONTENT
    with RangedFile("http://repository.invalid/file") as there:
        assert there.readall() == CONTENT
