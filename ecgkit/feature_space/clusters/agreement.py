"""What clusters agree with: classes, of which a record may carry several, patients' characteristics, and recordings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import entropy, random_table
from sklearn.metrics.cluster import expected_mutual_information

from ecgkit.errors import EcgkitError
from ecgkit.evaluation.subgroups import NOISE_COLUMNS, noted_noise
from ecgkit.feature_space.clusters.fit import Clusters
from ecgkit.feature_space.standardize import fold_rows
from ecgkit.stats import Floats
from ecgkit.stats.multiple_testing import benjamini_hochberg
from ecgkit.stats.validation import known_true

EXACTLY_ONE = "exactly one class"
"""The partition of the records that carry one class and no other."""

BANDS = {"age": 10, "height": 10, "weight": 10}
"""Width of the bands of quantities, in years, cm and kg."""

FACTORS = ("device", "site", "noise", "age band", "sex")
"""What clusters may follow instead of the diagnosis."""

QUESTIONS = ("diagnosis", "diagnosis given factor", "factor", "factor given diagnosis")

N_PERMUTATIONS = 2000
"""So many that the smallest p value is below 0.05 also after the correction for the number of partitions."""


def partitions(records: pd.DataFrame, labels: pd.DataFrame, subclasses: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return all partitions of the records that clusters may follow.

    Parameters
    ----------
    records : DataFrame
        With ``age`` (years), ``sex``, ``height`` (cm), ``weight`` (kg), ``device``, ``site`` and remarks on quality
        such as ``baseline_drift``, as far as known. Age over 89 is 90, and so in the band from 90 on.
    labels : DataFrame of bool
        The classes of the model, in the same order.
    subclasses : DataFrame of bool, optional
        Finer classes, in the same order.

    Returns
    -------
    DataFrame of str, blank where unknown
        Columns ``(group, partition)``: each class alone and `EXACTLY_ONE` in the groups ``class`` and ``subclass``;
        age, height and weight in bands of ten and sex in ``person``; device, site and noise in ``recording``.
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
    aligned = {key: values.reset_index(drop=True) for key, values in columns.items()}
    return pd.concat(aligned, axis=1, names=["group", "partition"]).astype("string")


def _class_partitions(labels: pd.DataFrame) -> dict[str, pd.Series]:
    """Return one partition per class, and that of the records with exactly one."""
    truth = known_true(labels)
    names = {str(name): labels[name].map({True: str(name), False: f"no {name}"}) for name in labels.columns}
    only = np.array(labels.columns, dtype=object)[truth.argmax(axis=1)]
    has_one = (truth.sum(axis=1) == 1) & labels.notna().all(axis=1)
    return names | {EXACTLY_ONE: pd.Series(np.where(has_one, only, None), labels.index)}


def _bands(values: pd.Series, width: int) -> pd.Series:
    """Cut quantities into bands, named after their lowest and highest whole number."""
    low = np.floor(values.to_numpy(dtype=np.float64) / width) * width
    names = [f"{start:.0f} to {start + width - 1:.0f}" if np.isfinite(start) else None for start in low]
    return pd.Series(names, values.index, dtype="string")


def first_of_patients(records: pd.DataFrame) -> NDArray[np.int64]:
    """Return the rows of the first record of each patient in fold 10."""
    rows = fold_rows(records)
    return rows[~records["patient_id"].iloc[rows].duplicated().to_numpy()]


def agreement_table(
    clusterings: Mapping[str, Clusters],
    records: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    subclasses: pd.DataFrame | None = None,
    n_permutations: int = N_PERMUTATIONS,
) -> pd.DataFrame:
    """Compare the clusters of several methods with every partition of the records.

    One record per patient is compared, the first in fold 10, since permutations assume independent records. Unknown
    values are left out, and records with several classes from `EXACTLY_ONE`.

    Parameters
    ----------
    clusterings : mapping of str to Clusters
        Clusters of these records, by the name of the method. A method that found no cluster is left out.
    records : DataFrame
        The records, in the same order; ``fold``, ``patient_id``, and those of `partitions`.
    labels : DataFrame of bool
        One column per class, in the same order.
    subclasses : DataFrame of bool, optional
        Finer classes, in the same order.
    n_permutations : int, default 2000
        Random shuffles of the clusters over the records.

    Returns
    -------
    DataFrame
        Index ``method``, ``group``, ``partition`` (as `partitions`). Columns: ``records`` compared, ``kinds`` among
        them; ``ami``, the adjusted mutual information, 0 on average for chance and 1 for the same partition; its mean
        ``ami_permuted`` and 97.5th percentile ``ami_permuted_97.5`` over the permutations; the one-sided ``p`` and
        ``p_adjusted`` (Benjamini and Hochberg, over the partitions of a method). NaN if all records are of one kind.

    Raises
    ------
    EcgkitError
        If no record is in fold 10, or no method found a cluster.

    References
    ----------
    Vinh, Epps and Bailey, "Information theoretic measures for clusterings comparison", J. Mach. Learn. Res. 11
    (2010), 2837-2854.
    """
    found_some = {method: clusters for method, clusters in clusterings.items() if clusters.k}
    if not found_some:
        raise EcgkitError(f"{', '.join(clusterings) or 'no method'}: no cluster was found; fit another method, too")
    rows = first_of_patients(records)
    known = partitions(records.iloc[rows], labels.iloc[rows], None if subclasses is None else subclasses.iloc[rows])
    table = {}
    level = known.columns.get_level_values
    for group, name in zip(level("group"), level("partition"), strict=True):
        codes, kinds = pd.factorize(known[group, name], sort=True)
        for method, clusters in found_some.items():
            assigned = clusters.assigned[rows][codes >= 0]
            found = _agreement(assigned, codes[codes >= 0], seed=clusters.seed, n_permutations=n_permutations)
            table[method, group, name] = {"records": len(assigned), "kinds": len(kinds), **found}
    result = pd.DataFrame.from_dict(table, orient="index").astype({"records": int, "kinds": int})
    result.index = pd.MultiIndex.from_tuples(table, names=["method", "group", "partition"])
    result["p_adjusted"] = result.groupby(level="method")["p"].transform(benjamini_hochberg)
    return result.loc[list(found_some)]


def _agreement(
    assigned: NDArray[np.integer], truth: NDArray[np.integer], *, seed: int, n_permutations: int
) -> dict[str, float]:
    """Return the adjusted mutual information of clusters and kinds, with that of permutations."""
    names = ("ami", "ami_permuted", "ami_permuted_97.5", "p")
    if len(truth) < 2 or len(np.unique(truth)) < 2:
        return dict.fromkeys(names, float("nan"))
    table = contingency(assigned, truth)
    permuted = permuted_tables(table, n_permutations, np.random.default_rng(seed))
    values = adjusted_mutual_information(np.concatenate([table[None], permuted]))
    return dict(zip(names, (values[0], *_chance(float(values[0]), values[1:])), strict=True))


def conditional_information_table(
    clusters: Clusters, records: pd.DataFrame, labels: pd.DataFrame, *, n_permutations: int = N_PERMUTATIONS
) -> pd.DataFrame:
    """Measure the information of clusters about the diagnosis given device, site, noise, age or sex, and vice versa.

    Clusters that agree with diagnosis and device may follow either, since devices differ in their patients. The
    conditional mutual information I(cluster; diagnosis | device) is the information of the clusters about the
    diagnosis among records of the same device; for chance the clusters are shuffled within these. The diagnosis is
    `EXACTLY_ONE`; one record per patient is used, the first in fold 10, of those for which both are known.

    Parameters
    ----------
    clusters : Clusters
        Clusters of these records.
    records : DataFrame
        The records, in the same order; ``fold``, ``patient_id``, and those of `partitions`.
    labels : DataFrame of bool
        One column per class, in the same order.
    n_permutations : int, default 2000
        Shuffles of the clusters, within each stratum.

    Returns
    -------
    DataFrame
        Index ``factor``, ``question`` (``"diagnosis"``, ``"diagnosis given factor"``, ``"factor"``, ``"factor given
        diagnosis"``). Columns: ``records``; ``information`` in bits; ``chance``, its mean over the permutations;
        ``beyond`` = information - chance; the one-sided ``p`` and ``p_adjusted`` (Benjamini and Hochberg).

    Raises
    ------
    EcgkitError
        If no record is in fold 10, or no factor is known of any.

    References
    ----------
    Cover and Thomas, "Elements of information theory", section 2.5, 2006.
    """
    rows = first_of_patients(records)
    known = partitions(records.iloc[rows], labels.iloc[rows]).droplevel("group", axis=1)
    table = {}
    for factor in [name for name in FACTORS if name in known]:
        use = known[[EXACTLY_ONE, factor]].notna().all(axis=1).to_numpy()
        if not use.any():
            continue
        diagnosis, other = (pd.factorize(known[name][use], sort=True)[0] for name in (EXACTLY_ONE, factor))
        pairs = ((diagnosis, None), (diagnosis, other), (other, None), (other, diagnosis))
        for question, (target, strata) in zip(QUESTIONS, pairs, strict=True):
            found = conditional_information(
                clusters.assigned[rows][use], target, strata, seed=clusters.seed, n_permutations=n_permutations
            )
            table[factor, question] = {"records": int(use.sum()), **found}
    if not table:
        raise EcgkitError(f"{', '.join(FACTORS)}: none is known of a record with a diagnosis")
    result = pd.DataFrame.from_dict(table, orient="index").astype({"records": int})
    result.index = pd.MultiIndex.from_tuples(table, names=["factor", "question"])
    return result.assign(p_adjusted=benjamini_hochberg(result["p"]))


def conditional_information(
    assigned: NDArray[np.integer],
    target: NDArray[np.integer],
    strata: NDArray[np.integer] | None = None,
    *,
    seed: int,
    n_permutations: int,
) -> dict[str, float]:
    """Return I(cluster; target | stratum) in bits, with that of clusters shuffled within the strata."""
    names, stratum = np.unique(np.zeros(len(target)) if strata is None else strata, return_inverse=True)
    random = np.random.default_rng(seed)
    information, permuted = 0.0, np.zeros(n_permutations)
    for i in range(len(names)):
        rows = stratum == i
        table, share = contingency(assigned[rows], target[rows]), float(rows.mean()) / np.log(2)
        if min(table.shape) > 1:
            information += share * float(mutual_information(table[None])[0])
            permuted += share * mutual_information(permuted_tables(table, n_permutations, random))
    chance, _, p = _chance(information, permuted)
    return {"information": information, "chance": chance, "beyond": information - chance, "p": p}


def contingency(one: NDArray[np.integer], other: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count the records of each pair of kinds, shape (kinds of one, kinds of other)."""
    rows, row = np.unique(one, return_inverse=True)
    columns, column = np.unique(other, return_inverse=True)
    counts = np.bincount(row * len(columns) + column, minlength=len(rows) * len(columns))
    return counts.reshape(len(rows), len(columns)).astype(np.int64)


def permuted_tables(table: NDArray[np.int64], number: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw the contingency tables of shuffled records, in a time that does not depend on their number.

    Shuffling keeps the margins, and every shuffle is equally likely (Patefield, "Algorithm AS 159: an efficient method
    of generating random r x c tables", Appl. Stat. 30 (1981), doi:10.2307/2346669).
    """
    if not number or not table.size:
        return np.zeros((number, *table.shape), dtype=np.int64)
    if min(table.shape) == 1:  # SciPy's random_table is wrong for a single row
        return np.repeat(table[None], number, axis=0)
    drawn = random_table(table.sum(axis=1), table.sum(axis=0)).rvs(size=number, random_state=random)
    return np.asarray(drawn).astype(np.int64).reshape(number, *table.shape)


def mutual_information(tables: NDArray[np.int64]) -> Floats:
    """Return the mutual information of rows and columns of each table in nats, shape (tables,)."""
    if not len(tables):
        return np.zeros(0)
    rows, columns = entropy(tables.sum(axis=2), axis=1), entropy(tables.sum(axis=1), axis=1)
    both = entropy(tables.reshape(len(tables), -1), axis=1)
    return np.maximum(rows + columns - both, 0.0)


def adjusted_mutual_information(tables: NDArray[np.int64]) -> Floats:
    """Return the adjusted mutual information of tables with the same margins, which share one expectation.

    With the arithmetic mean of both entropies, as in scikit-learn; shape (tables,).
    """
    first = tables[0]
    expected = expected_mutual_information(first, int(first.sum()))
    room = (entropy(first.sum(axis=1)) + entropy(first.sum(axis=0))) / 2 - expected
    # If chance alone reaches the maximum, 0 / 0 is the same partition.
    return (mutual_information(tables) - expected) / room if room > 1e-12 else np.ones(len(tables))


def _chance(observed: float, permuted: Floats) -> tuple[float, float, float]:
    """Return mean and 97.5th percentile of the permutations, and the one-sided p value (Phipson and Smyth 2010)."""
    if not len(permuted):
        return float("nan"), float("nan"), float("nan")
    p = (1 + int((permuted >= observed - 1e-12).sum())) / (1 + len(permuted))
    return float(permuted.mean()), float(np.percentile(permuted, 97.5)), p
