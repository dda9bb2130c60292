"""Places that hold the files of a data set: a web address, a folder, the published zip."""

from __future__ import annotations

import re
import threading
import time
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

import requests
import urllib3

from ecgkit import __version__
from ecgkit.errors import EcgkitError

BLOCK = 64 * 2**10
LARGEST_FILE = 256 * 2**20
SLOWEST = 1000
"""Bytes a second; what is slower for `PATIENT_SECONDS` is given up, though each single byte may come in time."""
PATIENT_SECONDS = 60
LONGEST_PAUSE = 600
PASSING_STATUS = (408, 425, 429)
HOPELESS = (
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is not trusted here; set REQUESTS_CA_BUNDLE to the file of your network's certificates",
    ),
    ("CA certificate bundle", "REQUESTS_CA_BUNDLE names no file of certificates"),
    ("InvalidURL|InvalidSchema|LocationParseError|UnicodeError", "the address, or that of the proxy, cannot be used"),
)
"""What no patience mends, by what the transport says."""
PASSING = (
    ("resolve|getaddrinfo|Name or service", "has no address here: check the network"),
    ("timed out", "does not answer in time"),
    ("refused", "refuses the connection"),
)


class PassingError(EcgkitError):
    """A failure that may pass, such as a cut connection: try again."""


class RefusedError(EcgkitError):
    """A place that answers, but does not give this file: to ask again is of no use."""


class MissingError(RefusedError):
    """A place that does not have this file."""


class ClosedError(RefusedError):
    """A place that gives no file at all."""


class Place(ABC):
    """A place that files are read from, in several threads at once.

    Attributes
    ----------
    name : str
        What messages call it.
    url : str
        Its address, the same whenever it is the same place.
    """

    name: str
    url: str

    @abstractmethod
    def get(self, file: str) -> bytes:
        """Read a file whole.

        Parameters
        ----------
        file : str
            Its path below the place, with forward slashes.

        Returns
        -------
        bytes

        Raises
        ------
        PassingError
            If it may come when asked for again.
        RefusedError
            If it will not.
        """

    def pause(self) -> float:
        """Say for how many seconds the place has asked not to be asked."""
        return 0.0

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Give back what the place holds open; what is needed again is opened again."""


class WebPlace(Place):
    """A folder on a web server; each thread keeps one connection alive.

    Proxies (``HTTPS_PROXY``, ``NO_PROXY``) and certificates (``REQUESTS_CA_BUNDLE``) are taken from the environment.

    Parameters
    ----------
    url : str
        Its address, http or https.
    timeout : float
        Seconds to wait for a connection, and for each further piece of an answer.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        parts = urlsplit(url.rstrip("/") + "/")
        self._address, self._timeout = parts.geturl(), timeout
        # A name and a password that the address may hold are for the server alone.
        self.name = parts.netloc.rpartition("@")[2]
        self.url = parts._replace(netloc=self.name).geturl()
        self._threads = threading.local()
        self._sessions: list[requests.Session] = []
        self._not_before = 0.0

    def get(self, file: str) -> bytes:
        """Read a file; see `Place.get`."""
        try:
            with self._session().get(self._address + quote(file), stream=True, timeout=self._timeout) as response:
                self._check_status(response, file)
                return _read_body(response.raw)
        except requests.TooManyRedirects as error:
            raise RefusedError(f"{self.url}{file} leads round in circles") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._failure(error) from error

    def pause(self) -> float:
        """Say for how many seconds the server has asked to be left alone; see `Place.pause`."""
        return max(0.0, self._not_before - time.monotonic())

    def close(self) -> None:
        """Close all connections; see `Place.close`."""
        while self._sessions:
            self._sessions.pop().close()
        self._threads = threading.local()

    def _session(self) -> requests.Session:
        if not hasattr(self._threads, "session"):
            session = requests.Session()
            # What is served is checked byte by byte, so nothing may be packed on the way.
            session.headers.update({"User-Agent": f"ecgkit/{__version__}", "Accept-Encoding": "identity"})
            self._sessions.append(session)
            self._threads.session = session
        current: requests.Session = self._threads.session
        return current

    def _check_status(self, response: requests.Response, file: str) -> None:
        status = response.status_code
        if status == 200:
            return
        if status in PASSING_STATUS or status >= 500:
            seconds = _retry_after(response.headers.get("Retry-After"))
            if seconds > LONGEST_PAUSE:
                raise ClosedError(f"{self.name} asks to come back in {seconds / 60:.0f} min (status {status})")
            self._not_before = max(self._not_before, time.monotonic() + seconds)
            raise PassingError(f"{self.name} answers with status {status}")
        if status in (404, 410):
            raise MissingError(f"{self.url}{file} is not there (status {status})")
        meaning = {401: "is not open to everyone", 403: "is forbidden"}.get(status, "is refused")
        raise RefusedError(f"{self.url}{file} {meaning} (status {status})")

    def _failure(self, error: Exception) -> EcgkitError:
        """Say in one line what the transport could not do."""
        text = str(error)
        for pattern, meaning in HOPELESS:
            if re.search(pattern, f"{type(error).__name__}: {text}"):
                return ClosedError(f"{self.name} cannot be reached: {meaning}")
        if isinstance(error, requests.exceptions.ProxyError):
            return PassingError(f"the proxy to {self.name} does not answer: check HTTPS_PROXY and HTTP_PROXY")
        found = [meaning for pattern, meaning in PASSING if re.search(pattern, text)]
        return PassingError(f"{self.name} {found[0] if found else 'breaks the connection'}")


