"""How much a model that takes age and sex needs them: permutation importance."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.inference.metadata import MetadataScaler
from ecgkit.inference.weights import TrainedModel
from ecgkit.models import ECGModel
from ecgkit.stats import Floats, auc
from ecgkit.stats.resampling import RESAMPLES, interval, patient_weights

FOLD = 9
PERMUTED = ("age", "sex", "age and sex")


def permutation_importance(
    trained: TrainedModel,
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    n_permutations: int = 10,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure the AUC that is lost when age or sex is exchanged between the records of fold 9.

    Parameters
    ----------
    trained : TrainedModel
        The model.
    embeddings : ndarray, shape (records, features)
        What `ECGModel.embed` returns, one row per record.
    records, labels : DataFrame
        In the same order; records with ``patient_id``, ``fold``, ``age`` and ``sex``, labels of some or all classes.
    n_permutations : int, default 10
        Random exchanges, over which is averaged.
    resamples : int, default 1000
        Bootstrap resamples of the patients, the same for all exchanges.
    seed : int, default 0
        Of exchanges and resamples.

    Returns
    -------
    DataFrame
        One row per ``permuted`` (``"age"``, ``"sex"``, ``"age and sex"``, exchanged together) and ``class``: ``auc``
        (nothing exchanged), ``lost`` (mean over the exchanges) with ``low`` and ``high`` (95 %, patients resampled).
        Empty for a model that takes neither.

    Raises
    ------
    EcgkitError
        If there are no records of fold 9.

    References
    ----------
    Breiman, "Random forests", Machine Learning 45 (2001).
    """
    columns = ["permuted", "class", "auc", "lost", "low", "high"]
    model, scaler = trained.model.cpu().eval(), trained.scaler
    if scaler is None:
        return pd.DataFrame(columns=columns)
    rows = np.flatnonzero(records["fold"] == FOLD)
    if not len(rows):
        raise EcgkitError(f"no record is of fold {FOLD}: pass the records of the whole dataset")
    truth = labels.iloc[rows].to_numpy(dtype=np.float64, na_value=np.nan)
    weights = patient_weights(records["patient_id"].to_numpy()[rows], resamples=resamples, seed=seed)
    age, sex = (records[name].to_numpy()[rows] for name in ("age", "sex"))

    columns_of = [trained.classes.index(name) for name in labels.columns.astype(str)]

    def scores(ages: NDArray[np.generic], sexes: NDArray[np.generic]) -> tuple[Floats, Floats]:
        logits = _logits(model, scaler, embeddings[rows], ages, sexes)[:, columns_of]
        return auc(truth, logits), auc(truth, logits, weights=weights)

    value, drawn = scores(age, sex)
    random = np.random.default_rng(seed)
    orders = [random.permutation(len(rows)) for _ in range(n_permutations)]
    result = []
    for permuted in PERMUTED:
        each = [
            scores(age[order] if "age" in permuted else age, sex[order] if "sex" in permuted else sex)
            for order in orders
        ]
        lost = value - np.mean([one for one, _ in each], axis=0)
        of_resamples = drawn - np.mean([one for _, one in each], axis=0)
        for i, name in enumerate(labels.columns.astype(str)):
            result.append((permuted, name, value[i], lost[i], *interval(of_resamples[:, i])))
    return pd.DataFrame(result, columns=columns)


def _logits(
    model: ECGModel,
    scaler: MetadataScaler,
    embeddings: NDArray[np.floating],
    age: NDArray[np.generic],
    sex: NDArray[np.generic],
) -> Floats:
    """Return the logits of embeddings with an age and a sex each."""
    import torch

    columns = scaler(age.astype(np.float64), sex.tolist())
    with torch.inference_mode():
        features = torch.from_numpy(np.ascontiguousarray(embeddings, np.float32))
        return model.classify(features, torch.from_numpy(columns)).double().numpy()
