"""Cluster cards: how large a cluster is, which classes it holds, who its patients are, and its most typical records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.evaluation.subgroups import NOISE as NOISE_WORDS
from ecgkit.evaluation.subgroups import NOISE_COLUMNS, noted_noise
from ecgkit.feature_space.clusters.agreement import NO_CLUSTER
from ecgkit.feature_space.clusters.fit import NOISE, Clusters
from ecgkit.feature_space.standardize import check_embeddings, fold_rows
from ecgkit.stats.folds import TEST_FOLD

N_DEVICES = 3
"""So many devices a card names, the commonest of the cluster."""


@dataclass(frozen=True, eq=False)
class ClusterCard:
    """What is known of one cluster.

    Attributes
    ----------
    cluster : int
        Its number; -1 for the records in none.
    records : int
        Its records in the folds that were read.
    share : float
        Of all records in the folds.
    patients : int
        Its patients.
    classes : DataFrame
        Index: the classes. Columns: ``records`` that carry it, ``share`` of the cluster, ``overall`` share of all
        records, ``lift``, the one over the other (NaN for a class that nobody carries).
    devices : DataFrame
        The same of the three commonest devices of the cluster, of the records whose device is known.
    age : tuple of float
        Median and quartiles in years, NaN where unknown for all; 90 stands for all ages over 89.
    female : float
        Share of female among the records whose sex is known.
    height, weight : tuple of float and int
        Median in cm or kg, and for how many records it is known.
    remarked : float
        Share of the records with any remark on their quality; NaN without such columns.
    overall : dict of str to float
        ``age`` (median), ``female``, ``height``, ``weight`` and ``remarked`` of all records in the folds.
    nearest : DataFrame
        The records nearest the centre, the nearest first: ``record_id``, ``fold``, ``distance`` (standard deviations,
        Euclidean) and ``position`` (row in the table of records). Empty for the records in no cluster.
    """

    cluster: int
    records: int
    share: float
    patients: int
    classes: pd.DataFrame
    devices: pd.DataFrame
    age: tuple[float, float, float]
    female: float
    height: tuple[float, int]
    weight: tuple[float, int]
    remarked: float
    overall: dict[str, float]
    nearest: pd.DataFrame

    @property
    def name(self) -> str:
        """The name of the cluster, as `cluster_positions` has it."""
        return cluster_name(self.cluster)


def cluster_name(cluster: int) -> str:
    """Give the name of a cluster, ``"cluster 0"`` and so on; ``"noise"`` for -1."""
    return NO_CLUSTER if cluster == NOISE else f"cluster {cluster}"


def cluster_positions(
    clusters: Clusters, records: pd.DataFrame, *, folds: tuple[int, ...] | None = (TEST_FOLD,)
) -> dict[str, NDArray[np.int64]]:
    """Give the positions of the records of each cluster, as `ecgkit.feature_space.beats.group_beats` takes them.

    Parameters
    ----------
    clusters : Clusters
        Clusters of these records.
    records : DataFrame
        The records, in the same order; column ``fold``.
    folds : tuple of int or None, default (10,)
        The folds to read; None for all.

    Returns
    -------
    dict of str to ndarray of int64
        ``"cluster 0"`` and so on, and ``"noise"``; those that have a record in the folds.

    Raises
    ------
    EcgkitError
        If no record is in the folds.
    """
    rows = fold_rows(records, folds)
    positions = {
        cluster_name(number): rows[clusters.assigned[rows] == number] for number in (*range(clusters.k), NOISE)
    }
    return {name: found for name, found in positions.items() if len(found)}


def nearest_records(
    clusters: Clusters,
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    *,
    folds: tuple[int, ...] | None = (TEST_FOLD,),
    number: int = 3,
) -> pd.DataFrame:
    """Find the records of each cluster that are nearest its centre, one a patient.

    Parameters
    ----------
    clusters : Clusters
        Clusters of these records.
    embeddings : ndarray, shape (records, features)
        One row a record.
    records : DataFrame
        The records, in the same order; ``record_id``, ``patient_id``, ``fold``.
    folds : tuple of int or None, default (10,)
        The folds to look in; None for all.
    number : int, default 3
        How many of each cluster.

    Returns
    -------
    DataFrame
        ``cluster``, ``record_id``, ``fold``, ``distance`` (standard deviations, Euclidean) and ``position`` (row in
        ``records``); by cluster, the nearest first. Fewer where a cluster has fewer patients.

    Raises
    ------
    EcgkitError
        If no record is in the folds, or the embeddings are not as they should be.
    """
    check_embeddings(embeddings, records)
    rows = fold_rows(records, folds)
    assigned = clusters.assigned[rows]
    distance = np.full(len(rows), np.nan)
    for cluster in range(clusters.k):
        members = assigned == cluster
        points = clusters.scaler.transform(embeddings[rows[members]])
        distance[members] = np.linalg.norm(points - clusters.centres[cluster], axis=1)
    table = records[["record_id", "patient_id", "fold"]].iloc[rows].reset_index(drop=True)
    table = table.assign(cluster=assigned, distance=distance, position=rows)
    table = table[assigned >= 0].sort_values(["cluster", "distance", "position"], kind="stable")
    table = table.drop_duplicates(["cluster", "patient_id"]).groupby("cluster").head(number)
    return table[["cluster", "record_id", "fold", "distance", "position"]].reset_index(drop=True)


def cluster_cards(
    clusters: Clusters,
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    folds: tuple[int, ...] | None = (TEST_FOLD,),
    nearest_folds: tuple[int, ...] | None = (TEST_FOLD,),
    n_nearest: int = 3,
) -> list[ClusterCard]:
    """Describe each cluster, and what is in none as the last.

    Parameters
    ----------
    clusters : Clusters
        Clusters of these records.
    embeddings : ndarray, shape (records, features)
        One row a record.
    records : DataFrame
        The records, in the same order; ``record_id``, ``patient_id``, ``fold``, ``age``, ``sex``, ``height``,
        ``weight``, ``device``, and remarks on the quality where there are any.
    labels : DataFrame of bool
        One column a class, the same order.
    folds : tuple of int or None, default (10,)
        The folds that are described; None for all.
    nearest_folds : tuple of int or None, default (10,)
        The folds in which the records nearest the centre are looked for.
    n_nearest : int, default 3
        How many of them.

    Returns
    -------
    list of ClusterCard
        Those with a record in the folds.

    Raises
    ------
    EcgkitError
        If a column is missing, no record is in the folds, or the embeddings are not as they should be.
    """
    missing = {"record_id", "patient_id", "fold", "age", "sex", "height", "weight", "device"} - set(records.columns)
    if missing:
        raise EcgkitError(f"the records have no column {', '.join(sorted(missing))}: add it, blank where unknown")
    nearest = nearest_records(clusters, embeddings, records, folds=nearest_folds, number=n_nearest)
    rows = fold_rows(records, folds)
    everybody, truth = records.iloc[rows], labels.iloc[rows]
    overall = _medians(everybody)
    cards = []
    for number in (*range(clusters.k), NOISE):
        chosen = clusters.assigned[rows] == number
        if not chosen.any():
            continue
        here = everybody[chosen]
        medians = _medians(here)
        age = here["age"].dropna()
        quartiles = np.percentile(age, (25, 75)) if len(age) else (float("nan"),) * 2
        cards.append(
            ClusterCard(
                cluster=number,
                records=int(chosen.sum()),
                share=float(chosen.mean()),
                patients=int(here["patient_id"].nunique()),
                classes=_shares(truth[chosen], truth),
                devices=_devices(here["device"], everybody["device"]),
                age=(medians["age"], float(quartiles[0]), float(quartiles[1])),
                female=medians["female"],
                height=(medians["height"], int(here["height"].notna().sum())),
                weight=(medians["weight"], int(here["weight"].notna().sum())),
                remarked=medians["remarked"],
                overall=overall,
                nearest=nearest[nearest["cluster"] == number].drop(columns="cluster").reset_index(drop=True),
            )
        )
    return cards


def _medians(records: pd.DataFrame) -> dict[str, float]:
    """Say who the patients of some records are; NaN where nothing is known."""
    noise = pd.Series(noted_noise(records) if set(NOISE_COLUMNS) & set(records) else [], dtype="object").dropna()
    sex = records["sex"].dropna()
    return {
        **{name: float(records[name].median()) for name in ("age", "height", "weight")},
        "female": float((sex == "female").mean()) if len(sex) else float("nan"),
        "remarked": float((noise == NOISE_WORDS[1]).mean()) if len(noise) else float("nan"),
    }


def _shares(here: pd.DataFrame, everybody: pd.DataFrame) -> pd.DataFrame:
    """Compare the share of each column of truths in a cluster with that in all records."""
    share, overall = here.mean().astype(np.float64), everybody.mean().astype(np.float64)
    lift = share / overall.where(overall > 0)
    return pd.DataFrame({"records": here.sum().astype(int), "share": share, "overall": overall, "lift": lift})


def _devices(here: pd.Series, everybody: pd.Series) -> pd.DataFrame:
    """Compare the commonest devices of a cluster with all records, where the device is known."""
    here, everybody = here.dropna().astype(str), everybody.dropna().astype(str)
    names = list(here.value_counts().index[:N_DEVICES])
    columns = {name: (here == name, everybody == name) for name in names}
    return _shares(
        pd.DataFrame({name: pair[0] for name, pair in columns.items()}),
        pd.DataFrame({name: pair[1] for name, pair in columns.items()}),
    )


def cards_table(cards: Sequence[ClusterCard]) -> pd.DataFrame:
    """Put all cards into one table.

    Parameters
    ----------
    cards : sequence of ClusterCard
        As `cluster_cards` gives them.

    Returns
    -------
    DataFrame
        Index ``cluster`` (``"noise"`` for the records in none). Columns: ``records``, ``share``, ``patients``,
        ``classes`` (those that are commoner than in all records, the highest lift first, in words), ``age`` (median,
        years), ``age_low`` and ``age_high`` (quartiles), ``female`` (share), ``height`` (median, cm), ``height_known``
        (records), ``weight`` (median, kg), ``weight_known``, ``device`` (the commonest, in words), ``remarked`` (share)
        and ``nearest`` (record ids).
    """
    rows = {NO_CLUSTER if card.cluster == NOISE else card.cluster: _row(card) for card in cards}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("cluster")


def _row(card: ClusterCard) -> dict[str, object]:
    """Put one card into a row."""
    high = card.classes[card.classes["lift"] > 1].sort_values("lift", ascending=False, kind="stable")
    classes = [f"{name} {row['share']:.0%} (all {row['overall']:.0%})" for name, row in high.iterrows()]
    devices = [f"{name} {row['share']:.0%} (all {row['overall']:.0%})" for name, row in card.devices.iterrows()]
    return {
        "records": card.records,
        "share": card.share,
        "patients": card.patients,
        "classes": ", ".join(classes),
        "age": card.age[0],
        "age_low": card.age[1],
        "age_high": card.age[2],
        "female": card.female,
        "height": card.height[0],
        "height_known": card.height[1],
        "weight": card.weight[0],
        "weight_known": card.weight[1],
        "device": devices[0] if devices else "",
        "remarked": card.remarked,
        "nearest": ", ".join(str(name) for name in card.nearest["record_id"]),
    }
