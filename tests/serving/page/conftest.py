"""The page of a session, and a language model that is none."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
from fake_language_model import FakeModel
from streamlit.testing.v1 import AppTest

from ecgkit.serving.page import script, settings

# Streamlit sets it for its own process; the kernels that other tests start from this one would show no figures.
os.environ.pop("MPLBACKEND", None)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """Return the page of a new session, which waits for an upload."""
    for name in (settings.MODEL, settings.ROOT, settings.ENDPOINT, settings.KEY, settings.NAME):
        monkeypatch.delenv(name, raising=False)
    return AppTest.from_file(script.__file__, default_timeout=60).run()


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
