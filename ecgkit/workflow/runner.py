"""Execute a notebook with papermill, strictly: what papermill ignores is an error here."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ecgkit.errors import EcgkitError
from ecgkit.io import check_held
from ecgkit.progress import Continued
from ecgkit.sessions import SESSION_VARIABLE, Session

KERNEL = "python3"
OPTIONS = "options"
"""The parameter of a notebook that takes every field which its parameters cell does not show."""


LAST_LINES = 12
"""The number of lines of a failed cell's output that are shown."""


class NotebookError(EcgkitError):
    """A cell failed.

    Attributes
    ----------
    details : str
        The cell and the last lines of its output.
    """

    details = ""


def shown_parameters(notebook: Path) -> list[str]:
    """List the names that a notebook's parameters cell assigns.

    Raises
    ------
    EcgkitError
        If the notebook does not have exactly one cell tagged ``parameters``.
    """
    import nbformat
    import papermill

    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise EcgkitError(f"{notebook} has {len(tagged)} cells tagged 'parameters': tag exactly one")
    return list(papermill.inspect_notebook(str(notebook)))


def split_parameters(notebook: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Sort values into those that a notebook's parameters cell shows and the rest, which goes into ``options``.

    Raises
    ------
    EcgkitError
        If the cell has no ``options`` for a value that it does not show.
    """
    shown = shown_parameters(notebook)
    rest = {name: value for name, value in values.items() if name not in shown}
    if rest and OPTIONS not in shown:
        raise EcgkitError(f"{notebook.name} has no parameter {next(iter(rest))!r} and no {OPTIONS} = {{}} to put it in")
    return {name: value for name, value in values.items() if name in shown} | ({OPTIONS: rest} if rest else {})


@contextmanager
def environment_variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process's environment, which a notebook's kernel inherits."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


def run_notebook(
    notebook: Path,
    values: dict[str, Any],
    session: Session,
    *,
    verbose: bool = True,
    skipped_tags: Sequence[str] = (),
    cell_timeout: int | None = None,
) -> None:
    """Run a notebook into a folder, put the executed copy there, and write ``DONE``.

    Parameters
    ----------
    notebook : Path
        The source notebook.
    values : dict
        Its parameters; the others keep the notebook's literals.
    session : Session
        The folder that the notebook fills, locked by the caller.
    verbose : bool, default True
        Whether what the notebook prints is passed on.
    skipped_tags : sequence of str
        Cells with one of these tags are left out.
    cell_timeout : int, optional
        Seconds after which a cell that has not ended is stopped, and its kernel with it; by default never.

    Raises
    ------
    EcgkitError
        If the notebook does not take a parameter, a cell fails (its one-line message is passed on) or takes too long,
        or the notebook ended before its last cell. The cells executed so far are then next to the folder as
        ``FOLDER.failed.ipynb``.
    """
    parameters = split_parameters(notebook, values)
    # Next to the folder, not in it: a dataset's folder only appears when it is complete.
    executed = session.path.with_name(f".{session.name}.{notebook.name}")
    failed = session.path.with_name(f"{session.name}.failed.ipynb")
    try:
        with environment_variables({SESSION_VARIABLE: str(session.path)}):
            leave_out_cells(notebook, executed, skipped_tags)
            execute(notebook, executed, parameters, verbose=verbose, cell_timeout=cell_timeout)
        check_complete(executed)
        check_held(session.path)
    except EcgkitError as error:
        failure = NotebookError(f"{error} (see {failed})")
        failure.details = failed_cell(executed)
        raise failure from error
    else:
        shutil.move(executed, session.path / notebook.name)
        failed.unlink(missing_ok=True)
        session.mark_done()
    finally:
        if executed.is_file():
            shutil.move(executed, failed)


def last_cell(executed: Path) -> tuple[int, Any]:
    """Return the last cell of code that was begun, with its number, as the kernel counts; 0 and None without one."""
    import nbformat

    cells = nbformat.read(executed, as_version=4).cells if executed.is_file() else []
    code = [cell for cell in cells if cell.cell_type == "code"]
    begun = [(n, cell) for n, cell in enumerate(code, 1) if cell.metadata.get("papermill", {}).get("start_time")]
    return begun[-1] if begun else (0, None)


def place_in(executed: Path) -> str:
    """Return at which cell a notebook stopped, for a message."""
    number, _ = last_cell(executed)
    return f"cell {number}" if number else "before its first cell"


def failed_cell(executed: Path) -> str:
    """Return the source of the cell at which a notebook stopped and the last lines of its output."""
    _, cell = last_cell(executed)
    if cell is None:
        return ""
    printed = "".join(output.text for output in cell.outputs if output.output_type == "stream")
    return "\n".join([*(f"    {line}" for line in cell.source.splitlines()), *printed.splitlines()[-LAST_LINES:]])


def leave_out_cells(notebook: Path, copy: Path, tags: Sequence[str]) -> None:
    """Copy a notebook without the cells that have one of some tags."""
    import nbformat

    content = nbformat.read(notebook, as_version=4)
    content.cells = [cell for cell in content.cells if not set(tags) & set(cell.metadata.get("tags", []))]
    nbformat.write(content, copy)


def check_complete(executed: Path) -> None:
    """Refuse an executed notebook with a cell that did not run, as after ``sys.exit(0)``, which raises no error."""
    import nbformat

    cells = [cell for cell in nbformat.read(executed, as_version=4).cells if cell.cell_type == "code"]
    if any(cell.execution_count is None for cell in cells if cell.source.strip()):
        raise EcgkitError(f"{executed.name.split('.', 2)[2]} ended before its last cell")


def execute(
    notebook: Path, output: Path, parameters: dict[str, Any], *, verbose: bool, cell_timeout: int | None = None
) -> None:
    """Execute the copy of a notebook with papermill, and turn a cell's error into one line."""
    with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere:
        # papermill's own imports; nothing that a user could act on
        warnings.simplefilter("ignore", DeprecationWarning)
        import papermill
        from jupyter_client.kernelspec import NoSuchKernel
        from nbclient.exceptions import CellTimeoutError, DeadKernelError

        _keep_interruptions_quiet()
        try:
            run = partial(
                papermill.execute_notebook,
                output,
                output,
                parameters=parameters,
                kernel_name=KERNEL,
                cwd=output.parent,
                progress_bar=False,
                stdout_file=Continued(sys.stdout) if verbose else nowhere,
                stderr_file=Continued(sys.stderr) if verbose else nowhere,
                execution_timeout=cell_timeout,
                iopub_timeout=600,  # a busy machine delivers the end of a cell's output late
                # the kernel's messages on its own transport; what a cell raises comes back as its result
                extra_arguments=["--log-level=CRITICAL"],
            )
            try:
                run()
            except RuntimeError:
                # Before its first cell a kernel dies if another program takes one of its ports; a new one has others.
                if last_cell(output)[1] is not None:
                    raise
                run()
        except papermill.PapermillExecutionError as error:
            message = strip_colours(error.evalue).strip()
            what = message if error.ename == EcgkitError.__name__ else f"{error.ename}: {message}"
            raise EcgkitError(f"{notebook.name}, cell {error.exec_count}: {' '.join(what.split())}") from error
        except CellTimeoutError as error:
            what = f"not finished after {cell_timeout} s, the cell timeout; give more time and run it again to resume"
            raise EcgkitError(f"{notebook.name}, {place_in(output)}: {what}") from error
        except (DeadKernelError, RuntimeError) as error:  # a RuntimeError where it died before its first answer
            what = "its kernel died; free memory or lower batch_size, then run it again to resume"
            raise EcgkitError(f"{notebook.name}, {place_in(output)}: {what}") from error
        except NoSuchKernel as error:
            raise EcgkitError(f"no Jupyter kernel {KERNEL!r}: pip install ipykernel") from error


def _keep_interruptions_quiet() -> None:
    """Keep asyncio and papermill from printing the error of a cell that Ctrl-C ended; others are raised as well."""
    from jupyter_core.utils import ensure_event_loop
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), CellExecutionError | DeadKernelError):
            loop.default_exception_handler(context)

    ensure_event_loop().set_exception_handler(handle)
    logging.getLogger("papermill").setLevel(logging.CRITICAL)


def strip_colours(text: str) -> str:
    """Remove terminal colours from a message."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
