"""The owner's end of a Java machine that lives in a process of its own.

A Java machine cannot be started twice in a process, METEOR and SPICE need class paths that exclude each other, and a
Java machine that dies takes its process along. So each lives in a child process that this class starts when it is
first needed, talks to in lines of JSON, watches, restarts once, and ends.
"""

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from typing import IO, Any

_STDERR_TAIL = 1500
"""Characters of a dead worker's last words that go into the error."""


class JavaWorkerError(RuntimeError):
    """A Java worker died twice, answered too late, or reported an error; the message carries its last words."""


class JavaWorker:
    """A child process that runs `module` and answers calls, one at a time.

    `send` and `receive` are apart so that the owner can work while the child does. A child that dies during a call is
    started again once and given the same call. It ends with its owner however the owner ends: its input closes.
    """

    def __init__(self, name: str, module: str, settings: Mapping[str, Any]) -> None:
        self.name = name
        self._module = module
        self._settings = dict(settings)
        self._child: _Child | None = None
        self._pending: tuple[bytes, float] | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        return None if self._child is None else self._child.process.pid

    @property
    def busy(self) -> bool:
        """Whether a call was sent whose answer nobody fetched."""
        return self._pending is not None

    def start(self) -> None:
        """Start the child without waiting until it is ready; nothing happens if it runs."""
        if self._child is None or self._child.process.poll() is not None:
            self.close()
            self._child = _Child(self._module, self._settings)

    def send(self, call: str, timeout_s: float, **arguments: Any) -> None:
        """Hand a call over; `receive` must follow. An earlier call whose answer nobody fetched is abandoned."""
        if self._pending is not None:
            self.close()
        request = json.dumps({"call": call, "arguments": arguments}).encode() + b"\n"
        self._begin(request, timeout_s)

    def receive(self) -> Any:
        """The answer to the call in progress.

        Raises JavaWorkerError if the child dies twice, takes longer than the call's timeout, or reports an error.
        """
        assert self._pending is not None, "receive() without send()"
        request, timeout_s = self._pending
        try:
            try:
                reply = self._reply()
            except _Ended:
                self.close()  # its pipes can be closed a moment before its process counts as ended
                self._begin(request, timeout_s)
                reply = self._reply()
        except _Ended as ended:
            self.close()
            raise JavaWorkerError(f"the {self.name} worker died twice in one call ({ended})") from None
        except _Late as late:
            self.close()
            raise JavaWorkerError(
                f"the {self.name} worker gave no answer in {timeout_s:.0f} s and was ended; if the machine is slow, "
                f"raise metrics.timeout_s ({late})"
            ) from None
        self._pending = None
        if "error" in reply:
            raise JavaWorkerError(f"the {self.name} worker failed: {reply['error']}")
        return reply["value"]

    def call(self, call: str, timeout_s: float, **arguments: Any) -> Any:
        """`send` and `receive` in one."""
        self.send(call, timeout_s, **arguments)
        return self.receive()

    def close(self) -> None:
        """End the child and free its memory; the next call starts another."""
        self._pending = None
        if self._child is not None:
            self._child.end()
            self._child = None

    def _begin(self, request: bytes, timeout_s: float) -> None:
        self.start()
        assert self._child is not None
        self._child.queue(request, timeout_s)
        self._pending = request, timeout_s

    def _reply(self) -> dict[str, Any]:
        assert self._child is not None
        reply: dict[str, Any] = json.loads(self._child.exchange())
        return reply


class _Ended(Exception):
    """The child is gone."""


class _Late(Exception):
    """The child missed the deadline."""


class _Child:
    """One run of the child process with its pipes, its work folder and the file that takes its stderr."""

    def __init__(self, module: str, settings: Mapping[str, Any]) -> None:
        try:
            folder = tempfile.TemporaryDirectory(prefix="regioncap-java-", ignore_cleanup_errors=True)
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        except OSError as error:
            raise OSError(
                f"the metrics' worker needs a folder to work in ({error}); set TMPDIR to one with room"
            ) from error
        # The child sees the same packages however the owner found them, and leaves Ctrl-C to the owner.
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps({**settings, "work_folder": folder.name})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=folder.name,
            env={**os.environ, "PYTHONPATH": path},
            bufsize=0,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._unsent = b""
        self._deadline = 0.0
        self.end = weakref.finalize(self, _end, self.process, self._stderr, folder, os.getpid())

    def queue(self, request: bytes, timeout_s: float) -> None:
        """Begin a call: write what the pipe takes at once, the rest is written while waiting for the answer."""
        self._unsent, self._deadline = request, time.monotonic() + timeout_s
        self._write()

    def exchange(self) -> bytes:
        """Write the rest of the request and return the line that answers it. Raises _Ended or _Late."""
        answer = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            if self._unsent:
                selector.register(self._in, selectors.EVENT_WRITE)
            while not answer.endswith(b"\n"):
                ready = selector.select(self._deadline - time.monotonic())
                if not ready and time.monotonic() >= self._deadline:
                    raise _Late(self._last_words())
                for key, _ in ready:
                    if key.fd == self._out:
                        piece = os.read(self._out, 1 << 20)
                        if not piece:
                            raise _Ended(self._last_words())
                        answer += piece
                    elif self._write():
                        selector.unregister(self._in)
        return bytes(answer)

    def _write(self) -> bool:
        """Write what the pipe takes; True when nothing is left. A broken pipe shows as the end of the answers."""
        try:
            self._unsent = self._unsent[os.write(self._in, self._unsent) :]
        except BlockingIOError:
            return False
        except BrokenPipeError:
            self._unsent = b""
        return not self._unsent

    def _last_words(self) -> str:
        try:
            code: int | None = self.process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            code = None
        self._stderr.seek(0)
        text = self._stderr.read().decode(errors="replace").strip()[-_STDERR_TAIL:]
        return f"exit status {'none yet' if code is None else code}; its last words: {text or 'none'}"


def _end(
    process: subprocess.Popen[bytes], stderr: IO[bytes], folder: tempfile.TemporaryDirectory[str], owner: int
) -> None:
    if os.getpid() != owner:  # a forked data-loading process drops its copy; the worker is not its to end
        return
    process.kill()
    for pipe in (process.stdin, process.stdout, stderr):
        if pipe is not None:
            pipe.close()
    process.wait()
    folder.cleanup()
