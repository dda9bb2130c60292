"""Download PTB-XL from PhysioNet, from a mirror of it, from a folder or from the published zip file."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import TimeoutError as WaitingError
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

import requests
import urllib3

from ecgkit import __version__
from ecgkit.errors import EcgkitError
from ecgkit.io import TEMPORARY_SUFFIX, check_space, disk_errors, json_bytes, locked, write_atomically
from ecgkit.progress import progress_bar, say
from ecgkit.sources.ptbxl.folder import FILE_COLUMNS, MANIFEST, PUBLISHED_ROWS, TABLES, read_manifest

VERSION = "1.0.3"
MIRRORS = (
    f"https://physionet.org/files/ptb-xl/{VERSION}/",
    f"https://physionet-open.s3.amazonaws.com/ptb-xl/{VERSION}/",
)
"""PhysioNet, and its public mirror at Amazon S3, which is used where PhysioNet fails."""
SUMS = "SHA256SUMS.txt"
LICENCE = "LICENSE.txt"
RECORD_NAME = re.compile(r"records(100|500)/\d{5}/\d{5}_(lr|hr)")
DISK_BYTES = {".hea": 4096, "_lr.dat": 6 * 4096, "_hr.dat": 30 * 4096}
"""Disk space of a record's file, in blocks of 4 KiB."""
KEPT = "complete files are kept, and the same command resumes the download"

CONNECTIONS = 8
TIMEOUT = 20.0
"""Seconds to wait for a connection, and for each further part of a response."""
RETRY = urllib3.Retry(
    total=7,
    other=0,  # an untrusted certificate does not become trusted
    backoff_factor=0.5,
    backoff_max=30,
    backoff_jitter=0.5,
    status_forcelist=(408, 425, 429, 500, 502, 503, 504),
    raise_on_status=False,
    retry_after_max=120,
)
ATTEMPTS = 3
"""How often a file is requested whose response is incomplete, stalls or has the wrong checksum."""
MAX_FAILURES = CONNECTIONS
"""A mirror that fails for so many files is given up."""
STALL_SECONDS = 30
STALL_RATE = 1000
"""Bytes per second; a response that is slower after `STALL_SECONDS` is given up."""
BLOCK_BYTES = 64 * 2**10
MAX_RECORD_BYTES = 2**20
MAX_TABLE_BYTES = 64 * 2**20
MAX_ZIP_RATIO = 200
NOTE_SECONDS = 10


class MirrorError(EcgkitError):
    """A file that a mirror does not deliver."""


class TransientError(MirrorError):
    """A failure that another attempt may not meet, such as an interrupted connection."""


class Mirror(Protocol):
    """A place to read the files of the data set from, by several threads at once."""

    name: str
    """What messages call it: a host without its password, or a path."""

    def read(self, file: str) -> bytes:
        """Return the contents of a file; raise `MirrorError` where there is none, and `TransientError`."""


