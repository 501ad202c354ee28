"""A client as small as can be, so that what is measured is the server: bodies over one socket, memory from /proc."""

import io
import json
import os
import socket
from collections.abc import Iterable, Sequence
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np


class Target:
    """One connection to a server.

    Args:
        url: its base URL.
        timeout_s: longest wait for an answer.
    """

    def __init__(self, url: str, *, timeout_s: float = 120.0) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host = parts.hostname
        self._socket = socket.create_connection((parts.hostname, parts.port or 80), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(
        self,
        method: str,
        path: str,
        pieces: Iterable[bytes | memoryview] = (),
        *,
        size_bytes: int = 0,
        fields: str = "",
    ) -> tuple[int, bytes]:
        """Return status and body of the answer to one request, whose pieces are `size_bytes` long in all.

        Raises:
            OSError: the connection ended.
        """
        try:
            self.begin(method, path, size_bytes, fields)
            for piece in pieces:
                self.write(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all of it was sent: the answer is there to be read
        with HTTPResponse(self._socket) as response:
            response.begin()
            return response.status, response.read()

    def begin(self, method: str, path: str, size_bytes: int, fields: str = "") -> None:
        """Send the head of a request."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {size_bytes}\r\n{fields}\r\n"
        self._socket.sendall(head.encode())

    def write(self, piece: bytes | memoryview) -> None:
        """Send a part of a body."""
        self._socket.sendall(piece)

    def json(self, method: str, path: str, document: Any = None) -> Any:
        """Return the answer to a request with a JSON body, which must succeed."""
        body = b"" if document is None else json.dumps(document).encode()
        status, answer = self.send(
            method, path, [body], size_bytes=len(body), fields="Content-Type: application/json\r\n"
        )
        if status >= 400:
            raise RuntimeError(f"expected {method} {path} to succeed; got {status}: {answer.decode()[:300]}")
        return json.loads(answer) if answer else None

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> "Target":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def npy_head(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    """Return what stands before the data in an npy file."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": shape, "fortran_order": False, "descr": dtype})
    return stream.getvalue()


def memory_bytes(pid: int, *, peak: bool) -> int:
    """Return a process's resident memory now, or the largest it had since `reset_peak`."""
    name = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"expected {name} in /proc/{pid}/status; got none")


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reset_peak(pid: int) -> None:
    """Let the largest resident memory be counted anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile of measured values."""
    return float(np.percentile(np.asarray(values), percent))
