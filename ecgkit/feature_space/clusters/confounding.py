"""Is it the diagnosis or the device? What clusters tell of the one once the other is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import entropy

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.clusters.agreement import EXACTLY_ONE, first_of_patients, partitions
from ecgkit.feature_space.clusters.fit import Clusters
from ecgkit.feature_space.clusters.tables import (
    against_chance,
    contingency,
    mutual_information,
    permuted_tables,
)
from ecgkit.stats.folds import TEST_FOLD
from ecgkit.stats.multiple_testing import benjamini_hochberg

FACTORS = ("device", "site", "noise", "age band", "sex")
"""What clusters may follow instead of the diagnosis."""

QUESTIONS = ("diagnosis", "diagnosis given factor", "factor", "factor given diagnosis")
"""What the clusters are asked for: alone, and where the other is known."""

SIGNIFICANT = 0.05
"""What has a larger adjusted p value is told as no more than chance."""

MAX_CLASSES = 12
"""So many classes are asked for, the commonest."""


def conditional_information(
    assigned: NDArray[np.integer],
    target: NDArray[np.integer],
    strata: NDArray[np.integer] | None = None,
    *,
    seed: int,
    n_permutations: int = 200,
    n_bootstraps: int = 200,
) -> dict[str, float]:
    """Measure what clusters tell of a target, in all records or within strata in which something else is the same.

    Parameters
    ----------
    assigned : ndarray of int, shape (records,)
        Clusters.
    target : ndarray of int, shape (records,)
        Kinds.
    strata : ndarray of int, shape (records,), optional
        The value of what is known; without it, one stratum holds all records.
    seed : int
        Seed of the permutations.
    n_permutations : int, default 200
        How often the clusters are shuffled, within each stratum.
    n_bootstraps : int, default 200
        How often the records are drawn with replacement.

    Returns
    -------
    dict of str to float
        ``information`` I(cluster; target | stratum) in bits, ``chance`` and ``chance_high``, its mean and 97.5th
        percentile over the permutations, ``p``, one-sided, ``beyond`` = information - chance in bits and
        ``beyond_error``, its standard error by bootstrap of the records, ``entropy`` H(target | stratum) in bits, what
        there is to tell, and ``explained`` = beyond / (entropy - chance), 0 on average for chance and 1 if the cluster
        tells all; NaN where there is nothing to tell.

    Notes
    -----
    Two targets are compared by their ``beyond``, of which both are parts of the same entropy of the clusters. Shares of
    their own entropies would make the one with less entropy look like more.

    References
    ----------
    Cover and Thomas, "Elements of information theory", section 2.5, 2006. The adjustment is that of Vinh, Epps and
    Bailey, J. Mach. Learn. Res. 11 (2010), 2837-2854, with permutations in place of their expectation.
    """
    names, stratum = np.unique(np.zeros(len(target)) if strata is None else strata, return_inverse=True)
    random = np.random.default_rng(seed)
    information, left, permuted = 0.0, 0.0, np.zeros(n_permutations)
    for i in range(len(names)):
        rows = stratum == i
        table, share = contingency(assigned[rows], target[rows]), float(rows.mean())
        left += share * float(entropy(table.sum(axis=0), base=2))
        if min(table.shape) > 1:
            information += share * float(mutual_information(table[None])[0]) / np.log(2)
            permuted += share * mutual_information(permuted_tables(table, n_permutations, random)) / np.log(2)
    chance, high, p = against_chance(information, permuted)
    room = left - chance
    return {
        "information": information,
        "chance": chance,
        "chance_high": high,
        "p": p,
        "beyond": information - chance,
        "beyond_error": float(np.std(_resampled(assigned, target, stratum, n_bootstraps, random))),
        "entropy": left,
        "explained": (information - chance) / room if room > 1e-12 else float("nan"),
    }


def difference_error(
    assigned: NDArray[np.integer],
    one: NDArray[np.integer],
    other: NDArray[np.integer],
    *,
    seed: int,
    n_bootstraps: int = 200,
) -> float:
    """Give the standard error of what clusters tell of one thing more than of another, each with the other known.

    The two are of the same records and share what the cluster leaves open, so that their errors are not independent;
    each resample of the records gives their difference, I(cluster; one | other) - I(cluster; other | one).

    Parameters
    ----------
    assigned, one, other : ndarray of int, shape (records,)
        Clusters, and the two kinds.
    seed : int
        Seed of the resamples.
    n_bootstraps : int, default 200
        How often the records are drawn with replacement; at least 2.

    Returns
    -------
    float
        In bits.
    """
    drawn, triples = _drawn_triples(assigned, one, other, n_bootstraps, np.random.default_rng(seed))
    # With H(cluster | one, other) in both, what is left of the difference is H(cluster | other) - H(cluster | one).
    with_other, with_one = (_of_cluster_given(drawn, triples, axis) for axis in (2, 1))
    return float(np.std(with_other - with_one))


def _resampled(
    assigned: NDArray[np.integer],
    target: NDArray[np.integer],
    stratum: NDArray[np.integer],
    number: int,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw records with replacement, and give the conditional information in bits; NaN for no draw."""
    if not number:
        return np.full(1, np.nan)
    drawn, triples = _drawn_triples(assigned, target, stratum, number, random)
    given_both = _entropy(drawn) - _entropy(_summed(drawn, triples[:, [1, 2]]))
    return _of_cluster_given(drawn, triples, 2) - given_both


