"""PTB-XL from PhysioNet, its mirror, another folder laid out alike, or its published zip."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ecgkit.errors import EcgkitError
from ecgkit.io import TEMPORARY_SUFFIX, disk_errors, locked
from ecgkit.progress import say
from ecgkit.sources.ptbxl.download.manifest import Manifest, Sums, parse_sums
from ecgkit.sources.ptbxl.download.places import MissingError, PassingError, Place, RefusedError, ZipPlace, place_at
from ecgkit.sources.ptbxl.download.transfer import SUMS, Patience, Transfer
from ecgkit.sources.ptbxl.source import FILE_COLUMNS, TABLES

VERSION = "1.0.3"
ADDRESSES = (
    f"https://physionet.org/files/ptb-xl/{VERSION}/",
    f"https://physionet-open.s3.amazonaws.com/ptb-xl/{VERSION}/",
)
"""PhysioNet, and its public mirror at Amazon S3."""
LICENCE = "LICENSE.txt"
RECORD_NAME = r"records(100|500)/\d{5}/\d{5}_(lr|hr)"
DISK_BYTES = {".hea": 4096, "_lr.dat": 6 * 4096, "_hr.dat": 30 * 4096}
"""What a file takes on a disk in blocks of 4 KiB: a header under 1 kB, ten seconds of 12 leads in 16 bits."""
LARGEST_TABLE = 16 * 2**20
KEPT = "every file that is complete is kept, and the same command goes on from there"


@dataclass(frozen=True)
class Downloaded:
    """What a download found and fetched.

    Attributes
    ----------
    folder : Path
        Where PTB-XL is now.
    n_files, n_bytes : int
        Files of what was asked for, all there now, and their bytes.
    n_there : int
        Of these, files that were there already.
    n_damaged : int
        Files that were there with other bytes and were replaced.
    fetched_bytes : int
        Bytes that came from outside, repetitions and the list of checksums included.
    n_failures : int
        Attempts that failed and were made again.
    seconds : float
        How long it took.
    n_records : dict of int to int
        For each sampling rate in Hz how many records, from the first of the table on, are there.
    n_table : int
        Records in the table.
    """

    folder: Path
    n_files: int
    n_bytes: int
    n_there: int
    n_damaged: int
    fetched_bytes: int
    n_failures: int
    seconds: float
    n_records: dict[int, int]
    n_table: int

    def __str__(self) -> str:
        """Say it in two lines."""
        minutes, seconds = divmod(round(self.seconds), 60)
        notes = [f"{self.n_there:,} were there already"]
        notes += [f"{self.n_damaged:,} were damaged and replaced"] if self.n_damaged else []
        notes += [f"{self.n_failures:,} attempts made again"] if self.n_failures else []
        rates = ", ".join(
            f"{'all' if count == self.n_table else 'the first'} {count:,} records at {rate} Hz"
            for rate, count in self.n_records.items()
        )
        return (
            f"{self.n_files:,} files, {self.n_bytes / 1e6:,.1f} MB: {', '.join(notes)}; "
            f"{self.fetched_bytes / 1e6:,.1f} MB fetched in {minutes} min {seconds} s\n"
            f"PTB-XL, {rates} (of {self.n_table:,}), CC BY 4.0"
        )


def download_ptbxl(
    folder: Path | str,
    *,
    rates: Sequence[int] = (100,),
    limit: int | None = None,
    mirror: str | None = None,
    zip_file: Path | str | None = None,
    patience: Patience | None = None,
    progress: bool = True,
) -> Downloaded:
    """Bring PTB-XL into a folder, or go on where an earlier call was cut off.

    Every file is checked against the published SHA-256. What is there with the right bytes stays. The folder is then
    one that `ecgkit.sources.PtbXl` reads, also where it is a part: its manifest says how many records there are.

    Parameters
    ----------
    folder : Path or str
        Where it goes; made if it is not there.
    rates : sequence of int, default (100,)
        Sampling rates in Hz, of 100 and 500.
    limit : int, optional
        Only the first ``limit`` records of the table.
    mirror : str, optional
        Address (``https:``, ``http:``, ``file:``) of another folder laid out as PhysioNet's, instead of `ADDRESSES`.
    zip_file : Path or str, optional
        The zip that PhysioNet publishes, instead of an address.
    patience : Patience, optional
        How long to try.
    progress : bool, default True
        Whether to say how far it is.

    Returns
    -------
    Downloaded

    Raises
    ------
    EcgkitError
        If an argument does not fit, no address answers, files are missing there or stay wrong, it is no PTB-XL, the
        disk is full, or another process is at it. Every file that is in its place then is right, and stays.

    References
    ----------
    Wagner, P. et al. (2022). PTB-XL, a large publicly available electrocardiography dataset (version 1.0.3).
    PhysioNet. https://doi.org/10.13026/kfzx-aw45
    """
    patience, folder = patience or Patience(), Path(folder).resolve()
    _check_arguments(rates, limit, mirror, zip_file)
    request = _Request(sorted(set(rates)), limit)
    places = _places(mirror, zip_file, patience)
    lock = folder.with_name(f".{folder.name}.lock")
    with disk_errors(folder, KEPT), _nothing_lost():
        folder.mkdir(parents=True, exist_ok=True)
        with locked(lock, f"another download into {folder} is at work: wait until it is done, or end it"):
            return _download(folder, Transfer(places, patience, progress=progress), request)


@dataclass(frozen=True)
class _Request:
    """Which records were asked for."""

    rates: list[int]
    limit: int | None


def _check_arguments(rates: Sequence[int], limit: int | None, mirror: str | None, zip_file: Path | str | None) -> None:
    if not rates or not set(rates) <= FILE_COLUMNS.keys():
        raise EcgkitError(f"PTB-XL has no sampling rates {list(rates)}: choose of 100 and 500 Hz")
    if limit is not None and limit < 1:
        raise EcgkitError(f"limit is {limit}: give the number of records to download, 1 or more")
    if mirror is not None and zip_file is not None:
        raise EcgkitError("a mirror and a zip file are two places to read from: give one of them")


def _places(mirror: str | None, zip_file: Path | str | None, patience: Patience) -> list[Place]:
    if zip_file is not None:
        return [ZipPlace(Path(zip_file).expanduser().resolve(), SUMS)]
    return [place_at(url, timeout=patience.timeout) for url in ([mirror] if mirror is not None else ADDRESSES)]


@contextmanager
def _nothing_lost() -> Iterator[None]:
    """Say, behind what a place could not do, how to go on."""
    try:
        yield
    except (PassingError, RefusedError) as error:
        raise EcgkitError(f"{error}; {KEPT}, or from another place with --mirror") from error


def _download(folder: Path, transfer: Transfer, request: _Request) -> Downloaded:
    for path in (*folder.glob(f".*{TEMPORARY_SUFFIX}"), *folder.glob(f"records*/*/.*{TEMPORARY_SUFFIX}")):
        path.unlink()  # of a download that was killed
    manifest = Manifest(folder, [place.url for place in transfer.places])
    if known := manifest.known_sums():
        try:
            return _download_listed(folder, transfer, request, manifest, known)
        except RefusedError:
            say(f"{SUMS} of an earlier call may be out of date: reading it again", shown=transfer.progress)
    return _download_listed(folder, transfer, request, manifest, _fetch_sums(transfer))


def _download_listed(folder: Path, transfer: Transfer, request: _Request, manifest: Manifest, sums: Sums) -> Downloaded:
    """Bring the tables, then the records that they name, one sampling rate after the other."""
    start = time.monotonic()
    fixed = {name: sums.files[name] for name in (*TABLES, LICENCE) if name in sums.files}
    _set_aside(folder, sums, transfer, is_ours="n_table" in manifest.data)
    states = transfer.bring(fixed, folder, "tables", _disk_bytes)
    table = folder / TABLES[0]
    names = _read_file_names(table.read_bytes(), table)
    records = {rate: _record_files(names[rate][: request.limit], sums) for rate in request.rates}
    manifest.begin(sums, names)
    n_records = {}
    for rate, files in records.items():
        states |= transfer.bring(files, folder, f"records at {rate} Hz", _disk_bytes)
        n_records[rate] = manifest.finish(rate, request.limit)
    return Downloaded(
        folder=folder,
        n_files=len(states),
        n_bytes=sum((folder / name).stat().st_size for name in states),
        n_there=sum(state == "right" for state in states.values()),
        n_damaged=sum(state == "damaged" for state in states.values()),
        fetched_bytes=transfer.n_bytes,
        n_failures=transfer.n_failures,
        seconds=time.monotonic() - start,
        n_records=n_records,
        n_table=manifest.n_table,
    )


def _fetch_sums(transfer: Transfer) -> Sums:
    try:
        text = transfer.get(SUMS)
    except MissingError as error:
        raise EcgkitError(f"no PTB-XL there: {error}; give the address of a folder like {ADDRESSES[0]}") from error
    return _check_sums(parse_sums(text), transfer.places[0].url)


def _check_sums(sums: Sums, origin: str) -> Sums:
    absent = [name for name in TABLES if name not in sums.files]
    if absent:
        raise EcgkitError(
            f"no PTB-XL at {origin}: its {SUMS} does not name {absent[0]}; "
            f"give the address of a folder like {ADDRESSES[0]}"
        )
    return sums


def _set_aside(folder: Path, sums: Sums, transfer: Transfer, *, is_ours: bool) -> None:
    """Make room for the published tables: refuse where the folder's own are whole, and keep what is replaced."""
    own = parse_sums((folder / SUMS).read_bytes()).files if (folder / SUMS).is_file() else {}
    for name in TABLES:
        path = folder / name
        data = path.read_bytes() if path.is_file() else b""
        digest = hashlib.sha256(data).digest()
        if not data or digest == sums.files[name]:
            continue
        # Another version, or a table that somebody has made shorter: not ours to change.
        if own.get(name) == digest or (name == TABLES[0] and not is_ours and _is_whole(data)):
            raise EcgkitError(
                f"{folder} holds another PTB-XL than {transfer.places[0].url} (its {name} is whole and differs): "
                "move it away, or choose another --root"
            )
        path.replace(path.with_name(f"{name}.replaced"))
        say(f"{path} differs from what is published: it is kept as {name}.replaced", shown=transfer.progress)


