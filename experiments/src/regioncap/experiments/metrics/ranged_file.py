"""A file at an HTTP address that is read like one on disk: only the parts that are read travel.

`zipfile` so takes single members out of an archive of any size. The standard library's client is enough: neighbours
are read through one connection, so that a member rarely costs a request, let alone a connection, of its own.
"""

import io
import socket
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable
from http.client import HTTPException, HTTPResponse, InvalidURL
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

ATTEMPTS = 5
"""Times that one place of a file is tried, with 1, 2, 4 and 8 seconds between."""
TIMEOUT_S = 30.0
"""Seconds without a byte after which a connection counts as dropped."""
_SKIP = 1 << 16
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)


class FetchError(OSError):
    """An address cannot be read; the message names it and says why, in one line."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The server's answer, if it was a refusal."""


class RangedFile(io.RawIOBase):
    """Read-only and seekable. A connection that drops is opened again where it ended.

    Proxies are taken from the environment. Where a server sends whole files only (`ranged` is False) the file can
    still be read anywhere, but what lies before has to travel too. Every method raises FetchError.

    `arrived` is called with the number of bytes of each piece that is read.
    """

    def __init__(
        self,
        address: str,
        *,
        arrived: Callable[[int], object] = lambda count: None,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        super().__init__()
        self.address = address
        self.ranged = False
        self.size = -1
        self._arrived = arrived
        self._pause = pause
        self._opener = build_opener()  # reads the environment's proxies
        self._stops: list[int] = []
        self._position = 0
        self._response: HTTPResponse | None = None
        self._response_at = 0
        self._response_end = 0
        self._retrying(self._learn)

    def stop_at(self, positions: Iterable[int]) -> None:
        """From now on a request ends at the first of these positions behind its start, as what follows is not wanted.

        Reading past one of them costs another request, nothing else.
        """
        self._stops = sorted(positions)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move without a request: only a read makes one."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill at most the buffer; 0 at the end of the file."""
        view = memoryview(buffer).cast("B")
        if self._position >= self.size or not view:
            return 0
        count = self._retrying(lambda: self._read(view))
        self._position += count
        self._arrived(count)
        return count

    def close(self) -> None:
        """Drop the connection."""
        self._drop()
        super().close()

    def _learn(self) -> int:
        """Size, and whether parts are sent."""
        with self._request(0, 1) as response:
            self.ranged = response.status == 206
            declared = response.headers.get("Content-Range" if self.ranged else "Content-Length", "")
        size = declared.rpartition("/")[2]
        if not size.isdigit():
            raise FetchError(f"{self.address}: the server does not say how large the file is")
        self.size = int(size)
        return self.size

    def _read(self, view: memoryview) -> int:
        if self._response is None or self._response_at != self._position or self._position >= self._response_end:
            self._open()
        assert self._response is not None
        count = self._response.readinto(view[: self._response_end - self._position])
        if not count:
            raise ConnectionResetError("the connection ended in the middle")
        self._response_at += count
        return count

    def _open(self) -> None:
        """A response that goes on from the position."""
        self._drop()
        start = self._position
        later = bisect_right(self._stops, start)
        end = self._stops[later] if self.ranged and later < len(self._stops) else self.size
        self._response = self._request(start, end)
        self._response_at, self._response_end = start, end
        if self._response.status != 206:
            before = start
            while before and (skipped := self._response.read(min(before, _SKIP))):
                before -= len(skipped)
            self._response_end = self.size
        elif not self._response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            got = self._response.headers.get("Content-Range")
            raise FetchError(f"{self.address}: asked for the bytes from {start}, the server answered {got!r}")

    def _request(self, start: int, end: int) -> HTTPResponse:
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity", "User-Agent": "regioncap"}
        response: HTTPResponse = self._opener.open(Request(self.address, headers=headers), timeout=TIMEOUT_S)
        return response

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _retrying(self, step: Callable[[], int]) -> int:
        """Do `step`, again after a failure that may pass."""
        for attempt in range(ATTEMPTS):
            try:
                return step()
            except FetchError:
                raise
            except (OSError, HTTPException) as error:
                self._drop()
                reason = _reason(error)
                if self._is_final(error):
                    status = error.code if isinstance(error, HTTPError) else None
                    raise FetchError(f"{self.address}: {reason}", status) from error
            if attempt + 1 < ATTEMPTS:
                self._pause(2.0**attempt)
        raise FetchError(f"{self.address}: {reason}; tried {ATTEMPTS} times")

    def _is_final(self, error: Exception) -> bool:
        """A refusal, or no connection to begin with; once there was one, it may come back."""
        if isinstance(error, HTTPError):
            return error.code not in _TRY_AGAIN
        return isinstance(error, InvalidURL) or (self.size < 0 and isinstance(error, URLError))


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"the server answers {error.code} {error.reason}"
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, socket.gaierror):
        return f"the host cannot be found ({cause.strerror})"
    if isinstance(cause, TimeoutError):
        return f"nothing came for {TIMEOUT_S:.0f} s"
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return text or type(cause).__name__
