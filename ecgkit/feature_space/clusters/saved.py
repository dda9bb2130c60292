"""Clusters as files: those of the slow methods are found once and read by everything."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.clusters.fit import NOISE, Clusters, cluster_centres
from ecgkit.feature_space.standardize import fit_scaler, standardize, training_rows
from ecgkit.io import write_atomically


def save_clusters(clusters: Clusters, records: pd.DataFrame, path: Path | str) -> Path:
    """Write the cluster of every record as Parquet: ``record_id`` and ``cluster``; how they were found is kept beside.

    Parameters
    ----------
    clusters : Clusters
        Clusters of these records.
    records : DataFrame
        The records, in the same order; column ``record_id``.
    path : Path or str
        The file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    EcgkitError
        If the clusters are those of other records.
    """
    _check_same(clusters, records)
    table = pd.DataFrame({"record_id": records["record_id"].to_numpy(), "cluster": clusters.assigned})
    table.attrs = {
        "method": clusters.method,
        "seed": clusters.seed,
        "n_fitted": clusters.n_fitted,
        "n_components": clusters.n_components,
        "k": clusters.k,
    }
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return write_atomically(Path(path), buffer.getvalue())


def _check_same(clusters: Clusters, records: pd.DataFrame) -> None:
    """Refuse clusters of other records."""
    if len(clusters.assigned) != len(records):
        raise EcgkitError(f"clusters of {len(clusters.assigned)} records for {len(records)}: give the same records")


def read_clusters(path: Path | str, embeddings: NDArray[np.floating], records: pd.DataFrame) -> Clusters:
    """Read clusters that `save_clusters`, or another program, wrote.

    Parameters
    ----------
    path : Path or str
        A Parquet file with ``record_id`` and ``cluster`` (counted from 0; -1 for none), in any order.
    embeddings : ndarray, shape (records, features)
        One row a record.
    records : DataFrame
        The records, in the same order; columns ``record_id`` and ``fold``.

    Returns
    -------
    Clusters
        The centres are the means of the records of folds 1-8.

    Raises
    ------
    EcgkitError
        If there is no such file, it is no such table, or it lacks a record.
    """
    path = Path(path)
    table = _read_table(path)
    cluster = table.set_index("record_id")["cluster"].reindex(records["record_id"])
    if cluster.isna().any():
        raise EcgkitError(
            f"{path} has no cluster for {cluster.isna().sum()} of {len(records)} records: find them again"
        )
    assigned = cluster.to_numpy(dtype=np.int64)
    told = table.attrs
    k = max(int(told.get("k", 0)), int(assigned.max()) + 1)
    training = training_rows(records)
    standardised = standardize(embeddings, records)
    centres, inertia = cluster_centres(standardised, assigned, training, k)
    return Clusters(
        assigned=assigned,
        centres=centres,
        scaler=fit_scaler(embeddings[training]),
        inertia=inertia,
        seed=int(told.get("seed", 0)),
        method=str(told.get("method", path.stem)),
        n_fitted=int(told.get("n_fitted", 0)),
        n_components=int(told.get("n_components", 0)),
    )


def _read_table(path: Path) -> pd.DataFrame:
    """Read the two columns, and check them."""
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError as error:
        raise EcgkitError(f"no clusters in {path}: write them with save_clusters") from error
    except (OSError, ValueError) as error:
        raise EcgkitError(f"{path} is no Parquet file: write it with save_clusters") from error
    missing = {"record_id", "cluster"} - set(table.columns)
    if missing:
        raise EcgkitError(f"{path} has no column {', '.join(sorted(missing))}: write it with save_clusters")
    if table["record_id"].duplicated().any():
        raise EcgkitError(
            f"{path} has record {table['record_id'][table['record_id'].duplicated()].iloc[0]} twice: write it again"
        )
    if not pd.api.types.is_integer_dtype(table["cluster"]) or (table["cluster"] < NOISE).any():
        raise EcgkitError(f"{path} has clusters that are no number from 0 on, or -1 for none: write it again")
    return table
