"""What is configured of the service."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ecgkit.errors import EcgkitError, check_choice, check_least, check_types
from ecgkit.inference import DEFAULT_MODEL
from ecgkit.inference.loading import BACKENDS
from ecgkit.processes import n_cores

MOST_ECGS = 64
"""ECGs in one request of ``/v1/predict/batch``."""

MOST_FILES = 256
"""Files in one request; a WFDB record has two or more."""


@dataclass(frozen=True)
class Settings:
    """The configuration of the service; each field is a flag of ``ecgkit serve``.

    Attributes
    ----------
    models : tuple of str
        What `ecgkit.load_model` takes. They are loaded at the start, and a request chooses one of them by its name; the
        first is the default.
    backend : {"auto", "torch", "onnx"}
        As for `ecgkit.load_model`.
    root : Path or None
        The folder of the training sessions.
    workers : int
        Processes that hold the models.
    token : str
        What requests need as ``Authorization: Bearer TOKEN``; empty for no check.
    cors : tuple of str
        Origins of web pages that may call the service.
    max_megabytes : int
        The largest body of a request, in MiB.
    max_seconds : int
        The longest ECG, in s.
    max_leads : int
        The most signals of one ECG in JSON or a stream.
    max_requests : int
        The most requests that are answered or wait at once; one more gets the status 429.
    max_streams : int
        The most WebSockets at once.
    timeout : int
        Seconds after which a request is given up, from its first byte on.
    """

    models: tuple[str, ...] = (DEFAULT_MODEL,)
    backend: str = "auto"
    root: Path | None = None
    workers: int = field(default_factory=n_cores)
    token: str = ""
    cors: tuple[str, ...] = ()
    max_megabytes: int = 32
    max_seconds: int = 3600
    max_leads: int = 64
    max_requests: int = 32
    max_streams: int = 64
    timeout: int = 30

    def __post_init__(self) -> None:
        check_types(self)
        check_choice("backend", self.backend, BACKENDS)
        if not self.models:
            raise EcgkitError("models is empty: give the name of a model")
        counts = ("workers", "max_megabytes", "max_seconds", "max_leads", "max_requests", "max_streams", "timeout")
        check_least(self, **dict.fromkeys(counts, 1))
        if not self.token.isascii() or self.token != self.token.strip():
            raise EcgkitError("the token has spaces at its ends or letters outside ASCII: choose another")

    @property
    def max_bytes(self) -> int:
        """The largest body of a request."""
        return self.max_megabytes * 2**20
