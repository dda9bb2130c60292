"""Counterfactuals on synthetic ECGs: one sign of a disease grows, all else stays, and the probability should follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.inference.predictor import Predictor
from ecgkit.sources.demo.signs import SIGNS
from ecgkit.sources.demo.source import make_ecg
from ecgkit.stats.resampling import RESAMPLES, interval, patient_weights

FOLLOWS = {"spearman": 0.8, "rise": 0.2}
"""A model follows a sign if the lower ends of both intervals are above these."""


def grow_sign(
    predictor: Predictor, sign: str, *, class_name: str | None = None, n_records: int = 20, seed: int = 0
) -> pd.DataFrame:
    """Let one sign grow in synthetic normal ECGs, and predict each of them.

    Parameters
    ----------
    predictor : Predictor
        The model.
    sign : str
        Of `ecgkit.sources.demo.signs.SIGNS`.
    class_name : str, optional
        The class whose probability should follow; by default the superclass of the sign.
    n_records : int, default 20
        Hearts, each of another patient; within one only the sign changes.
    seed : int, default 0
        The seeds of the ECGs are this and the next ones.

    Returns
    -------
    DataFrame
        Columns ``sign``, ``class``, ``record_id``, ``size`` (in the unit of the sign) and ``probability`` (calibrated).

    Raises
    ------
    EcgkitError
        If there is no such sign, or the model does not know the class.
    """
    planted = SIGNS[check_choice("sign", sign, SIGNS)]
    name = class_name or planted.superclass
    if name not in predictor.classes:
        raise EcgkitError(f"{predictor.name} does not know {name}, the class of {sign}: give one of its classes")
    rate = 100 if predictor.sampling_rate <= 100 else 500
    ecgs = [
        make_ecg(["NORM"], sampling_rate=rate, signs={sign: size}, seed=seed + number)
        for number in range(n_records)
        for size in planted.sizes
    ]
    probabilities = predictor.predict_proba(ecgs, anyway=True)[:, predictor.classes.index(name)]
    sizes = np.tile(planted.sizes, n_records)
    ids = np.repeat([str(seed + number) for number in range(n_records)], len(planted.sizes))
    return pd.DataFrame(
        {"sign": sign, "class": name, "record_id": ids, "size": sizes, "probability": probabilities.astype(np.float64)}
    )


def grow_signs(
    predictor: Predictor, signs: Sequence[str] = tuple(SIGNS), *, n_records: int = 20, seed: int = 0
) -> pd.DataFrame:
    """Let each sign grow whose class the model knows: the tables of `grow_sign`, empty if it knows none."""
    known = [name for name in signs if SIGNS[name].superclass in predictor.classes]
    tables = [grow_sign(predictor, name, n_records=n_records, seed=seed) for name in known]
    columns = ["sign", "class", "record_id", "size", "probability"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def summarise_growth(table: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Measure how monotonically and how far the probability rises with each sign.

    Parameters
    ----------
    table : DataFrame
        As from `grow_signs`.
    resamples : int, default 1000
        Bootstrap resamples of the records.
    seed : int, default 0
        Of the resamples.

    Returns
    -------
    DataFrame
        One row per sign: ``class``; ``label`` (the sign with its unit); ``spearman`` (rank correlation of size and
        probability in a record), ``steps`` (the share of the steps from one size to the next in which the probability
        rises) and ``rise`` (probability at the largest size minus that at the smallest), each the mean over the records
        with ``_low`` and ``_high`` (95 %); and ``follows``.
    """
    rows = {}
    for (sign, name), part in table.groupby(["sign", "class"], sort=False):
        curves = part.pivot_table(index="record_id", columns="size", values="probability", sort=True).to_numpy()
        each = {
            "spearman": _spearman(curves),
            "steps": (np.diff(curves, axis=1) > 0).mean(axis=1),
            "rise": curves[:, -1] - curves[:, 0],
        }
        weights = patient_weights(np.arange(len(curves)), resamples=resamples, seed=seed)
        row: dict[str, object] = {"class": name, "label": f"{SIGNS[str(sign)].text} ({SIGNS[str(sign)].unit})"}
        for key, values in each.items():
            low, high = interval(weights @ values / weights.sum(axis=1))
            row |= {key: float(values.mean()), f"{key}_low": low, f"{key}_high": high}
        rows[sign] = row | {"follows": all(row[f"{key}_low"] > limit for key, limit in FOLLOWS.items())}  # type: ignore[operator]
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("sign")


def _spearman(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank correlation of each row with its position; 0 for a constant row."""
    ranks = rankdata(curves, axis=1) - (curves.shape[1] + 1) / 2
    places = np.arange(curves.shape[1]) - (curves.shape[1] - 1) / 2
    size = np.sqrt((ranks**2).sum(axis=1) * (places**2).sum())
    return np.divide(ranks @ places, size, out=np.zeros(len(curves)), where=size > 0)
