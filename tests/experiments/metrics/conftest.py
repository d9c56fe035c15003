"""Captions that look like captions, and a web server on this machine that can be made to fail as servers do."""

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

CHUNK = 1 << 13

WORDS = "a the dog cat man woman runs jumping sits on under near grass water red blue ball two children plays <num>"


class Material:
    """References and candidates, as tokens."""

    def __init__(self, images: int, seed: int, most_references: int = 5) -> None:
        generator = random.Random(seed)

        def caption(least: int) -> str:
            return " ".join(generator.choices(WORDS.split(), k=generator.randint(least, 14)))

        names = [f"{index}.jpg" for index in range(images)]
        self.references = {name: [caption(1) for _ in range(generator.randint(1, most_references))] for name in names}
        self.candidates = {name: caption(0) for name in names}
        if images > 2:
            self.candidates["1.jpg"] = "never seen words, never seen words"
            self.candidates["2.jpg"] = self.references["2.jpg"][0]

    @property
    def truth(self) -> dict[str, list[str]]:
        return self.references

    @property
    def tested(self) -> dict[str, list[str]]:
        return {name: [caption] for name, caption in self.candidates.items()}


@pytest.fixture(params=[(1, 0), (2, 1), (7, 2), (150, 3)], ids=lambda given: f"{given[0]} images")
def material(request: pytest.FixtureRequest) -> Material:
    return Material(*request.param)


class FileServer:
    """Serves `files` (path without a leading slash -> content) from its own threads."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranged = True
        self.cuts: list[int] = []
        """Connections to break, one for each entry: after so many bytes of the content."""
        self.statuses: list[int] = []
        """Statuses to answer with instead, one for each entry."""
        self.pause_s = 0.0
        """Pause before each `CHUNK` bytes."""
        self.sent: Counter[str] = Counter()
        """Path -> bytes of content sent."""
        self.requests: list[tuple[str, str | None]] = []
        """Path and Range header."""
        self._counting = threading.Lock()
        self._busy: set[int] = set()
        """Threads that send."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def forget(self) -> None:
        """Count anew, once the answers to clients that are gone have ended."""
        while self._busy:
            time.sleep(0.001)
        self.sent.clear()
        self.requests.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(owner) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments: Any) -> None:
                pass

            def do_GET(self) -> None:
                path, wanted = self.path.lstrip("/"), self.headers.get("Range")
                owner.requests.append((path, wanted))
                if owner.statuses:
                    self.send_error(owner.statuses.pop(0))
                    return
                if path not in owner.files:
                    self.send_error(404)
                    return
                content = owner.files[path]
                size = len(content)
                if owner.ranged and wanted:
                    start, end = (int(number) for number in re.fullmatch(r"bytes=(\d+)-(\d+)", wanted).groups())
                    content = content[start : end + 1]
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{start + len(content) - 1}/{size}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                # The first look at a file asks for a byte: to break that connection would test nothing.
                cut = owner.cuts.pop(0) if owner.cuts and len(content) > 1 else len(content)
                owner._busy.add(threading.get_ident())
                try:
                    for begin in range(0, cut, CHUNK):
                        time.sleep(owner.pause_s)
                        piece = content[begin : min(cut, begin + CHUNK)]
                        with owner._counting:
                            owner.sent[path] += len(piece)  # before it is sent: who has read it may look at the count
                        self.wfile.write(piece)
                except OSError:
                    pass  # the client has gone, which several tests want
                finally:
                    owner._busy.discard(threading.get_ident())

        return Handler


@pytest.fixture
def server() -> Iterator[FileServer]:
    server = FileServer()
    yield server
    server.close()
