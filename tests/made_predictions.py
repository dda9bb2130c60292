"""Invented predictions: calibrated, two records per patient, half in fold 9 and half in fold 10."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit


def make_predictions(
    n_records: int = 400, seed: int = 0, classes: tuple[str, ...] = ("NORM", "MI", "STTC")
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = {"record_id": np.arange(n_records), "patient_id": np.arange(n_records) // 2}
    table["fold"] = np.where(np.arange(n_records) < n_records // 2, 9, 10)
    for name in classes:
        score = rng.normal(-1, 1.5, n_records)
        table |= {f"true_{name}": rng.random(n_records) < expit(score), f"prob_{name}": expit(score).astype(np.float32)}
    return pd.DataFrame(table)


def as_calibrated(predictions: pd.DataFrame) -> pd.DataFrame:
    """Add calibrated probabilities that are equal to the uncalibrated ones."""
    columns = [name for name in predictions if str(name).startswith("prob_")]
    return predictions.assign(**{str(name).replace("prob_", "calibrated_"): predictions[name] for name in columns})
