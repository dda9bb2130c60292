"""ecgkit app says in one line why it does not start."""

from __future__ import annotations

import re
import socket
import sys
import tomllib
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from ecgkit import cli
from ecgkit.cli.common import BAD_INPUT

ROOT = Path(__file__).parents[3]


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.count("\n") == 1
    return written.err


def test_without_streamlit_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "streamlit", None)
    assert cli.main(["app"]) == BAD_INPUT
    assert "ecgkit-notebooks[app]" in one_line(capsys)


def test_an_unknown_model_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["app", "--model", "resnet99"]) == BAD_INPUT
    assert "resnet99" in one_line(capsys)


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["app", "--port", str(port)]) == BAD_INPUT
    assert re.search(rf"{port}.*--port", one_line(capsys))


@pytest.mark.parametrize("port", ["0", "70000"])
def test_a_port_that_is_none_is_named(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["app", "--port", port]) == BAD_INPUT
    assert port in one_line(capsys)


def test_an_address_of_another_computer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["app", "--host", "192.0.2.1"]) == BAD_INPUT
    assert "192.0.2.1" in one_line(capsys)


def test_the_file_for_hosting_shows_the_page_and_sends_no_statistics() -> None:
    page = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=60).run()
    assert not page.exception
    assert page.file_uploader
    settings = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    assert settings["browser"]["gatherUsageStats"] is False
