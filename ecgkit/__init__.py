"""ecgkit: from raw 12-lead ECGs to a multilabel model, and to what the model has learned."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from ecgkit.errors import EcgkitError

if TYPE_CHECKING:
    from ecgkit.inference.estimator import ECGClassifier
    from ecgkit.inference.loading import list_models, load_model
    from ecgkit.readers import open_ecg
    from ecgkit.signals.ecg import ECG, LEADS

try:
    __version__ = version("ecgkit-notebooks")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"

LAZY = {
    "ECG": "ecgkit.signals.ecg",
    "LEADS": "ecgkit.signals.ecg",
    "ECGClassifier": "ecgkit.inference.estimator",
    "list_models": "ecgkit.inference.loading",
    "load_model": "ecgkit.inference.loading",
    "open_ecg": "ecgkit.readers",
}
"""Names that need NumPy, torch, scikit-learn or the readers: imported when they are first used.

Until the command line handles Ctrl-C, it imports nothing that takes its time.
"""

__all__ = ["ECG", "LEADS", "ECGClassifier", "EcgkitError", "__version__", "list_models", "load_model", "open_ecg"]


def __getattr__(name: str) -> object:
    """Import a lazy name (PEP 562)."""
    if name in LAZY:
        return getattr(importlib.import_module(LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
