"""Diagnostic codes of other data sets, mapped to PTB-XL's superclasses by the table ``codes.csv``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.stats.labels import SUPERCLASSES

TABLE = Path(__file__).with_name("codes.csv")
CODES = "codes"
"""The label set that has a class for each code that occurs."""
SUPERCLASS = "superclass"
ALONE = {"snomed": {"426783006", "427393009"}, "aha": {"1", "2", "20", "23"}}
"""Codes of sinus rhythm, sinus arrhythmia and a normal ECG: a record with another code is not normal."""


@cache
def code_table(system: str) -> pd.DataFrame:
    """Return the known codes of a system.

    Parameters
    ----------
    system : {"snomed", "aha"}
        SNOMED CT, as PhysioNet/CinC 2020 and 2021 use it, or the statements of AHA, ACCF and HRS [1]_.

    Returns
    -------
    DataFrame
        Index: the code. ``class``, its short name; ``statement``; ``superclass``, empty if it has none; ``source``,
        where the superclass is from: ``PTB-XL CODE`` is the superclass of the same statement in PTB-XL's
        ``scp_statements.csv``, ``AHA section X`` follows from the section of [1]_ that the statement is in: H and I
        conduction, K chamber enlargement, L repolarisation, M infarction.

    References
    ----------
    .. [1] Mason, J. W. et al. (2007). Recommendations for the standardization and interpretation of the
       electrocardiogram, part II. Circulation 115, 1325-1332.
    """
    table = pd.read_csv(TABLE, dtype=str, keep_default_na=False)
    return table[table["system"] == system].set_index("code").drop(columns="system")


def code_labels(codes: Sequence[Sequence[str]], system: str) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """Make the label sets ``superclass`` and ``codes``.

    Parameters
    ----------
    codes : sequence of sequences of str
        The codes of each record; none if they are unknown.
    system : {"snomed", "aha"}
        What the codes are; see `code_table`.

    Returns
    -------
    labels : dict of str to DataFrame
        Nullable booleans. A record is normal (NORM) if a code says so and none says anything but sinus rhythm or
        sinus arrhythmia. A class that a record does not have is unknown if a code of the record is not in the table.
    unmapped : dict of str to int
        Codes that are not in the table, and the number of records that have each, the most frequent first.
    """
    table = code_table(system)
    superclass_of, name_of = table["superclass"].to_dict(), table["class"].to_dict()
    rows = np.repeat(np.arange(len(codes)), [len(own) for own in codes])
    flat = pd.Series([code for own in codes for code in own], dtype=object)
    is_unmapped = ~flat.isin(table.index)
    found = pd.Series(flat.map(superclass_of).fillna("").to_numpy())
    values = {name: _any(rows[found == name], len(codes)) for name in SUPERCLASSES}
    values["NORM"] &= ~_any(rows[~flat.isin(ALONE[system]).to_numpy(bool)], len(codes))
    superclass = pd.DataFrame(values).astype("boolean")
    incomplete = _any(rows[is_unmapped.to_numpy(bool)], len(codes)) | np.array([not own for own in codes], bool)
    superclass = superclass.mask(incomplete[:, None] & ~superclass.to_numpy(bool))
    names = flat.map(name_of).fillna(flat)
    classes = {name: _any(rows[(names == name).to_numpy(bool)], len(codes)) for name in sorted(set(names))}
    every = pd.DataFrame(classes, index=range(len(codes)), dtype="boolean")
    every[[not own for own in codes]] = pd.NA
    unmapped = Counter(flat[is_unmapped]).most_common()
    return {SUPERCLASS: superclass, CODES: every}, dict(unmapped)


def _any(rows: NDArray[np.int64], n_records: int) -> NDArray[np.bool_]:
    """Return which records are among the rows."""
    result = np.zeros(n_records, bool)
    result[rows] = True
    return result