class FolderPlace(Place):
    """A folder on a disk of this machine, such as a mounted drive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)
        self.url = folder.as_uri()

    def get(self, file: str) -> bytes:
        """Read a file; see `Place.get`."""
        try:
            return (self.folder / file).read_bytes()
        except FileNotFoundError as error:
            raise MissingError(f"{self.folder / file} is not there") from error
        except OSError as error:
            raise RefusedError(f"{self.folder / file} cannot be read ({error.strerror})") from error


class ZipPlace(Place):
    """A zip file that holds the files, in its top folder or in one below.

    Parameters
    ----------
    path : Path
        Of the zip file.
    landmark : str
        A file of the data set; the folder in the zip that holds it is the place.

    Raises
    ------
    EcgkitError
        If there is no such file, or it is no zip of this data set.
    """

    def __init__(self, path: Path, landmark: str) -> None:
        self.name, self.url = str(path), path.as_uri()
        self._path, self._opening = path, threading.Lock()
        self._zip: zipfile.ZipFile | None = None
        tops = [name.removesuffix(landmark) for name in self._open().namelist() if name.split("/")[-1] == landmark]
        if not tops:
            raise EcgkitError(f"{path} holds no {landmark}: give the zip that PhysioNet publishes")
        self._top = min(tops, key=len)

    def get(self, file: str) -> bytes:
        """Read a file; see `Place.get`."""
        try:
            return self._open().read(self._top + file)
        except KeyError as error:
            raise MissingError(f"{self.name} holds no {file}") from error
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise RefusedError(f"{file} in {self.name} is damaged ({error}): fetch the zip again") from error

    def close(self) -> None:
        """Close the file; see `Place.close`."""
        if self._zip is not None:
            self._zip.close()
            self._zip = None

    def _open(self) -> zipfile.ZipFile:
        with self._opening:
            if self._zip is None:
                try:
                    self._zip = zipfile.ZipFile(self._path)
                except FileNotFoundError as error:
                    raise EcgkitError(f"no file {self._path}: give the zip that PhysioNet publishes") from error
                except (OSError, zipfile.BadZipFile) as error:
                    raise EcgkitError(f"{self._path} cannot be read as a zip ({error}): fetch it again") from error
            return self._zip


def place_at(url: str, *, timeout: float) -> Place:
    """Give the place at an address.

    Parameters
    ----------
    url : str
        Of a folder: ``https:``, ``http:`` or ``file:``.
    timeout : float
        See `WebPlace`.

    Returns
    -------
    Place

    Raises
    ------
    EcgkitError
        If it is no such address, or a folder that does not exist.
    """
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise EcgkitError(f"{url!r} is no address ({error}): give one like https://HOST/FOLDER/") from error
    if is_web:
        return WebPlace(url, timeout=timeout)
    folder = Path(url2pathname(parts.path))
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not folder.is_absolute():
        raise EcgkitError(f"{url!r} is no address of a mirror: give one like https://HOST/FOLDER/ or file:///FOLDER")
    if not folder.is_dir():
        raise EcgkitError(f"no folder {folder}: give the address of one that exists, such as file:///FOLDER")
    return FolderPlace(folder)


def _read_body(raw: urllib3.HTTPResponse) -> bytes:
    """Read an answer as it comes; raise where it is cut, endless, or so slow that it will never be whole."""
    body, start = bytearray(), time.monotonic()
    while block := raw.read1(BLOCK, decode_content=True):
        body += block
        if len(body) > LARGEST_FILE:
            raise RefusedError(f"an answer of more than {LARGEST_FILE / 1e6:.0f} MB is no file of this data set")
        seconds = time.monotonic() - start
        if seconds > PATIENT_SECONDS and len(body) < SLOWEST * seconds:
            raise PassingError(f"slower than {SLOWEST / 1000:.0f} kB/s")
    return bytes(body)


def _retry_after(value: str | None) -> float:
    """Read the header Retry-After, seconds or a date (RFC 9110, section 10.2.3); 0 where it says nothing."""
    try:
        return urllib3.Retry().parse_retry_after(value) if value else 0.0
    except urllib3.exceptions.InvalidHeader:
        return 0.0
