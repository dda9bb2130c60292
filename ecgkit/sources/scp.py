"""Label sets that follow from SCP codes, the statements of the standard EN 1064."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from ecgkit.errors import EcgkitError
from ecgkit.stats.labels import SUPERCLASSES


def label_tables(
    codes: Sequence[Iterable[str]], sets: Mapping[str, Mapping[str, str]], known: Iterable[str]
) -> dict[str, pd.DataFrame]:
    """Make label sets: a record has every class to which one of its codes maps, whatever the likelihood of the code.

    Parameters
    ----------
    codes : sequence of iterables of str
        The SCP codes of each record.
    sets : mapping of str to mapping
        For each label set the class of its codes.
    known : iterable of str
        All codes that there are.

    Returns
    -------
    dict of str to DataFrame
        One boolean column per class, the superclasses in their usual order, others in that of the codes.

    Raises
    ------
    EcgkitError
        If a code is not known.
    """
    column_of = {code: column for column, code in enumerate(known)}
    has_code = np.zeros((len(codes), len(column_of)), bool)
    for row, own in enumerate(codes):
        for code in own:
            if code not in column_of:
                raise EcgkitError(f"SCP code {code!r} has no statement: take both tables from one data set")
            has_code[row, column_of[code]] = True
    labels = {}
    for name, class_of in sets.items():
        usual = SUPERCLASSES if name == "superclass" else ()
        members: dict[str, list[int]] = {label: [] for label in usual if label in class_of.values()}
        for code, label in class_of.items():
            members.setdefault(label, []).append(column_of[code])
        values = {label: has_code[:, columns].any(axis=1) for label, columns in members.items()}
        labels[name] = pd.DataFrame(values, index=range(len(codes)), dtype=bool)
    return labels
