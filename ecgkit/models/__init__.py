"""Architectures, one a module, and the registry that tests, notebooks and the command line run over."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.models.base import ECGModel
from ecgkit.models.bilstm import BiLSTMModel
from ecgkit.models.cnn import CNN
from ecgkit.models.cnn_bilstm import CNNBiLSTM
from ecgkit.models.cross_lead_cnn import CrossLeadCNN
from ecgkit.models.hierarchical_xlstm import HierarchicalXLSTM
from ecgkit.models.hybrid import Hybrid
from ecgkit.models.parallel_xlstm import ParallelXLSTM
from ecgkit.models.recurrence_cnn import RecurrenceCNN
from ecgkit.models.residual_bilstm_attention import ResidualBiLSTMAttention
from ecgkit.models.resnet1d import ResNet1d
from ecgkit.models.xlstm import XLSTM

MODELS: dict[str, type[ECGModel]] = {
    "resnet1d": ResNet1d,
    "xlstm": XLSTM,
    "hybrid": Hybrid,
    "cnn": CNN,
    "cross_lead_cnn": CrossLeadCNN,
    "cnn_bilstm": CNNBiLSTM,
    "bilstm": BiLSTMModel,
    "residual_bilstm_attention": ResidualBiLSTMAttention,
    "parallel_xlstm": ParallelXLSTM,
    "hierarchical_xlstm": HierarchicalXLSTM,
    "recurrence_cnn": RecurrenceCNN,
}
"""Every architecture by the name that users give."""

SHARED = frozenset(inspect.signature(ECGModel).parameters)
"""Keywords that every model takes; the others are an architecture's own."""


def resolve_options(name: str, given: Mapping[str, object]) -> dict[str, object]:
    """Resolve an architecture's own keywords: its defaults, then what is given.

    Parameters
    ----------
    name : str
        A name of `MODELS`.
    given : mapping
        Own keywords of the architecture, not the ones that every model takes.

    Returns
    -------
    dict
        Every own keyword, in the architecture's order.

    Raises
    ------
    EcgkitError
        If there is no model of this name, or it has no keyword of one of these names.
    """
    check_choice("model", name, MODELS)
    parameters = inspect.signature(MODELS[name]).parameters
    own = {key: parameter.default for key, parameter in parameters.items() if parameter.kind != parameter.VAR_KEYWORD}
    if unknown := sorted(given.keys() - own.keys()):
        raise EcgkitError(f"{name} has no option {unknown[0]!r}: choose from {', '.join(own)}")
    return own | dict(given)


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
    shared = {key: value for key, value in keywords.items() if key in SHARED}
    own = resolve_options(name, {key: value for key, value in keywords.items() if key not in SHARED})
    return MODELS[name](**shared, **own)  # type: ignore[arg-type]
