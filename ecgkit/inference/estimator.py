"""A trained model as a scikit-learn classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgkit.errors import EcgkitError, require
from ecgkit.inference.loading import load_model
from ecgkit.inference.predictor import Predictor, check_signals

require("sklearn", "train")
from sklearn.base import BaseEstimator, ClassifierMixin  # noqa: E402 - only after the line that names the extra


class ECGClassifier(ClassifierMixin, BaseEstimator):
    """A trained model with scikit-learn's interface, for pipelines, cross-validation and metrics.

    Parameters
    ----------
    model : str, int, Path or Predictor
        As for `ecgkit.load_model`, or a loaded model without age and sex.
    sampling_rate : float
        Of the signals, in Hz.
    anyway, allow_missing_leads : bool, default False
        Predict records, too, that are flat or whose levels are not those of an ECG in mV; that lack leads.

    Attributes
    ----------
    class_names_ : ndarray of str
        The classes of the model. The problem is multilabel: a record may have several.
    classes_ : ndarray of int, shape (classes, 2)
        The outcomes 0 and 1 of each class, as scikit-learn has it for several labels; of a model of one class, which is
        a binary classifier, those two alone.
    """

    def __init__(
        self,
        model: str | int | Path | Predictor,
        *,
        sampling_rate: float,
        anyway: bool = False,
        allow_missing_leads: bool = False,
    ) -> None:
        self.model, self.sampling_rate = model, sampling_rate
        self.anyway, self.allow_missing_leads = anyway, allow_missing_leads

    def fit(self, X: ArrayLike, y: object = None) -> ECGClassifier:  # noqa: N803 - scikit-learn's name
        """Load the model and check the signals; nothing is trained."""
        del y
        check_signals(X)
        self.predictor_ = self.model if isinstance(self.model, Predictor) else load_model(self.model)
        if self.predictor_.takes_metadata:
            raise EcgkitError(f"the model {self.predictor_.name} takes age and sex: use ecgkit.load_model")
        self.class_names_: NDArray[np.str_] = np.array(self.predictor_.classes)
        # An array, as scikit-learn asks for the shape; names would be the two outcomes of one label if there are two.
        outcomes = np.tile([0, 1], (len(self.class_names_), 1))
        self.classes_: NDArray[np.int64] = outcomes if len(outcomes) > 1 else outcomes[0]
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:  # noqa: N803
        """Return the calibrated probability of each class.

        Parameters
        ----------
        X : array-like of float, shape (records, 12, samples)
            In mV.

        Returns
        -------
        ndarray of float32, shape (records, classes)
            Of a model of one class, (records, 2): the probability of its absence, then of its presence.
        """
        probabilities = self._fitted().predict_proba(X, **self._keywords())
        return probabilities if probabilities.shape[1] > 1 else np.hstack([1 - probabilities, probabilities])

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:  # noqa: N803
        """Return 1 where the probability of a class is at least its threshold, else 0.

        Parameters
        ----------
        X : array-like of float, shape (records, 12, samples)
            In mV.

        Returns
        -------
        ndarray of int64, shape (records, classes)
            Of a model of one class, (records,).
        """
        decisions = self._fitted().predict(X, **self._keywords()).astype(np.int64)
        return decisions if decisions.shape[1] > 1 else decisions[:, 0]

    def _keywords(self) -> dict[str, Any]:
        return {name: value for name, value in self.get_params(deep=False).items() if name != "model"}

    def _fitted(self) -> Predictor:
        """Return the loaded model; like a fitted one, it needs no call of `fit` in scikit-learn's pipelines."""
        if not hasattr(self, "predictor_"):
            raise EcgkitError("the ECGClassifier has no model yet: call fit, which loads it and trains nothing")
        return self.predictor_
