"""Linear probes on frozen embeddings: what of age, sex, height and weight can be read off them, and off what else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score, roc_auc_score
from threadpoolctl import threadpool_limits

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.linear import LinearProbe, fit_logistic, fit_ridge
from ecgkit.feature_space.parts import check_embeddings, check_patients, training_rows
from ecgkit.store import TEST_FOLD

PROBE, BASELINE, UNTRAINED = "probe", "baseline", "untrained"

MIN_TRAINING = 40
"""With fewer known values in folds 1-8 a target is skipped."""

MIN_TEST = 10
"""With fewer known values in fold 10 a target is skipped."""

MIN_OF_EACH = 5
"""With fewer records of one of two classes in folds 1-8 a target is skipped."""


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
        The two words of a binary target, the positive class last; empty for a number.
    """

    name: str
    unit: str = ""
    edges: tuple[float, ...] = ()
    plausible: tuple[float, float] = (-np.inf, np.inf)
    words: tuple[str, ...] = ()

    @property
    def kind(self) -> Literal["regression", "binary"]:
        """A number is a regression, two words are binary."""
        return "binary" if self.words else "regression"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes: the words, or the bins such as ``under 30``, ``30-39`` and ``80 and over``."""
        if self.words:
            return self.words
        inner = [f"{low:g}-{high - 1:g}" for low, high in zip(self.edges, self.edges[1:], strict=False)]
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
            In ``unit``, or 1 for the positive and 0 for the other word; NaN where unknown. Not yet judged by
            ``plausible``.

        Raises
        ------
        EcgkitError
            If the column is missing, or holds another word than the two.
        """
        if self.name not in records:
            raise EcgkitError(f"the records have no column {self.name!r}: probe another target, or add the column")
        column = records[self.name]
        if self.kind == "regression":
            return pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan)
        known = column.notna()
        others = sorted({repr(word) for word in column[known]} - {repr(word) for word in self.words})
        if others:
            raise EcgkitError(
                f"{self.name} is {others[0]} in a record: write {' or '.join(self.words)}, or leave it blank"
            )
        return np.where(known, (column == self.words[1]).fillna(value=False).astype(float), np.nan)

    def bin(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Give the class of each known value: its bin, or 0 and 1; a lower edge belongs to the bin that it begins."""
        return values.astype(np.int64) if self.words else np.digitize(values, self.edges).astype(np.int64)


TARGETS = (
    Target("age", unit="years", edges=(30, 40, 50, 60, 70, 80), plausible=(0, 120)),
    Target("sex", words=("male", "female")),
    Target("height", unit="cm", edges=(150, 160, 170, 180), plausible=(40, 250)),
    Target("weight", unit="kg", edges=(50, 60, 70, 80, 90, 100), plausible=(1, 400)),
)
"""What every probe session asks for; the positive class of sex is ``"female"``."""


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """What the probes of one target found.

    Attributes
    ----------
    target : Target
        What was asked for.
    counts : dict of str to int
        ``training`` and ``test`` (known values in folds 1-8 and fold 10), ``training_patients``, ``test_patients``,
        ``training_unknown``, ``test_unknown`` (left out), and how many of these unknown are ``implausible``.
    notes : tuple of str
        What a reader of the numbers has to know, a sentence each.
    skipped : str
        Why there are no probes; empty if there are.
    metrics : dict of str to dict of str to float
        On fold 10, for ``"probe"``, ``"baseline"`` and ``"untrained"``: ``r2`` and ``mae`` (in the target's unit), or
        ``auc``; then ``accuracy`` and ``f1`` (macro) of the bins or of the two classes. NaN where not defined.
    predictions : DataFrame
        One row a record of fold 10 with a known value: ``record_id`` (if the records have it), ``patient_id``,
        ``fold``, ``true``, ``true_class``, and for each of the above, such as ``probe``, its prediction (for a binary
        target the probability of the positive class) and ``probe_class``.
    probes : dict of str to dict of str to LinearProbe
        For ``"probe"`` and ``"untrained"``: ``"value"`` and, for a regression, ``"bins"``.
    """

    target: Target
    counts: dict[str, int]
    notes: tuple[str, ...] = ()
    skipped: str = ""
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)
    probes: dict[str, dict[str, LinearProbe]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Task:
    """A target, its values (NaN where unknown), and which known ones are for learning and for testing."""

    target: Target
    known: NDArray[np.float64]
    training: NDArray[np.int64]
    test: NDArray[np.int64]
    counts: dict[str, int]
    notes: tuple[str, ...]

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
        if self.target.kind == "binary":
            return self._why_binary_skipped()
        if len(np.unique(self.known[self.training])) < 2:
            return f"{self.target.name} is the same in all records of folds 1-8"
        return ""

    def _why_binary_skipped(self) -> str:
        """Say which of two classes is too rare."""
        for code, word in enumerate(self.target.words):
            n_training = int((self.known[self.training] == code).sum())
            n_test = int((self.known[self.test] == code).sum())
            if n_training < MIN_OF_EACH or n_test < 1:
                return (
                    f"{self.target.name} is {word!r} in {n_training} records of folds 1-8 and {n_test} of fold 10; "
                    f"at least {MIN_OF_EACH} and 1 are needed"
                )
        return ""


def fit_probes(
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    *,
    seed: int,
    untrained: NDArray[np.floating] | None = None,
    targets: Sequence[Target] = TARGETS,
) -> dict[str, ProbeResult]:
    """Fit linear probes on folds 1-8 and read them on fold 10.

    For a number a ridge regression and, on its bins, a multinomial logistic regression; for two words a logistic
    regression. Embeddings are standardised, and the strength of the penalty is chosen, within folds 1-8, with all
    records of a patient on one side of each split. The baseline predicts the mean, and the commonest class, of folds
    1-8. Fold 9 takes no part. A record whose value is unknown is left out and counted.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row a record, from the trained encoder.
    records : DataFrame
        The records of folds 1-8 and 10, in the same order; columns ``patient_id``, ``fold`` and the targets.
    seed : int
        Seed of the splits.
    untrained : ndarray, shape (records, features), optional
        The same records' embeddings from an untrained encoder of the same architecture.
    targets : sequence of Target, default `TARGETS`
        What to ask for.

    Returns
    -------
    dict of str to ProbeResult
        By the target's name. A target that too few records know is there with the reason why it was skipped.

    Raises
    ------
    EcgkitError
        If a patient is in two parts, the embeddings are not as they should be, folds 1-8 are empty, or a target's
        column is missing or not readable.

    References
    ----------
    Alain and Bengio, "Understanding intermediate layers using linear classifier probes", 2016, arXiv:1610.01644.
    """
    encoders = {PROBE: embeddings} | ({} if untrained is None else {UNTRAINED: untrained})
    for values in encoders.values():
        check_embeddings(values, records)
    check_patients(records)
    training = training_rows(records)
    tasks = {target.name: _make_task(target, records, training) for target in targets}
    reasons = {name: task.why_skipped() for name, task in tasks.items()}
    jobs = [(name, encoder) for name in tasks for encoder in encoders if not reasons[name]]
    # Threads inside each fit would only wait for one another; one fit a core is faster, and gives the same numbers
    # whatever the number of cores.
    with threadpool_limits(limits=1):
        fits = joblib.Parallel(n_jobs=min(joblib.cpu_count(), max(len(jobs), 1)), prefer="threads")(
            joblib.delayed(_fit_encoder)(tasks[name], encoders[encoder], records, seed) for name, encoder in jobs
        )
        fitted = dict(zip(jobs, fits, strict=True))
        return {
            name: ProbeResult(task.target, task.counts, task.notes, skipped=reasons[name])
            if reasons[name]
            else _evaluate(task, {key: fitted[name, key] for key in encoders}, encoders, records)
            for name, task in tasks.items()
        }


def _make_task(target: Target, records: pd.DataFrame, in_training: NDArray[np.bool_]) -> _Task:
    """Find the records that know the target, and count those that do not."""
    values = target.read(records)
    low, high = target.plausible
    implausible = np.isfinite(values) & ~((values >= low) & (values <= high))
    known = np.isfinite(values) & ~implausible
    in_test = (records["fold"] == TEST_FOLD).to_numpy(dtype=bool)
    training, test = np.flatnonzero(in_training & known), np.flatnonzero(in_test & known)
    patients = records["patient_id"].to_numpy()
    counts = {
        "training": len(training),
        "test": len(test),
        "training_patients": len(np.unique(patients[training])),
        "test_patients": len(np.unique(patients[test])),
        "training_unknown": int((in_training & ~known).sum()),
        "test_unknown": int((in_test & ~known).sum()),
        "implausible": int((implausible & (in_training | in_test)).sum()),
    }
    return _Task(target, values, training, test, counts, tuple(_notes(target, records, training, test, counts)))


def _notes(
    target: Target,
    records: pd.DataFrame,
    training: NDArray[np.int64],
    test: NDArray[np.int64],
    counts: Mapping[str, int],
) -> list[str]:
    """Say what the numbers alone do not."""
    notes = []
    if counts["implausible"]:
        low, high = target.plausible
        notes.append(
            f"{counts['implausible']} values outside {low:g} to {high:g} {target.unit} are taken for slips "
            "and count as unknown."
        )
    if target.name == "age" and "age_over_89" in records:
        over = records["age_over_89"].to_numpy(dtype=bool)
        if over[training].any() or over[test].any():
            notes.append(
                "People over 89, whose age the source does not tell, are kept and count as 90 in the regression "
                f"({over[training].sum()} records in folds 1-8, {over[test].sum()} in fold 10); in bins they are in "
                "the last one."
            )
    return notes


def _fit_encoder(
    task: _Task, embeddings: NDArray[np.floating], records: pd.DataFrame, seed: int
) -> dict[str, LinearProbe]:
    """Fit the probes of one target on one encoder's embeddings; sees the training records only."""
    points, values = embeddings[task.training], task.known[task.training]
    patients = records["patient_id"].to_numpy()[task.training]
    classes = task.target.bin(values)
    if task.target.kind == "binary":
        return {"value": fit_logistic(points, classes, patients, seed=seed)}
    probes = {"value": fit_ridge(points, values, patients, seed=seed)}
    if len(np.unique(classes)) > 1:
        probes["bins"] = fit_logistic(points, classes, patients, seed=seed, n_splits=3)
    return probes


def _evaluate(
    task: _Task,
    probes: dict[str, dict[str, LinearProbe]],
    encoders: Mapping[str, NDArray[np.floating]],
    records: pd.DataFrame,
) -> ProbeResult:
    """Predict fold 10 with the probes and with the baseline, and score them."""
    target, values = task.target, task.known
    names = np.array(target.classes, dtype=object)
    shown = [name for name in ("record_id", "patient_id", "fold") if name in records]
    table = records.iloc[task.test][shown].reset_index(drop=True)
    table["true"] = values[task.test]
    table["true_class"] = names[target.bin(values[task.test])]
    common = int(np.bincount(target.bin(values[task.training])).argmax())
    for encoder, fitted in probes.items():
        points = encoders[encoder][task.test]
        of_class = fitted.get("bins", fitted["value"])
        binary = target.kind == "binary"
        table[encoder] = fitted["value"].probability(points)[:, 1] if binary else fitted["value"].value(points)
        table[f"{encoder}_class"] = names[of_class.decide(points) if of_class.classes else np.full(len(points), common)]
    table[BASELINE] = values[task.training].mean()
    table[f"{BASELINE}_class"] = names[common]
    notes = task.notes
    if target.kind == "regression" and "bins" not in probes[PROBE]:
        notes += ("Folds 1-8 fill one bin only, which is then what is predicted for every record.",)
    return ProbeResult(
        target=target,
        counts=task.counts,
        notes=notes,
        metrics={name: score(target, table, name) for name in (PROBE, BASELINE, *list(probes)[1:])},
        predictions=table,
        probes=probes,
    )


def score(target: Target, predictions: pd.DataFrame, name: str) -> dict[str, float]:
    """Score one column of predictions; works on any choice or resample of the rows.

    Parameters
    ----------
    target : Target
        What was asked for.
    predictions : DataFrame
        As `ProbeResult.predictions`.
    name : str
        Whose predictions, such as ``"probe"``.

    Returns
    -------
    dict of str to float
        ``r2`` and ``mae``, or ``auc``; then ``accuracy`` and ``f1``, the mean over the classes that occur among the
        true ones. NaN where the true values are all alike.
    """
    true, predicted = predictions["true"].to_numpy(), predictions[name].to_numpy()
    varied = len(np.unique(true)) > 1
    if target.kind == "binary":
        numbers = {"auc": float(roc_auc_score(true, predicted)) if varied else float("nan")}
    else:
        numbers = {
            "r2": float(r2_score(true, predicted)) if varied else float("nan"),
            "mae": float(mean_absolute_error(true, predicted)),
        }
    true_class, predicted_class = predictions["true_class"].tolist(), predictions[f"{name}_class"].tolist()
    present = sorted(set(true_class))
    return numbers | {
        "accuracy": float(accuracy_score(true_class, predicted_class)),
        "f1": float(f1_score(true_class, predicted_class, labels=present, average="macro", zero_division=0)),
    }
