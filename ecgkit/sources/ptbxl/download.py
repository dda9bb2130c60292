"""Download PTB-XL from PhysioNet, from a mirror of it, from a folder or from the published zip file."""

from __future__ import annotations

import hashlib
import re
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import TimeoutError as WaitingError
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

import requests
import urllib3

from ecgkit import __version__
from ecgkit.errors import EcgkitError
from ecgkit.io import TEMPORARY_SUFFIX, check_space, disk_errors, file_sha256, json_bytes, locked, write_atomically
from ecgkit.progress import progress_bar, say
from ecgkit.sources.csv_table import CsvTable
from ecgkit.sources.ptbxl.folder import FILE_COLUMNS, MANIFEST, PUBLISHED_ROWS, TABLES, read_manifest

VERSION = "1.0.3"
MIRRORS = (
    f"https://physionet.org/files/ptb-xl/{VERSION}/",
    f"https://physionet-open.s3.amazonaws.com/ptb-xl/{VERSION}/",
)
"""PhysioNet, and its public mirror at Amazon S3, which is used where PhysioNet fails."""
SUMS = "SHA256SUMS.txt"
LICENCE = "LICENSE.txt"
RECORD_NAME = re.compile(r"records(100|500)/\d{5}/\d{5}_(lr|hr)", re.ASCII)
DISK_BYTES = {".hea": 4096, "_lr.dat": 6 * 4096, "_hr.dat": 30 * 4096}
"""Disk space of a record's file, in blocks of 4 KiB."""
KEPT = "complete files are kept, and the same command resumes the download"

CONNECTIONS = 8
TIMEOUT = 20.0
"""Seconds to wait for a connection, and for each further part of a response."""
RETRY = urllib3.Retry(
    total=7, backoff_factor=0.5, backoff_max=30, backoff_jitter=0.5, retry_after_max=120, raise_on_status=False,
    status_forcelist=(408, 425, 429, 500, 502, 503, 504),
    other=0,  # an untrusted certificate does not become trusted
)  # fmt: skip
ATTEMPTS = 3
"""How often a file is requested whose response is incomplete, stalls or has the wrong checksum."""
MAX_FAILURES = CONNECTIONS
"""A mirror that fails for so many files is given up."""
STALL_SECONDS = 30
STALL_RATE = 1000
"""Bytes per second; a response that is slower after `STALL_SECONDS` is given up."""
NOTE_SECONDS = 10
GIVE_UP_SECONDS = 300
"""A mirror from which not one byte has come for so long is given up, whatever it is waiting for."""
BLOCK_BYTES = 64 * 2**10
MAX_RECORD_BYTES = 2**20
MAX_TABLE_BYTES = 64 * 2**20
"""The sizes above which a file is not one of PTB-XL."""
MAX_ZIP_RATIO = 200


class MirrorError(EcgkitError):
    """A file that a mirror does not deliver."""


class TransientError(MirrorError):
    """A failure that another attempt may not meet, such as an interrupted connection."""


