"""``start.ipynb``: one page that links the notebooks, the sessions and their reports; ``make lab`` opens it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import quote

from ecgkit import paths, sessions
from ecgkit.errors import printable
from ecgkit.io import write_atomically
from ecgkit.sessions import Session

PAGE = "start.ipynb"  # JupyterLab opens Markdown as its source, and the links of an HTML page do not work in it

RESULTS = ("report.html", "overview.html", "map.html", "leaderboard.csv", "classification_report.txt", "model_card.md")
"""The files of a session that the page links, where they exist; the executed notebook comes after them."""

HEAD = """# ecgkit

Made by `make lab`; run it again to see what is new. The notebooks are steps, in reading order. Each step writes its
results into a numbered folder, a session. `ecgkit --help` lists the same steps as commands.

## Notebooks

"""


def write_start_page(root: Path) -> Path:
    """Write the page into a root, with links relative to it.

    Parameters
    ----------
    root : Path
        The folder of data sets and sessions.

    Returns
    -------
    Path
        Of the page.
    """
    titles = {
        path: title_of(path) for path in sorted(paths.notebook_path("1_Preprocessing.ipynb").parent.glob("*.ipynb"))
    }
    lines = [f"- {link(path, title, root)}" for path, title in titles.items()]
    page = HEAD + "\n".join(lines) + "\n"
    for kind in paths.SESSION_KINDS:
        if found := sessions.list_sessions(kind, root):
            rows = [f"| {' | '.join(row(session, root))} |" for session in reversed(found)]
            page += f"\n## {kind.replace('_', ' ').capitalize()}\n\n| session | what | results |\n|---|---|---|\n"
            page += "\n".join(rows) + "\n"
    import nbformat

    cell = nbformat.v4.new_markdown_cell(page, id="start")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    content = nbformat.v4.new_notebook(cells=[cell], metadata=kernel)
    return write_atomically(root / PAGE, nbformat.writes(content).encode())


def title_of(notebook: Path) -> str:
    """Return the title of a notebook, its first line of text."""
    import nbformat

    cells = nbformat.read(notebook, as_version=4).cells
    return next((str(cell.source).partition("\n")[0].lstrip("# ") for cell in cells if cell.source), notebook.stem)


def row(session: Session, root: Path) -> list[str]:
    """Return a session's name, its configuration in a few words, and links to its files."""
    config = sessions.read_config(session)
    names = ("model", "dataset", "label_set", "target", "training_session", "sessions")
    facts = [str(config[name]) for name in names if config.get(name)]
    state = [] if session.is_done else ["not finished"]
    files = [session.path / name for name in RESULTS if (session.path / name).is_file()]
    files += sorted(session.path.glob("*.ipynb"))
    what = printable(", ".join([*facts, *state])).replace("|", "\\|").replace("\n", " ")
    return [session.name, what, ", ".join(link(path, path.name, root) for path in files)]


def link(path: Path, text: str, root: Path) -> str:
    """Return a link relative to the page."""
    return f"[{text}]({quote(os.path.relpath(path, root))})"


if __name__ == "__main__":
    print(write_start_page(paths.resolve_root(sys.argv[1] if len(sys.argv) > 1 else None)))  # noqa: T201
