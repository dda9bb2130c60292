"""Nothing that is uploaded is kept or sent: the file system and the sockets are watched."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_files import FILES, upload
from streamlit.testing.v1 import AppTest

from ecgkit.inference import DEFAULT_MODEL
from ecgkit.serving.page import views


class Watch:
    """What this process writes, and where it connects to."""

    def __init__(self) -> None:
        self.is_on = False
        self.written: set[Path] = set()
        self.connected: list[object] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event == "open" and isinstance(arguments[0], (str, bytes)) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            self.written.add(Path(os.fsdecode(arguments[0])))
        elif event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
            self.connected.append(arguments[1:])


WATCH = Watch()


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    WATCH.written, WATCH.connected, WATCH.is_on = set(), [], True
    yield WATCH
    WATCH.is_on = False


@pytest.mark.parametrize("name", ["WFDB", "zip", "DICOM", "SCP-ECG", "CSV or TSV"])
def test_an_upload_is_neither_kept_nor_sent(page: AppTest, watch: Watch, tmp_path: Path, name: str) -> None:
    upload(page, FILES[name])
    answer = next(iter(page.session_state["answers"][DEFAULT_MODEL].values()))
    assert answer.prediction is not None
    views.pdf(views.draw_answer(answer))
    assert watch.written, "the reader writes the upload into a temporary folder"
    assert [path for path in watch.written if path.exists()] == []
    assert list(tmp_path.iterdir()) == []
    assert watch.connected == []


def test_what_is_refused_is_not_kept_either(page: AppTest, watch: Watch, tmp_path: Path) -> None:
    upload(page, {"letter.txt": b"Dear doctor"})
    assert page.error
    assert list(tmp_path.iterdir()) == []
    assert watch.connected == []
