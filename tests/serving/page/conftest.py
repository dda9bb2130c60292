"""The page of a session, and a language model that is none."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from ecgkit.serving.page import script, settings


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """Return the page of a new session, which waits for an upload."""
    for name in (settings.MODEL, settings.ROOT, settings.ENDPOINT, settings.KEY, settings.NAME):
        monkeypatch.delenv(name, raising=False)
    return AppTest.from_file(script.__file__, default_timeout=60).run()


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


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeModel]:
    """Run a fake language model, and configure it."""
    fake = FakeModel()
    monkeypatch.setenv(settings.ENDPOINT, fake.address)
    monkeypatch.setenv(settings.KEY, "secret-key")
    monkeypatch.setenv(settings.NAME, "fake-1")
    thread = threading.Thread(target=fake.server.serve_forever)
    thread.start()
    yield fake
    fake.server.shutdown()
    thread.join()
    fake.server.server_close()
