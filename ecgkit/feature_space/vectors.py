"""Vectors of another program: a ``.npy`` file of embeddings with a table of the records that they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.standardize import MIN_STD, check_embeddings
from ecgkit.io import check_columns, read_array, readable
from ecgkit.stats.folds import TEST_FOLD, TRAIN_FOLDS
from ecgkit.stats.identifiers import as_identifiers

TABLE_WAY_OUT = "give a table with record_id, one row per vector"
MIN_TRAINING, MIN_TEST = 40, 10
"""Fewest vectors of records in folds 1-8 and in fold 10: with fewer there is no cluster, map or probe."""


def read_vectors(path: str | Path, records: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Read vectors of another program for the records of a dataset.

    Parameters
    ----------
    path : str or Path
        A ``.npy`` file of numbers, ``(records, features)``. Next to it is a table of the same name, ``.parquet`` or
        ``.csv``, with the column ``record_id``, one row per vector in their order.
    records : DataFrame
        The dataset's records, with ``record_id`` and ``fold``.

    Returns
    -------
    positions : ndarray of int64
        Rows of ``records`` that have a vector, ascending.
    vectors : ndarray of float32, shape (positions, features)
        Their vectors. Vectors of other records are left out.

    Raises
    ------
    EcgkitError
        If a file is missing or not readable, the rows do not match, a value is not finite, a record is there twice, too
        few records of folds 1-8 or of fold 10 have a vector, or fewer than two features vary among those of folds 1-8.
    """
    array = Path(path).expanduser()
    values, ids = _read_array(array), _read_ids(array)
    check_embeddings(values, ids)
    twice = ids["record_id"].duplicated()
    if twice.any():
        raise EcgkitError(
            f"record {ids.loc[twice, 'record_id'].iloc[0]} has two vectors in {array}: give one vector per record"
        )
    row_of = pd.Series(np.arange(len(ids)), index=ids["record_id"].to_numpy())
    rows = records["record_id"].map(row_of)
    positions = np.flatnonzero(rows.notna())
    if not len(positions):
        raise EcgkitError(f"no record of the dataset has a vector in {array}: compare their record_id")
    vectors = values[rows.iloc[positions].to_numpy(dtype=np.int64)]
    _check_usable(vectors, records.iloc[positions], array)
    return positions, vectors


def _check_usable(vectors: NDArray[np.float32], records: pd.DataFrame, path: Path) -> None:
    """Raise EcgkitError if there are too few vectors, or they hold too little, for an analysis."""
    in_training = records["fold"].isin(TRAIN_FOLDS).to_numpy()
    n_training, n_test = int(in_training.sum()), int((records["fold"] == TEST_FOLD).sum())
    if n_training < MIN_TRAINING or n_test < MIN_TEST:
        raise EcgkitError(
            f"{path} has vectors of {n_training} records of folds 1-8 and {n_test} of fold {TEST_FOLD}: "
            f"embed at least {MIN_TRAINING} and {MIN_TEST} of them"
        )
    training = vectors[in_training].astype(np.float64)
    size = np.abs(training).max(axis=0)
    n_varying = int((training.std(axis=0) > MIN_STD * size).sum())
    if n_varying < 2:
        raise EcgkitError(
            f"{n_varying} of the {vectors.shape[1]} columns of {path} vary among the records of folds 1-8: "
            "give vectors of at least two features that do"
        )


def _read_array(path: Path) -> NDArray[np.float32]:
    """Read a ``.npy`` file of numbers."""
    values = read_array(path, way_out="give a file that numpy.save wrote, (records, features)")
    if values.dtype.kind not in "fiu":
        raise EcgkitError(f"{path} holds {values.dtype}, not numbers: give real numbers, (records, features)")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite there, and refused
        return np.asarray(values).astype(np.float32)


def table_of(array: Path) -> Path:
    """Return the table that is next to vectors; raise EcgkitError if there is none."""
    options = [array.with_suffix(".parquet"), array.with_suffix(".csv")]
    if (found := next((path for path in options if path.is_file()), None)) is None:
        raise EcgkitError(f"there is no {options[0]} or {options[1]}: {TABLE_WAY_OUT}")
    return found


def _read_ids(array: Path) -> pd.DataFrame:
    """Read ``record_id`` of the table that goes with vectors."""
    found = table_of(array)
    with readable(found, TABLE_WAY_OUT):
        table = pd.read_parquet(found) if found.suffix == ".parquet" else pd.read_csv(found, dtype={"record_id": str})
    check_columns(table, found, {"record_id": "any"}, way_out=TABLE_WAY_OUT)
    return pd.DataFrame({"record_id": as_identifiers(table["record_id"])})
