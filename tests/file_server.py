"""A web server for tests: it serves a folder, with the faults that a test chooses.

    python tests/file_server.py FOLDER [--port N] [--faults FILE] [--delay SECONDS]

It prints its URL and serves until it is killed. FILE is JSON with the faults of the first requests of each path, such
as ``{"LICENSE.txt": ["cut", "500"]}``. A fault is a status or the name of a method of `Handler`.
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote


class FileServer(ThreadingHTTPServer):
    """Serve a folder in threads with persistent connections, and count the requests.

    Attributes
    ----------
    requests : list of str
        The requested paths, in order.
    times : dict of str to list of float
        When each path was requested.
    agents, authorisations : set of str
        The headers "User-Agent" and "Authorization" of the requests.
    open_connections, most_connections, all_connections : int
        Connections that are open now, the most open at the same time, and all that were opened.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        folder: Path,
        *,
        faults: Mapping[str, Sequence[str]] | None = None,
        port: int = 0,
        delay: float = 0,
        prefix: str = "/",
    ) -> None:
        self.folder, self.delay, self.prefix = folder, delay, prefix
        self.faults = {path: list(kinds) for path, kinds in (faults or {}).items()}
        self.requests: list[str] = []
        self.times: dict[str, list[float]] = {}
        self.agents: set[str] = set()
        self.authorisations: set[str] = set()
        self.open_connections = self.most_connections = self.all_connections = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{self.prefix}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that have closed the connection."""

    def counts(self) -> Counter[str]:
        return Counter(self.requests)

    def next_fault(self, path: str, agent: str) -> str | None:
        with self.lock:
            self.requests.append(path)
            self.times.setdefault(path, []).append(time.monotonic())
            self.agents.add(agent)
            kinds = self.faults.get(path) or self.faults.get("*")
            return kinds.pop(0) if kinds and kinds[0] != "always" else kinds[1] if kinds else None

    def count_connections(self, change: int) -> None:
        with self.lock:
            self.open_connections += change
            self.all_connections += change > 0
            self.most_connections = max(self.most_connections, self.open_connections)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def setup(self) -> None:
        super().setup()
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.count_connections(1)

    def finish(self) -> None:
        self.server.count_connections(-1)
        super().finish()

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.server.delay:
            time.sleep(self.server.delay)
        if not self.path.startswith(self.server.prefix):
            return self.answer(404)
        path = unquote(self.path).removeprefix(self.server.prefix).removeprefix("moved/")
        self.server.authorisations.add(self.headers.get("Authorization", ""))
        fault = self.server.next_fault(path, self.headers.get("User-Agent", ""))
        file = self.server.folder / path
        if fault is not None and file.is_file():
            return self.misbehave(fault, file.read_bytes())
        if not file.is_file():
            return self.answer(404)
        return self.answer(200, file.read_bytes())

    def misbehave(self, fault: str, body: bytes) -> None:
        """Answer with a status, or as a method below does; its argument follows a colon."""
        kind, *value = fault.split(":")
        if kind.isdigit():
            self.answer(int(kind), headers={"Retry-After": value[0]} if value else {})
        else:
            getattr(self, kind)(body, *value)

    def cut(self, body: bytes) -> None:
        self.answer(200, body, send=len(body) // 2)
        self.close_connection = True

    def drop(self, body: bytes) -> None:
        self.close_connection = True

    def wrong(self, body: bytes) -> None:
        self.answer(200, bytes([body[0] ^ 1]) + body[1:])

    def short(self, body: bytes) -> None:
        self.answer(200, body[:-1])

    def html(self, body: bytes) -> None:
        self.answer(200, b"<html>Please log in to the network</html>")

    def redirect(self, body: bytes) -> None:
        self.answer(302, headers={"Location": self.path.replace(self.server.prefix, f"{self.server.prefix}moved/", 1)})

    def circle(self, body: bytes) -> None:
        self.answer(302, headers={"Location": self.path})

    def hang(self, body: bytes) -> None:
        self.server.closing.wait(120)
        self.close_connection = True

    def date(self, body: bytes, seconds: str) -> None:
        self.answer(429, headers={"Retry-After": formatdate(time.time() + float(seconds), usegmt=True)})

    def chunked(self, body: bytes, pieces: str) -> None:
        """Send the body in two pieces without its length; with fewer, close the connection after the last."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        half = len(body) // 2
        for piece in (body[:half], body[half:])[: int(pieces)]:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        if int(pieces) == 2:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def late(self, body: bytes, seconds: str) -> None:
        self.server.closing.wait(float(seconds))
        self.answer(200, body)

    def drip(self, body: bytes) -> None:
        """Send one byte at a time, each within any time-out."""
        self.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for byte in body:
            if self.server.closing.wait(0.05):
                break
            self.wfile.write(bytes([byte]))
        self.close_connection = True

    def answer(
        self, status: int, body: bytes = b"", *, send: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        lines = {"Content-Length": str(len(body)), **(headers or {})}
        head = f"HTTP/1.1 {status} {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.wfile.write(head.encode() + b"\r\n" + body[:send])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", type=Path)
    parser.add_argument("--delay", type=float, default=0)
    arguments = parser.parse_args()
    faults = json.loads(arguments.faults.read_text()) if arguments.faults else {}
    with FileServer(arguments.folder, faults=faults, port=arguments.port, delay=arguments.delay) as server:
        print(server.url, flush=True)  # noqa: T201
        threading.Event().wait()


if __name__ == "__main__":
    main()
