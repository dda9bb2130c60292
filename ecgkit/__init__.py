"""ecgkit: from raw 12-lead ECGs to a multilabel model, and to what the model has learned."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from ecgkit.errors import EcgkitError
from ecgkit.lazy import lazy_names

if TYPE_CHECKING:
    from ecgkit.inference.estimator import ECGClassifier
    from ecgkit.inference.loading import list_models, load_model
    from ecgkit.readers import open_ecg
    from ecgkit.signals.ecg import ECG, LEADS

try:
    __version__ = version("ecgkit-notebooks")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"

__all__ = ["ECG", "LEADS", "ECGClassifier", "EcgkitError", "__version__", "list_models", "load_model", "open_ecg"]

# Until the command line handles Ctrl-C, nothing is imported that takes its time, such as NumPy.
__getattr__, __dir__ = lazy_names(__name__)
