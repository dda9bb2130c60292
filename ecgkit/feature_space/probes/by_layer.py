"""Where a target can be read: linear probes layer by layer, and epoch by epoch of a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.evaluation.resampling import RESAMPLES, interval, patient_weights
from ecgkit.feature_space.parts import check_embeddings, check_patients, training_rows
from ecgkit.feature_space.probes.linear import LinearProbe, Problem, fit_linear
from ecgkit.feature_space.probes.metrics import Prediction, score
from ecgkit.feature_space.probes.targets import TARGETS, Target
from ecgkit.metrics import Floats
from ecgkit.store import TEST_FOLD

TRAINED, UNTRAINED = "trained", "untrained"

MIN_TRAINING, MIN_TEST, MIN_OF_EACH = 40, 10, 5
"""With fewer known values in folds 1-8, in fold 10, or of a class in either, a target is skipped."""

COLUMNS = (
    *("target", "metric", "encoder", "layer", "features", "value", "low", "high"),
    *("change", "change_low", "change_high", "strength", "training", "test", "skipped"),
)


@dataclass(frozen=True, eq=False)
class Question:
    """A target with its values, and the records to learn from and to read that know it.

    Attributes
    ----------
    target : Target
        What is asked for.
    known : ndarray of float64, shape (records,)
        As `Target.read` gives them; NaN where unknown or not plausible.
    training, test : ndarray of int64
        Positions of the records of folds 1-8 and of fold 10 that know it.
    """

    target: Target
    known: NDArray[np.float64]
    training: NDArray[np.int64]
    test: NDArray[np.int64]

    @property
    def problem(self) -> Problem:
        """What is to be fitted on the records of folds 1-8 that know the target."""
        return Problem(self.known[self.training], is_class=self.target.kind != "regression")

    def why_skipped(self) -> str:
        """Say why a probe makes no sense here; empty if it does."""
        if len(self.training) < MIN_TRAINING or len(self.test) < MIN_TEST:
            return (
                f"known for {len(self.training)} records of folds 1-8 and {len(self.test)} of fold {TEST_FOLD}; "
                f"at least {MIN_TRAINING} and {MIN_TEST} are needed"
            )
        for code, word in enumerate(self.target.words):
            fewest = min(int((self.known[rows] == code).sum()) for rows in (self.training, self.test))
            if fewest < MIN_OF_EACH:
                return f"{word!r} in {fewest} records of folds 1-8 or fold {TEST_FOLD}; {MIN_OF_EACH} are needed"
        varied = all(len(np.unique(self.known[rows])) > 1 for rows in (self.training, self.test))
        return "" if varied else f"the same in all records of folds 1-8 or fold {TEST_FOLD}"

    def predict(self, probe: LinearProbe, embeddings: NDArray[np.floating]) -> Prediction:
        """Read the target off the embeddings of the test records, shape (test records, features)."""
        target, true = self.target, self.known[self.test]
        if target.kind == "regression":
            values = probe.value(embeddings)
            return Prediction(true, target.bin(true), values, target.bin(values))
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


def make_question(target: Target, records: pd.DataFrame) -> Question:
    """Find the records of folds 1-8 and of fold 10 that know a target.

    Raises
    ------
    EcgkitError
        If folds 1-8 are empty, or as `Target.read`.
    """
    values = target.read(records)
    low, high = target.plausible
    known = np.where((values >= low) & (values <= high), values, np.nan)
    in_test = (records["fold"] == TEST_FOLD).to_numpy(dtype=bool)
    training, test = (np.flatnonzero(part & np.isfinite(known)) for part in (training_rows(records), in_test))
    return Question(target, known, training, test)


def probe_layers(
    layers: Mapping[str, NDArray[np.floating]],
    records: pd.DataFrame,
    *,
    targets: Sequence[Target] = TARGETS,
    untrained: Mapping[str, NDArray[np.floating]] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Read targets off several layers with linear probes: fitted on folds 1-8, read on fold 10.

    Every layer is standardised, and the strength of each probe is chosen within folds 1-8, with all records of a
    patient on one side. The bootstrap draws the same patients for every layer, so that the change from one layer to
    the next has an interval of its own, which is narrower than the two layers' intervals suggest.

    Parameters
    ----------
    layers : mapping of str to ndarray, each of shape (records, features)
        By the layers' names, in the order of the network.
    records : DataFrame
        The records, in the same order; columns ``patient_id``, ``fold`` and the targets.
    targets : sequence of Target, default `TARGETS`
        What is asked for. With classes, as `join_targets` and `all_targets` make them.
    untrained : mapping of str to ndarray, each of shape (records, features), optional
        The same layers of an untrained network.
    seed : int, default 0
        Of splits and resamples.
    resamples : int, default 1000
        Of the patients.

    Returns
    -------
    DataFrame
        One row for each target, encoder and layer: ``target``, ``metric`` (``"r2"``, or ``"auc"`` of the second word,
        or of more words the mean), ``encoder`` (``"trained"`` or ``"untrained"``), ``layer``, ``features``, ``value``
        with ``low`` and ``high`` (95 %), ``change`` from the layer before of the same encoder with ``change_low`` and
        ``change_high``, ``strength`` (the penalty chosen: ``alpha`` of a number, else ``C``), ``training`` and
        ``test`` (numbers of records), and ``skipped``, the reason why there is no value, or empty.

    Raises
    ------
    EcgkitError
        If there is no layer, a layer is not as it should be, a patient is in two parts, folds 1-8 are empty, or a
        target is not readable.

    References
    ----------
    Alain and Bengio, "Understanding intermediate layers using linear classifier probes", 2016, arXiv:1610.01644.
    """
    if not layers:
        raise EcgkitError("there is no layer to probe: give at least one")
    check_patients(records)
    questions = [make_question(target, records) for target in targets]
    rows = list(_rows(TRAINED, layers, records, questions, seed=seed, resamples=resamples))
    if untrained:
        rows += _rows(UNTRAINED, untrained, records, questions, seed=seed, resamples=resamples)
    order = {question.target.name: i for i, question in enumerate(questions)}
    rows.sort(key=lambda row: order[str(row["target"])])
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def probe_epochs(
    epochs: Mapping[int, NDArray[np.floating]],
    records: pd.DataFrame,
    *,
    targets: Sequence[Target] = TARGETS,
    untrained: NDArray[np.floating] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Read targets off the embeddings of several epochs of a training.

    Parameters
    ----------
    epochs : mapping of int to ndarray, each of shape (records, features)
        By the number of the epoch, in any order.
    records : DataFrame
        The records, in the same order.
    targets, seed, resamples
        As of `probe_layers`.
    untrained : ndarray, shape (records, features), optional
        Of a network of the same architecture with fresh weights: what is there before the first epoch.

    Returns
    -------
    DataFrame
        As `probe_layers` gives it, with the column ``epoch`` instead of ``layer``, missing where the network is
        untrained; ``change`` is from the epoch before.

    Raises
    ------
    EcgkitError
        As `probe_layers`, or if there is no epoch.
    """
    if not epochs:
        raise EcgkitError("there is no epoch to probe: train with save_every_epoch, and give the epochs' embeddings")
    table = probe_layers(
        {str(epoch): epochs[epoch] for epoch in sorted(epochs)},
        records,
        targets=targets,
        untrained=None if untrained is None else {UNTRAINED: untrained},
        seed=seed,
        resamples=resamples,
    )
    table["layer"] = pd.to_numeric(table["layer"], errors="coerce").astype("Int64")
    return table.rename(columns={"layer": "epoch"})


def _rows(
    encoder: str,
    layers: Mapping[str, NDArray[np.floating]],
    records: pd.DataFrame,
    questions: Sequence[Question],
    *,
    seed: int,
    resamples: int,
) -> Iterator[dict[str, object]]:
    """Give the rows of one encoder, layer after layer."""
    patients = records["patient_id"].to_numpy()
    before: dict[str, tuple[float, Floats]] = {}
    for name, layer in layers.items():
        check_embeddings(layer, records)
        probes = _fit(layer, questions, records, seed)
        for question in questions:
            row: dict[str, object] = {
                "target": question.target.name,
                "metric": question.target.main_metric,
                "encoder": encoder,
                "layer": name,
                "features": layer.shape[1],
                "training": len(question.training),
                "test": len(question.test),
                "skipped": question.why_skipped(),
            }
            if question.target.name in probes:
                probe = probes[question.target.name]
                weights = patient_weights(patients[question.test], resamples=resamples, seed=seed)
                value, drawn = question.score(question.predict(probe, layer[question.test]), weights)
                row |= {"strength": probe.strength, **_numbers(value, drawn, before.get(question.target.name))}
                before[question.target.name] = (value, drawn)
            yield row


def _fit(
    layer: NDArray[np.floating], questions: Sequence[Question], records: pd.DataFrame, seed: int
) -> dict[str, LinearProbe]:
    """Fit the probes of all targets on one layer; sees the records of folds 1-8 only."""
    rows = np.flatnonzero(training_rows(records))
    problems = {}
    for question in questions:
        if not question.why_skipped():
            truth = np.full(len(records), np.nan)
            truth[question.training] = question.problem.truth
            problems[question.target.name] = Problem(truth[rows], is_class=question.problem.is_class)
    return fit_linear(layer[rows], problems, records["patient_id"].to_numpy()[rows], seed=seed)


def _numbers(value: float, drawn: Floats, before: tuple[float, Floats] | None) -> dict[str, float]:
    """Give a value with its interval, and its change from the layer before with the paired one."""
    low, high = interval(drawn)
    numbers = {"value": value, "low": low, "high": high}
    if before is not None:
        change_low, change_high = interval(drawn - before[1])
        numbers |= {"change": value - before[0], "change_low": change_low, "change_high": change_high}
    return numbers
