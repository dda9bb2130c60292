"""Where a model looks: a session by its notebook, or files by one method of attribution."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ecgkit.cli.common import INCOMPLETE, AddCommand, OneLineParser, echo, free_name, note, with_flags
from ecgkit.cli.predict import add_options, said
from ecgkit.cli.steps import fill_step, run_one
from ecgkit.errors import EcgkitError, split_names
from ecgkit.explain.config import ALL
from ecgkit.io import file_name, write_atomically
from ecgkit.progress import counted

if TYPE_CHECKING:
    from ecgkit.explain.attributions import Explanation

FORMATS = ("png", "html", "npz")


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    text = "Show where in the ECG a model looks and what it uses: a session's notebook, or pictures of files."
    command("explain", explain, text, fill=fill)


def fill(parser: OneLineParser) -> None:
    """Add the arguments."""
    fill_step("explain", parser, without=("classes",))
    parser.usage = "ecgkit explain MODEL [options] | ecgkit explain MODEL FILE... --to DIR [options]"
    text = "the classes to explain, or all (default: those that the model predicts; without FILE all, or five of many)"
    parser.add_argument("--class", dest="classes", metavar="A,B", help=text)
    group = parser.add_argument_group("files", "MODEL may also be 'ensemble'")
    group.add_argument("files", metavar="FILE", nargs="*", help="ECG files, folders, or patterns such as '*.xml'")
    group.add_argument("--to", metavar="DIR", help="the folder to write into")
    text = "such as grad_cam or occlusion_segments; see docs/explanations.md (default: integrated_gradients)"
    group.add_argument("--method", metavar="NAME", default="integrated_gradients", help=text)
    group.add_argument("--format", choices=FORMATS, default="png", help="pictures, an interactive page, or arrays")
    add_options(parser)


def explain(arguments: argparse.Namespace, root: Path) -> int | None:
    """Run the notebook on a session, or explain files."""
    if not arguments.files:
        if arguments.to:
            raise EcgkitError("--to is for files: name one after the model")
        run_one(arguments, root)
        return None
    if not arguments.to:
        raise EcgkitError("explaining files needs a folder to write into: give --to DIR")
    if "dataset" in arguments:
        raise EcgkitError("--dataset is for the notebook: leave it out to explain files")
    return explain_files(arguments, root)


def explain_files(arguments: argparse.Namespace, root: Path) -> int | None:
    """Write the explanations and print their paths; a file that is refused does not end the others."""
    from ecgkit.explain.attributions import check_explainable, explain_ecg, predicted_classes
    from ecgkit.inference.answers import answer_ecgs
    from ecgkit.inference.loading import load_model
    from ecgkit.readers.files import find_ecg_files

    files = find_ecg_files(arguments.files)
    predictor = load_model(arguments.training_session, root=root)
    chosen = split_names(arguments.classes) if arguments.classes else []
    check_explainable(predictor, method=arguments.method, classes=() if chosen == [ALL] else chosen)
    options, written, failed = said(arguments), set[str](), 0
    skip = {name: options[name] for name in ("anyway", "allow_missing_leads")}
    sources = [(str(file), file) for file in files]
    answers = answer_ecgs(sources, predictor, measurements=False, windows=False, **options)
    shown = len(files) > 1
    with counted(answers, len(files), description="explaining", unit="files", shown=shown) as passing:
        for answer in passing:
            if answer.ecg is None or answer.refusal:
                message = with_flags(str(answer.refusal), arguments)
                if len(files) == 1:
                    raise EcgkitError(message)
                note(message)
                failed += 1
                continue
            classes = chosen or predicted_classes(predictor, answer.ecg, **skip)
            names = None if chosen == [ALL] else classes
            found = explain_ecg(predictor, answer.ecg, method=arguments.method, classes=names, **skip)
            name = free_name(file_name(Path(answer.record).name).replace(".", "-"), written)
            for path in save(found, Path(arguments.to) / f"{name}.{arguments.format}", Path(answer.record).name):
                echo(path)
    return INCOMPLETE if failed else None


def save(found: Explanation, path: Path, title: str) -> list[Path]:
    """Write one explanation in the format of the suffix; pictures are several files."""
    from ecgkit.diagnosis.pages import picture
    from ecgkit.explain import pages

    if path.suffix == ".html":
        return [write_atomically(path, pages.html(found, title).encode())]
    if path.suffix == ".npz":
        return [write_atomically(path, pages.arrays(found))]
    return [
        write_atomically(path.with_name(f"{path.stem}-{file_name(part)}.png"), picture(figure))
        for part, figure in pages.draw(found, title).items()
    ]
