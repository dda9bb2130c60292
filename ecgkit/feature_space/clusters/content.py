"""The content of clusters: their classes, their patients, and their most typical records."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.feature_space.clusters.fit import NOISE, Clusters
from ecgkit.feature_space.standardize import check_embeddings, fold_rows
from ecgkit.stats.validation import known_true

ALL_RECORDS = "all"
"""The last row of a table, for all clusters together."""

N_NEAREST = 3

NO_CLUSTER = "noise"
"""The row of the records in no cluster, if there are any."""


def cluster_composition(clusters: Clusters, records: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Count the records of fold 10 of each class in each cluster.

    Parameters
    ----------
    clusters : Clusters
        Clusters of these records.
    records : DataFrame
        The records, in the same order; column ``fold``.
    labels : DataFrame of bool
        One column per class, in the same order.

    Returns
    -------
    DataFrame
        Index ``cluster``: 0 to k - 1, ``"noise"`` if there is any, then ``"all"``. Column ``records``, then for each
        class the number of the cluster's records that carry it; a record with several classes counts for each.

    Raises
    ------
    EcgkitError
        If no record is in fold 10.
    """
    members = cluster_members(clusters, records)
    truth = pd.DataFrame(known_true(labels), labels.index, labels.columns)
    counts = {name: {"records": len(rows), **truth.iloc[rows].sum()} for name, rows in members.items()}
    table = pd.DataFrame.from_dict(counts, orient="index", dtype=np.int64)
    table.loc[ALL_RECORDS] = table.sum()
    return table.rename_axis("cluster")


def cluster_members(clusters: Clusters, records: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
    """Return the rows of fold 10 in ``"cluster 0"`` and so on, and in ``"noise"`` if there is any."""
    rows = fold_rows(records)
    members = {f"cluster {number}": rows[clusters.assigned[rows] == number] for number in range(clusters.k)}
    noise = rows[clusters.assigned[rows] == NOISE]
    return members | ({NO_CLUSTER: noise} if len(noise) else {})


def cluster_table(clusters: Clusters, embeddings: NDArray[np.floating], records: pd.DataFrame) -> pd.DataFrame:
    """Describe the patients and recordings of each cluster in fold 10.

    Parameters
    ----------
    clusters : Clusters
        Clusters of these records.
    embeddings : ndarray, shape (records, features)
        One row per record.
    records : DataFrame
        The records, in the same order; ``record_id``, ``patient_id``, ``fold``, and ``age``, ``sex``, ``height``,
        ``weight`` and ``device`` if known.

    Returns
    -------
    DataFrame
        Index as `cluster_composition`. Columns: ``records``, ``patients``, the medians of ``age`` (years), ``height``
        (cm) and ``weight`` (kg), ``female`` (share of those whose sex is known), ``device`` (the most frequent, with
        its share) and ``nearest`` (the three records nearest to the centre, each of another patient).

    Raises
    ------
    EcgkitError
        If no record is in fold 10, or the embeddings do not match.
    """
    nearest = nearest_records(clusters, embeddings, records).groupby("cluster")["record_id"].agg(list)
    members = cluster_members(clusters, records) | {ALL_RECORDS: fold_rows(records)}
    rows = {name: _describe(records.iloc[chosen]) for name, chosen in members.items()}
    for number, ids in nearest.items():
        rows[f"cluster {number}"]["nearest"] = ", ".join(map(str, ids))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("cluster")


def _describe(records: pd.DataFrame) -> dict[str, object]:
    """Return numbers of records and patients, medians, and the most frequent device."""
    row: dict[str, object] = {"records": len(records), "patients": records["patient_id"].nunique()}
    row |= {name: records[name].median() for name in ("age", "height", "weight") if name in records}
    if "sex" in records:
        row["female"] = (records["sex"].dropna() == "female").mean()
    if "device" in records:
        counts = records["device"].dropna().astype(str).value_counts(normalize=True)
        row["device"] = f"{counts.index[0]} ({counts.iloc[0]:.0%})" if len(counts) else ""
    return row | {"nearest": ""}


def nearest_records(clusters: Clusters, embeddings: NDArray[np.floating], records: pd.DataFrame) -> pd.DataFrame:
    """Find the three records of fold 10 that are nearest to the centre of each cluster, each of another patient."""
    check_embeddings(embeddings, records)
    rows = fold_rows(records)
    rows = rows[clusters.assigned[rows] >= 0]
    assigned = clusters.assigned[rows]
    distance = np.linalg.norm(clusters.scaler.transform(embeddings[rows]) - clusters.centres[assigned], axis=1)
    table = records[["record_id", "patient_id"]].iloc[rows].assign(cluster=assigned, distance=distance)
    table = table.sort_values(["cluster", "distance", "record_id"], kind="stable")
    return table.drop_duplicates(["cluster", "patient_id"]).groupby("cluster").head(N_NEAREST)