def _drawn_triples(
    assigned: NDArray[np.integer],
    one: NDArray[np.integer],
    other: NDArray[np.integer],
    number: int,
    random: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.integer]]:
    """Draw records with replacement: how often each triple comes, ``(number, triples)``, and the triples."""
    # Only the triples that occur: the whole table of many clusters, kinds and strata is mostly empty.
    triples, counts = np.unique(np.stack([assigned, one, other], axis=1), axis=0, return_counts=True)
    return random.multinomial(len(one), counts / len(one), size=number), triples


def _of_cluster_given(drawn: NDArray[np.int64], triples: NDArray[np.integer], axis: int) -> NDArray[np.float64]:
    """Give the entropy of the cluster, given what stands on one axis of the triples."""
    return _entropy(_summed(drawn, triples[:, [0, axis]])) - _entropy(_summed(drawn, triples[:, [axis]]))


def _summed(drawn: NDArray[np.int64], kinds: NDArray[np.integer]) -> NDArray[np.int64]:
    """Sum the counts of triples that are of one kind."""
    _, kind = np.unique(kinds, axis=0, return_inverse=True)
    order = np.argsort(kind.ravel(), kind="stable")
    starts = np.flatnonzero(np.diff(kind.ravel()[order], prepend=-1))
    return np.asarray(np.add.reduceat(drawn[:, order], starts, axis=1))


