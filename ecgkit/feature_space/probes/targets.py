"""The targets of probes: quantities with units and bins, and categories."""

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
"""A device with fewer records in folds 1-8 is left out of the probe of devices."""


@dataclass(frozen=True)
class Target:
    """The target of a probe.

    Attributes
    ----------
    name : str
        Column of the table of records.
    unit : str
        Unit of a quantity; empty for categories.
    edges : tuple of float
        Lower edges of the bins of a quantity, without the first bin, which has none; the last has no upper edge.
    plausible : tuple of float
        Lowest and highest plausible value; others are taken for errors and count as unknown.
    categories : tuple of str
        The two categories of a binary target, the positive class last, or those of a target with more; empty for a
        quantity.
    from_measurements : tuple of str
        ECG measurements that contain the target itself, and so are not part of its controls.
    partial : bool
        Whether ``categories`` are only some of those in the column; a record with another one then counts as unknown.
    """

    name: str
    unit: str = ""
    edges: tuple[float, ...] = ()
    plausible: tuple[float, float] = (-np.inf, np.inf)
    categories: tuple[str, ...] = ()
    from_measurements: tuple[str, ...] = ()
    partial: bool = False

    @property
    def kind(self) -> Literal["regression", "binary", "multiclass"]:
        """A quantity is a regression, two categories are binary, more are multiclass."""
        if not self.categories:
            return "regression"
        return "binary" if len(self.categories) == 2 else "multiclass"

    @property
    def main_metric(self) -> Literal["r2", "auc"]:
        """The metric by which probes are compared."""
        return "auc" if self.categories else "r2"

    @property
    def classes(self) -> tuple[str, ...]:
        """The categories, or the bins such as ``under 30``, ``30-39`` and ``80 and over``; without edges only one."""
        if self.categories or not self.edges:
            return self.categories or ("any value",)
        pairs = list(zip(self.edges, self.edges[1:], strict=False))
        if all(edge == int(edge) for edge in self.edges):
            inner = [f"{low:g}-{high - 1:g}" for low, high in pairs]
        else:
            inner = [f"{low:g} to under {high:g}" for low, high in pairs]
        return (f"under {self.edges[0]:g}", *inner, f"{self.edges[-1]:g} and over")

    def raw_values(self, records: pd.DataFrame) -> NDArray[np.float64]:
        """Read the target from a table of records.

        Parameters
        ----------
        records : DataFrame
            With the column ``name``.

        Returns
        -------
        ndarray of float64, shape (records,)
            In ``unit``, or the index of the category; NaN where unknown. Implausible values are included.

        Raises
        ------
        EcgkitError
            If the column is missing, or holds another category and the target is not ``partial``.
        """
        if self.name not in records:
            raise EcgkitError(f"the records have no column {self.name!r}: probe another target, or add the column")
        column = records[self.name]
        if self.kind == "regression":
            return pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan)
        found = pd.Index(self.categories).get_indexer(pd.Index(as_text(column)))
        others = sorted({repr(word) for word in column[(found < 0) & column.notna().to_numpy()]})
        if others and not self.partial:
            raise EcgkitError(
                f"{self.name} is {others[0]} in a record: write {' or '.join(self.categories)}, or leave it blank"
            )
        return np.where(found >= 0, found, np.nan)

    def values(self, records: pd.DataFrame) -> NDArray[np.float64]:
        """Read the target as `raw_values`, with implausible values as NaN, shape (records,)."""
        values = self.raw_values(records)
        return np.where((values >= self.plausible[0]) & (values <= self.plausible[1]), values, np.nan)

    def bin(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the class of each known value: its category, or its bin, which includes its lower edge."""
        return values.astype(np.int64) if self.categories else np.digitize(values, self.edges).astype(np.int64)


def as_text(column: pd.Series) -> pd.Series:
    """Return categories as text; 3.0, as in a column with blanks, is ``"3"``."""
    if pd.api.types.is_float_dtype(column.dtype):
        written = column.map(lambda value: str(int(value)) if value == int(value) else str(value), na_action="ignore")
        return written.astype("object")
    return column.astype("object").map(str, na_action="ignore")


AGE = Target("age", unit="years", edges=(30, 40, 50, 60, 70, 80), plausible=(0, 120))
SEX = Target("sex", categories=("male", "female"))
HEIGHT = Target("height", unit="cm", edges=(150, 160, 170, 180), plausible=(40, 250))
WEIGHT = Target("weight", unit="kg", edges=(50, 60, 70, 80, 90, 100), plausible=(1, 400))
TARGETS = (AGE, SEX, HEIGHT, WEIGHT)
"""The targets of every probe session; the positive class of sex is ``"female"``."""

BMI = Target("bmi", unit="kg/m²", edges=(18.5, 25, 30, 35), plausible=(10, 80))
"""The body mass index, in the classes of the World Health Organization."""

HEART_RATE = Target(
    "heart_rate",
    unit="beats/min",
    edges=(50, 60, 70, 80, 90, 100, 120),
    plausible=(20, 300),
    from_measurements=("heart_rate", "n_beats", "qt", "qtc"),
)
"""QT and its corrected form together determine the heart rate."""

MEASURED = (
    HEART_RATE,
    Target("pr", unit="ms", plausible=(60, 400)),
    Target("qrs_duration", unit="ms", plausible=(40, 260)),
    Target("qtc_fridericia", unit="ms", plausible=(250, 700)),
    Target("sokolow_lyon", unit="mV", plausible=(0, 15)),
    Target("cornell", unit="mV", plausible=(-2, 10)),
    *(Target(f"st_{lead}", unit="mV", plausible=(-2, 2)) for lead in ("V2", "V3", "V4")),
)
"""ECG measurements as concepts, by the columns of `ecgkit.signals.measurements.measurement_columns`."""


def join_targets(
    records: pd.DataFrame, labels: pd.DataFrame | None = None, measurements: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Add the columns of further targets to a table of records.

    Parameters
    ----------
    records : DataFrame
        The records; the body mass index needs the columns ``height`` (cm) and ``weight`` (kg).
    labels : DataFrame of bool, optional
        One column per class, missing where unknown, with the index of the records.
    measurements : DataFrame, optional
        ECG measurements with the index of the records; ``heart_rate`` (beats/min) is taken from it.

    Returns
    -------
    DataFrame
        The records with ``bmi`` (kg/m², of plausible height and weight), ``heart_rate``, and for each class the
        categories ``"without CLASS"`` and ``"with CLASS"``.

    Raises
    ------
    EcgkitError
        If a record is missing in the labels or the measurements, or a class has the name of a column.
    """
    table = records.copy()
    if {"height", "weight"} <= set(table):
        table["bmi"] = WEIGHT.values(table) / (HEIGHT.values(table) / 100) ** 2
    if measurements is not None and "heart_rate" in measurements:
        table["heart_rate"] = align(measurements, records, "measurements")["heart_rate"].to_numpy()
    if labels is not None:
        for name, carries in align(labels, records, "labels").items():
            if name in table:
                raise EcgkitError(f"the class {name} has the name of a column of the records: rename one of them")
            table[str(name)] = carries.map({True: f"with {name}", False: f"without {name}"}).astype("string").to_numpy()
    return table


def align(table: pd.DataFrame, records: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return the rows of a table in the order of the records; raise EcgkitError if one is missing or duplicated."""
    if table.index.equals(records.index):
        return table
    missing = ~records.index.isin(table.index)
    if missing.any() or not table.index.is_unique:
        raise EcgkitError(
            f"the {what} lack {missing.sum()} of {len(records)} records, or have some twice: use their index"
        )
    return table.loc[records.index]


def all_targets(table: pd.DataFrame, classes: Sequence[str] = ()) -> tuple[Target, ...]:
    """List every target for which a table has the columns.

    Parameters
    ----------
    table : DataFrame
        As from `join_targets`.
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
        counts = as_text(table.loc[table["fold"].isin(TRAIN_FOLDS), "device"]).value_counts()
        names = sorted(counts[counts >= MIN_OF_DEVICE].index)
        if len(names) > 1:
            targets.append(Target("device", categories=tuple(names), partial=True))
    return (*targets, *(Target(name, categories=(f"without {name}", f"with {name}")) for name in classes))
