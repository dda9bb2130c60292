"""A server that answers as a language model does."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeModel:
    """A server that answers as a language model does, as it is told to, and keeps what it was sent."""

    def __init__(self) -> None:
        self.reply: Any = {"choices": [{"message": {"content": "All is explained."}}]}
        self.status, self.seconds = 200, 0.0
        self.requests: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.requests.append((self.path, body, dict(self.headers)))
                time.sleep(fake.seconds)
                data = fake.reply if isinstance(fake.reply, bytes) else json.dumps(fake.reply).encode()
                self.send_response(fake.status)
                self.send_header("Content-Length", str(len(data)))
                if fake.status == 302:
                    self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
