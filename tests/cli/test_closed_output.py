"""A reader that closes the output, such as ``head``, ends no work with a result of its own and hides no failure."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import nbformat
import pytest

from ecgkit.cli import main
from ecgkit.progress import progress_bar, say
from ecgkit.sessions import Session
from ecgkit.workflow.run import report
from ecgkit.workflow.runner import run_notebook


@pytest.fixture
def unread() -> Iterator[TextIO]:
    """Yield a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        yield stream


def test_a_notebook_runs_to_its_end(tmp_path: Path, unread: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = ["a = 1", "import sys\nprint('printed')\nprint('reported', file=sys.stderr)", "open('made', 'w').close()"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(metadata=kernel, cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, tmp_path / "n.ipynb")
    session = Session(tmp_path / "session_1")
    session.path.mkdir()
    monkeypatch.setattr(sys, "stdout", unread)
    report("running n.ipynb")
    run_notebook(tmp_path / "n.ipynb", {"a": 2}, session)
    assert (tmp_path / "made").exists()
    assert session.is_done


def test_progress_without_a_reader_is_discarded(unread: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", unread)
    say("ten records")
    with progress_bar(total=10, description="reading", unit="records") as bar:
        bar.update(10)
    assert bar.n == 10
    assert os.fstat(unread.fileno()).st_rdev == Path(os.devnull).stat().st_rdev


def test_a_failure_keeps_its_exit_code(unread: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", unread)
    with pytest.raises(SystemExit, match="2"):
        main(["quality", "files"])  # without --to


def test_a_list_ends_with_its_reader(tmp_path: Path, unread: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", unread)
    assert main(["sessions", "--json", "--root", str(tmp_path)]) == 0
