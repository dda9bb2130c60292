"""ecgkit: from raw 12-lead ECGs to a multilabel model, and to what the model has learned."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from ecgkit.ecg import ECG, LEADS
from ecgkit.errors import EcgkitError

try:
    __version__ = version("ecgkit")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"

__all__ = ["ECG", "LEADS", "EcgkitError", "__version__"]