class WebMirror:
    """A folder on a web server; proxies and certificates come from the environment, as in `requests`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url.rstrip("/") + "/")
        self.name = parts.netloc.rpartition("@")[2]
        self._url = parts.geturl()
        self._session = requests.Session()
        # Checksums are of the plain bytes, so nothing may be compressed on the way.
        self._session.headers.update({"User-Agent": f"ecgkit/{__version__}", "Accept-Encoding": "identity"})
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=RETRY)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)

    def read(self, file: str) -> bytes:
        """Return the contents of a file; see `Mirror.read`."""
        try:
            response = self._session.get(self._url + quote(file), stream=True, timeout=TIMEOUT)
        except (OSError, ValueError) as error:  # all of requests' errors are OSErrors; ValueError: no URL
            raise MirrorError(self._describe(error)) from error
        with response:
            if response.status_code != 200:
                raise MirrorError(f"{self.name} does not have or give {file} (status {response.status_code})")
            try:
                return _read_response(response.raw, _max_bytes(file))
            except (OSError, urllib3.exceptions.HTTPError) as error:
                raise TransientError(f"{self.name} interrupted {file} ({type(error).__name__})") from error

    def _describe(self, error: Exception) -> str:
        """Name in one line what failed before a response came."""
        if isinstance(error, requests.exceptions.ConnectionError):
            reason = type(getattr(error.args[0], "reason", error)).__name__
            return f"{self.name} does not answer ({reason}): check the network, HTTPS_PROXY and REQUESTS_CA_BUNDLE"
        return f"{self.name} cannot be read ({' '.join(str(error).split())})"


class FolderMirror:
    """A folder on this machine, such as a mounted drive."""

    def __init__(self, folder: Path) -> None:
        self.name, self._folder = str(folder), folder

    def read(self, file: str) -> bytes:
        """Return the contents of a file; see `Mirror.read`."""
        try:
            return (self._folder / file).read_bytes()
        except OSError as error:
            raise MirrorError(f"{self._folder / file} cannot be read ({error.strerror})") from error


class ZipMirror:
    """The published zip file, which holds the data set in one folder."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise EcgkitError(f"{path} cannot be read as a zip file ({error}): download it again") from error
        tops = [name.removesuffix(SUMS) for name in self._zip.namelist() if name.split("/")[-1] == SUMS]
        if not tops:
            raise EcgkitError(f"{path} contains no {SUMS}: give the zip file that PhysioNet publishes")
        self._top = min(tops, key=len)

    def read(self, file: str) -> bytes:
        """Return the contents of a file of reasonable size; see `Mirror.read`."""
        try:
            member = self._zip.getinfo(self._top + file)
            is_bomb = member.file_size > max(MAX_ZIP_RATIO * member.compress_size, MAX_RECORD_BYTES)
            if is_bomb or member.file_size > _max_bytes(file):
                raise MirrorError(f"{file} in {self.name} has {member.file_size:,} bytes: not a file of PTB-XL")
            return self._zip.read(member)
        except KeyError as error:
            raise MirrorError(f"{self.name} contains no {file}") from error
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise MirrorError(f"{file} in {self.name} is damaged: download the zip file again") from error


@dataclass(frozen=True)
class Downloaded:
    """The result of a download.

    Attributes
    ----------
    folder : Path
        The folder of PTB-XL.
    n_files, n_kept : int
        Files of the request, all present now; of these, files that were already there.
    fetched_bytes : int
        Bytes read from the mirror, without repetitions.
    seconds : float
        Duration.
    n_records : dict of int to int
        For each sampling rate in Hz, how many records, from the first of the table on, are there.
    n_table : int
        Records in the table.
    """

    folder: Path
    n_files: int
    n_kept: int
    fetched_bytes: int
    seconds: float
    n_records: dict[int, int]
    n_table: int

    def __str__(self) -> str:
        """Summarize the download in two lines."""
        minutes, seconds = divmod(round(self.seconds), 60)
        rates = ", ".join(
            f"{'all' if count == self.n_table else 'the first'} {count:,} records at {rate} Hz"
            for rate, count in self.n_records.items()
        )
        return (
            f"{self.n_files:,} files: {self.n_kept:,} were already there; "
            f"{self.fetched_bytes / 1e6:,.1f} MB read in {minutes} min {seconds} s\n"
            f"PTB-XL, {rates} (of {self.n_table:,}), CC BY 4.0"
        )


