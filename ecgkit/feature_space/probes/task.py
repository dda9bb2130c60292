"""One target's values: which records know them, and which of these are for fitting and for testing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.probes.controls import exchange_patients
from ecgkit.feature_space.probes.linear import LinearProbe
from ecgkit.feature_space.probes.metrics import Prediction, score
from ecgkit.feature_space.probes.targets import Target
from ecgkit.feature_space.standardize import training_rows
from ecgkit.stats import Floats
from ecgkit.stats.folds import TEST_FOLD

MIN_TRAINING, MIN_TEST = 40, 10
"""With fewer known values in folds 1-8, or in fold 10, a target is skipped."""

MIN_OF_EACH = 5
"""With fewer patients of a class, or patients at all, in folds 1-8 or in fold 10 a target is skipped."""


@dataclass(frozen=True, eq=False)
class Task:
    """A target, its values, and which known ones are for fitting and for testing.

    Attributes
    ----------
    target : Target
        The target.
    known : ndarray of float64, shape (records,)
        NaN where unknown or implausible.
    shuffled : ndarray of float64, shape (records,)
        The same, exchanged between the patients of folds 1-8 and between those of fold 10.
    patients : ndarray, shape (records,)
        The patient of each record.
    training, test : ndarray of int64
        Rows of the known records of folds 1-8, and of fold 10.
    capped : ndarray of bool, shape (records,)
        Whether the value is a cap, such as the age of people over 89.
    counts : dict of str to int
        As of `ecgkit.feature_space.probes.ProbeResult`.
    notes : tuple of str
        Remarks on the data, for the reports.
    """

    target: Target
    known: NDArray[np.float64]
    shuffled: NDArray[np.float64]
    patients: NDArray[np.generic]
    training: NDArray[np.int64]
    test: NDArray[np.int64]
    capped: NDArray[np.bool_]
    counts: dict[str, int]
    notes: tuple[str, ...]

    @property
    def majority(self) -> int:
        """The most frequent class, or bin, of folds 1-8."""
        return int(np.bincount(self.target.bin(self.known[self.training])).argmax())

    def why_skipped(self) -> str:
        """Return the reason why there can be no probe; empty if there can."""
        name = self.target.name
        for where, rows, least in (("folds 1-8", self.training, MIN_TRAINING), ("fold 10", self.test, MIN_TEST)):
            values, patients = self.known[rows], self.patients[rows]
            if len(rows) < least:
                return f"{name} is known for {len(rows)} records of {where}, {least} are needed"
            members = {repr(category): values == code for code, category in enumerate(self.target.categories)}
            for kind, chosen in (members or {"known": np.isfinite(values)}).items():
                if (number := len(np.unique(patients[chosen]))) < MIN_OF_EACH:
                    return f"{name} is {kind} for {number} patients of {where}, {MIN_OF_EACH} are needed"
            if len(np.unique(values)) < 2:
                return f"{name} is the same in all records of {where}"
        return ""

    def predict(
        self,
        probe: LinearProbe,
        embeddings: NDArray[np.floating],
        *,
        bins: LinearProbe | None = None,
        shuffled: bool = False,
    ) -> Prediction:
        """Predict the records of fold 10 with a known value.

        Parameters
        ----------
        probe : LinearProbe
            Of the quantity, or of the classes.
        embeddings : ndarray, shape (test records, features)
            One row for each of ``test``.
        bins : LinearProbe, optional
            Of a quantity's bins; without it the most frequent bin of folds 1-8 is predicted.
        shuffled : bool, default False
            Whether the true values are the exchanged ones.

        Returns
        -------
        Prediction
        """
        if self.target.kind == "regression":
            codes = None if bins is None else bins.decide(embeddings)
            return self.prediction(probe.outputs(embeddings)[:, 0], codes, shuffled=shuffled)
        probability = np.zeros((len(embeddings), len(self.target.categories)))
        probability[:, list(probe.classes)] = probe.probability(embeddings)
        return self.prediction(probability, shuffled=shuffled)

    def prediction(
        self, values: Floats, codes: NDArray[np.int64] | None = None, *, shuffled: bool = False
    ) -> Prediction:
        """Compare numbers with their bins, or probabilities (records, classes), with the truth of fold 10."""
        true = (self.shuffled if shuffled else self.known)[self.test]
        true_codes = self.target.bin(true)
        if self.target.kind == "regression":
            codes = np.full(len(true), self.majority) if codes is None else codes
            return Prediction(true, true_codes, values, codes)
        predicted = values[:, 1] if self.target.kind == "binary" else values.max(axis=1)
        return Prediction(true, true_codes, predicted, values.argmax(axis=1), values)

    def score(self, prediction: Prediction, weights: Floats) -> tuple[float, Floats]:
        """Return the main metric, and the same of each resample, shape (resamples,)."""
        metric = self.target.main_metric
        value = score(self.target, prediction)[metric][0]
        return float(value), score(self.target, prediction, weights)[metric]


def make_task(target: Target, records: pd.DataFrame, *, seed: int = 0) -> Task:
    """Find the records that know a target, and count those that do not.

    Parameters
    ----------
    target : Target
        The target. For a partial one, categories that are too rare in folds 1-8 or in fold 10 are left out if
        two remain.
    records : DataFrame
        The records; columns ``patient_id``, ``fold`` and the target.
    seed : int, default 0
        Seed of the shuffled values.

    Returns
    -------
    Task

    Raises
    ------
    EcgkitError
        If the target's column is missing or not readable, or folds 1-8 are empty.
    """
    in_training, in_test = training_rows(records), (records["fold"] == TEST_FOLD).to_numpy(dtype=bool)
    patients = records["patient_id"].to_numpy()
    if target.partial:
        target = _without_rare_categories(target, target.values(records), patients, (in_training, in_test))
    values, raw = target.values(records), target.raw_values(records)
    known, used = np.isfinite(values), in_training | in_test
    training, test = np.flatnonzero(in_training & known), np.flatnonzero(in_test & known)
    capped = np.zeros(len(records), dtype=bool)
    if target.name == "age" and "age_over_89" in records:
        capped = records["age_over_89"].fillna(value=False).to_numpy(dtype=bool)
    shuffled, over_records = _shuffle(target, values, patients, (training, test), seed)
    counts = {
        "training": len(training),
        "test": len(test),
        "training_patients": len(np.unique(patients[training])),
        "test_patients": len(np.unique(patients[test])),
        "training_unknown": int((in_training & ~known).sum()),
        "test_unknown": int((in_test & ~known).sum()),
        "implausible": int((np.isfinite(raw) & ~known & used).sum()),
        "rare": int((used & ~known & records[target.name].notna().to_numpy()).sum()) if target.partial else 0,
        "capped": int((used & capped).sum()),
    }
    remarks = (
        (counts["capped"], "Ages over 89 count as 90; metrics called uncapped are of fold 10 without them."),
        (over_records, "The shuffled labels are shuffled over records: over patients, a class would have none."),
    )
    notes = tuple(text for applies, text in remarks if applies)
    return Task(target, values, shuffled, patients, training, test, capped, counts, notes)


def _shuffle(
    target: Target,
    values: NDArray[np.float64],
    patients: NDArray[np.generic],
    parts: Sequence[NDArray[np.int64]],
    seed: int,
) -> tuple[NDArray[np.float64], bool]:
    """Exchange the values between the patients of each part; return also whether it had to be between records."""
    shuffled, over_records = values.copy(), False
    for rows in parts:
        if len(rows):
            shuffled[rows] = values[rows][exchange_patients(patients[rows], 1, seed)[0]]
            # A rare class that only later records of patients have may be lost: then the records are exchanged.
            if target.categories and len(np.unique(shuffled[rows])) < len(np.unique(values[rows])):
                shuffled[rows] = np.random.default_rng(seed).permutation(values[rows])
                over_records = True
    return shuffled, over_records


def _without_rare_categories(
    target: Target,
    values: NDArray[np.float64],
    patients: NDArray[np.generic],
    parts: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> Target:
    """Leave out the categories that too few patients of folds 1-8 or of fold 10 have."""
    codes = range(len(target.categories))
    fewest = [min(len(np.unique(patients[part & (values == code)])) for part in parts) for code in codes]
    kept = tuple(name for name, number in zip(target.categories, fewest, strict=True) if number >= MIN_OF_EACH)
    return replace(target, categories=kept) if len(kept) > 1 else target


def check_probeable(target: Target, records: pd.DataFrame) -> None:
    """Raise EcgkitError with the reason if there can be no probe of a target on these records."""
    if reason := make_task(target, records).why_skipped():
        raise EcgkitError(f"no probe of {target.name}: {reason}; choose another target")


def probeable(targets: Sequence[Target], records: pd.DataFrame) -> list[Target]:
    """Return the targets of which there can be a probe on these records."""
    present = [target for target in targets if target.name in records]
    return [target for target in present if not make_task(target, records).why_skipped()]
