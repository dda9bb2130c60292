"""The notebooks keep the house's rules of form."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import nbformat
import pytest

from ecgkit.workflow.runner import declared_parameters

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks() -> None:
    names = [path.name for path in NOTEBOOKS]
    assert names[:3] == ["1_Preprocessing.ipynb", "2_Training.ipynb", "3_Feature_Space.ipynb"]


def test_short_and_explained(notebook: nbformat.NotebookNode) -> None:
    cells = code_cells(notebook)
    lines = [len([line for line in cell.source.splitlines() if line.strip()]) for cell in cells]
    texts = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    words = sum(len(cell.source.split()) for cell in texts)
    assert len(cells) <= 35
    assert sum(lines) <= 160
    assert statistics.median(lines) <= 5
    assert max(lines) <= 25
    assert len(texts) >= len(cells)
    assert 500 <= words <= 1500


def test_no_definitions_and_no_outputs(notebook: nbformat.NotebookNode) -> None:
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        assert not any(isinstance(node, kinds) for node in ast.walk(ast.parse(cell.source)))
    assert notebook.metadata.kernelspec.name == "python3"


def test_begins_with_a_title_and_closes_the_session(notebook: nbformat.NotebookNode) -> None:
    assert notebook.cells[0].source.startswith("# ")
    assert "**In:**" in notebook.cells[0].source
    assert "**Out:**" in notebook.cells[0].source
    assert ".close()" in code_cells(notebook)[-1].source
    assert notebook.cells[-1].cell_type == "code"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_first_code_cell_declares_literals(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert code_cells(notebook)[0].metadata.tags == ["parameters"]
    assert "root" in declared_parameters(path)