def _is_whole(table: bytes) -> bool:
    try:
        return bool(_read_file_names(table, TABLES[0])[100])
    except EcgkitError:
        return False


def _lines(table: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(table), "utf-8", "replace", newline="")


def _read_file_names(table: bytes, origin: Path | str) -> dict[int, list[str]]:
    """Read from the table the names of the records' files, for each sampling rate, in the order of the table."""
    names: dict[int, list[str]] = {rate: [] for rate in FILE_COLUMNS}
    try:
        for row in csv.DictReader(_lines(table)):
            for rate, column in FILE_COLUMNS.items():
                names[rate].append(row[column] or "")
    except csv.Error as error:
        raise EcgkitError(f"{origin} is no table ({error}): take the one that PhysioNet publishes") from error
    except KeyError as error:
        raise EcgkitError(f"{origin} is no table of PTB-XL: it has no column {error}") from error
    if not names[100]:
        raise EcgkitError(f"{origin} is no table of PTB-XL: it names no record")
    for name in (name for of_rate in names.values() for name in of_rate):
        # Names come from outside and become paths here, so nothing but the expected form is taken.
        if not re.fullmatch(RECORD_NAME, name):
            raise EcgkitError(f"{origin} names a record {name!r}, not one like records100/00000/00001_lr")
    return names


def _record_files(records: Sequence[str], sums: Sums) -> dict[str, bytes]:
    """Give the files of records, with their checksums."""
    files = [f"{record}{suffix}" for record in records for suffix in (".hea", ".dat")]
    unknown = next((name for name in files if name not in sums.files), None)
    if unknown:
        raise RefusedError(f"{SUMS} does not name {unknown}, which {TABLES[0]} does")
    return {name: sums.files[name] for name in files}


def _disk_bytes(name: str) -> int:
    return next((size for end, size in DISK_BYTES.items() if name.endswith(end)), LARGEST_TABLE)
