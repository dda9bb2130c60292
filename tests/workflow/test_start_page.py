"""The start page of JupyterLab links what there is."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import nbformat
from made_sessions import make_session

from ecgkit import paths
from ecgkit.workflow.start_page import write_start_page


def test_it_links_notebooks_sessions_and_reports(tmp_path: Path) -> None:
    make_session(tmp_path)
    unfinished = make_session(tmp_path, done=False)
    (unfinished.path / "config.json").write_text('{"model": "a | b\\u001b[2J"}')
    (cell,) = nbformat.read(write_start_page(tmp_path), as_version=4).cells
    links = [(tmp_path / unquote(target)).resolve() for target in re.findall(r"\]\(([^)]+)\)", cell.source)]
    assert all(link.is_file() for link in links)
    assert paths.notebook_path("2_Training.ipynb") in links
    assert tmp_path / "training_sessions" / "session_1" / "report.html" in links
    assert "not finished" in cell.source
    assert "\x1b" not in cell.source
    rows = [line for line in cell.source.splitlines() if line.startswith("| session_")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in rows] == [4, 4]
