"""One target's values: which records know them, which of these are for learning and which for testing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.feature_space.probes.controls import exchange_patients
from ecgkit.feature_space.probes.linear import LinearProbe
from ecgkit.feature_space.probes.metrics import Prediction, score
from ecgkit.feature_space.probes.targets import Target
from ecgkit.feature_space.standardize import training_rows
from ecgkit.stats import Floats
from ecgkit.stats.folds import TEST_FOLD

MIN_TRAINING = 40
"""With fewer known values in folds 1-8 a target is skipped."""

MIN_TEST = 10
"""With fewer known values in fold 10 a target is skipped."""

MIN_OF_EACH = 5
"""With fewer records or patients of a class, or patients at all, in folds 1-8 or in fold 10 a target is skipped."""


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
        name, (n_training, n_test) = self.target.name, (self.counts["training"], self.counts["test"])
        if n_training < MIN_TRAINING or n_test < MIN_TEST:
            return (
                f"{name} is known for {n_training} records of folds 1-8 and {n_test} of fold {TEST_FOLD}; "
                f"at least {MIN_TRAINING} and {MIN_TEST} are needed"
            )
        if self.target.words:
            return self._why_classes_skipped()
        patients = self.counts["training_patients"], self.counts["test_patients"]
        if min(patients) < MIN_OF_EACH:
            return (
                f"{name} is known for {patients[0]} patients of folds 1-8 and {patients[1]} of fold {TEST_FOLD}; "
                f"at least {MIN_OF_EACH} of each are needed"
            )
        for where, rows in (("folds 1-8", self.training), (f"fold {TEST_FOLD}", self.test)):
            if len(np.unique(self.known[rows])) < 2:
                return f"{name} is the same in all records of {where}"
        return ""

    def _why_classes_skipped(self) -> str:
        """Say which of the classes is too rare."""
        for code, word in enumerate(self.target.words):
            rows = [part[self.known[part] == code] for part in (self.training, self.test)]
            n_records, n_patients = [len(part) for part in rows], [len(np.unique(self.patients[part])) for part in rows]
            # Patients are never more than records.
            if min(n_patients) < MIN_OF_EACH:
                return (
                    f"{self.target.name} is {word!r} in {n_records[0]} records of {n_patients[0]} patients in folds "
                    f"1-8 and {n_records[1]} of {n_patients[1]} in fold {TEST_FOLD}; at least {MIN_OF_EACH} records, "
                    f"of {MIN_OF_EACH} patients, are needed in each"
                )
        return ""

    def predict(
        self,
        probe: LinearProbe,
        embeddings: NDArray[np.floating],
        *,
        bins: LinearProbe | None = None,
        shuffled: bool = False,
    ) -> Prediction:
        """Predict the records of fold 10 that know the target.

        Parameters
        ----------
        probe : LinearProbe
            Of the number, or of the classes.
        embeddings : ndarray, shape (test records, features)
            One row for each of ``test``.
        bins : LinearProbe, optional
            Of a number's bins; without it the bin of all is the commonest of folds 1-8.
        shuffled : bool, default False
            Whether to hold the predictions against the exchanged values.

        Returns
        -------
        Prediction
        """
        target, true = self.target, (self.shuffled if shuffled else self.known)[self.test]
        if target.kind == "regression":
            codes = np.full(len(true), self.common) if bins is None else bins.decide(embeddings)
            return Prediction(true, target.bin(true), probe.value(embeddings), codes)
        probability = np.zeros((len(true), len(target.words)))
        probability[:, list(probe.classes)] = probe.probability(embeddings)
        codes = probability.argmax(axis=1)
        if target.kind == "binary":
            return Prediction(true, target.bin(true), probability[:, 1], codes)
        return Prediction(true, target.bin(true), probability.max(axis=1), codes, probability)

    def score(self, prediction: Prediction, weights: Floats) -> tuple[float, Floats]:
        """Give the main metric, and the same of each resample, shape (resamples,)."""
        metric = self.target.main_metric
        value = score(self.target, prediction)[metric][0]
        return float(value), score(self.target, prediction, weights)[metric]


def make_task(target: Target, records: pd.DataFrame, *, seed: int = 0) -> Task:
    """Find the records that know a target, and count those that do not.

    Parameters
    ----------
    target : Target
        What is asked for. Of a partial one the words that are too rare in folds 1-8 or in fold 10 are left out, as
        long as two remain.
    records : DataFrame
        The records; columns ``patient_id``, ``fold`` and the target.
    seed : int, default 0
        Of the shuffled values.

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
    target = _without_rare_words(target, target.known(records), patients, (in_training, in_test))
    values, read = target.known(records), target.read(records)
    known = np.isfinite(values)
    training, test = np.flatnonzero(in_training & known), np.flatnonzero(in_test & known)
    used = in_training | in_test
    counts = {
        "training": len(training),
        "test": len(test),
        "training_patients": len(np.unique(patients[training])),
        "test_patients": len(np.unique(patients[test])),
        "training_unknown": int((in_training & ~known).sum()),
        "test_unknown": int((in_test & ~known).sum()),
        "implausible": int((np.isfinite(read) & ~known & used).sum()),
        "rare": int((used & ~known & records[target.name].notna().to_numpy()).sum()) if target.partial else 0,
    }
    shuffled, over_records = _shuffle(target, values, patients, (training, test), seed)
    capped = np.zeros(len(records), dtype=bool)
    if target.name == "age" and "age_over_89" in records:
        capped = records["age_over_89"].fillna(value=False).to_numpy(dtype=bool)
    notes = tuple(_notes(target, capped[training], capped[test], counts))
    if over_records:
        notes += ("For the control task labels are shuffled over records: over patients, a class would have none.",)
    if len(target.words) > 2 and len(training) and len(test):
        notes += tuple(_mix_notes(target, values[training], values[test]))
    return Task(target, values, shuffled, patients, training, test, capped, counts, notes)


