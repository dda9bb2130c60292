"""How far clusters agree with classes, of which a record may carry several, and with who and what was recorded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.evaluation.subgroups import NOISE_COLUMNS, noted_noise
from ecgkit.feature_space.clusters.fit import NOISE, Clusters
from ecgkit.feature_space.clusters.tables import (
    adjusted_mutual_information,
    adjusted_rand,
    against_chance,
    contingency,
    permuted_tables,
    table_purity,
)
from ecgkit.feature_space.standardize import fold_rows
from ecgkit.stats.folds import TEST_FOLD
from ecgkit.stats.multiple_testing import benjamini_hochberg

EXACTLY_ONE = "exactly one class"
"""The partition of `partitions` for the records that carry one class and no other."""

ALL_RECORDS = "all"
"""The row of `cluster_composition` for all clusters together."""

NO_CLUSTER = "noise"
"""The row of `cluster_composition` for the records in no cluster, where there are any."""

BANDS = {"age": 10, "height": 10, "weight": 10}
"""Width of the bands of numbers, in years, cm and kg."""


def purity(assigned: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    """Give the share of the records that are of the commonest kind of their cluster.

    Parameters
    ----------
    assigned : ndarray of int, shape (records,)
        Clusters, counted from 0.
    truth : ndarray of int or bool, shape (records,)
        Kinds, counted from 0.

    Returns
    -------
    float
        Between the share of the commonest kind of all and 1; NaN without records.

    References
    ----------
    Manning, Raghavan and Schütze, "Introduction to Information Retrieval", section 16.3, 2008.
    """
    if not len(truth):
        return float("nan")
    return float(table_purity(contingency(assigned, truth)[None])[0])


def agreement(
    assigned: NDArray[np.integer], truth: NDArray[np.integer], *, seed: int, n_permutations: int = 200
) -> dict[str, float]:
    """Say how far clusters agree with one partition of the same records, and what chance alone would give.

    Parameters
    ----------
    assigned : ndarray of int, shape (records,)
        Clusters; noise, -1, counts as one more.
    truth : ndarray of int or bool, shape (records,)
        Kinds.
    seed : int
        Seed of the permutations.
    n_permutations : int, default 200
        How often the kinds are shuffled over the records.

    Returns
    -------
    dict of str to float
        ``ami`` and ``ari``, 0 for chance and 1 for the same partition, each with ``_permuted`` and ``_high``, the mean
        and the 97.5th percentile over the permutations, and ``_p``, the one-sided p value, at least 1 /
        (n_permutations + 1); ``purity``, which nothing corrects for chance, beside ``purity_majority`` (of one single
        cluster) and ``purity_permuted`` (mean over the permutations). All NaN if the records are fewer than two or all
        of one kind.

    References
    ----------
    Hubert and Arabie, "Comparing partitions", J. Classification 2 (1985), doi:10.1007/BF01908075; Vinh, Epps and
    Bailey, J. Mach. Learn. Res. 11 (2010), 2837-2854.
    """
    if len(truth) < 2 or len(np.unique(truth)) < 2:
        return dict.fromkeys(_AGREEMENT, float("nan"))
    table = contingency(assigned, truth)[None]
    permuted = permuted_tables(table[0], n_permutations, np.random.default_rng(seed))
    values: list[float] = []
    for measure in (adjusted_mutual_information, adjusted_rand):
        observed = float(measure(table)[0])
        values += [observed, *against_chance(observed, measure(permuted))]
    values += [
        float(table_purity(table)[0]),
        float(table.sum(axis=1).max() / table.sum()),
        float(table_purity(permuted).mean()) if n_permutations else float("nan"),
    ]
    return dict(zip(_AGREEMENT, values, strict=True))


_AGREEMENT = (
    *("ami", "ami_permuted", "ami_high", "ami_p"),
    *("ari", "ari_permuted", "ari_high", "ari_p"),
    *("purity", "purity_majority", "purity_permuted"),
)


def cluster_composition(
    clusters: Clusters,
    records: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    folds: tuple[int, ...] | None = (TEST_FOLD,),
) -> pd.DataFrame:
    """Count what each cluster holds.

    Parameters
    ----------
    clusters : Clusters
        What `fit_clusters` gave for these records.
    records : DataFrame
        The records, in the same order; column ``fold``.
    labels : DataFrame of bool
        One column a class, the same order.
    folds : tuple of int or None, default (10,)
        The folds to read; None for all.

    Returns
    -------
    DataFrame
        Index ``cluster``: 0 to k - 1, then ``"all"``. Column ``records``, then for each class the number of the
        cluster's records that carry it; a record with several classes counts for each.

    Raises
    ------
    EcgkitError
        If no record is in the folds.
    """
    rows = fold_rows(records, folds)
    assigned = clusters.assigned[rows]
    names = [*range(clusters.k), *([NOISE] if (assigned == NOISE).any() else [])]
    truth = labels.iloc[rows].astype(np.int64).reset_index(drop=True)
    counts = truth.groupby(assigned).sum().reindex(names, fill_value=0)
    counts.insert(0, "records", [int((assigned == name).sum()) for name in names])
    everything = counts.sum().to_frame(ALL_RECORDS).T
    return pd.concat([counts.rename(index={NOISE: NO_CLUSTER}), everything]).rename_axis("cluster")


def partitions(records: pd.DataFrame, labels: pd.DataFrame, subclasses: pd.DataFrame | None = None) -> pd.DataFrame:
    """Make all partitions of the records that clusters may follow.

    Parameters
    ----------
    records : DataFrame
        Of ``age`` (years), ``sex``, ``height`` (cm), ``weight`` (kg), ``device``, ``site`` and the remarks on quality,
        such as ``baseline_drift``, those that there are. Age over 89 is 90, and so in the band from 90 on.
    labels : DataFrame of bool
        The classes that the model was trained on, in the same order.
    subclasses : DataFrame of bool, optional
        Finer classes, in the same order.

    Returns
    -------
    DataFrame of str, blank where unknown
        Columns ``(group, partition)``: each class alone and `EXACTLY_ONE` in the groups ``class`` and ``subclass``;
        age, height and weight in bands of ten and sex in ``person``; device, site and noise (noted or not,
        `ecgkit.evaluation.subgroups.noted_noise`) in ``recording``.
    """
    columns: dict[tuple[str, str], pd.Series] = {}
    for group, table in (("class", labels), ("subclass", subclasses)):
        if table is not None:
            columns |= {(group, name): values for name, values in _class_partitions(table).items()}
    for name, width in BANDS.items():
        if name in records:
            columns["person", f"{name} band"] = _bands(records[name], width)
    for group, name in (("person", "sex"), ("recording", "device"), ("recording", "site")):
        if name in records:
            columns[group, name] = records[name].astype("string")
    if set(NOISE_COLUMNS) & set(records):
        columns["recording", "noise"] = pd.Series(noted_noise(records), records.index, dtype="string")
    order = {"class": 0, "subclass": 1, "person": 2, "recording": 3}
    keys = sorted(columns, key=lambda key: order[key[0]])
    table = pd.concat([columns[key].reset_index(drop=True) for key in keys], axis=1)
    table.columns = pd.MultiIndex.from_tuples(keys, names=["group", "partition"])
    return table.astype("string")


def _class_partitions(labels: pd.DataFrame) -> dict[str, pd.Series]:
    """Make one partition a class, and that of the records with exactly one."""
    truth = labels.to_numpy(dtype=bool)
    names = {str(name): labels[name].map({True: str(name), False: f"no {name}"}) for name in labels.columns}
    only = np.array(labels.columns, dtype=object)[truth.argmax(axis=1)]
    return names | {EXACTLY_ONE: pd.Series(np.where(truth.sum(axis=1) == 1, only, None), labels.index)}


def _bands(values: pd.Series, width: int) -> pd.Series:
    """Cut numbers into bands, named after their lowest and highest whole number."""
    low = np.floor(values.to_numpy(dtype=np.float64) / width) * width
    names = [f"{start:.0f} to {start + width - 1:.0f}" if np.isfinite(start) else None for start in low]
    return pd.Series(names, values.index, dtype="string")


def first_of_patients(records: pd.DataFrame, folds: tuple[int, ...] | None) -> NDArray[np.int64]:
    """Give the positions of the first record of each patient in some folds; in all where ``folds`` is None.

    Raises
    ------
    EcgkitError
        If there is none.
    """
    rows = fold_rows(records, folds)
    return rows[~records["patient_id"].iloc[rows].duplicated().to_numpy()]


def agreement_table(
    clusterings: Mapping[str, Clusters],
    records: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    subclasses: pd.DataFrame | None = None,
    folds: tuple[int, ...] | None = (TEST_FOLD,),
    n_permutations: int = 2000,
) -> pd.DataFrame:
    """Compare the clusters of several methods with everything that is known of the records.

    One record a patient is compared, the first in the folds: the records of a patient look alike, and the permutations
    take records for independent. Unknown values are left out, and so are records with several classes where a
    partition wants exactly one.

    Parameters
    ----------
    clusterings : mapping of str to Clusters
        Clusters of these records, by the name of the method.
    records : DataFrame
        The records, in the same order; ``fold``, ``patient_id``, and those of `partitions`.
    labels : DataFrame of bool
        One column a class, the same order.
    subclasses : DataFrame of bool, optional
        Finer classes, the same order.
    folds : tuple of int or None, default (10,)
        The folds to read; None for all.
    n_permutations : int, default 2000
        As `agreement`; the smallest p value must leave room for as many partitions as there are.

    Returns
    -------
    DataFrame
        Index ``method``, ``group``, ``partition`` (as `partitions`). Columns: ``records`` compared, ``kinds`` among
        them, ``clusters`` among them, then those of `agreement`, NaN where all records are of one kind, and
        ``ami_p_adjusted`` and ``ari_p_adjusted``: to call those up to 0.05 found makes one false find in twenty among
        all that are found for a method, on average (`ecgkit.stats.multiple_testing.benjamini_hochberg`).

    Raises
    ------
    EcgkitError
        If no record is in the folds.
    """
    rows = first_of_patients(records, folds)
    known = partitions(records.iloc[rows], labels.iloc[rows], None if subclasses is None else subclasses.iloc[rows])
    table = {}
    level = known.columns.get_level_values
    for group, name in zip(level("group"), level("partition"), strict=True):
        codes, kinds = pd.factorize(known[group, name], sort=True)
        for method, clusters in clusterings.items():
            assigned = clusters.assigned[rows][codes >= 0]
            table[method, group, name] = {
                "records": len(assigned),
                "kinds": len(kinds),
                "clusters": len(np.unique(assigned)),
                **agreement(assigned, codes[codes >= 0], seed=clusters.seed, n_permutations=n_permutations),
            }
    result = pd.DataFrame.from_dict(table, orient="index").astype({"records": int, "kinds": int, "clusters": int})
    result.index = pd.MultiIndex.from_tuples(table, names=["method", "group", "partition"])
    for measure in ("ami", "ari"):
        of_method = result.groupby(level="method")[f"{measure}_p"]
        result[f"{measure}_p_adjusted"] = of_method.transform(benjamini_hochberg)
    return result.loc[list(clusterings)]
