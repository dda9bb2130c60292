"""The executed copy of a notebook that a person runs in JupyterLab, or papermill without `ecgkit`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecgkit.io import write_atomically

OUTPUTS = ("stream", "display_data", "execute_result", "error")
"""The messages of a kernel that become outputs of a cell."""

NOT_KEPT = "its copy of the notebook has no outputs, since no Jupyter kernel runs it"

_last_cells: dict[int, int] = {}


@dataclass
class Recording:
    """What a kernel has sent to its notebook since the session was started.

    Attributes
    ----------
    notebook : Path
        The source notebook, which has the text.
    kernel : object
        The kernel, of ipykernel.
    since : int
        The number of the last cell of the run before; a kernel may run the notebook several times.
    first : int
        The number of the cell that began the recording.
    """

    notebook: Path
    kernel: Any
    since: int
    first: int = 0
    numbers: dict[str, int] = field(default_factory=dict)
    outputs: dict[int, list[Any]] = field(default_factory=dict)

    def begin(self) -> None:
        """Listen to what the kernel sends."""
        self.first = current_cell(self.kernel)
        send = self.kernel.session.send

        def listen(stream: Any, message: Any, content: Any = None, parent: Any = None, *rest: Any, **more: Any) -> Any:
            sent = send(stream, message, content, parent, *rest, **more)
            if isinstance(sent, dict):
                self.take(sent)
            return sent

        self.kernel.session.send = listen

    def take(self, message: dict[str, Any]) -> None:
        """Keep a message if it is the output of a cell."""
        from nbformat.v4 import output_from_msg

        kind, cell = message.get("msg_type"), str(message.get("parent_header", {}).get("msg_id", ""))
        if kind == "execute_input":
            self.numbers[cell] = message["content"]["execution_count"]
        elif kind in OUTPUTS:
            number = self.numbers.get(cell, self.first)  # the cell that began the recording is not announced again
            self.outputs.setdefault(number, []).append(output_from_msg(message))

    def executed(self) -> Any:
        """Return the notebook with the cells as they were run, and their outputs.

        Returns
        -------
        NotebookNode
            The text of the source notebook; each cell of code that was run, with its number and outputs: at its place
            if it is unchanged, else after the cell that was run before it.
        """
        import nbformat

        sys.stdout.flush()
        sys.stderr.flush()
        content = nbformat.read(self.notebook, as_version=4)
        lines = enumerate(self.kernel.shell.history_manager.input_hist_raw)
        run = {number: code.rstrip("\n") for number, code in lines if number > self.since and code.strip()}
        place = -1
        places: dict[int, int] = {}
        for number, code in run.items():
            sources = [cell.source.rstrip("\n") if cell.cell_type == "code" else None for cell in content.cells]
            if code in sources:
                place = sources.index(code)
            else:
                place += 1
                content.cells.insert(place, nbformat.v4.new_code_cell(code))
                places = {before: at + (at >= place) for before, at in places.items()}
            places[number] = place
        for number, at in places.items():
            content.cells[at].update(execution_count=number, outputs=self.outputs.get(number, []))
        at_places = set(places.values())
        content.cells = [c for at, c in enumerate(content.cells) if c.cell_type != "code" or at in at_places]
        return content

    def write(self, folder: Path) -> None:
        """Write the executed copy into a session, in place of the source notebook."""
        import nbformat

        write_atomically(folder / self.notebook.name, nbformat.writes(self.executed()).encode())


def current_cell(kernel: Any) -> int:
    """Return the number of the cell that a kernel runs."""
    return len(kernel.shell.history_manager.input_hist_raw) - 1


def record(notebook: Path) -> Callable[[Path], str]:
    """Begin to record the notebook that this process's kernel runs.

    Parameters
    ----------
    notebook : Path
        The source notebook.

    Returns
    -------
    callable
        Writes the executed copy into a folder, and returns what could not be kept; empty if nothing is missing.
    """
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return lambda _: NOT_KEPT
    recording = Recording(notebook, kernel, since=_last_cells.get(id(kernel), 0))
    recording.begin()

    def keep(folder: Path) -> str:
        _last_cells[id(kernel)] = current_cell(kernel)
        try:
            recording.write(folder)
        except Exception as error:
            return f"its copy of the notebook has no outputs ({type(error).__name__}: {error})"
        return ""

    return keep
