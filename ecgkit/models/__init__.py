"""Architectures, one a module, and the registry that tests, notebooks and the command line run over."""

from __future__ import annotations

import inspect

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.models.base import ECGModel
from ecgkit.models.hybrid import Hybrid
from ecgkit.models.resnet1d import ResNet1d
from ecgkit.models.xlstm import XLSTM

MODELS: dict[str, type[ECGModel]] = {"resnet1d": ResNet1d, "xlstm": XLSTM, "hybrid": Hybrid}
"""Every architecture by the name that users give."""


def create_model(name: str, **keywords: object) -> ECGModel:
    """Make a model with fresh weights.

    Parameters
    ----------
    name : str
        A name of `MODELS`.
    **keywords
        ``n_leads, n_classes, n_samples, sampling_rate, n_metadata`` and the architecture's own.

    Returns
    -------
    ECGModel

    Raises
    ------
    EcgkitError
        If there is no model of this name, or it has no keyword of one of these names.
    """
    check_choice("model", name, MODELS)
    known = inspect.signature(MODELS[name]).parameters
    if unknown := [keyword for keyword in keywords if keyword not in known]:
        raise EcgkitError(f"{name} has no option {unknown[0]!r}: choose from {', '.join(known)}")
    return MODELS[name](**keywords)  # type: ignore[arg-type]
