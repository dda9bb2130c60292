"""One target's values: which records know them, which of these are for learning and which for testing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.feature_space.probes.controls import exchange_patients
from ecgkit.feature_space.probes.targets import Target
from ecgkit.store import TEST_FOLD

MIN_TRAINING = 40
"""With fewer known values in folds 1-8 a target is skipped."""

MIN_TEST = 10
"""With fewer known values in fold 10 a target is skipped."""

MIN_OF_EACH = 5
"""With fewer records of a class in folds 1-8 a target is skipped."""


@dataclass(frozen=True, eq=False)
class Task:
    """A target, its values, and which known ones are for learning and for testing.

    Attributes
    ----------
    target : Target
        What is asked for.
    known : ndarray of float64, shape (records,)
        NaN where unknown or implausible.
    shuffled : ndarray of float64, shape (records,)
        The same, exchanged between the patients of folds 1-8 and between those of fold 10.
    patients : ndarray, shape (records,)
        Who each record is of.
    training, test : ndarray of int64
        Positions of the known records of folds 1-8, and of fold 10.
    capped : ndarray of bool, shape (records,)
        Whether the value is a cap, as the age of people over 89.
    counts : dict of str to int
        As of `ecgkit.feature_space.probes.ProbeResult`.
    notes : tuple of str
        What the numbers alone do not say.
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
    def common(self) -> int:
        """The number of the commonest class, or bin, of folds 1-8."""
        return int(np.bincount(self.target.bin(self.known[self.training])).argmax())

    def why_skipped(self) -> str:
        """Say why a probe makes no sense here; empty if it does."""
        n_training, n_test = self.counts["training"], self.counts["test"]
        if n_training < MIN_TRAINING or n_test < MIN_TEST:
            return (
                f"{self.target.name} is known for {n_training} records of folds 1-8 and {n_test} of fold 10; "
                f"at least {MIN_TRAINING} and {MIN_TEST} are needed"
            )
        if self.counts["training_patients"] < 2:
            return f"{self.target.name} is known for one patient of folds 1-8 only"
        if self.target.words:
            return self._why_classes_skipped()
        if len(np.unique(self.known[self.training])) < 2:
            return f"{self.target.name} is the same in all records of folds 1-8"
        return ""

    def _why_classes_skipped(self) -> str:
        """Say which of the classes is too rare."""
        for code, word in enumerate(self.target.words):
            n_training = int((self.known[self.training] == code).sum())
            n_test = int((self.known[self.test] == code).sum())
            if n_training < MIN_OF_EACH or n_test < 1:
                return (
                    f"{self.target.name} is {word!r} in {n_training} records of folds 1-8 and {n_test} of fold 10; "
                    f"at least {MIN_OF_EACH} and 1 are needed"
                )
        return ""


def make_task(target: Target, records: pd.DataFrame, in_training: NDArray[np.bool_], seed: int) -> Task:
    """Find the records that know a target, and count those that do not.

    Parameters
    ----------
    target : Target
        What is asked for.
    records : DataFrame
        The records; columns ``patient_id``, ``fold`` and the target.
    in_training : ndarray of bool, shape (records,)
        Which of them are of folds 1-8.
    seed : int
        Of the shuffled values.

    Returns
    -------
    Task

    Raises
    ------
    EcgkitError
        If the target's column is missing or not readable.
    """
    values = target.read(records)
    low, high = target.plausible
    known = np.isfinite(values) & (values >= low) & (values <= high)
    in_test = (records["fold"] == TEST_FOLD).to_numpy(dtype=bool)
    training, test = np.flatnonzero(in_training & known), np.flatnonzero(in_test & known)
    patients = records["patient_id"].to_numpy()
    used = in_training | in_test
    counts = {
        "training": len(training),
        "test": len(test),
        "training_patients": len(np.unique(patients[training])),
        "test_patients": len(np.unique(patients[test])),
        "training_unknown": int((in_training & ~known).sum()),
        "test_unknown": int((in_test & ~known).sum()),
        "implausible": int((np.isfinite(values) & ~known & used).sum()),
        "rare": int((used & ~known & records[target.name].notna().to_numpy()).sum()) if target.partial else 0,
    }
    values = np.where(known, values, np.nan)
    shuffled = values.copy()
    for rows in (training, test):
        if len(rows):
            shuffled[rows] = values[rows][exchange_patients(patients[rows], 1, seed)[0]]
    capped = np.zeros(len(records), dtype=bool)
    if target.name == "age" and "age_over_89" in records:
        capped = records["age_over_89"].fillna(value=False).to_numpy(dtype=bool)
    notes = tuple(_notes(target, capped[training], capped[test], counts))
    if len(target.words) > 2 and len(training) and len(test):
        notes += tuple(_mix_notes(target, values[training], values[test]))
    return Task(target, values, shuffled, patients, training, test, capped, counts, notes)


def _notes(
    target: Target, capped_training: NDArray[np.bool_], capped_test: NDArray[np.bool_], counts: Mapping[str, int]
) -> list[str]:
    """Say what the numbers alone do not."""
    notes = []
    if counts["implausible"]:
        low, high = target.plausible
        notes.append(
            f"{counts['implausible']} values outside {low:g} to {high:g} {target.unit} are taken for slips "
            "and count as unknown."
        )
    if counts["rare"]:
        notes.append(
            f"{counts['rare']} records of folds 1-8 and 10 with rarer words than these {len(target.words)} are left "
            "out with the unknown."
        )
    if capped_training.any() or capped_test.any():
        notes.append(
            "People over 89, whose age the source does not tell, are kept and count as 90 in the regression "
            f"({capped_training.sum()} records in folds 1-8, {capped_test.sum()} in fold 10); in bins they are in "
            "the last one. Metrics called uncapped are of fold 10 without them."
        )
    return notes


def _mix_notes(target: Target, training: NDArray[np.float64], test: NDArray[np.float64]) -> list[str]:
    """Say if fold 10 is another mix of classes, which makes the baseline's accuracy say little."""
    shares = [np.bincount(target.bin(part), minlength=len(target.words)) / len(part) for part in (training, test)]
    first, second = (int(share.argmax()) for share in shares)
    if first == second:
        return []
    training_words = f"{target.words[first]!r} ({shares[0][first]:.0%}, in fold 10 {shares[1][first]:.0%})"
    test_words = f"{target.words[second]!r} ({shares[1][second]:.0%})"
    said = f"The commonest in folds 1-8 is {training_words}, in fold 10 {test_words}"
    return [f"{said}: the baseline's accuracy says little here."]