class Mirror:
    """A folder, on this machine or in a zip file, to read the data set from, by several threads at once.

    Attributes
    ----------
    name : str
        What messages call it: a path, or a host without its password.
    heard : float
        When bytes came last from a server, by `time.monotonic`.
    """

    heard = 0.0

    def __init__(self, folder: Path | zipfile.Path, name: str) -> None:
        self.name, self._folder = name, folder

    def read(self, file: str) -> bytes:
        """Return the contents of a file; raise `MirrorError` where there is none or it is not a file of PTB-XL."""
        try:
            with (self._folder / file).open("rb") as opened:
                # To read without a limit would unpack whatever is there, also beyond the size that a zip file declares.
                data: bytes = opened.read(_max_bytes(file) + 1)
        except (OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise MirrorError(f"{file} in {self.name} is missing or damaged: get it again") from error
        _check_size(data, file)
        return data


class WebMirror(Mirror):
    """A folder on a web server; proxies and certificates come from the environment, as in `requests`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url.rstrip("/") + "/")
        self.name, self._url = parts.netloc.rpartition("@")[2], parts.geturl()
        self._session = requests.Session()
        # Checksums are of the plain bytes, so nothing may be compressed on the way.
        self._session.headers.update({"User-Agent": f"ecgkit/{__version__}", "Accept-Encoding": "identity"})
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=RETRY)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def read(self, file: str) -> bytes:
        """Return the contents of a file; see `Mirror.read`."""
        try:
            with self._session.get(self._url + quote(file), stream=True, timeout=TIMEOUT) as response:
                if response.status_code != 200:
                    raise MirrorError(f"{self.name} does not have or give {file} (status {response.status_code})")
                return self._body(response.raw, file)
        except urllib3.exceptions.HTTPError as error:  # only of the body: those before it are requests' own
            raise TransientError(f"{self.name} interrupted {file} ({type(error).__name__})") from error
        except OSError as error:  # all of requests' errors
            cause = getattr(error.args[0] if error.args else None, "reason", None)
            reason = type(cause).__name__ if cause else " ".join(str(error).split())
            raise MirrorError(
                f"{self.name} cannot be read ({reason}): check the network, HTTPS_PROXY and REQUESTS_CA_BUNDLE"
            ) from error

    def _body(self, raw: urllib3.HTTPResponse, file: str) -> bytes:
        """Read a response block by block; raise where it is too large or too slow to be useful."""
        body, start = bytearray(), time.monotonic()
        while block := raw.read1(BLOCK_BYTES, decode_content=True):
            body += block
            self.heard = time.monotonic()
            _check_size(body, file)
            if (seconds := self.heard - start) > STALL_SECONDS and len(body) < STALL_RATE * seconds:
                raise TransientError(f"{file} comes from {self.name} at less than {STALL_RATE} bytes per second")
        return bytes(body)


def open_zip(path: Path) -> Mirror:
    """Return the published zip file, which holds the data set in one folder, as a mirror."""
    try:
        file = zipfile.ZipFile(path)
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise EcgkitError(f"{path} cannot be read as a zip file ({error}): download it again") from error
    tops = [name.removesuffix(SUMS) for name in file.namelist() if name.split("/")[-1] == SUMS]
    if not tops:
        raise EcgkitError(f"{path} contains no {SUMS}: give the zip file that PhysioNet publishes")
    for member in file.infolist():
        is_bomb = member.file_size > max(MAX_ZIP_RATIO * member.compress_size, MAX_RECORD_BYTES)
        if is_bomb or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise EcgkitError(f"{path} holds {member.filename} of {member.file_size:,} bytes: not a file of PTB-XL")
    return Mirror(zipfile.Path(file, min(tops, key=len)), str(path))


@dataclass(frozen=True)
class Downloaded:
    """The result of a download.

    Attributes
    ----------
    n_files, n_kept : int
        Files of the request, all present now; of these, files that were already there.
    fetched_bytes : int
        Bytes read from the mirror, without repetitions.
    n_records : dict of int to int
        For each sampling rate in Hz, how many records, from the first of the table on, are there.
    n_table : int
        Records in the table.
    """

    n_files: int
    n_kept: int
    fetched_bytes: int
    n_records: dict[int, int]
    n_table: int

    def __str__(self) -> str:
        """Summarize the download in two lines."""
        counts = {rate: f"{'all' if n == self.n_table else 'the first'} {n:,}" for rate, n in self.n_records.items()}
        rates = ", ".join(f"{count} records at {rate} Hz" for rate, count in counts.items())
        files = f"{self.n_files:,} files: {self.n_kept:,} were already there; {self.fetched_bytes / 1e6:,.1f} MB read"
        return f"{files}\nPTB-XL, {rates} (of {self.n_table:,}), CC BY 4.0"


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
                running = _Download(folder, source, progress=progress)
                try:
                    return running.run(sorted(set(rates)), limit)
                except MirrorError as error:
                    failure = error
                    say(str(error), shown=progress and source is not mirrors[-1])
                finally:
                    running.end()
            raise EcgkitError(f"{failure}; {KEPT}, with --mirror from another server") from failure


def _open_mirrors(url: str | None, zip_file: Path | str | None) -> list[Mirror]:
    """Return the mirrors to try, in this order."""
    if zip_file is not None:
        if url is not None:
            raise EcgkitError("mirror and zip_file are both given: choose one of them")
        return [open_zip(Path(zip_file).expanduser().resolve())]
    if url is None:
        return [WebMirror(address) for address in MIRRORS]
    with suppress(ValueError):  # of an address that cannot be parsed
        parts = urlsplit(url)
        folder = Path(url2pathname(parts.path))
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return [WebMirror(url)]
        if parts.scheme == "file" and parts.netloc in ("", "localhost") and folder.is_absolute() and folder.is_dir():
            return [Mirror(folder, str(folder))]
    raise EcgkitError(f"mirror is {url!r}: give a URL like https://HOST/FOLDER/, or file:///FOLDER of a folder")


class _Download:
    """One download into a folder from one mirror."""

    def __init__(self, folder: Path, mirror: Mirror, *, progress: bool) -> None:
        self.folder, self.mirror, self.progress = folder, mirror, progress
        self._pool = ThreadPool(CONNECTIONS)
        self._writing = threading.Lock()

    def end(self) -> None:
        """Wait for the file that is being written, and let no other follow; do not wait for the mirror."""
        self._pool.terminate()
        self._writing.acquire()

    def run(self, rates: Sequence[int], limit: int | None) -> Downloaded:
        """Download the tables, then the records that they list, one sampling rate after the other."""
        known = _own_manifest(self.folder).get("first", {})
        text = next(self._in_threads(self._fetch, [(SUMS, None)]))
        sums = _parse_sums(text)
        self._check_tables(sums)
        fetched = [len(text)]
        for name in (*TABLES, LICENCE):  # one at a time, so that false ones of the largest size do not fill the memory
            fetched += self._fetch_files({name: sums[name]}, name) if name in sums else []
        names = _read_record_names(self.folder / TABLES[0])
        files = {rate: _record_files(names[rate][:limit], sums) for rate in rates}
        write_atomically(self.folder / SUMS, text)
        first = {rate: self._n_present(names[rate], known.get(str(rate), 0)) for rate in names}
        self._write_manifest(len(names[100]), first)
        for rate in rates:
            fetched += self._fetch_files(files[rate], f"records at {rate} Hz")
            first[rate] = max(len(files[rate]) // 2, first[rate])
            self._write_manifest(len(names[100]), first)
        there = {rate: first[rate] for rate in rates}
        return Downloaded(len(fetched) - 1, fetched.count(0), sum(fetched), there, n_table=len(names[100]))

    def _fetch_files(self, files: Mapping[str, str], what: str) -> list[int]:
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
        """Yield the results of a function as they come; report it where none comes for long, and give up in the end."""
        results, last = self._pool.imap_unordered(function, items), time.monotonic()
        while True:
            try:
                yield results.next(timeout=NOTE_SECONDS)
                last = time.monotonic()
            except WaitingError:
                silent = time.monotonic() - max(last, self.mirror.heard)
                if silent > GIVE_UP_SECONDS:
                    raise MirrorError(f"nothing from {self.mirror.name} for {silent:.0f} s") from None
                say(f"nothing from {self.mirror.name} for {silent:.0f} s: waiting", shown=self.progress)
            except StopIteration:
                return

    def _fetch_file(self, item: tuple[str, str]) -> int | MirrorError:
        """Keep a file that is right, or fetch it; return the bytes fetched."""
        path = self.folder / item[0]
        if path.is_file() and file_sha256(path) == item[1]:
            return 0
        try:
            data = self._fetch(item)
        except MirrorError as error:
            return error
        with self._writing:
            write_atomically(path, data)
        return len(data)

    def _fetch(self, item: tuple[str, str | None]) -> bytes:
        """Read a file from the mirror until its checksum is right, `ATTEMPTS` times at most."""
        name, sha256 = item
        for _ in range(ATTEMPTS):
            try:
                data = self.mirror.read(name)
            except TransientError as error:
                failure = error
                continue
            if sha256 is None or hashlib.sha256(data).hexdigest() == sha256:
                return data
            failure = TransientError(f"{name} from {self.mirror.name} does not have the SHA-256 of {SUMS}")
        raise failure

    def _check_tables(self, sums: Mapping[str, str]) -> None:
        """Refuse a mirror without the tables, and to replace a table: it may be of another version, or the user's."""
        for path in (self.folder / name for name in TABLES):
            if path.name not in sums:
                raise EcgkitError(f"no PTB-XL at {self.mirror.name}: its {SUMS} does not list {path.name}")
            if path.is_file() and file_sha256(path) != sums[path.name]:
                raise EcgkitError(
                    f"{path} is not that of {self.mirror.name} (another version, changed or damaged): "
                    "move it away, or choose another --root"
                )

    def _n_present(self, records: Sequence[str], known: int) -> int:
        """Count the records present from the first on: all, or as many as an earlier download completed, or none."""
        for count in (len(records), min(known, len(records))):
            if all((self.folder / file).is_file() for file in _files_of(records[:count])):
                return count
        return 0

    def _write_manifest(self, n_table: int, first: Mapping[int, int]) -> None:
        """Record which part of PTB-XL the folder holds; `ecgkit.sources.PtbXl` reads it."""
        counts = {str(rate): count for rate, count in first.items() if count}
        data = {"dataset": "PTB-XL", "version": PUBLISHED_ROWS.get(n_table), "n_table": n_table, "first": counts}
        write_atomically(self.folder / MANIFEST, json_bytes(data | {"from": self.mirror.name}))


def _own_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of an earlier download; refuse a folder that somebody made a part of PTB-XL by hand."""
    try:
        manifest = read_manifest(folder) or {}
    except EcgkitError:
        return {}
    if manifest.get("part"):
        raise EcgkitError(f"{folder} is a part made by hand ({MANIFEST}): move it away, or choose another --root")
    return manifest


def _parse_sums(text: bytes) -> dict[str, str]:
    """Return the SHA-256 of each file from lines as ``sha256sum`` writes them."""
    lines = re.finditer(rb"^([0-9a-fA-F]{64})[ \t]+\*?(?:\./)?(.+?)\r?$", text, re.MULTILINE)
    return {line[2].decode("utf-8", "replace"): line[1].decode().lower() for line in lines}


def _read_record_names(path: Path) -> dict[int, list[str]]:
    """Return the records' file names at each sampling rate, in the order of the table."""
    table = CsvTable(path, FILE_COLUMNS.values())
    if table.rows.empty:
        raise EcgkitError(f"{path} lists no records: use another mirror")
    for column in FILE_COLUMNS.values():  # the names become paths, so they must not leave the folder
        is_name = table.rows[column].str.fullmatch(RECORD_NAME.pattern).fillna(value=False).astype(bool)
        table.refuse(column, ~is_name, "not like records100/00000/00001_lr")
    return {rate: table.rows[column].tolist() for rate, column in FILE_COLUMNS.items()}


def _files_of(records: Iterable[str]) -> list[str]:
    """Return the names of the files of records."""
    return [f"{record}{suffix}" for record in records for suffix in (".hea", ".dat")]


def _record_files(records: Iterable[str], sums: Mapping[str, str]) -> dict[str, str]:
    """Return the files of records with their SHA-256."""
    files = _files_of(records)
    if missing := next((name for name in files if name not in sums), None):
        raise MirrorError(f"{SUMS} does not list {missing}, which {TABLES[0]} does")
    return {name: sums[name] for name in files}


def _disk_bytes(name: str) -> int:
    """Return the disk space that a file takes."""
    return next((size for end, size in DISK_BYTES.items() if name.endswith(end)), MAX_TABLE_BYTES // 4)


def _max_bytes(name: str) -> int:
    """Return the size above which a file is not one of PTB-XL."""
    return MAX_RECORD_BYTES if RECORD_NAME.match(name) else MAX_TABLE_BYTES


def _check_size(data: bytes | bytearray, file: str) -> None:
    """Raise `MirrorError` if data are larger than a file of PTB-XL."""
    if len(data) > _max_bytes(file):
        raise MirrorError(f"{file} has more than {_max_bytes(file):,} bytes: not a file of PTB-XL")
