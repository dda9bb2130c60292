"""Linear probes on frozen embeddings: what can be read off them, and off what else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.feature_space.probes.controls import (
    BASELINE,
    CONTROL_TASK,
    DEMOGRAPHICS,
    MEASURES,
    PROBE,
    SUPERVISED,
    UNTRAINED,
    demographics,
    measure_features,
    measures_in_words,
    supervised_prediction,
)
from ecgkit.feature_space.probes.judge import Judgement, adjust, judge
from ecgkit.feature_space.probes.linear import LinearProbe, Problem, fit_linear
from ecgkit.feature_space.probes.metrics import Prediction
from ecgkit.feature_space.probes.splits import N_SPLITS
from ecgkit.feature_space.probes.targets import TARGETS, Target
from ecgkit.feature_space.probes.task import Task, make_task
from ecgkit.feature_space.standardize import check_embeddings, check_patients, training_rows
from ecgkit.stats.resampling import RESAMPLES

MULTICLASS_SPLITS = 3
"""So many of the splits choose the strength where there are more than two classes, which take the longest."""

Parts = dict[str, LinearProbe]


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """What the probes of one target found.

    Attributes
    ----------
    target : Target
        What was asked for.
    counts : dict of str to int
        ``training`` and ``test`` (known values in folds 1-8 and fold 10), ``training_patients``, ``test_patients``,
        ``training_unknown``, ``test_unknown`` (left out), and how many of these unknown are ``implausible`` or of a
        class that is too ``rare``.
    notes : tuple of str
        What a reader of the numbers has to know, a sentence each.
    skipped : str
        Why there are no probes; empty if there are.
    judgement : Judgement
        Metrics on fold 10 with intervals, and how the probe stands beside its controls.
    predictions : DataFrame
        One row a record of fold 10 with a known value: ``record_id`` (if the records have it), ``patient_id``,
        ``fold``, ``true``, ``true_class``, and for the probe and each control but the shuffled labels, such as
        ``probe``, its prediction (of two classes the probability of the positive one, of more that of the likeliest)
        and ``probe_class``. Of several untrained encoders it is that of the first.
    probes : dict of str to dict of str to LinearProbe
        For ``"probe"`` and each control that was fitted: ``"value"`` and, for a regression, ``"bins"``.
    names : dict of str to str
        What each control is, in words.
    """

    target: Target
    counts: dict[str, int]
    notes: tuple[str, ...] = ()
    skipped: str = ""
    judgement: Judgement = field(default_factory=Judgement)
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)
    probes: dict[str, Parts] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """The metrics on fold 10 without their intervals, by probe or control."""
        return {
            source: {metric: entry["value"] for metric, entry in entries.items()}
            for source, entries in self.judgement.metrics.items()
        }


def fit_probes(
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    *,
    seed: int,
    untrained: NDArray[np.floating] | Sequence[NDArray[np.floating]] | None = None,
    targets: Sequence[Target] = TARGETS,
    measures: pd.DataFrame | None = None,
    supervised: Mapping[str, pd.DataFrame] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, ProbeResult]:
    """Fit linear probes on folds 1-8 and read them on fold 10, each beside its controls.

    For a number a ridge regression and, on its bins, a multinomial logistic regression; for words a logistic
    regression. Embeddings are standardised, and the strength of the penalty is chosen, within folds 1-8, with all
    records of a patient on one side of each split. Fold 9 takes no part. A record whose value is unknown is left out
    and counted. The controls:

    - ``baseline``: the mean, and the commonest class, of folds 1-8;
    - ``demographics``: a probe on age and sex alone (for age on sex, for sex on age);
    - ``measures``: a probe on simple measures of the ECG alone, without those that are the target;
    - ``untrained``: the same probe on encoders with random weights, the strength chosen on the first of them; of
      several the probe is held against the best;
    - ``control_task``: the same probe, of the same strength, on labels exchanged between patients;
    - ``permutation``: the probe read against values of fold 10 exchanged between patients;
    - ``supervised``: what a network that was trained for the target predicts.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row a record, from the trained encoder.
    records : DataFrame
        The records of folds 1-8 and 10, in the same order; columns ``patient_id``, ``fold`` and the targets.
    seed : int
        Seed of the splits, the resamples and the exchanges.
    untrained : ndarray, shape (records, features), or sequence of them, optional
        The same records' embeddings from untrained encoders of the same architecture, one a seed.
    targets : sequence of Target, default `TARGETS`
        What to ask for.
    measures : DataFrame, optional
        Simple measures of the ECG, columns of numbers, with the index of the records.
    supervised : mapping of str to DataFrame, optional
        For some targets, by name: ``record_id`` and ``predicted`` for all records of fold 10.
    resamples : int, default 1000
        Of the patients of fold 10, for the intervals; as many exchanges for the permutation interval.

    Returns
    -------
    dict of str to ProbeResult
        By the target's name. A target that too few records know is there with the reason why it was skipped. The p
        values are also corrected for the targets being several.

    Raises
    ------
    EcgkitError
        If a patient is in two parts, the embeddings are not as they should be, folds 1-8 are empty, a target's
        column is missing or not readable, or a control does not have the records.

    References
    ----------
    Alain and Bengio, "Understanding intermediate layers using linear classifier probes", 2016, arXiv:1610.01644.
    Hewitt and Liang, "Designing and interpreting probes with control tasks", 2019, doi:10.18653/v1/D19-1275.
    """
    random_encoders = [] if untrained is None else [untrained] if isinstance(untrained, np.ndarray) else list(untrained)
    for values in (embeddings, *random_encoders):
        check_embeddings(values, records)
    check_patients(records)
    in_training = training_rows(records)
    tasks = {target.name: make_task(target, records, seed=seed) for target in targets}
    reasons = {name: task.why_skipped() for name, task in tasks.items()}
    open_tasks = [task for name, task in tasks.items() if not reasons[name]]
    fits = _Fits(open_tasks, records["patient_id"].to_numpy(), np.flatnonzero(in_training), seed)
    fits.encoders(embeddings, random_encoders)
    fits.demographics(records)
    if measures is not None:
        fits.measures(measures, records)
    results = {
        name: ProbeResult(task.target, task.counts, task.notes, skipped=reasons[name])
        if reasons[name]
        else _result(task, fits, records, (supervised or {}).get(name), resamples)
        for name, task in tasks.items()
    }
    adjusted = adjust({name: result.judgement for name, result in results.items()})
    return {name: replace(result, judgement=adjusted[name]) for name, result in results.items()}


class _Fits:
    """All fits and what they predict on fold 10, by target and by probe or control."""

    def __init__(
        self, tasks: Sequence[Task], patients: NDArray[np.generic], rows: NDArray[np.int64], seed: int
    ) -> None:
        self.tasks, self.patients, self.rows, self.seed = tasks, patients, rows, seed
        self.probes: dict[str, dict[str, Parts]] = {task.target.name: {} for task in tasks}
        self.predictions: dict[str, dict[str, list[Prediction]]] = {task.target.name: {} for task in tasks}
        self.names: dict[str, dict[str, str]] = {task.target.name: {} for task in tasks}

    def encoders(self, trained: NDArray[np.floating], untrained: Sequence[NDArray[np.floating]]) -> None:
        """Fit the probes, the shuffled labels, and the probes on untrained encoders."""
        self._fit(PROBE, "the probe", trained, self.tasks)
        self._fit(CONTROL_TASK, "labels shuffled over patients", trained, self.tasks, like=PROBE)
        number = f"{len(untrained)} untrained encoders" if len(untrained) > 1 else "an untrained encoder"
        for i, values in enumerate(untrained):
            self._fit(UNTRAINED, number, values, self.tasks, like=UNTRAINED if i else "")

    def demographics(self, records: pd.DataFrame) -> None:
        """Fit age and sex alone."""
        alike: dict[str, tuple[NDArray[np.float64], list[Task]]] = {}
        for task in self.tasks:
            found = demographics(records, task.target, self.rows)
            if found is not None:
                alike.setdefault(found[1], (found[0], []))[1].append(task)
        for words, (features, tasks) in alike.items():
            self._fit(DEMOGRAPHICS, words, features, tasks)

    def measures(self, measures: pd.DataFrame, records: pd.DataFrame) -> None:
        """Fit simple ECG measures alone."""
        alike: dict[tuple[str, ...], list[Task]] = {}
        for task in self.tasks:
            alike.setdefault(task.target.from_measures, []).append(task)
        for tasks in alike.values():
            features = measure_features(measures, records, tasks[0].target, self.rows)
            if features is not None:
                self._fit(MEASURES, measures_in_words(measures, tasks[0].target), features, tasks)

    def _fit(
        self, source: str, words: str, features: NDArray[np.floating], tasks: Sequence[Task], *, like: str = ""
    ) -> None:
        """Fit all tasks on one kind of features; with the strengths that another has chosen if it is named."""
        problems: dict[str, Problem] = {}
        for task in tasks:
            values = task.shuffled if source == CONTROL_TASK else task.known
            chosen = self.probes[task.target.name].get(like, {})
            for part, problem in _problems(task.target, values[self.rows]).items():
                strengths = (chosen[part].strength,) if part in chosen else ()
                problems[f"{part}:{task.target.name}"] = Problem(
                    problem.truth, is_class=problem.is_class, strengths=strengths, n_tried=problem.n_tried
                )
        fitted = fit_linear(features[self.rows], problems, self.patients[self.rows], seed=self.seed)
        for task in tasks:
            name = task.target.name
            parts = {key.partition(":")[0]: probe for key, probe in fitted.items() if key.partition(":")[2] == name}
            self.probes[name].setdefault(source, parts)
            self.names[name][source] = words
            shuffled = source == CONTROL_TASK
            predicted = task.predict(parts["value"], features[task.test], bins=parts.get("bins"), shuffled=shuffled)
            self.predictions[name].setdefault(source, []).append(predicted)


def _problems(target: Target, truth: NDArray[np.float64]) -> dict[str, Problem]:
    """Say what is to be fitted for one target."""
    if target.words:
        n_tried = MULTICLASS_SPLITS if len(target.words) > 2 else N_SPLITS
        return {"value": Problem(truth, is_class=True, n_tried=n_tried)}
    problems = {"value": Problem(truth, is_class=False)}
    known = np.isfinite(truth)
    bins = np.full(len(truth), np.nan)
    bins[known] = target.bin(truth[known])
    if len(np.unique(bins[known])) > 1:
        problems["bins"] = Problem(bins, is_class=True, n_tried=MULTICLASS_SPLITS)
    return problems


def _baseline(task: Task) -> tuple[Prediction, str]:
    """Predict the mean, or the share of each class, and the commonest class; say it in words."""
    target, known, true = task.target, task.known[task.training], task.known[task.test]
    codes, common = np.full(len(true), task.common), target.classes[task.common]
    if target.kind == "regression":
        words = f"the mean of folds 1-8, in bins always {common!r}"
        return Prediction(true, target.bin(true), np.full(len(true), known.mean()), codes), words
    share = np.bincount(target.bin(known), minlength=len(target.words)) / len(known)
    probability = np.tile(share, (len(true), 1))
    words = f"always {common!r}"
    if target.kind == "binary":
        return Prediction(true, target.bin(true), probability[:, 1], codes), words
    return Prediction(true, target.bin(true), probability.max(axis=1), codes, probability), words


def _result(
    task: Task, fits: _Fits, records: pd.DataFrame, supervised: pd.DataFrame | None, resamples: int
) -> ProbeResult:
    """Score all predictions for one target."""
    target = task.target
    predictions, names = fits.predictions[target.name], fits.names[target.name]
    baseline, names[BASELINE] = _baseline(task)
    predictions[BASELINE] = [baseline]
    shown = [name for name in ("record_id", "patient_id", "fold") if name in records]
    table = records.iloc[task.test][shown].reset_index(drop=True)
    if supervised is not None:
        found = supervised_prediction(target, supervised, table.get("record_id", pd.Series()).tolist(), baseline)
        predictions[SUPERVISED], names[SUPERVISED] = [found], f"the same network trained for {target.name}"
    words = np.array(target.classes, dtype=object)
    table["true"], table["true_class"] = task.known[task.test], words[baseline.true_codes]
    for source, (first, *_) in predictions.items():
        if source != CONTROL_TASK:
            table[source], table[f"{source}_class"] = first.predicted, words[first.codes]
    notes = task.notes
    if target.kind == "regression" and "bins" not in fits.probes[target.name][PROBE]:
        notes += ("Folds 1-8 fill one bin only, which is then what is predicted for every record.",)
    return ProbeResult(
        target=target,
        counts=task.counts,
        notes=notes,
        judgement=judge(task, predictions, resamples=resamples, seed=fits.seed),
        predictions=table,
        probes=fits.probes[target.name],
        names=names,
    )
