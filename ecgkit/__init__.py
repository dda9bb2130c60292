"""ecgkit: from raw 12-lead ECGs to a multilabel model, and to what the model has learned."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from ecgkit.errors import EcgkitError
from ecgkit.signals.ecg import ECG, LEADS

if TYPE_CHECKING:
    from ecgkit.inference.predictor import load_model

try:
    __version__ = version("ecgkit-notebooks")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"

__all__ = ["ECG", "LEADS", "EcgkitError", "__version__", "load_model"]


def __getattr__(name: str) -> object:
    """Import what needs torch when it is first asked for, so that `import ecgkit` stays light."""
    if name == "load_model":
        from ecgkit.inference.predictor import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
