"""Similar ECGs: the nearest records of a dataset in a model's feature space, by exact search."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.standardize import standardize


class SimilarRecords:
    """All records of a dataset by their embeddings, to search for the nearest of one.

    Nearness is the cosine of the angle between embeddings that are standardised with folds 1-8. The search compares
    with every record, so that nothing near is missed.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row per record.
    records : DataFrame
        The records, in the same order; columns ``record_id``, ``patient_id`` and ``fold``.

    Raises
    ------
    EcgkitError
        If the embeddings do not match the records, a value is not finite, or no record is of folds 1-8.
    """

    def __init__(self, embeddings: NDArray[np.floating], records: pd.DataFrame) -> None:
        self.records = records.reset_index(drop=True)
        points = standardize(embeddings, records)
        lengths = np.linalg.norm(points, axis=1, keepdims=True)
        self.directions = (points / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)

    def nearest(self, position: int, n: int, *, same_patient: bool = False) -> pd.DataFrame:
        """Find the nearest records of one.

        Parameters
        ----------
        position : int
            The record's row.
        n : int
            How many to find.
        same_patient : bool, default False
            Whether other records of the same patient count.

        Returns
        -------
        DataFrame
            ``position``, ``similarity`` (cosine, -1 to 1, falling), then the columns of the records; up to ``n`` rows,
            never the record itself.

        Raises
        ------
        EcgkitError
            If ``n`` is not positive.
        """
        if n < 1:
            raise EcgkitError(f"n is {n}: give a positive number of similar records")
        similarity = self.directions @ self.directions[position]
        patients = self.records["patient_id"]
        is_same = (patients == patients.iloc[position]).to_numpy(dtype=bool)
        left_out = np.array([position]) if same_patient else np.flatnonzero(is_same)
        similarity[left_out] = -np.inf
        n = min(n, len(similarity) - len(left_out))
        # Ties go by position, so that the answer is the same everywhere.
        best = np.argsort(-similarity, kind="stable")[:n]
        table = self.records.iloc[best].reset_index(drop=True)
        table.insert(0, "position", best)
        table.insert(1, "similarity", similarity[best].astype(np.float64))
        return table


def find_record(records: pd.DataFrame, record_id: str) -> int:
    """Find a record by its ``record_id`` and return its row.

    Raises
    ------
    EcgkitError
        If there is none.
    """
    names = records["record_id"]
    found = np.flatnonzero(names == record_id)
    if not len(found):
        raise EcgkitError(f"there is no record {record_id}: give one of the dataset's, such as {', '.join(names[:3])}")
    return int(found[0])


def describe_nearest(position: int, nearest: pd.DataFrame, records: pd.DataFrame, labels: pd.DataFrame) -> list[str]:
    """Describe a record and its nearest ones, two lines each, for the titles of their ECGs.

    Parameters
    ----------
    position : int
        The record's row.
    nearest : DataFrame
        As from `SimilarRecords.nearest`.
    records, labels : DataFrame
        All records, and one column per class in the same order.

    Returns
    -------
    list of str
        The record first, then the nearest ones with their similarity.
    """
    rows, places = [position, *nearest["position"]], ["", *(f"similarity {x:.3f}" for x in nearest["similarity"])]
    return [
        f"{describe_record(records.iloc[row], labels.iloc[row])}\n{place}".strip()
        for row, place in zip(rows, places, strict=True)
    ]


def describe_record(record: pd.Series, labels: pd.Series) -> str:
    """Describe a record in one line.

    Parameters
    ----------
    record : Series
        A row of a table of records: ``record_id``, and ``age`` (years) and ``sex`` where known.
    labels : Series of bool
        The record's row of the labels.

    Returns
    -------
    str
        Such as ``record 12, female, 63 years: MI, STTC``; ``MI?`` where MI is unknown.
    """
    parts = [f"record {record['record_id']}"]
    if pd.notna(record.get("sex")):
        parts.append(str(record["sex"]))
    if pd.notna(record.get("age")):
        parts.append(f"{record['age']:g} years")
    names = [f"{name}{'?' * bool(pd.isna(carries))}" for name, carries in labels.items() if pd.isna(carries) or carries]
    classes = ", ".join(names) or "no class"
    return f"{', '.join(parts)}: {classes}"