def download(
    folder: Path | str,
    *,
    rates: Sequence[int] = (100,),
    limit: int | None = None,
    mirror: str | None = None,
    zip_file: Path | str | None = None,
    progress: bool = True,
) -> Downloaded:
    """Download PTB-XL into a folder, or resume an interrupted download.

    Every file is compared with the published SHA-256; a file that is already there and right is kept. The folder is one
    that `ecgkit.sources.PtbXl` reads, also where it is a part of PTB-XL.

    Parameters
    ----------
    folder : Path or str
        Destination; created where needed.
    rates : sequence of int, default (100,)
        Sampling rates in Hz: 100, 500 or both.
    limit : int, optional
        Only the first ``limit`` records of the table.
    mirror : str, optional
        URL (``https:``, ``http:``, ``file:``) of another folder with PhysioNet's layout, instead of `MIRRORS`.
    zip_file : Path or str, optional
        The zip file that PhysioNet publishes, instead of a URL.
    progress : bool, default True
        Whether to show the progress.

    Returns
    -------
    Downloaded

    Raises
    ------
    EcgkitError
        If an argument is invalid, no mirror answers, a file is missing or wrong there, the folder holds another
        version, the disk is full, or another process is downloading into the folder. All files in the folder are
        complete then.

    References
    ----------
    Wagner, P. et al. (2022). PTB-XL, a large publicly available electrocardiography dataset (version 1.0.3).
    PhysioNet. https://doi.org/10.13026/kfzx-aw45
    """
    if not rates or not set(rates) <= FILE_COLUMNS.keys():
        raise EcgkitError(f"rates is {list(rates)}: PTB-XL has 100 and 500 Hz")
    if limit is not None and limit < 1:
        raise EcgkitError(f"limit is {limit}: give the number of records to download, 1 or more")
    folder = Path(folder).resolve()
    mirrors = _open_mirrors(mirror, zip_file)
    with disk_errors(folder, KEPT):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(f".{folder.name}.lock"), f"another process is downloading into {folder}"):
            for path in folder.rglob(f".*{TEMPORARY_SUFFIX}"):
                path.unlink()  # of a download that was killed
            for source in mirrors:
                try:
                    with _Download(folder, source, progress=progress) as running:
                        return running.run(sorted(set(rates)), limit)
                except MirrorError as error:
                    failure = error
                    say(str(error), shown=progress and source is not mirrors[-1])
            raise EcgkitError(f"{failure}; {KEPT}, with --mirror from another server") from failure


def _open_mirrors(url: str | None, zip_file: Path | str | None) -> list[Mirror]:
    """Return the mirrors to try, in this order."""
    if url is not None and zip_file is not None:
        raise EcgkitError("mirror and zip_file are both given: choose one of them")
    if zip_file is not None:
        return [ZipMirror(Path(zip_file).expanduser().resolve())]
    return [_open_mirror(url)] if url is not None else [WebMirror(url) for url in MIRRORS]


