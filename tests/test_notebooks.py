"""The notebooks keep the house's rules of form."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import nbformat
import pytest

from ecgkit import paths
from ecgkit.workflow.parameters import parameters_of
from ecgkit.workflow.runner import OPTIONS, shown_parameters
from ecgkit.workflow.steps import STEPS, Step

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks() -> None:
    assert {step.notebook for step in STEPS.values()} <= {path.name for path in NOTEBOOKS}


def test_short_and_explained(notebook: nbformat.NotebookNode) -> None:
    cells = code_cells(notebook)
    lines = [len([line for line in cell.source.splitlines() if line.strip()]) for cell in cells]
    texts = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    n_words = sum(len(cell.source.split()) for cell in texts)
    assert len(cells) <= 30
    assert sum(lines) <= 140
    assert statistics.median(lines) <= 5
    assert max(lines) <= 25
    assert len(texts) >= len(cells)
    assert n_words <= 1500
    assert n_words >= 500


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


@pytest.mark.parametrize("step", STEPS.values(), ids=lambda step: step.name)
def test_parameters_are_fields_of_the_configuration(step: Step) -> None:
    known = parameters_of(step.config_class)
    cell = code_cells(nbformat.read(step.path, as_version=4))[0]
    assert cell.metadata.tags == ["parameters"]
    shown = set(shown_parameters(step.path))
    of_the_runner = {"root"} if step.kind == paths.PROCESSED else {"root", "session"}
    assert {OPTIONS} | of_the_runner <= shown
    assert shown - of_the_runner - {OPTIONS} <= known.keys()
    for statement in ast.parse(cell.source).body:  # None leaves a field unset; another literal is the field's default
        assert isinstance(statement, (ast.Assign, ast.AnnAssign))
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        name, value = ast.unparse(target), ast.literal_eval(statement.value)
        if name in known and value is not None and name not in ("dataset", "model"):
            assert value == known[name].default, name


@pytest.mark.parametrize("step", STEPS.values(), ids=lambda step: step.name)
def test_every_field_is_documented(step: Step) -> None:
    assert [one.name for one in parameters_of(step.config_class).values() if not one.text] == []
