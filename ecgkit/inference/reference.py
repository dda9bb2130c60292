"""How far an ECG is from those that a model was trained on, by the features that the network makes of it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgkit.errors import EcgkitError
from ecgkit.io import read_json

REFERENCE = "reference.json"
N_COMPONENTS = 256
"""Directions of the features whose variances are kept; in all others the variance is the same. With few, some kinds of
noise are not noticed."""

FLAGGED = 0.005
"""The share of fold 9 that is farther than the limit."""

N_FITTED = 2000
"""Records of folds 1-8 that are enough for the statistics."""

DIGITS = 5
"""Of the numbers that are written as text; the directions are float32 in base64, which is a fifth of their text."""


class Contents(TypedDict):
    """The contents of ``reference.json``."""

    mean: list[float]
    components: str
    deviations: list[float]
    rest: float
    limit: float
    fitted_on: str


@dataclass(frozen=True, eq=False)
class Reference:
    """The distribution of the features of the training records, divided by their length: normal, of few directions.

    Input that is not an ECG leaves most features small, near their mean: the length is what would hide it.

    Attributes
    ----------
    mean : ndarray, shape (features,)
        Mean of the features, each record's divided by their length.
    components : ndarray, shape (directions, features)
        The principal directions, orthonormal.
    deviations : ndarray, shape (directions,)
        The standard deviation along each.
    rest : float
        The standard deviation in every other direction.
    limit : float
        The largest distance of an ECG that is like those of the training.
    fitted_on : str
        The records behind mean and directions, and behind the limit.

    References
    ----------
    Tipping and Bishop (1999), doi:10.1111/1467-9868.00196 (the distribution); Lee et al. (2018), arXiv:1807.03888 (the
    Mahalanobis distance of features for unusual input); Sun et al. (2022), arXiv:2204.06507 (the length).
    """

    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    deviations: NDArray[np.float64]
    rest: float
    limit: float
    fitted_on: str

    def distance(self, features: ArrayLike) -> NDArray[np.float64]:
        """Return the Mahalanobis distance of features ``(records, features)`` as a multiple of the limit."""
        centred = _unit_length(features) - self.mean
        along = centred @ self.components.T
        outside = np.maximum(np.sum(centred**2, axis=1) - np.sum(along**2, axis=1), 0)
        return np.sqrt(np.sum((along / self.deviations) ** 2, axis=1) + outside / self.rest**2) / self.limit

    def contents(self) -> dict[str, Any]:
        """Return the contents of ``reference.json``."""
        numbers = {name: _rounded(value) for name, value in vars(self).items() if name != "components"}
        return numbers | {"components": base64.b64encode(self.components.astype("<f4").tobytes()).decode()}


def fit_reference(training: NDArray[np.floating], validation: NDArray[np.floating], fitted_on: str) -> Reference:
    """Fit the distribution of features.

    Parameters
    ----------
    training : ndarray, shape (records, features)
        Of records of folds 1-8, at least two.
    validation : ndarray, shape (records, features)
        Of the records of fold 9; 0.5 % of them are beyond the limit.
    fitted_on : str
        Describes the records.

    Returns
    -------
    Reference
    """
    values = _unit_length(training)
    centred = values - values.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    variances = sizes**2 / (len(values) - 1)
    n_kept = min(N_COMPONENTS, len(variances) - 1)
    least = max(1e-12, 1e-9 * float(variances.sum()))  # features that never vary have no deviation
    n_others = max(1, centred.shape[1] - n_kept)
    rest = float(np.sqrt(max(variances[n_kept:].sum() / n_others, least)))
    deviations = np.sqrt(np.maximum(variances[:n_kept], least))
    unscaled = Reference(values.mean(axis=0), directions[:n_kept], deviations, rest, 1.0, fitted_on)
    limit = float(np.quantile(unscaled.distance(validation), 1 - FLAGGED))
    return Reference(**vars(unscaled) | {"limit": limit or 1.0})


def read_reference(path: Path, n_features: int, *, way_out: str) -> Reference | None:
    """Read ``reference.json``; None where a folder of an older version has none.

    Raises
    ------
    EcgkitError
        If it is damaged, or was made for another network.
    """
    if not path.is_file():
        return None
    contents: dict[str, Any] = read_json(path, Contents, way_out=way_out)
    mean, deviations = (np.array(contents.pop(name), np.float64) for name in ("mean", "deviations"))
    try:
        values = np.frombuffer(base64.b64decode(contents.pop("components"), validate=True), "<f4").astype(np.float64)
        components = values.reshape(len(deviations), len(mean))
    except ValueError as error:
        raise EcgkitError(f"{path} has damaged components ({error}): {way_out}") from error
    if len(mean) != n_features:
        raise EcgkitError(f"{path} is for {len(mean)} features, the network has {n_features}: {way_out}")
    reference = Reference(mean, components, deviations, *(contents[name] for name in ("rest", "limit", "fitted_on")))
    if not np.isfinite(components).all() or min(reference.rest, reference.limit, *deviations) <= 0:
        raise EcgkitError(f"{path} has a deviation or limit that is not positive: {way_out}")
    return reference


def _unit_length(features: ArrayLike) -> NDArray[np.float64]:
    """Return features ``(records, features)`` divided by the length of each record's."""
    values = np.asarray(features, np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(lengths > 0, lengths, 1.0)


def _rounded(value: Any) -> Any:
    """Return numbers with as many digits as matter."""
    if isinstance(value, np.ndarray):
        return [_rounded(number) for number in value.tolist()]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
