"""The owner's end of a worker, with a child that needs no Java."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from regioncap.experiments.metrics.java_worker import JavaWorker, JavaWorkerError

CHILD = """
import os, sys, time
from pathlib import Path
from regioncap.experiments.metrics.java_process import serve

def die(text, survive=None):
    if survive is not None and Path(survive).exists():
        return text
    if survive is not None:
        Path(survive).touch()
    print(text, file=sys.stderr, flush=True)
    os.kill(os.getpid(), 9)

def fail(text):
    raise ValueError(text)

def chatter(text):
    os.write(1, b"chatter on stdout")
    print(text)
    return text

def sleep(seconds):
    time.sleep(seconds)
    return "slept"

def calls(setting, work_folder):
    return {"echo": lambda value: value, "setting": lambda: setting, "folder": lambda: work_folder,
            "die": die, "fail": fail, "chatter": chatter, "sleep": sleep}

serve(calls)
"""


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    (tmp_path / "plain_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(tmp_path)
    return "plain_child"


@pytest.fixture
def worker(module):
    worker = JavaWorker("test", module, {"setting": "given"})
    yield worker
    worker.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(true, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


def test_answers_whatever_json_can_say(worker):
    for value in ["line\nbreak \u2028 ünï \udc80", [1.5, None, {"a": []}], "x" * 3_000_000]:
        assert worker.call("echo", 30.0, value=value) == value
    assert worker.call("setting", 30.0) == "given"


def test_starts_when_needed_and_stays(worker):
    assert worker.pid is None
    worker.call("echo", 30.0, value=1)
    first = worker.pid
    worker.start()
    worker.call("echo", 30.0, value=2)
    assert worker.pid == first


def test_killed_between_calls_is_started_again(worker):
    worker.call("echo", 30.0, value=1)
    os.kill(worker.pid, signal.SIGKILL)
    assert worker.call("echo", 30.0, value=2) == 2


def test_killed_in_a_call_is_started_once_again(worker, tmp_path):
    assert worker.call("die", 30.0, text="answer", survive=str(tmp_path / "mark")) == "answer"


def test_killed_twice_in_a_call_is_one_error_with_its_last_words(worker):
    with pytest.raises(JavaWorkerError, match=r"test worker died twice .*exit status -9.*famous last words"):
        worker.call("die", 30.0, text="famous last words")
    assert worker.call("echo", 30.0, value="after") == "after"


def test_a_child_that_cannot_start_says_why():
    with pytest.raises(JavaWorkerError, match="No module named"):
        JavaWorker("test", "no_such_module_of_ours", {}).call("echo", 30.0, value=1)


def test_no_room_to_work_in_says_what_to_set(worker, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path / "not there"))
        with pytest.raises(OSError, match=r"needs a folder to work in .*not there.*set TMPDIR"):
            worker.call("echo", 30.0, value=1)
    assert worker.call("echo", 30.0, value=2) == 2


def test_too_slow_is_one_error_and_the_child_is_gone(worker):
    worker.call("echo", 30.0, value=1)
    pid = worker.pid
    with pytest.raises(JavaWorkerError, match=r"no answer in 0 s.*metrics\.timeout_s"):
        worker.call("sleep", 0.3, seconds=60)
    assert not alive(pid)


def test_stopped_child_does_not_block_a_large_call(worker):
    worker.call("echo", 30.0, value=1)
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(JavaWorkerError, match="no answer"):
        worker.call("echo", 0.3, value="x" * 2_000_000)


def test_exception_in_a_call_leaves_the_worker_alive(worker):
    with pytest.raises(JavaWorkerError, match="ValueError: not like this"):
        worker.call("fail", 30.0, text="not like this")
    pid = worker.pid
    assert worker.call("echo", 30.0, value=3) == 3
    assert worker.pid == pid


def test_chatter_on_stdout_is_no_answer(worker):
    assert worker.call("chatter", 30.0, text="hello") == "hello"


def test_abandoned_call_does_not_answer_the_next(worker):
    worker.send("sleep", 30.0, seconds=0.2)
    assert worker.call("echo", 30.0, value="mine") == "mine"


def test_owner_can_work_meanwhile(worker):
    worker.send("echo", 30.0, value="x" * 2_000_000)
    time.sleep(0.1)
    assert len(worker.receive()) == 2_000_000


def test_close_leaves_nothing_behind(worker):
    folder = Path(worker.call("folder", 30.0))
    assert folder.is_dir()
    pid = worker.pid
    worker.close()
    worker.close()
    assert not alive(pid)
    assert not folder.exists()


def test_forked_process_does_not_end_its_parents_worker(worker):
    worker.call("echo", 30.0, value=1)
    fork = os.fork()
    if fork == 0:
        worker.close()
        os._exit(0)
    os.waitpid(fork, 0)
    pid = worker.pid
    assert worker.call("echo", 30.0, value=2) == 2
    assert worker.pid == pid


OWNER = """
import sys
from regioncap.experiments.metrics.java_worker import JavaWorker
worker = JavaWorker("test", "plain_child", {"setting": 0})
worker.call("echo", 30.0, value=1)
print(worker.pid, worker.call("folder", 30.0), flush=True)
worker.send("sleep", 600, seconds=500)
"""


def owner(module, last_line: str) -> tuple[subprocess.Popen[str], int, Path]:
    path = os.pathsep.join(sys.path)
    script = [sys.executable, "-c", OWNER + last_line]
    process = subprocess.Popen(script, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})
    pid, folder = process.stdout.readline().split()
    return process, int(pid), Path(folder)


def test_owner_that_ends_takes_a_busy_worker_along(module):
    process, pid, folder = owner(module, "")
    assert process.wait(timeout=20) == 0
    process.stdout.close()
    assert not alive(pid)
    assert not folder.exists()


def test_owner_killed_leaves_no_orphan(module):
    process, pid, folder = owner(module, "worker.receive()")
    process.kill()
    process.wait()
    process.stdout.close()
    assert wait_until(lambda: not alive(pid))
    assert not folder.exists()
