"""Contingency tables: how far two partitions agree, and what all tables with the same margins would give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import entropy, random_table
from sklearn.metrics.cluster import expected_mutual_information


def contingency(one: NDArray[np.integer], other: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count the records of each pair of kinds; the kinds may be any whole numbers, and only those that occur count.

    Parameters
    ----------
    one, other : ndarray of int or bool, shape (records,)
        Two partitions of the same records.

    Returns
    -------
    ndarray of int64, shape (kinds of one, kinds of other)
    """
    rows, row = np.unique(one, return_inverse=True)
    columns, column = np.unique(other, return_inverse=True)
    counts = np.bincount(row * len(columns) + column, minlength=len(rows) * len(columns))
    return counts.reshape(len(rows), len(columns)).astype(np.int64)


def permuted_tables(table: NDArray[np.int64], number: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw the tables that come out when one partition is shuffled over the records.

    Shuffling keeps the margins, and every shuffle is equally likely; the tables are drawn from that distribution
    without a shuffle of the records, in a time that does not depend on how many records there are.

    Parameters
    ----------
    table : ndarray of int64, shape (rows, columns)
        A contingency table.
    number : int
        How many to draw.
    random : Generator
        The source of chance.

    Returns
    -------
    ndarray of int64, shape (number, rows, columns)

    References
    ----------
    Patefield, "Algorithm AS 159: an efficient method of generating random r x c tables", Appl. Stat. 30 (1981),
    doi:10.2307/2346669.
    """
    if not number or not table.size:
        return np.zeros((number, *table.shape), dtype=np.int64)
    if min(table.shape) == 1:  # SciPy draws nonsense from a single row
        return np.repeat(table[None], number, axis=0)
    drawn = random_table(table.sum(axis=1), table.sum(axis=0)).rvs(size=number, random_state=random)
    return np.asarray(drawn).astype(np.int64).reshape(number, *table.shape)


def mutual_information(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the mutual information of rows and columns.

    Parameters
    ----------
    tables : ndarray of int64, shape (tables, rows, columns)
        Contingency tables of one and the same number of records.

    Returns
    -------
    ndarray of float64, shape (tables,)
        In nats; 0 for a table without records.
    """
    if not tables.size or not tables[0].sum():
        return np.zeros(len(tables))
    rows, columns = entropy(tables.sum(axis=2), axis=1), entropy(tables.sum(axis=1), axis=1)
    both = entropy(tables.reshape(len(tables), -1), axis=1)
    return np.maximum(rows + columns - both, 0.0)


def adjusted_rand(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the adjusted Rand index of rows and columns.

    Parameters
    ----------
    tables : ndarray of int64, shape (tables, rows, columns)
        Contingency tables of one and the same number of records, two or more.

    Returns
    -------
    ndarray of float64, shape (tables,)
        1 for the same partition, 0 on average for chance.

    References
    ----------
    Hubert and Arabie, "Comparing partitions", J. Classification 2 (1985), doi:10.1007/BF01908075.
    """
    together = _pairs(tables).sum(axis=(1, 2))
    rows, columns = _pairs(tables.sum(axis=2)).sum(axis=1), _pairs(tables.sum(axis=1)).sum(axis=1)
    expected = rows * columns / _pairs(tables.sum(axis=(1, 2)))
    most = (rows + columns) / 2
    same = most == expected
    return np.where(same, 1.0, (together - expected) / np.where(same, 1.0, most - expected))


def _pairs(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the number of pairs among so many."""
    number = counts.astype(np.float64)
    return number * (number - 1) / 2


def adjusted_mutual_information(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the adjusted mutual information of rows and columns, with the arithmetic mean of both entropies.

    Parameters
    ----------
    tables : ndarray of int64, shape (tables, rows, columns)
        Contingency tables with the same margins, so that one expectation serves all.

    Returns
    -------
    ndarray of float64, shape (tables,)
        1 for the same partition, 0 on average for chance.

    References
    ----------
    Vinh, Epps and Bailey, "Information theoretic measures for clusterings comparison", J. Mach. Learn. Res. 11
    (2010), 2837-2854.
    """
    if not len(tables):
        return np.zeros(0)
    first = tables[0]
    expected = expected_mutual_information(first, int(first.sum()))
    most = (entropy(first.sum(axis=1)) + entropy(first.sum(axis=0))) / 2
    room = most - expected
    # Where chance alone gives the most that there is, 0 / 0 stands for the same partition.
    return (mutual_information(tables) - expected) / room if room > 1e-12 else np.ones(len(tables))


def table_purity(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the share of the records that are of the commonest column of their row.

    Parameters
    ----------
    tables : ndarray of int64, shape (tables, rows, columns)
        Contingency tables.

    Returns
    -------
    ndarray of float64, shape (tables,)
    """
    return tables.max(axis=2).sum(axis=1) / tables.sum(axis=(1, 2))


def against_chance(observed: float, permuted: NDArray[np.floating]) -> tuple[float, float, float]:
    """Give the mean and the 97.5th percentile of the permutations, and the p value of the observed.

    Parameters
    ----------
    observed : float
        What is found.
    permuted : ndarray, shape (permutations,)
        What chance gives.

    Returns
    -------
    tuple of float
        All NaN without permutations. The p value is one-sided and at least 1 / (permutations + 1).

    References
    ----------
    Phipson and Smyth, "Permutation p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9 (2010),
    doi:10.2202/1544-6115.1585.
    """
    if not len(permuted):
        return float("nan"), float("nan"), float("nan")
    p = (1 + int((permuted >= observed - 1e-12).sum())) / (1 + len(permuted))
    return float(permuted.mean()), float(np.percentile(permuted, 97.5)), p
