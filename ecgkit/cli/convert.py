"""ECG files: convert."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from ecgkit.cli.common import INCOMPLETE, AddCommand, OneLineParser, echo, free_name, note, with_flags
from ecgkit.errors import EcgkitError
from ecgkit.io import file_name
from ecgkit.readers.files import record_key
from ecgkit.readers.saving import WRITERS

FORMATS = {"wfdb": ".hea"} | {suffix.removeprefix("."): suffix for suffix in WRITERS if suffix != ".hea"}
"""The suffix of each format that is written."""


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    added = command("convert", convert, "Convert ECG files of any format to WFDB, CSV, NPZ or EDF.")
    added.add_argument("files", metavar="FILE", nargs="+", help="ECG files; their formats are found by content")
    added.add_argument("--format", required=True, choices=list(FORMATS), help="the format to write")
    added.add_argument("--to", required=True, metavar="DIR", help="the folder to write into")
    add_hints(added)


def add_hints(parser: OneLineParser) -> None:
    """Add the arguments for what a file does not say; see `ecgkit.open_ecg`."""
    parser.add_argument("--sampling-rate", type=float, metavar="HZ", help="in Hz, if the files do not say it")
    parser.add_argument(
        "--unit", metavar="UNIT", help="mV, uV or a multiple such as 4.88uV, if the files do not say it"
    )
    parser.add_argument(
        "--leads", metavar="NAMES", help="such as I,II,V1: one per signal, if the files do not name them"
    )
    parser.add_argument(
        "--record",
        metavar="N",
        help="position from 0 or identifier (a number in quotes is one), in a file of many records",
    )
    parser.add_argument("--start", type=float, metavar="S", help="seconds from the beginning of each file")
    parser.add_argument("--duration", type=float, metavar="S", help="seconds to read, of a file of more than an hour")


def hints(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the keywords of `ecgkit.open_ecg` that were given."""
    names = ("sampling_rate", "unit", "leads", "record", "start", "duration")
    found = vars(arguments) | {"record": record_key(arguments.record)}
    return {name: found[name] for name in names if found[name] is not None}


def convert(arguments: argparse.Namespace, _root: Path) -> int | None:
    """Write each file under its name and print the path; a file that cannot be read does not end the others."""
    from ecgkit.readers import open_ecg, save_ecg
    from ecgkit.readers.wfdb.record import record_path

    folder, written, failed = Path(arguments.to), set[str](), 0
    for file in arguments.files:
        try:
            ecg = open_ecg(file, **hints(arguments))  # type: ignore[arg-type]
            name = file_name(ecg.record_id).replace(".", "-")
            if arguments.format == "wfdb":
                name = (
                    re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "ecg"
                )  # the letters that the name of a WFDB record may have
            name = free_name(name, written)
            path = folder / f"{name}{FORMATS[arguments.format]}"
            read = (Path(file), Path(f"{record_path(file)}.hea"))  # of a WFDB record the header is read as well
            if path.exists() and path.resolve() in [one.resolve() for one in read]:
                raise EcgkitError(f"{file} would be replaced by its conversion: choose another --to")
            echo(save_ecg(ecg, path))
        except EcgkitError as error:
            if len(arguments.files) == 1:
                raise
            note(with_flags(str(error), arguments))
            failed += 1
    return INCOMPLETE if failed else None