def _entropy(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the entropy of each row of counts in bits."""
    return np.asarray(entropy(tables, axis=1, base=2), dtype=np.float64)


def confounding_table(
    clusters: Clusters,
    records: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    factors: Sequence[str] = FACTORS,
    folds: tuple[int, ...] | None = (TEST_FOLD,),
    n_permutations: int = 2000,
    max_classes: int = MAX_CLASSES,
) -> pd.DataFrame:
    """Ask what clusters tell of the diagnosis once a factor such as the device is known, and the other way round.

    Clusters that agree with diagnosis and device may follow either, since a device stands where certain patients are.
    Where the device is the same for all, only the diagnosis is left to be told, and the clusters are shuffled there for
    what chance would tell. One record a patient is compared, the first in the folds, and of those for which both are
    known, so that all four numbers of a pair are of the same records.

    Parameters
    ----------
    clusters : Clusters
        Clusters of these records.
    records : DataFrame
        The records, in the same order; ``fold``, ``patient_id``, and those of `partitions`.
    labels : DataFrame of bool
        One column a class, the same order.
    factors : sequence of str, default device, site, noise, age band and sex
        Partitions of the records, as `partitions` names them; those that are known of no record are
        left out.
    folds : tuple of int or None, default (10,)
        The folds to read; None for all.
    n_permutations : int, default 2000
        As `conditional_information`; the smallest p value must leave room for as many rows as there are. Seconds for 5
        clusters and 5 classes, a minute for 71 clusters and 12 classes.
    max_classes : int, default 12
        Of more classes so many are asked for alone, the commonest of the records compared.

    Returns
    -------
    DataFrame
        Index ``diagnosis`` (the exactly-one class first, then each class), ``factor``, ``question`` (`QUESTIONS`).
        Columns: ``records``, ``kinds`` of the factor, those of `conditional_information`, ``difference_error``, that of
        `difference_error` between diagnosis and factor, and ``p_adjusted``, over all rows
        (Benjamini and Hochberg). ``attrs["note"]`` says which classes were left out; empty for none.

    Raises
    ------
    EcgkitError
        If no record is in the folds, or no factor is known of any.
    """
    rows = first_of_patients(records, folds)
    known = partitions(records.iloc[rows], labels.iloc[rows]).droplevel("group", axis=1)
    assigned = clusters.assigned[rows]
    classes = _commonest(labels.iloc[rows], max_classes)
    table = {}
    for name in (EXACTLY_ONE, *classes):
        for factor in factors:
            if factor not in known:
                continue
            use = known[[name, factor]].notna().all(axis=1).to_numpy()
            if not use.any():
                continue
            of_name, of_factor = (pd.factorize(known[column][use], sort=True)[0] for column in (name, factor))
            error = difference_error(assigned[use], of_name, of_factor, seed=clusters.seed)
            asked = ((of_name, None), (of_name, of_factor), (of_factor, None), (of_factor, of_name))
            for question, (target, given) in zip(QUESTIONS, asked, strict=True):
                table[name, factor, question] = {
                    "records": int(use.sum()),
                    "kinds": len(np.unique(of_factor)),
                    **conditional_information(
                        assigned[use], target, given, seed=clusters.seed, n_permutations=n_permutations
                    ),
                    "difference_error": error,
                }
    if not table:
        raise EcgkitError(f"{', '.join(factors)}: known of no record with a diagnosis; ask for another factor")
    result = pd.DataFrame.from_dict(table, orient="index")
    result.index = pd.MultiIndex.from_tuples(table, names=["diagnosis", "factor", "question"])
    result["p_adjusted"] = benjamini_hochberg(result["p"])
    left_out = len(labels.columns) - len(classes)
    result.attrs["note"] = f"the {len(classes)} commonest of {len(labels.columns)} classes" if left_out else ""
    return result.astype({"records": int, "kinds": int})


def _commonest(labels: pd.DataFrame, number: int) -> list[str]:
    """Give the classes that the most records carry, in the order of the columns."""
    most = np.argsort(-labels.to_numpy(dtype=bool).sum(axis=0), kind="stable")[:number]
    return [str(labels.columns[i]) for i in np.sort(most)]


def confounding_in_words(table: pd.DataFrame, *, diagnosis: str = EXACTLY_ONE, factor: str = "device") -> str:
    """Say in words what `confounding_table` holds of one diagnosis and one factor.

    Parameters
    ----------
    table : DataFrame
        As `confounding_table` gives it.
    diagnosis : str, default "exactly one class"
        The diagnosis.
    factor : str, default "device"
        The factor.

    Returns
    -------
    str
        What the cluster tells of each in bits beyond chance, alone and where the other is known, beside the share of
        what there is to tell, and which is more; "about as much" where the bits differ by no more than 1.96 standard
        errors of their difference. What has an adjusted p value above 0.05 is chance.

    Raises
    ------
    EcgkitError
        If the table has no such pair, or was made without permutations.
    """
    level = table.index.get_level_values
    pairs = list(zip(level("diagnosis"), level("factor"), strict=True))
    if (diagnosis, factor) not in pairs:
        known = ", ".join(f"{one!r} with {other!r}" for one, other in dict.fromkeys(pairs))
        raise EcgkitError(f"no {diagnosis!r} with {factor!r} in the table: choose one of {known}")
    of_pair = zip(pairs, level("question"), table.iterrows(), strict=True)
    asked = {question: row for pair, question, (_, row) in of_pair if pair == (diagnosis, factor)}
    if any(np.isnan(row["p"]) for row in asked.values()):
        raise EcgkitError("the table has no permutations to tell chance from: make it with n_permutations above 0")
    of_class = "the diagnosis" if diagnosis == EXACTLY_ONE else diagnosis
    of_factor = f"the {factor}"
    names = (of_class, of_class, of_factor, of_factor)
    alone, given, other, other_given = (
        _told(asked[question], name) for question, name in zip(QUESTIONS, names, strict=True)
    )
    records = int(asked[QUESTIONS[0]]["records"])
    return (
        f"In {records:,} records the cluster tells, beyond chance, {alone} and {other}. "
        f"With {of_factor} known it tells {given}; with {of_class} known, {other_given}. "
        + _verdict(asked[QUESTIONS[1]], asked[QUESTIONS[3]], of_class, of_factor)
    )


def _beyond_chance(row: pd.Series) -> bool:
    """Say whether a row holds more than chance; what cannot be told does not."""
    return bool(np.isfinite(row["explained"]) and row["beyond"] > 0 and row["p_adjusted"] <= SIGNIFICANT)


def _percent(share: float) -> str:
    """Write a share with as many digits as it can be trusted to have."""
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.1f} %" if percent >= 0.05 else "less than 0.1 %"


def _bits(number: float) -> str:
    """Write bits with as many digits as they can be trusted to have."""
    if number < 5e-4:
        return "less than 0.001 bits"
    return f"{number:.2f} bits" if number >= 0.0995 else f"{number:.3f} bits"


def _told(row: pd.Series, name: str) -> str:
    """Put what is told of one into words."""
    if not _beyond_chance(row):
        return f"no more of {name} than chance would"
    return f"{_bits(row['beyond'])} of {name} ({_percent(row['explained'])} of its entropy)"


def _verdict(of_class: pd.Series, of_factor: pd.Series, name: str, factor: str) -> str:
    """Say which of the two the clusters follow, each with the other known."""
    both = (_beyond_chance(of_class), _beyond_chance(of_factor))
    if both == (False, False):
        return f"Beyond what the other tells, nothing of {name} or {factor} is seen in the clusters."
    if not all(both):
        followed, other = (name, factor) if both[0] else (factor, name)
        return f"The clusters follow {followed}; of {other} nothing is seen beyond that."
    apart = abs(of_class["beyond"] - of_factor["beyond"])
    if apart <= 1.96 * of_class["difference_error"]:
        return f"The clusters follow {name} and {factor} about as much."
    more, less = (name, factor) if of_class["beyond"] > of_factor["beyond"] else (factor, name)
    return f"The clusters follow {more} more than {less}, and both beyond chance."
