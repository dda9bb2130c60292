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
from ecgkit.feature_space.clusters.tables import against_chance, contingency, mutual_information, permuted_tables
from ecgkit.store import TEST_FOLD

FACTORS = ("device", "site", "noise", "age band", "sex")
"""What clusters may follow instead of the diagnosis."""

QUESTIONS = ("diagnosis", "diagnosis given factor", "factor", "factor given diagnosis")
"""What the clusters are asked for: alone, and where the other is known."""

SIGNIFICANT = 0.05
"""What has a larger p value is told as no more than chance."""


def conditional_information(
    assigned: NDArray[np.integer],
    target: NDArray[np.integer],
    strata: NDArray[np.integer] | None = None,
    *,
    seed: int,
    n_permutations: int = 200,
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
        How often the clusters are shuffled, within each stratum, and the records drawn with replacement.

    Returns
    -------
    dict of str to float
        ``information`` I(cluster; target | stratum) in bits, ``chance`` and ``chance_high``, its mean and 97.5th
        percentile over the permutations, ``p``, one-sided, ``entropy`` H(target | stratum) in bits, what there is to
        tell, and ``explained`` = (information - chance) / (entropy - chance), 0 on average for chance and 1 if the
        cluster tells all, beside ``explained_high``, the same of ``chance_high``, and ``explained_error``, its standard
        error by bootstrap of the records. They are NaN where there is nothing to tell.

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
    drawn = _resampled(assigned, target, stratum, n_permutations, random)
    return {
        "information": information,
        "chance": chance,
        "chance_high": high,
        "p": p,
        "entropy": left,
        "explained": (information - chance) / room if room > 1e-12 else float("nan"),
        "explained_high": (high - chance) / room if room > 1e-12 else float("nan"),
        "explained_error": float(np.std((drawn[0] - chance) / (drawn[1] - chance))) if room > 1e-12 else float("nan"),
    }


def _resampled(
    assigned: NDArray[np.integer],
    target: NDArray[np.integer],
    stratum: NDArray[np.integer],
    number: int,
    random: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw records with replacement, and give the conditional information and the conditional entropy in bits."""
    axes = [np.unique(values, return_inverse=True)[1] for values in (assigned, target, stratum)]
    shape = tuple(int(axis.max()) + 1 for axis in axes)
    counts = np.bincount(np.ravel_multi_index(axes, shape), minlength=int(np.prod(shape)))
    drawn = random.multinomial(len(target), counts / len(target), size=number).reshape(number, *shape)
    of_target = _entropy(drawn.sum(axis=1)) - _entropy(drawn.sum(axis=(1, 2)))
    return of_target + _entropy(drawn.sum(axis=2)) - _entropy(drawn), of_target


def _entropy(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the entropy of each table in bits."""
    return np.asarray(
        entropy(tables.reshape(len(tables), int(np.prod(tables.shape[1:]))), axis=1, base=2), dtype=np.float64
    )


def confounding_table(
    clusters: Clusters,
    records: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    factors: Sequence[str] = FACTORS,
    folds: tuple[int, ...] | None = (TEST_FOLD,),
    n_permutations: int = 200,
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
    n_permutations : int, default 200
        As `conditional_information`.

    Returns
    -------
    DataFrame
        Index ``diagnosis`` (the exactly-one class first, then each class), ``factor``, ``question`` (`QUESTIONS`).
        Columns: ``records``, ``kinds`` of the factor, then those of `conditional_information`.

    Raises
    ------
    EcgkitError
        If no record is in the folds, or no factor is known of any.
    """
    rows = first_of_patients(records, folds)
    known = partitions(records.iloc[rows], labels.iloc[rows]).droplevel("group", axis=1)
    assigned = clusters.assigned[rows]
    table = {}
    for name in (EXACTLY_ONE, *map(str, labels.columns)):
        for factor in factors:
            if factor not in known:
                continue
            use = known[[name, factor]].notna().all(axis=1).to_numpy()
            if not use.any():
                continue
            of_name, of_factor = (pd.factorize(known[column][use], sort=True)[0] for column in (name, factor))
            asked = ((of_name, None), (of_name, of_factor), (of_factor, None), (of_factor, of_name))
            for question, (target, given) in zip(QUESTIONS, asked, strict=True):
                table[name, factor, question] = {
                    "records": int(use.sum()),
                    "kinds": len(np.unique(of_factor)),
                    **conditional_information(
                        assigned[use], target, given, seed=clusters.seed, n_permutations=n_permutations
                    ),
                }
    if not table:
        raise EcgkitError(f"{', '.join(factors)}: known of no record with a diagnosis; ask for another factor")
    result = pd.DataFrame.from_dict(table, orient="index")
    result.index = pd.MultiIndex.from_tuples(table, names=["diagnosis", "factor", "question"])
    return result.astype({"records": int, "kinds": int})


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
        What the cluster tells of each, alone and where the other is known, and which is more; "about as much" where
        the shares differ by no more than 1.96 standard errors of the difference.

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
        f"In {records:,} records the cluster tells {alone} and {other} (shares of the entropy, beyond chance). "
        f"With {of_factor} known it tells {given}; with {of_class} known, {other_given}. "
        + _verdict(asked[QUESTIONS[1]], asked[QUESTIONS[3]], of_class, of_factor)
    )


def _beyond_chance(row: pd.Series) -> bool:
    """Say whether a row holds more than chance; what cannot be told does not."""
    return bool(np.isfinite(row["explained"]) and row["explained"] > 0 and row["p"] <= SIGNIFICANT)


def _percent(share: float) -> str:
    """Write a share with as many digits as it can be trusted to have."""
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.1f} %" if percent >= 0.05 else "less than 0.1 %"


def _told(row: pd.Series, name: str) -> str:
    """Put one share into words."""
    return f"{_percent(row['explained'])} of {name}" if _beyond_chance(row) else f"no more of {name} than chance would"


def _verdict(of_class: pd.Series, of_factor: pd.Series, name: str, factor: str) -> str:
    """Say which of the two the clusters follow, each with the other known."""
    both = (_beyond_chance(of_class), _beyond_chance(of_factor))
    if both == (False, False):
        return f"Beyond what the other tells, nothing of {name} or {factor} is seen in the clusters."
    if not all(both):
        followed, other = (name, factor) if both[0] else (factor, name)
        return f"The clusters follow {followed}; of {other} nothing is seen beyond that."
    apart = abs(of_class["explained"] - of_factor["explained"])
    if apart <= 1.96 * np.hypot(of_class["explained_error"], of_factor["explained_error"]):
        return f"The clusters follow {name} and {factor} about as much."
    more, less = (name, factor) if of_class["explained"] > of_factor["explained"] else (factor, name)
    return f"The clusters follow {more} more than {less}, and both beyond chance."
