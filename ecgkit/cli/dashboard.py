"""ECGs for people to look at: dashboard."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ecgkit.cli.common import INCOMPLETE, AddCommand, echo, free_name, note, with_flags
from ecgkit.cli.predict import add_model, add_options, said
from ecgkit.errors import EcgkitError
from ecgkit.io import file_name, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ecgkit.inference.answers import Answer

FORMATS = ("png", "pdf", "html")


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    text = "Draw one page per ECG: the trace to scale, probabilities, measurements and findings."
    added = command("dashboard", dashboard, text)
    added.add_argument("files", metavar="FILE", nargs="+", help="files, folders, or patterns such as '*.xml'")
    added.add_argument("--to", required=True, metavar="DIR", help="the folder to write into")
    added.add_argument("--format", choices=FORMATS, default="png", help="of several files, html adds an overview")
    add_model(added)
    add_options(added)


def dashboard(arguments: argparse.Namespace, root: Path) -> int | None:
    """Write the pages and print their paths; a file without an answer does not end the others."""
    from ecgkit.diagnosis import pages
    from ecgkit.inference.answers import answer_ecgs
    from ecgkit.inference.loading import load_model
    from ecgkit.readers.files import find_ecg_files

    files = find_ecg_files(arguments.files)
    predictor = load_model(arguments.model, root=root, backend=arguments.backend, precision=arguments.precision)
    has_overview = arguments.format == "html" and len(files) > 1
    folder, written, entries = Path(arguments.to), set[str](), []
    for answer in answer_ecgs([(str(file), file) for file in files], predictor, **said(arguments)):
        if answer.ecg is None or answer.refusal:
            message = with_flags(str(answer.refusal))
            if len(files) == 1:
                raise EcgkitError(message)
            note(message)
            entries.append(pages.Entry(replace(answer, ecg=None, refusal=message)))
            continue
        name = free_name(file_name(Path(answer.record).name).replace(".", "-"), written)
        path = folder / f"{name}.{arguments.format}"
        path.parent.mkdir(parents=True, exist_ok=True)
        figures = pages.draw_answer(answer)
        save(answer, figures, path)
        small = pages.thumbnail(figures[0]) if has_overview else ""
        entries.append(pages.Entry(replace(answer, ecg=None), pages.amplitude(answer.ecg), path.name, small))
        echo(path)
    if has_overview:
        write_atomically(folder / "index.html", pages.html_overview(entries).encode())
        echo(folder / "index.html")
    return INCOMPLETE if any(entry.answer.refusal for entry in entries) else None


def save(answer: Answer, figures: Sequence[Figure], path: Path) -> None:
    """Write one page in the format of its suffix; PNG is a file per figure."""
    from ecgkit.diagnosis import pages

    if path.suffix == ".html":
        write_atomically(path, pages.html(answer, figures).encode())
    elif path.suffix == ".pdf":
        write_atomically(path, pages.pdf(figures))
    else:
        for figure, ending in zip(figures, ("", "-beats", "-over-time"), strict=False):
            write_atomically(path.with_name(f"{path.stem}{ending}.png"), pages.picture(figure))
