"""Run a notebook with papermill, strictly: what papermill lets pass in silence is an error here."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from ecgkit.errors import EcgkitError, fits
from ecgkit.sessions import CLOSED, SESSION_VARIABLE, Session

KERNEL = "python3"


@dataclass(frozen=True)
class Declared:
    """A parameter as its notebook declares it.

    Attributes
    ----------
    default : object
        The literal on the right.
    kind : type
        The literal's type, or the annotation's where one stands (``epochs: int = None``).
    """

    default: object
    kind: type


ANNOTATIONS: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict}


def declared_parameters(notebook: Path) -> dict[str, Declared]:
    """Read the parameters that a notebook declares in its one cell tagged ``parameters``.

    Parameters
    ----------
    notebook : Path
        The ``.ipynb`` file.

    Returns
    -------
    dict of str to Declared
        In the order of the cell.

    Raises
    ------
    EcgkitError
        If the notebook does not have exactly one such cell, or it holds more than assignments of literals.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise EcgkitError(f"{notebook} has {len(tagged)} cells tagged 'parameters': tag exactly one")
    declared = {}
    for statement in ast.parse(tagged[0].source).body:
        name, annotation, value = split_assignment(statement, notebook)
        kind = ANNOTATIONS.get(annotation) if annotation else type(value)
        if kind is None or kind is type(None):
            raise EcgkitError(
                f"{notebook} declares {name} without a type: write '{name}: int = None', or another literal"
            )
        declared[name] = Declared(value, kind)
    return declared


def split_assignment(statement: ast.stmt, notebook: Path) -> tuple[str, str, object]:
    """Take ``name = literal`` or ``name: type = literal`` apart."""
    target = statement.targets[0] if isinstance(statement, ast.Assign) and len(statement.targets) == 1 else None
    annotation = ""
    if isinstance(statement, ast.AnnAssign):
        target, annotation = statement.target, ast.unparse(statement.annotation)
    try:
        if isinstance(target, ast.Name) and isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value:
            return target.id, annotation, ast.literal_eval(statement.value)
    except ValueError:
        pass  # no literal: the message below says so
    raise EcgkitError(
        f"{notebook}: the parameters cell holds {ast.unparse(statement)!r}: assign literals there, nothing else"
    )


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    """Check parameters against a notebook's declarations and bring them to the declared types.

    Parameters
    ----------
    notebook : Path
        The notebook.
    parameters : dict
        What is to be set.

    Returns
    -------
    dict
        The same with numbers as the notebook wants them: ``"3e-4"``, as YAML reads it, becomes a float.

    Raises
    ------
    EcgkitError
        If the notebook does not declare a parameter, or a value is not of its type.
    """
    declared = declared_parameters(notebook)
    checked = {}
    for name, value in parameters.items():
        if name not in declared:
            raise EcgkitError(f"{notebook.name} has no parameter {name!r}: choose from {', '.join(declared)}")
        checked[name] = to_kind(name, value, declared[name], notebook)
    return checked


def to_kind(name: str, value: Any, declared: Declared, notebook: Path) -> Any:
    """Bring one value to its declared type, or refuse it."""
    if value is None and declared.default is None:
        return value
    if declared.kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass  # the message below says so
    elif fits(value, declared.kind):
        return value
    given, wanted = type(value).__name__, declared.kind.__name__
    raise EcgkitError(f"{name} of {notebook.name} is {value!r}, a {given}: give a value of type {wanted}")


@contextmanager
def prepared_session(session: Session) -> Iterator[None]:
    """Name the session to the notebook's kernel, which inherits this process's environment."""
    before = os.environ.get(SESSION_VARIABLE)
    os.environ[SESSION_VARIABLE] = str(session.path)
    try:
        yield
    finally:
        if before is None:
            del os.environ[SESSION_VARIABLE]
        else:
            os.environ[SESSION_VARIABLE] = before


def run_notebook(notebook: Path, parameters: dict[str, Any], session: Session) -> None:
    """Run a notebook into a folder that was made for it, put the executed copy there, and write ``DONE``.

    Parameters
    ----------
    notebook : Path
        The source notebook.
    parameters : dict
        What to set; the rest keeps the notebook's literals.
    session : Session
        The folder that the notebook fills.

    Raises
    ------
    EcgkitError
        If a parameter does not fit, a cell fails (its one-line message is passed on), or the notebook ended before its
        last cell. What was executed so far then lies beside the folder as ``FOLDER.failed.ipynb``.
    """
    parameters = check_parameters(notebook, parameters)
    # Beside the folder, not in it: a dataset's folder only appears when it is complete.
    executed = session.path.with_name(f".{session.name}.{notebook.name}")
    failed = session.path.with_name(f"{session.name}.failed.ipynb")
    marker = session.path / CLOSED
    marker.unlink(missing_ok=True)
    try:
        with prepared_session(session):
            execute(notebook, executed, parameters)
    except EcgkitError as error:
        raise EcgkitError(f"{error} (see {failed})") from error
    else:
        if not marker.is_file():
            raise EcgkitError(f"{notebook.name} ended before its last cell: its session is not closed (see {failed})")
        shutil.move(executed, session.path / notebook.name)
        failed.unlink(missing_ok=True)
        session.mark_done()
    finally:
        marker.unlink(missing_ok=True)
        if executed.is_file():
            shutil.move(executed, failed)


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Execute a notebook with papermill, its printed lines passed through, and turn a cell's error into one line."""
    with warnings.catch_warnings():
        # papermill's own imports; nothing that a user could act on
        warnings.simplefilter("ignore", DeprecationWarning)
        import papermill
        from jupyter_client.kernelspec import NoSuchKernel
        from nbclient.exceptions import DeadKernelError

        try:
            papermill.execute_notebook(
                notebook,
                output,
                parameters=parameters,
                kernel_name=KERNEL,
                cwd=output.parent,
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                # the kernel's words on its own transport; what a cell raises comes back as its answer
                extra_arguments=["--log-level=CRITICAL"],
            )
        except papermill.PapermillExecutionError as error:
            message = strip_colours(error.evalue).strip()
            what = message if error.ename == EcgkitError.__name__ else f"{error.ename}: {message}"
            raise EcgkitError(f"{notebook.name}, cell {error.exec_count}: {' '.join(what.split())}") from error
        except (DeadKernelError, RuntimeError) as error:  # a RuntimeError where it died before its first answer
            raise EcgkitError(
                f"{notebook.name}: its kernel died; free memory (or lower batch_size) and go on"
            ) from error
        except KeyboardInterrupt:
            _forget_the_interrupted_cell()
            raise
        except NoSuchKernel as error:
            raise EcgkitError(f"no Jupyter kernel {KERNEL!r}: pip install ipykernel beside ecgkit") from error


def _forget_the_interrupted_cell() -> None:
    """Let asyncio not print the error of the cell that Ctrl-C ended, which nobody waits for any more."""
    from jupyter_core.utils import ensure_event_loop
    from nbclient.exceptions import CellExecutionError

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), CellExecutionError):
            loop.default_exception_handler(context)

    ensure_event_loop().set_exception_handler(handle)


def strip_colours(text: str) -> str:
    """Take terminal colours out of a message."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
