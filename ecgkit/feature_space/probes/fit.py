"""Linear probes on frozen embeddings, with their controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.feature_space.probes import controls
from ecgkit.feature_space.probes.comparison import ProbeComparison, compare_with_controls
from ecgkit.feature_space.probes.linear import LinearProbe, Problem, fit_linear
from ecgkit.feature_space.probes.metrics import Prediction
from ecgkit.feature_space.probes.targets import TARGETS, Target
from ecgkit.feature_space.probes.task import Task, make_task
from ecgkit.feature_space.standardize import check_embeddings, check_patients, training_rows
from ecgkit.stats.multiple_testing import benjamini_hochberg
from ecgkit.stats.resampling import RESAMPLES

VALUE, BINS = "value", "bins"
Parts = dict[str, LinearProbe]


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """The probes of one target.

    Attributes
    ----------
    target : Target
        The target.
    counts : dict of str to int
        ``training`` and ``test`` (known values in folds 1-8 and fold 10), ``training_patients``, ``test_patients``,
        ``training_unknown``, ``test_unknown`` (left out), how many of these are ``implausible`` or of ``rare``
        categories, and how many values are ``capped``.
    notes : tuple of str
        Remarks on the data.
    skipped : str
        Why there are no probes; empty if there are.
    comparison : ProbeComparison
        Metrics on fold 10 with intervals, compared with the controls.
    predictions : DataFrame
        One row per record of fold 10 with a known value: ``record_id``, ``patient_id``, ``fold``, ``true``,
        ``true_class``, and for the probe and each control but the shuffled labels, such as ``probe``, its prediction
        (for two classes the probability of the positive one, for more that of the most probable) and ``probe_class``.
        For several untrained encoders it is that of the first.
    probes : dict of str to dict of str to LinearProbe
        For ``"probe"`` and each control that was fitted: ``"value"`` and, for a quantity, ``"bins"``.
    names : dict of str to str
        Descriptions of the controls.
    """

    target: Target
    counts: dict[str, int]
    notes: tuple[str, ...] = ()
    skipped: str = ""
    comparison: ProbeComparison = field(default_factory=ProbeComparison)
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)
    probes: dict[str, Parts] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


def fit_probes(
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    *,
    seed: int,
    untrained: Sequence[NDArray[np.floating]] = (),
    targets: Sequence[Target] = TARGETS,
    measurements: pd.DataFrame | None = None,
    end_to_end: Mapping[str, pd.DataFrame] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, ProbeResult]:
    """Fit linear probes on folds 1-8 and score them on fold 10, together with their controls.

    For a quantity a ridge regression and, on its bins, a multinomial logistic regression; for categories a logistic
    regression. Embeddings are standardised, and the strength of the penalty is chosen, within folds 1-8, with each
    patient on one side of every split. Fold 9 is not used. A record whose value is unknown is left out and
    counted. The controls:

    - ``baseline``: the mean, and the most frequent class, of folds 1-8;
    - ``demographics``: a probe on age and sex alone (for age on sex, for sex on age);
    - ``measurements``: a probe on ECG measurements alone, without those that contain the target;
    - ``untrained``: the same probe on encoders with random weights, the strength chosen on the first of them; of
      several the probe is compared with the best;
    - ``shuffled_labels``: the same probe, of the same strength, on labels exchanged between patients;
    - ``permutation``: the probe scored with values of fold 10 exchanged between patients;
    - ``end_to_end``: predictions of a network that was trained for the target.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row per record, from the trained encoder.
    records : DataFrame
        The records of folds 1-8 and 10, in the same order; columns ``patient_id``, ``fold`` and the targets.
    seed : int
        Seed of the splits, the resamples and the exchanges.
    untrained : sequence of ndarray, each of shape (records, features), default ()
        The same records' embeddings from untrained encoders of the same architecture, one per seed.
    targets : sequence of Target, default `TARGETS`
        The targets.
    measurements : DataFrame, optional
        ECG measurements with the index of the records.
    end_to_end : mapping of str to DataFrame, optional
        For some targets, by name: ``record_id`` and ``predicted`` for all records of fold 10.
    resamples : int, default 1000
        Bootstrap resamples of the patients of fold 10; as many exchanges for the permutation interval.

    Returns
    -------
    dict of str to ProbeResult
        By the target's name. A target that too few records know is there with the reason why it was skipped. The p
        values are also corrected for the number of targets.

    Raises
    ------
    EcgkitError
        If a patient is in two splits, the embeddings do not match, folds 1-8 are empty, a target's column is missing or
        not readable, or a control lacks records.

    References
    ----------
    Alain and Bengio, "Understanding intermediate layers using linear classifier probes", 2016, arXiv:1610.01644.
    Hewitt and Liang, "Designing and interpreting probes with control tasks", 2019, doi:10.18653/v1/D19-1275.
    """
    for values in (embeddings, *untrained):
        check_embeddings(values, records)
    check_patients(records)
    tasks = {target.name: make_task(target, records, seed=seed) for target in targets}
    reasons = {name: task.why_skipped() for name, task in tasks.items()}
    fits = _Fits([task for name, task in tasks.items() if not reasons[name]], records, seed)
    fits.add(controls.PROBE, "the probe", embeddings)
    fits.add(controls.SHUFFLED, "labels shuffled over patients", embeddings, like=controls.PROBE)
    number = f"{len(untrained)} untrained encoders" if len(untrained) > 1 else "an untrained encoder"
    for i, values in enumerate(untrained):
        fits.add(controls.UNTRAINED, number, values, like=controls.UNTRAINED if i else "")
    for task in fits.tasks:
        simple = {controls.DEMOGRAPHICS: controls.demographics(records, task.target, fits.rows)}
        if measurements is not None:
            measured = controls.measurement_features(measurements, records, task.target, fits.rows)
            simple[controls.MEASUREMENTS] = measured
        for source, found in simple.items():
            if found is not None:
                fits.add(source, found[1], found[0], [task])
    results = {
        name: ProbeResult(task.target, task.counts, task.notes, skipped=reasons[name])
        if reasons[name]
        else _result(task, fits, records, (end_to_end or {}).get(name), resamples)
        for name, task in tasks.items()
    }
    p_values = [result.comparison.p_value for result in results.values()]
    n_tests = int(np.isfinite(p_values).sum())
    return {
        name: replace(result, comparison=replace(result.comparison, p_adjusted=float(p), targets=n_tests))
        for (name, result), p in zip(results.items(), benjamini_hochberg(p_values), strict=True)
    }


class _Fits:
    """All fits and their predictions on fold 10, by target and by probe or control."""

    def __init__(self, tasks: Sequence[Task], records: pd.DataFrame, seed: int) -> None:
        self.tasks, self.seed = tasks, seed
        self.patients, self.rows = records["patient_id"].to_numpy(), np.flatnonzero(training_rows(records))
        self.probes: dict[str, dict[str, Parts]] = {task.target.name: {} for task in tasks}
        self.predictions: dict[str, dict[str, list[Prediction]]] = {task.target.name: {} for task in tasks}
        self.names: dict[str, dict[str, str]] = {task.target.name: {} for task in tasks}

    def add(
        self,
        source: str,
        description: str,
        features: NDArray[np.floating],
        tasks: Sequence[Task] | None = None,
        *,
        like: str = "",
    ) -> None:
        """Fit tasks on one kind of features; with the strengths that another source has chosen if it is named."""
        tasks, shuffled = self.tasks if tasks is None else tasks, source == controls.SHUFFLED
        problems: dict[tuple[str, str], Problem] = {}
        for task in tasks:
            values, chosen = task.shuffled if shuffled else task.known, self.probes[task.target.name].get(like, {})
            for part, problem in _problems(task.target, values[self.rows]).items():
                strengths = (chosen[part].strength,) if part in chosen else ()
                problems[task.target.name, part] = replace(problem, strengths=strengths)
        fitted = fit_linear(features[self.rows], problems, self.patients[self.rows], seed=self.seed)
        for task in tasks:
            name = task.target.name
            parts = {part: probe for (target, part), probe in fitted.items() if target == name}
            self.probes[name].setdefault(source, parts)
            self.names[name][source] = description
            predicted = task.predict(parts[VALUE], features[task.test], bins=parts.get(BINS), shuffled=shuffled)
            self.predictions[name].setdefault(source, []).append(predicted)


def _problems(target: Target, truth: NDArray[np.float64]) -> dict[str, Problem]:
    """Return what is to be fitted for one target."""
    if target.categories:
        return {VALUE: Problem(truth, is_class=True)}
    problems = {VALUE: Problem(truth, is_class=False)}
    known = np.isfinite(truth)
    bins = np.full(len(truth), np.nan)
    bins[known] = target.bin(truth[known])
    if len(np.unique(bins[known])) > 1:
        problems[BINS] = Problem(bins, is_class=True)
    return problems


def _baseline(task: Task) -> tuple[Prediction, str]:
    """Predict the mean, or the share of each class, and the most frequent class; with a description."""
    known, majority = task.known[task.training], task.target.classes[task.majority]
    if task.target.kind == "regression":
        mean = np.full(len(task.test), known.mean())
        return task.prediction(mean), f"the mean of folds 1-8, in bins always {majority!r}"
    share = np.bincount(known.astype(np.int64), minlength=len(task.target.categories)) / len(known)
    return task.prediction(np.tile(share, (len(task.test), 1))), f"always {majority!r}"


def _result(
    task: Task, fits: _Fits, records: pd.DataFrame, end_to_end: pd.DataFrame | None, resamples: int
) -> ProbeResult:
    """Score all predictions for one target."""
    target = task.target
    predictions, names = fits.predictions[target.name], fits.names[target.name]
    baseline, names[controls.BASELINE] = _baseline(task)
    predictions[controls.BASELINE] = [baseline]
    shown = [name for name in ("record_id", "patient_id", "fold") if name in records]
    table = records.iloc[task.test][shown].reset_index(drop=True)
    if end_to_end is not None:
        found = controls.end_to_end_values(target, end_to_end, table["record_id"])
        is_number = target.kind == "regression"
        predicted = task.prediction(found, target.bin(found)) if is_number else task.prediction(np.c_[1 - found, found])
        predictions[controls.END_TO_END] = [predicted]
        names[controls.END_TO_END] = f"a network trained for {target.name}"
    classes = np.array(target.classes, dtype=object)
    table["true"], table["true_class"] = task.known[task.test], classes[baseline.true_codes]
    for source, (first, *_) in predictions.items():
        if source != controls.SHUFFLED:
            table[source], table[f"{source}_class"] = first.predicted, classes[first.codes]
    notes = task.notes
    if target.kind == "regression" and BINS not in fits.probes[target.name][controls.PROBE]:
        notes += ("Folds 1-8 fill one bin only, which is predicted for every record.",)
    return ProbeResult(
        target=target,
        counts=task.counts,
        notes=notes,
        comparison=compare_with_controls(task, predictions, resamples=resamples, seed=fits.seed),
        predictions=table,
        probes=fits.probes[target.name],
        names=names,
    )