def _shuffle(
    target: Target,
    values: NDArray[np.float64],
    patients: NDArray[np.generic],
    parts: tuple[NDArray[np.int64], NDArray[np.int64]],
    seed: int,
) -> tuple[NDArray[np.float64], bool]:
    """Exchange the values between the patients of each part, and say whether it had to be between records instead."""
    shuffled, over_records = values.copy(), False
    for rows in parts:
        if not len(rows):
            continue
        shuffled[rows] = values[rows][exchange_patients(patients[rows], 1, seed)[0]]
        # A patient's later records may find no other patient's: a rare class that only they have would be gone.
        if target.words and len(np.unique(shuffled[rows])) < len(np.unique(values[rows])):
            shuffled[rows] = np.random.default_rng(seed).permutation(values[rows])
            over_records = True
    return shuffled, over_records


def _without_rare_words(
    target: Target,
    values: NDArray[np.float64],
    patients: NDArray[np.generic],
    parts: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> Target:
    """Leave out the words of a partial target that too few patients of folds 1-8 or of fold 10 have."""
    if not target.partial:
        return target
    fewest = [min(len(np.unique(patients[part & (values == i)])) for part in parts) for i in range(len(target.words))]
    kept = tuple(word for word, number in zip(target.words, fewest, strict=True) if number >= MIN_OF_EACH)
    return replace(target, words=kept) if len(kept) > 1 else target


def askable(target: Target, records: pd.DataFrame) -> str:
    """Say why a target cannot be asked of these records.

    Parameters
    ----------
    target : Target
        What is to be asked for.
    records : DataFrame
        The records; columns ``patient_id`` and ``fold``.

    Returns
    -------
    str
        The reason, such as that too few records know it, or that they have no such column; empty if it can be asked.

    Raises
    ------
    EcgkitError
        If the target's column is not readable, or folds 1-8 are empty.
    """
    if target.name not in records:
        return f"the records have no column {target.name!r}"
    return make_task(target, records).why_skipped()


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