def _open_mirror(url: str) -> Mirror:
    """Return the mirror at a URL that a user gave."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return WebMirror(url)
    except ValueError as error:
        raise EcgkitError(f"mirror is {url!r} ({error}): give a URL like https://HOST/FOLDER/") from error
    folder = Path(url2pathname(parts.path))
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not folder.is_absolute():
        raise EcgkitError(f"mirror is {url!r}: give a URL like https://HOST/FOLDER/ or file:///FOLDER")
    if not folder.is_dir():
        raise EcgkitError(f"mirror is {url!r}: there is no folder {folder}")
    return FolderMirror(folder)


class _Download:
    """One download into a folder from one mirror."""

    def __init__(self, folder: Path, mirror: Mirror, *, progress: bool) -> None:
        self.folder, self.mirror, self.progress = folder, mirror, progress
        self._pool = ThreadPool(CONNECTIONS)
        self._writers = threading.Semaphore(CONNECTIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Wait for the files that are being written, and let no other follow; do not wait for the mirror."""
        self._pool.terminate()
        for _ in range(CONNECTIONS):
            self._writers.acquire()

    def run(self, rates: Sequence[int], limit: int | None) -> Downloaded:
        """Download the tables, then the records that they list, one sampling rate after the other."""
        start = time.monotonic()
        manifest = _own_manifest(self.folder)
        text = next(iter(self._in_threads(self._fetch, [(SUMS, None)])))
        sums = _parse_sums(text)
        if missing := [name for name in TABLES if name not in sums]:
            raise EcgkitError(f"no PTB-XL at {self.mirror.name}: its {SUMS} does not list {missing[0]}")
        self._check_tables(sums)
        fetched = self._fetch_files({name: sums[name] for name in (*TABLES, LICENCE) if name in sums}, "tables")
        names = _read_record_names(self.folder / TABLES[0])
        files = {rate: _record_files(names[rate][:limit], sums) for rate in rates}
        write_atomically(self.folder / SUMS, text)
        n_table = len(names[100])
        first = {str(rate): self._n_present(names[rate], manifest.get("first", {}).get(str(rate), 0)) for rate in names}
        self._write_manifest(n_table, first)
        for rate in rates:
            fetched += self._fetch_files(files[rate], f"records at {rate} Hz")
            first[str(rate)] = max(len(files[rate]) // 2, first[str(rate)])
            self._write_manifest(n_table, first)
        return Downloaded(
            folder=self.folder,
            n_files=len(fetched),
            n_kept=fetched.count(0),
            fetched_bytes=len(text) + sum(fetched),
            seconds=time.monotonic() - start,
            n_records={rate: first[str(rate)] for rate in rates},
            n_table=n_table,
        )

    def _fetch_files(self, files: Mapping[str, bytes], what: str) -> list[int]:
        """Have files in the folder, by name and SHA-256; return the bytes fetched for each, 0 if it was there."""
        check_space(self.folder, sum(_disk_bytes(name) for name in files if not (self.folder / name).exists()))
        fetched: list[int] = []
        failures: list[MirrorError] = []
        start = time.monotonic()
        with progress_bar(total=len(files), description=what, unit="files", shown=self.progress) as bar:
            for result in self._in_threads(self._fetch_file, files.items()):
                (failures if isinstance(result, MirrorError) else fetched).append(result)
                if len(failures) == MAX_FAILURES:
                    break
                bar.update()
            bar.set_postfix_str(f"{sum(fetched) / 1e6 / (time.monotonic() - start):.1f} MB/s")
        if failures:
            raise MirrorError(f"{failures[0]} ({len(failures)} of {len(files):,} files failed)")
        return fetched

    def _in_threads(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Yield the results of a function as they come, and report it where none comes for long."""
        results = self._pool.imap_unordered(function, items)
        while True:
            try:
                yield results.next(timeout=NOTE_SECONDS)
            except WaitingError:
                say(f"nothing from {self.mirror.name} for {NOTE_SECONDS} s: waiting", shown=self.progress)
            except StopIteration:
                return

    def _fetch_file(self, item: tuple[str, bytes]) -> int | MirrorError:
        """Keep a file that is right, or fetch it; return the bytes fetched."""
        path = self.folder / item[0]
        if path.is_file() and hashlib.sha256(path.read_bytes()).digest() == item[1]:
            return 0
        try:
            data = self._fetch(item)
        except MirrorError as error:
            return error
        if self._writers.acquire(blocking=False):
            try:
                write_atomically(path, data)
            finally:
                self._writers.release()
        return len(data)

    def _fetch(self, item: tuple[str, bytes | None]) -> bytes:
        """Read a file from the mirror until its checksum is right, `ATTEMPTS` times at most."""
        name, sha256 = item
        for _ in range(ATTEMPTS):
            try:
                data = self.mirror.read(name)
            except TransientError as error:
                failure = error
                continue
            if sha256 is None or hashlib.sha256(data).digest() == sha256:
                return data
            failure = TransientError(f"{name} from {self.mirror.name} does not have the SHA-256 of {SUMS}")
        raise failure

    def _check_tables(self, sums: Mapping[str, bytes]) -> None:
        """Refuse to replace a table: it may be of another version, or the user's own."""
        for path in (self.folder / name for name in TABLES):
            if path.is_file() and hashlib.sha256(path.read_bytes()).digest() != sums[path.name]:
                raise EcgkitError(
                    f"{path} is not that of {self.mirror.name} (another version, changed or damaged): "
                    "move it away, or choose another --root"
                )

    def _n_present(self, records: Sequence[str], known: int) -> int:
        """Count the records present from the first on: all, or as many as an earlier download completed, or none."""
        for count in (len(records), min(known, len(records))):
            files = (self.folder / f"{record}{suffix}" for record in records[:count] for suffix in (".hea", ".dat"))
            if all(file.is_file() for file in files):
                return count
        return 0

    def _write_manifest(self, n_table: int, first: Mapping[str, int]) -> None:
        """Record which part of PTB-XL the folder holds; `ecgkit.sources.PtbXl` reads it."""
        data = {
            "dataset": "PTB-XL",
            "version": PUBLISHED_ROWS.get(n_table),
            "n_table": n_table,
            "first": {rate: count for rate, count in first.items() if count},
            "from": self.mirror.name,
        }
        write_atomically(self.folder / MANIFEST, json_bytes(data))


def _own_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of an earlier download; refuse a folder that somebody made a part of PTB-XL by hand."""
    try:
        manifest = read_manifest(folder) or {}
    except EcgkitError:
        return {}
    if manifest.get("part"):
        raise EcgkitError(f"{folder} is a part made by hand ({MANIFEST}): move it away, or choose another --root")
    return manifest


def _parse_sums(text: bytes) -> dict[str, bytes]:
    """Return the SHA-256 of each file from lines as ``sha256sum`` writes them."""
    lines = re.finditer(rb"^([0-9a-fA-F]{64})[ \t]+\*?(?:\./)?(.+?)\r?$", text, re.MULTILINE)
    return {line[2].decode("utf-8", "replace"): bytes.fromhex(line[1].decode()) for line in lines}


def _read_record_names(table: Path) -> dict[int, list[str]]:
    """Return the records' file names at each sampling rate, in the order of the table."""
    text = io.StringIO(table.read_bytes().decode("utf-8", "replace"), newline="")
    try:
        rows = [[row[column] or "" for column in FILE_COLUMNS.values()] for row in csv.DictReader(text)]
    except (csv.Error, KeyError) as error:
        raise EcgkitError(f"{table} is not a table of PTB-XL ({error}): use another mirror") from error
    if not rows:
        raise EcgkitError(f"{table} lists no records: use another mirror")
    for name in (name for row in rows for name in row):
        if not RECORD_NAME.fullmatch(name):  # the names become paths, so they must not leave the folder
            raise EcgkitError(f"{table} names {name!r} where it should be like records100/00000/00001_lr")
    return {rate: list(names) for rate, names in zip(FILE_COLUMNS, zip(*rows, strict=True), strict=True)}


def _record_files(records: Iterable[str], sums: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files of records with their SHA-256."""
    files = [f"{record}{suffix}" for record in records for suffix in (".hea", ".dat")]
    if missing := next((name for name in files if name not in sums), None):
        raise MirrorError(f"{SUMS} does not list {missing}, which {TABLES[0]} does")
    return {name: sums[name] for name in files}


def _disk_bytes(name: str) -> int:
    """Return the disk space that a file takes."""
    return next((size for end, size in DISK_BYTES.items() if name.endswith(end)), MAX_TABLE_BYTES // 4)


def _max_bytes(name: str) -> int:
    """Return the size above which a file is not one of PTB-XL."""
    return MAX_RECORD_BYTES if name.endswith(tuple(DISK_BYTES)) else MAX_TABLE_BYTES


def _read_response(raw: urllib3.HTTPResponse, max_bytes: int) -> bytes:
    """Read a response block by block; raise where it is too large or too slow to be useful."""
    body, start = bytearray(), time.monotonic()
    while block := raw.read1(BLOCK_BYTES, decode_content=True):
        body += block
        if len(body) > max_bytes:
            raise MirrorError(f"a response of more than {max_bytes:,} bytes is not a file of PTB-XL")
        seconds = time.monotonic() - start
        if seconds > STALL_SECONDS and len(body) < STALL_RATE * seconds:
            raise TransientError(f"a response is slower than {STALL_RATE} bytes per second")
    return bytes(body)
