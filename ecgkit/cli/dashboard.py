"""ECGs for people to look at: dashboard."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from ecgkit.cli.common import INCOMPLETE, AddCommand, echo, free_name, note, with_flags
from ecgkit.cli.predict import add_model, add_options, find_files, said
from ecgkit.errors import EcgkitError, split_names
from ecgkit.io import file_name, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ecgkit.inference.answers import Answer
    from ecgkit.inference.batches import Skip

FORMATS = ("png", "pdf", "html")
ENDINGS = ("", "-beats", "-over-time")
METHOD = "integrated_gradients"


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    text = "Draw one page per ECG: the trace to scale, probabilities, measurements and findings."
    added = command("dashboard", dashboard, text)
    added.add_argument("files", metavar="FILE", nargs="+", help="files, folders, or patterns such as '*.xml'")
    added.add_argument("--to", required=True, metavar="DIR", help="the folder to write into")
    added.add_argument("--format", choices=FORMATS, default="png", help="of several files, html adds an overview")
    text = f"add where the model looked, by a method of docs/explanations.md ({METHOD} if none is named)"
    added.add_argument("--explain", nargs="?", const=METHOD, metavar="METHOD", help=text)
    text = "the classes to explain (default: those that the model predicts)"
    added.add_argument("--class", dest="classes", metavar="A,B", help=text)
    add_model(added)
    add_options(added)


def dashboard(arguments: argparse.Namespace, root: Path) -> int | None:
    """Write the pages and print their paths; a file without an answer does not end the others."""
    from ecgkit.diagnosis import pages
    from ecgkit.explain.attributions import check_explainable
    from ecgkit.inference.answers import answer_ecgs
    from ecgkit.inference.loading import load_model

    files = find_files(arguments.files, root)
    chosen = split_names(arguments.classes) if arguments.classes else []
    if chosen and not arguments.explain:
        raise EcgkitError("--class is for --explain, which is missing")
    predictor = load_model(arguments.model, root=root, backend=arguments.backend, precision=arguments.precision)
    if arguments.explain:
        check_explainable(predictor, method=arguments.explain, classes=chosen)
    has_overview = arguments.format == "html" and len(files) > 1
    folder, written, entries = Path(arguments.to), set[str](), []
    for answer in answer_ecgs([(str(file), file) for file in files], predictor, **said(arguments)):
        if answer.ecg is None or answer.refusal:
            message = with_flags(str(answer.refusal), arguments)
            if len(files) == 1:
                raise EcgkitError(message)
            note(message)
            entries.append(pages.Entry(replace(answer, ecg=None, refusal=message)))
            continue
        name = free_name(file_name(Path(answer.record).name).replace(".", "-"), written)
        path = folder / f"{name}.{arguments.format}"
        path.parent.mkdir(parents=True, exist_ok=True)
        figures = dict(zip(ENDINGS, pages.draw_answer(answer), strict=False))
        small = pages.thumbnail(figures[""]) if has_overview else ""
        if arguments.explain:
            skip = {name: getattr(arguments, name) for name in ("anyway", "allow_missing_leads")}
            figures |= explained(answer, arguments.explain, chosen, **skip)
        save(answer, figures, path)
        entries.append(pages.Entry(replace(answer, ecg=None), pages.amplitude(answer.ecg), path.name, small))
        echo(path)
    if has_overview:
        write_atomically(folder / "index.html", pages.html_overview(entries).encode())
        echo(folder / "index.html")
    return INCOMPLETE if any(entry.answer.refusal for entry in entries) else None


def explained(answer: Answer, method: str, classes: Sequence[str], **skip: Unpack[Skip]) -> dict[str, Figure]:
    """Draw where the model looked, one figure per class, by the endings of their files."""
    from ecgkit.explain.attributions import explain_ecg, predicted_classes
    from ecgkit.explain.pages import draw_class

    assert answer.ecg is not None  # noqa: S101 - an answer without one is not drawn
    names = classes or predicted_classes(answer.predictor, answer.ecg, **skip)
    found = explain_ecg(answer.predictor, answer.ecg, method=method, classes=names, **skip)
    return {f"-explained-{file_name(name)}": draw_class(found, name, Path(answer.record).name) for name in names}


def save(answer: Answer, figures: Mapping[str, Figure], path: Path) -> None:
    """Write one page in the format of its suffix; PNG is a file per figure, named by its ending."""
    from ecgkit.diagnosis import pages

    if path.suffix == ".html":
        write_atomically(path, pages.html(answer, list(figures.values())).encode())
    elif path.suffix == ".pdf":
        write_atomically(path, pages.pdf(list(figures.values())))
    else:
        for ending, figure in figures.items():
            write_atomically(path.with_name(f"{path.stem}{ending}.png"), pages.picture(figure))
