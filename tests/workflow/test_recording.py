"""A notebook that is run without the runner leaves its executed copy, and equal sessions are named."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from ecgkit import paths
from ecgkit.sessions import SESSION_VARIABLE, Session
from ecgkit.workflow import start
from ecgkit.workflow.recording import NOT_KEPT

START = """from ecgkit.workflow.recording import record
from ecgkit.sessions import Session
from ecgkit.sessions.folder import before_close
from pathlib import Path
session = Session(Path(folder))
before_close[session.path] = record(Path(source))
print("begun")
x + 1"""
PLOT = "from IPython.display import HTML, display\ndisplay(HTML('<b>bold</b>'))"
CLOSE = "print(session.close())"


def code(text: str, *tags: str) -> nbformat.NotebookNode:
    """Make a cell of code."""
    return nbformat.v4.new_code_cell(text, metadata={"tags": list(tags)})


def test_the_copy_has_the_outputs_and_the_parameters_that_were_run(tmp_path: Path) -> None:
    source, folder = tmp_path / "2_Test.ipynb", tmp_path / "session_1"
    folder.mkdir()
    text = nbformat.v4.new_markdown_cell("# Title")
    cells = [
        code("x = 1", "parameters"),
        text,
        code(START),
        code("print(x)\n3 * x"),
        code("never"),
        code(PLOT),
        code(CLOSE),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), source)
    by_hand = nbformat.v4.new_notebook(cells=[*cells])
    parameters = f"x = 14\nfolder, source = {str(folder)!r}, {str(source)!r}"
    by_hand.cells = [code(parameters), *(cell for cell in cells[1:] if cell.source != "never")]
    NotebookClient(by_hand, kernel_name="python3", timeout=60).execute()
    kept = nbformat.read(folder / "2_Test.ipynb", as_version=4)
    nbformat.validate(kept)
    assert [cell.source for cell in kept.cells] == [parameters, "# Title", START, "print(x)\n3 * x", PLOT, CLOSE]
    outputs = {cell.source: cell.outputs for cell in kept.cells if cell.cell_type == "code"}
    stream, result = outputs["print(x)\n3 * x"]
    assert (stream.text, result.data["text/plain"]) == ("14\n", "42")
    assert [outputs[START][0].text, outputs[START][1].data["text/plain"]] == ["begun\n", "15"]
    assert outputs[PLOT][0].data["text/html"] == "<b>bold</b>"
    assert [cell.execution_count for cell in kept.cells if cell.cell_type == "code"] == [1, 2, 3, 4, 5]
    assert (folder / "DONE").is_file()


def begin(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, **settings: object
) -> tuple[Session, str]:
    monkeypatch.delenv(SESSION_VARIABLE, raising=False)
    started = start("train", root=root, dataset="demo", model="cnn", **settings)
    return started.session, capsys.readouterr().out


def test_equal_sessions_are_named_with_the_line_that_opens_or_resumes_them(
    demo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / paths.PROCESSED).mkdir()
    (tmp_path / paths.PROCESSED / "demo").symlink_to(demo_root / paths.PROCESSED / "demo")
    first, printed = begin(tmp_path, capsys, monkeypatch)
    assert printed == ""
    assert NOT_KEPT in first.close()
    second, printed = begin(tmp_path, capsys, monkeypatch)
    assert str(first.path) in printed
    third, printed = begin(tmp_path, capsys, monkeypatch)
    assert str(first.path) in printed
    assert f'session = "{second.name}"' in printed
    assert third.name == "session_3"
    resumed, printed = begin(tmp_path, capsys, monkeypatch, session=second.name)
    assert (resumed.path, printed) == (second.path, "")
    _, printed = begin(tmp_path, capsys, monkeypatch, seed=3)
    assert printed == ""
