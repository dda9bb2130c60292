"""What a probe is asked for: the targets, their units, bins, and the values that are believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.stats.folds import TRAIN_FOLDS

MIN_OF_DEVICE = 100
"""A device with fewer records in folds 1-8 is left out of the probe for devices."""


@dataclass(frozen=True)
class Target:
    """What a probe is asked for.

    Attributes
    ----------
    name : str
        Column of the table of records.
    unit : str
        Unit of a number; empty for words.
    edges : tuple of float
        Where the bins of a number begin, but the first, which is open downwards; the last is open upwards.
    plausible : tuple of float
        Lowest and highest value that is believed; others are slips of the pen and count as unknown.
    words : tuple of str
        The two words of a binary target, the positive class last, or the words of a target of more classes; empty for
        a number.
    from_measures : tuple of str
        ECG measures that tell the target itself, and so are no control for it.
    partial : bool
        Whether ``words`` are only some of those in the column; a record with another one then counts as unknown.
    """

    name: str
    unit: str = ""
    edges: tuple[float, ...] = ()
    plausible: tuple[float, float] = (-np.inf, np.inf)
    words: tuple[str, ...] = ()
    from_measures: tuple[str, ...] = ()
    partial: bool = False

    @property
    def kind(self) -> Literal["regression", "binary", "multiclass"]:
        """A number is a regression, two words are binary, more are several classes."""
        if not self.words:
            return "regression"
        return "binary" if len(self.words) == 2 else "multiclass"

    @property
    def main_metric(self) -> Literal["r2", "auc"]:
        """The metric that a probe is judged by."""
        return "auc" if self.words else "r2"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes: the words, or the bins such as ``under 30``, ``30-39`` and ``80 and over``."""
        if self.words:
            return self.words
        pairs = list(zip(self.edges, self.edges[1:], strict=False))
        if all(edge == int(edge) for edge in self.edges):
            inner = [f"{low:g}-{high - 1:g}" for low, high in pairs]
        else:
            inner = [f"{low:g} to under {high:g}" for low, high in pairs]
        return (f"under {self.edges[0]:g}", *inner, f"{self.edges[-1]:g} and over")

    def read(self, records: pd.DataFrame) -> NDArray[np.float64]:
        """Read the target out of a table of records.

        Parameters
        ----------
        records : DataFrame
            With the column ``name``.

        Returns
        -------
        ndarray of float64, shape (records,)
            In ``unit``, or the number of the word in ``words``; NaN where unknown. Not yet judged by ``plausible``.

        Raises
        ------
        EcgkitError
            If the column is missing, or holds another word than these and the target is not ``partial``.
        """
        if self.name not in records:
            raise EcgkitError(f"the records have no column {self.name!r}: probe another target, or add the column")
        column = records[self.name]
        if self.kind == "regression":
            return pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan)
        found = pd.Index(self.words).get_indexer(pd.Index(_as_words(column)))
        others = sorted({repr(word) for word in column[(found < 0) & column.notna().to_numpy()]})
        if others and not self.partial:
            raise EcgkitError(
                f"{self.name} is {others[0]} in a record: write {' or '.join(self.words)}, or leave it blank"
            )
        return np.where(found >= 0, found, np.nan)

    def known(self, records: pd.DataFrame) -> NDArray[np.float64]:
        """Read the target, and take what is not plausible for unknown.

        Parameters
        ----------
        records : DataFrame
            With the column ``name``.

        Returns
        -------
        ndarray of float64, shape (records,)
            As of `read`, NaN outside ``plausible``.

        Raises
        ------
        EcgkitError
            As `read`.
        """
        values = self.read(records)
        return np.where((values >= self.plausible[0]) & (values <= self.plausible[1]), values, np.nan)

    def bin(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Give the class of each known value: its word, or its bin, to which the lower edge belongs."""
        return values.astype(np.int64) if self.words else np.digitize(values, self.edges).astype(np.int64)


def _as_words(column: pd.Series) -> pd.Series:
    """Write what a column holds as words; 3.0, as a column with blanks has it, is ``"3"``."""
    if pd.api.types.is_float_dtype(column.dtype):
        written = column.map(lambda value: str(int(value)) if value == int(value) else str(value), na_action="ignore")
        return written.astype("object")
    return column.astype("object").map(str, na_action="ignore")


TARGETS = (
    Target("age", unit="years", edges=(30, 40, 50, 60, 70, 80), plausible=(0, 120)),
    Target("sex", words=("male", "female")),
    Target("height", unit="cm", edges=(150, 160, 170, 180), plausible=(40, 250)),
    Target("weight", unit="kg", edges=(50, 60, 70, 80, 90, 100), plausible=(1, 400)),
)
"""What every probe session asks for; the positive class of sex is ``"female"``."""

BMI = Target("bmi", unit="kg/m²", edges=(18.5, 25, 30, 35), plausible=(10, 80))
"""The body mass index, in the classes of the World Health Organization."""

HEART_RATE = Target(
    "heart_rate",
    unit="beats/min",
    edges=(50, 60, 70, 80, 90, 100, 120),
    plausible=(20, 300),
    from_measures=("heart_rate", "n_beats", "qt", "qtc"),
)
"""QT and its corrected form say together what the heart rate is."""


def join_targets(
    records: pd.DataFrame, labels: pd.DataFrame | None = None, measures: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Add the columns that more targets are read from to a table of records.

    Parameters
    ----------
    records : DataFrame
        The records; columns ``height`` (cm) and ``weight`` (kg) if there is to be a body mass index.
    labels : DataFrame of bool, optional
        One column a class, with the index of the records.
    measures : DataFrame, optional
        ECG measures with the index of the records; of them the column ``heart_rate`` (beats/min) is taken.

    Returns
    -------
    DataFrame
        The records with ``bmi`` (kg/m², of plausible height and weight), ``heart_rate``, and for each class the words
        ``"without CLASS"`` and ``"with CLASS"``.

    Raises
    ------
    EcgkitError
        If a record is missing in the labels or the measures, or a class is called like a column.
    """
    table = records.copy()
    if {"height", "weight"} <= set(table):
        height, weight = (target.known(table) for target in TARGETS if target.name in ("height", "weight"))
        table["bmi"] = weight / (height / 100) ** 2
    if measures is not None and "heart_rate" in measures:
        table["heart_rate"] = align(measures, records, "measures")["heart_rate"].to_numpy()
    if labels is not None:
        for name, carries in align(labels, records, "labels").items():
            if name in table:
                raise EcgkitError(f"the class {name} is called like a column of the records: rename one of them")
            table[str(name)] = np.where(carries.to_numpy(dtype=bool), f"with {name}", f"without {name}")
    return table


def align(table: pd.DataFrame, records: pd.DataFrame, what: str) -> pd.DataFrame:
    """Put the rows of a table into the order of the records.

    Parameters
    ----------
    table : DataFrame
        With the index of the records, or of more.
    records : DataFrame
        The records.
    what : str
        What the table holds, for the error.

    Returns
    -------
    DataFrame

    Raises
    ------
    EcgkitError
        If a record is missing, or is there twice.
    """
    if table.index.equals(records.index):
        return table
    missing = ~records.index.isin(table.index)
    if missing.any() or not table.index.is_unique:
        raise EcgkitError(
            f"the {what} lack {missing.sum()} of {len(records)} records, or have some twice: give them the "
            "index of the records"
        )
    return table.loc[records.index]


def all_targets(table: pd.DataFrame, classes: Sequence[str] = ()) -> tuple[Target, ...]:
    """List every target that a table has the columns for.

    Parameters
    ----------
    table : DataFrame
        As `join_targets` gives it.
    classes : sequence of str, default ()
        The classes of the labels.

    Returns
    -------
    tuple of Target
        Age, sex, height, weight, body mass index, heart rate, device (those with at least 100 records in folds 1-8, if
        there are two), and each class.
    """
    targets = [target for target in (*TARGETS, BMI, HEART_RATE) if target.name in table]
    if "device" in table:
        counts = _as_words(table.loc[table["fold"].isin(TRAIN_FOLDS), "device"]).value_counts()
        words = sorted(counts[counts >= MIN_OF_DEVICE].index)
        if len(words) > 1:
            targets.append(Target("device", words=tuple(words), partial=True))
    return (*targets, *(Target(name, words=(f"without {name}", f"with {name}")) for name in classes))
