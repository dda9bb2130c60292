"""The quality of a data set or of a folder of ECG files: quality."""

from __future__ import annotations

import argparse
from pathlib import Path

from ecgkit import paths
from ecgkit.cli.common import AddCommand, echo
from ecgkit.errors import EcgkitError
from ecgkit.processes import started_workers


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    text = "Write one page about the quality of a dataset or of a folder of ECG files."
    added = command("quality", quality, text)
    added.add_argument("what", metavar="DATASET|FOLDER", help="a processed dataset, or a folder of ECG files")
    added.add_argument("--to", required=True, metavar="FILE.html", help="the page to write")
    added.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that read and check (default: 1)")
    added.add_argument("--limit", type=int, metavar="N", help="only the first N ECGs")


def quality(arguments: argparse.Namespace, root: Path) -> None:
    """Examine the ECGs, write the page and print its path."""
    from ecgkit.datasets.survey import dataset_to_survey, files_to_survey, survey
    from ecgkit.datasets.survey_page import survey_page
    from ecgkit.io import write_atomically

    for name in ("jobs", "limit"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise EcgkitError(f"--{name} is {value}: give a positive number")
    to = Path(arguments.to)
    if to.suffix.lower() not in (".html", ".htm"):
        raise EcgkitError(f"--to is {to}: give a file that ends in .html")
    dataset, folder = root / paths.PROCESSED / arguments.what, Path(arguments.what)
    if (dataset / "dataset.json").is_file():
        names, read = dataset_to_survey(dataset)
    elif (folder / "dataset.json").is_file():
        names, read = dataset_to_survey(folder)
    elif folder.is_dir():
        names, read = files_to_survey(folder)
    else:
        raise EcgkitError(f"no processed dataset and no folder {arguments.what}: choose a folder, or run preprocess")
    names = names[: arguments.limit]
    with started_workers(min(arguments.jobs, len(names))) as pool:
        table = survey(names, read, executor=pool)
    to.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(to, survey_page(arguments.what, table, read).encode())
    echo(to)
