"""One ECG or thousands: predict."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ecgkit.cli.common import INCOMPLETE, AddCommand, OneLineParser, echo, note, with_flags
from ecgkit.cli.convert import add_hints, hints
from ecgkit.cluster import check_places, workers
from ecgkit.errors import EcgkitError, printable
from ecgkit.inference import DEFAULT_MODEL
from ecgkit.io import csv_text, encodable, json_bytes, locked, read_json, write_atomically
from ecgkit.processes import n_cores, start_worker, started_workers
from ecgkit.progress import counted
from ecgkit.signals.ecg import SEXES

if TYPE_CHECKING:
    from ecgkit.inference.predictor import Predictor

STANDARD_INPUT = "-"


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    added = command("predict", predict, "Predict ECG files of any format: calibrated probabilities and decisions.")
    text = "files, folders, patterns such as '*.xml', or - (standard input)"
    added.add_argument("files", metavar="FILE", nargs="+", help=text)
    add_model(added)
    text = "table, or json (one object per line), or csv (default: table; csv with --to)"
    added.add_argument("--format", choices=WRITERS, help=text)
    added.add_argument("--to", metavar="FILE", help="write here; the same command again resumes after the last row")
    text = "processes, each with the model (default: one per 500 files, at most one per core, one on a GPU)"
    added.add_argument("--jobs", type=int, metavar="N", help=text)
    text = "read and measure on the workers of a Dask scheduler, such as tcp://host:8786"
    added.add_argument("--scheduler", metavar="URL", help=text)
    added.add_argument("--no-measurements", action="store_true", help="leave out heart rate, intervals and voltages")
    add_options(added)


def add_model(parser: OneLineParser) -> None:
    """Add the arguments that choose the model."""
    text = f"a model that ships, 'ensemble', a training session or a model folder (default: {DEFAULT_MODEL})"
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME", help=text)
    text = "auto is onnx for a folder of export-model --format onnx, else torch (default: auto)"
    parser.add_argument("--backend", choices=("auto", "torch", "onnx"), default="auto", help=text)
    text = "bfloat16 is faster, see ecgkit.load_model (default: float32)"
    parser.add_argument("--precision", choices=("float32", "bfloat16", "auto"), default="float32", help=text)


def add_options(parser: OneLineParser) -> None:
    """Add the arguments for what is said of the ECGs, see `ecgkit.inference.answers.Options`."""
    parser.add_argument("--anyway", action="store_true", help="also predict what the checks refuse")
    text = "predict ECGs that lack leads, which are zero then"
    parser.add_argument("--allow-missing-leads", action="store_true", help=text)
    parser.add_argument("--age", type=float, metavar="YEARS", help="if the file does not say it")
    parser.add_argument("--sex", choices=SEXES, help="if the file does not say it")
    add_hints(parser)


def said(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what `add_options` added, as keywords of `ecgkit.inference.answers.answer_ecgs`."""
    names = ("age", "sex", "anyway", "allow_missing_leads")
    return {name: getattr(arguments, name) for name in names} | hints(arguments)


def predict(arguments: argparse.Namespace, root: Path) -> int | None:
    """Print or write one row per file."""
    # Threads that wait for each other without sleeping take most of the time of a machine with other work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    style = arguments.format or ("csv" if arguments.to else "table")
    files = list_files(arguments, style, root)
    options = said(arguments) | {"measurements": not arguments.no_measurements, "windows": style == "json"}
    question = Question(arguments.model, root, arguments.backend, arguments.precision, style, options)
    n_processes = min(arguments.jobs or default_jobs(arguments, len(files)), -(-len(files) // UNIT))
    with started_workers(n_processes, prepare_to_answer) as pool, ExitStack() as stack:
        predictor, written = question.load(), Written()
        if arguments.to:
            made_by = {
                "format": style,
                "model": arguments.model,
                "model_sha256": model_checksums(arguments.model, root),
                "backend": predictor.backend,
                "precision": arguments.precision,
                **{name: value for name, value in options.items() if name != "windows" and value is not None},
            }
            to = Path(arguments.to)
            to.parent.mkdir(parents=True, exist_ok=True)
            message = f"waiting for another process that writes {to}"
            stack.enter_context(locked(to.with_name(f".{to.name}.lock"), message, wait=note))
            written = read_written(to, style, made_by)
        done = written.records
        n_left = sum(name not in done for name, _ in files)
        errors = [written.errors[name] for name, _ in files if name in written.errors]
        if pool:
            rows = question.answer_in_processes(files, done, pool)
        else:
            seen = sorted({path.parent for _, path in files if isinstance(path, Path)})
            readers = stack.enter_context(workers(arguments.scheduler if n_left else None, sees=seen))
            rows = question.answer(files, predictor, done, readers)
        shown = bool(arguments.to)
        rows = stack.enter_context(counted(rows, n_left, description="predicting", unit="files", shown=shown))
        return write_rows(arguments, WRITERS[style], files, rows, errors, unreliable=predictor.unreliable)


def find_files(names: Sequence[str], root: Path) -> list[Path]:
    """Find the ECG files that names stand for; the name of a model is refused, since another one would answer."""
    from ecgkit.inference.model_folder import is_session_name, shipped
    from ecgkit.readers.files import find_ecg_files

    for name in names:
        if not Path(name).exists() and (name in shipped() or is_session_name(name, root)):
            raise EcgkitError(f"there is no file {name}, but a model of this name: choose it by --model {name}")
    return find_ecg_files(names)


def list_files(arguments: argparse.Namespace, style: str, root: Path) -> list[Source]:
    """Check the arguments and return the names and paths of the files, and the content of standard input."""
    if arguments.jobs is not None and arguments.jobs < 1:
        raise EcgkitError(f"--jobs is {arguments.jobs}: give a positive number")
    check_places(arguments.jobs if arguments.jobs != 1 else None, arguments.scheduler)
    if arguments.to and style == "table":
        raise EcgkitError("--format table is for the terminal: with --to choose csv or json")
    if arguments.to and Path(arguments.to).exists() and not Path(arguments.to).is_file():
        raise EcgkitError(f"--to is {arguments.to}, not a file: choose one, or leave it out to print the answers")
    names = [name for name in arguments.files if name != STANDARD_INPUT]
    found = [path for path in find_files(names, root) if not is_file(path, arguments.to)] if names else []
    files: list[Source] = [(encodable(path), path.absolute() if arguments.scheduler else path) for path in found]
    if STANDARD_INPUT in arguments.files:
        files.append((STANDARD_INPUT, sys.stdin.buffer.read()))
    return files


def default_jobs(arguments: argparse.Namespace, n_files: int) -> int:
    """Return one process per 500 files, at most one per core; one on a GPU, and where the workers of a cluster read."""
    number = 1 if arguments.scheduler else min(n_cores(), n_files // FILES_PER_PROCESS)
    if number > 1:
        from ecgkit.inference.batches import default_device

        number = 1 if default_device() == "cuda" else number
    return max(1, number)


def write_rows(
    arguments: argparse.Namespace,
    writer: Writer,
    files: list[Source],
    rows: Iterable[Row],
    errors: list[str],
    *,
    unreliable: Collection[str],
) -> int | None:
    """Write the rows as they come and return the exit code."""
    with opened(arguments.to) as file:
        write = writer(file, max((len(name) for name, _ in files), default=0), unreliable)
        for row in rows:
            row["error"] = with_flags(row["error"], arguments)
            errors += [row["error"]] if row["error"] else []
            if len(files) == 1 and errors and not arguments.to:
                raise EcgkitError(errors[0])
            write(row)
    if arguments.to:
        echo(arguments.to)
    if errors:
        note(f"{len(errors)} of {len(files)} files have no prediction: the column error says why")
    return INCOMPLETE if errors else None


def prepare_to_answer() -> None:
    """Prepare a process."""
    start_worker()
    import ecgkit.inference.answers  # noqa: F401 - while the other process loads the model


@dataclass(frozen=True)
class Question:
    """What is asked about each file: the model and how it runs, the form of the rows, and the options of an answer."""

    model: str
    root: Path
    backend: str
    precision: str
    style: str
    options: Mapping[str, Any]

    def load(self) -> Predictor:
        """Load the model."""
        from ecgkit.inference.loading import load_model

        return load_model(self.model, root=self.root, backend=self.backend, precision=self.precision)

    def answer(
        self, files: Iterable[Source], model: Predictor, done: Collection[str], readers: Executor | None = None
    ) -> Iterator[Row]:
        """Yield the rows of files, but for those that are done."""
        from ecgkit.inference.answers import answer_ecgs

        for answer in answer_ecgs(files, model, done=done, executor=readers, **self.options):
            yield answer.to_dict() if self.style == "json" else answer.to_row()

    def answer_unit(self, files: Iterable[Source], done: Collection[str]) -> list[Row]:
        """Answer a few files in a process of `answer_in_processes`."""
        if self.model not in LOADED:
            LOADED[self.model] = self.load()
        return list(self.answer(files, LOADED[self.model], done))

    def answer_in_processes(self, files: Sequence[Source], done: Collection[str], pool: Executor) -> Iterator[Row]:
        """Yield what `answer` does, from processes that answer a few files each."""
        units = (files[first : first + UNIT] for first in range(0, len(files), UNIT))
        asked = (
            pool.submit(self.answer_unit, unit, known)
            for unit in units
            if len(known := [name for name, _ in unit if name in done]) < len(unit)
        )
        waiting = deque(islice(asked, AHEAD))
        while waiting:
            yield from waiting.popleft().result()
            waiting.extend(islice(asked, 1))


@dataclass(frozen=True)
class Written:
    """What an interrupted command has written: the names of its records, and its errors by record."""

    records: frozenset[str] = frozenset()
    errors: Mapping[str, str] = field(default_factory=dict)


def model_checksums(name: str, root: Path) -> dict[str, str]:
    """Return what identifies a model, as `ecgkit.load_model` finds it."""
    from ecgkit.inference.loading import OWN_MODEL
    from ecgkit.inference.model_folder import checksums, find_folder
    from ecgkit.io import file_sha256

    own = OWN_MODEL.fullmatch(name)
    if own is None:
        return checksums(find_folder(name, root))
    files = (own["model"].rpartition(":")[0], own["weights"])
    return {file: file_sha256(Path(file).expanduser()) for file in files}


def read_written(path: Path, style: str, made_by: dict[str, Any]) -> Written:
    """Return what is in a file already, after a check that the same options made it.

    A last line that is not whole is removed. The options are in a small file next to it.
    """
    companion = path.with_name(path.name + OPTIONS)
    if not path.exists() or not path.stat().st_size:
        write_atomically(companion, json_bytes(made_by))
        return Written()
    way_out = "choose another --to, or delete it"
    if not companion.is_file():
        raise EcgkitError(f"{path} has no {companion.name} that says what made it: {way_out}")
    before = read_json(companion, way_out=way_out)
    for name in dict.fromkeys([*made_by, *before]):
        if before.get(name) != made_by.get(name):
            raise EcgkitError(f"{path} was made with {as_flag(name, before)}, not {as_flag(name, made_by)}: {way_out}")
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    text = content[:whole].decode("utf-8", "replace")
    try:
        if not (content.startswith(BEGINNINGS[style]) or BEGINNINGS[style].startswith(content)):
            raise ValueError(path)
        rows: list[Row] = (
            [json.loads(line) for line in text.splitlines()]
            if style == "json"
            else list(csv.DictReader(io.StringIO(text, newline="")))
        )
        text_of = csv_text if style == "csv" else str
        records = frozenset(text_of(row["record"]) for row in rows)
        errors = {text_of(row["record"]): row["error"] for row in rows if row["error"]}
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise EcgkitError(f"{path} was not written by ecgkit predict --format {style}: {way_out}") from error
    os.truncate(path, whole)  # only now: a file of others stays as it is
    return Written(records, errors)


def as_flag(name: str, options: Mapping[str, Any]) -> str:
    """Return an option as it is given at the command line."""
    value = options.get(name)
    if name == "model_sha256":
        return "another version of its files" if value else "it"
    if name == "measurements":
        return "measurements" if value else "--no-measurements"
    flag, shown = f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else value
    return f"no {flag}" if value is None or value is False else flag if value is True else f"{flag} {shown}"


def is_file(path: Path, to: str | None) -> bool:
    """Return True for the file that the answers are written into, which a folder of ECGs may hold."""
    return to is not None and path.name == Path(to).name and path.resolve() == Path(to).resolve()


@contextmanager
def opened(path: str | None) -> Iterator[TextIO]:
    """Open the file to append to, or standard output."""
    if path is None:
        yield sys.stdout
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("a", encoding="utf-8", newline="") as file:
        yield file


def json_writer(file: TextIO, _width: int, _unreliable: Collection[str]) -> Callable[[Row], None]:
    """Write one JSON object per line."""

    def write(row: Row) -> None:
        file.write(json.dumps(row, allow_nan=False) + "\n")
        file.flush()

    return write


def csv_writer(file: TextIO, _width: int, _unreliable: Collection[str]) -> Callable[[Row], None]:
    """Write one line per file, after a line with the names of the columns."""
    from ecgkit.inference.answers import csv_row

    is_new = not file.seekable() or not file.tell()

    def write(row: Row) -> None:
        nonlocal is_new
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if is_new:
            writer.writeheader()
        is_new = False
        cells = csv_row(row)
        if file.isatty():  # a terminal would act on what is in the names of others; a file keeps them as they are
            cells = {name: printable(cell) if isinstance(cell, str) else cell for name, cell in cells.items()}
        writer.writerow(cells)
        file.flush()

    return write


def table_writer(_file: TextIO, width: int, unreliable: Collection[str]) -> Callable[[Row], None]:
    """Print a table for people: probabilities with a mark where they reach the threshold, the findings below."""
    width = max(len("record"), min(width, WIDEST))
    header: tuple[str, ...] = ()

    def write(row: Row) -> None:
        nonlocal header
        labels = tuple(name.split("_", 1)[1] for name in row if name.startswith(("probability_", "predicted_")))
        measured = [name for name in SHOWN if name in row]
        few = labels if len(labels) <= MOST_COLUMNS else ()
        if not header:
            header = labels
            titles = [
                *(f"{label:>{max(7, len(label))}}" for label in few),
                *(f"{SHOWN[name]:>9}" for name in measured),
                *([] if few else ["most probable, * decided" + (", ? decided unreliably" if unreliable else "")]),
            ]
            echo("  ".join([f"{'record':<{width}}", *titles]))
        name, error = (printable(row[key]).replace("\n", "\\n") for key in ("record", "error"))
        name = name if len(name) <= width else f"...{name[3 - width :]}"
        if error:
            echo(f"{name:<{width}}  {error}")
            return
        values = [f"{describe(row, label, unreliable):>{max(7, len(label))}}" for label in few]
        values += [f"{'-' if row[name] is None else format(row[name], '.0f'):>9}" for name in measured]
        values += [most_probable(row, labels, unreliable)] if not few else []
        echo("  ".join([f"{name:<{width}}", *values]))
        for finding in row["findings"]:
            echo(f"{'':<{width}}  {finding}")

    return write


def most_probable(row: Row, labels: Sequence[str], unreliable: Collection[str]) -> str:
    """Return the most probable classes and those that are decided, the most probable first."""
    ordered = sorted(labels, key=lambda label: -row[f"probability_{label}"])
    chosen = [label for rank, label in enumerate(ordered) if rank < LEAST_SHOWN or row[f"decision_{label}"]]
    return "  ".join(f"{label} {describe(row, label, unreliable).strip()}" for label in chosen)


def describe(row: Row, label: str, unreliable: Collection[str]) -> str:
    """Return a probability, marked where it reaches the threshold (? if that is unreliable), or a quantity."""
    if f"predicted_{label}" in row:
        return f"{row[f'predicted_{label}']:.1f}"
    mark = "?" if label in unreliable else "*"
    return f"{row[f'probability_{label}']:.3f}{mark if row[f'decision_{label}'] else ' '}"


LOADED: dict[str, Predictor] = {}
"""The model of a process that `Question.answer_in_processes` asks."""

Row = dict[str, Any]
Source = tuple[str, Any]
Writer = Callable[[TextIO, int, Collection[str]], Callable[[Row], None]]
UNIT, AHEAD = 16, 64
"""Files that a process answers at once, and how many times that are asked for in advance."""

FILES_PER_PROCESS = 500
"""A process takes about as long to start as this many files take."""

WIDEST = 40
"""Letters of a file's name in the table; of a longer one its end is shown."""

MOST_COLUMNS, LEAST_SHOWN = 10, 3
"""Up to how many classes each has a column in the table, and how many of more classes are shown at least."""

SHOWN = {"heart_rate": "beats/min", "pr": "PR ms", "qrs_duration": "QRS ms", "qtc_fridericia": "QTc ms"}
"""The measurements in the table; the other formats have all."""

OPTIONS = ".options"
"""Ending of the file that says which options made the answers."""

BEGINNINGS = {"json": b'{"model": ', "csv": b"model,"}
"""How the files of this command begin."""

WRITERS: dict[str, Writer] = {"table": table_writer, "json": json_writer, "csv": csv_writer}
"""How rows are written, with the width of the column of names and the classes whose decisions are unreliable."""
