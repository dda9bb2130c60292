"""Ensembles of finished sessions, with parameters fitted on fold 9.

The best checkpoint of each member was chosen on fold 9 as well, so that fold 9 is slightly optimistic for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold

from ecgkit import paths, sessions, stats
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.evaluation.comparison import (
    ENSEMBLE,
    align,
    check_same,
    class_names,
    is_ensemble,
    session_predictions,
)
from ecgkit.evaluation.config import predictions_sha256
from ecgkit.evaluation.files import SAME, UNLABELLED, stored_predictions
from ecgkit.evaluation.leaderboard import cost
from ecgkit.evaluation.report import evaluate_session
from ecgkit.io import file_sha256, locked
from ecgkit.progress import say
from ecgkit.sessions import Session
from ecgkit.stats import Bools, Floats, FoldScores
from ecgkit.stats.calibration import CLIP, clipped_logit
from ecgkit.stats.calibration_fit import Split, known_splits, too_few_outcomes
from ecgkit.stats.ensembles import METHODS, combine
from ecgkit.stats.folds import TEST_FOLD, VALIDATION_FOLD
from ecgkit.stats.identifiers import patient_codes

VERSION = 1
"""The version of the layout of ``ensemble.json``."""

SPLITS = 5
"""The number of cross-validation splits of the patients of fold 9."""

REGULARISATIONS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
"""The values of C, scikit-learn's inverse strength of the L2 penalty, from which stacking chooses for each class."""

WEIGHTS_GAP = 1e-4
"""The largest distance of the weights' log loss from the lowest possible one."""

FORMULAS = {
    "mean_prob": "mean over members of prob",
    "mean_logit": "expit(mean over members of logit(prob))",
    "weights": "sum over members of weight * prob",
    "stacking": "expit(intercept + sum over members of weight * logit(prob)), per class",
}
"""How each method computes a probability from those of the members."""


@dataclass(frozen=True)
class Ensemble:
    """An ensemble of models.

    Attributes
    ----------
    description : dict
        Plain JSON: ``version``, ``method``, ``formula``, ``members``, ``classes``, ``fitted_on`` (None if nothing
        is fitted), and ``weights`` (member to weight) or, for stacking, ``coefficients`` (class to ``intercept``,
        ``weights``, ``regularisation`` and, where nothing was fitted, ``reason``); the input of
        `ecgkit.stats.ensembles.apply_ensemble`.
    predictions : DataFrame
        ``record_id``, ``patient_id``, ``fold`` (9 and 10), and for each class ``true_CLASS`` and ``prob_CLASS``. Fold 9
        of a fitted method is predicted out of fold: each split of its patients by a fit on the others.
    """

    description: dict[str, Any]
    predictions: pd.DataFrame


def fit_ensemble(members: Mapping[str, pd.DataFrame], method: str, *, seed: int = 0) -> Ensemble:
    """Combine models by their predictions.

    ``mean_prob`` and ``mean_logit`` fit nothing. ``weights`` finds non-negative weights of the probabilities that sum
    to 1 and have the lowest log loss over all classes. ``stacking`` is a logistic regression per class on the members'
    logits, with a regularisation chosen by cross-validation over patients.

    Parameters
    ----------
    members : mapping of str to DataFrame
        The name of each model, and its predictions of the same records of folds 9 and 10.
    method : {"mean_prob", "mean_logit", "weights", "stacking"}
        The method.
    seed : int, default 0
        Of the splits of fold 9's patients.

    Returns
    -------
    Ensemble
        Fitted on fold 9. Its own predictions of fold 9 are out of fold, since thresholds and calibration are fitted on
        them afterwards.

    Raises
    ------
    EcgkitError
        If there are fewer than two members, their records or labels differ, or fold 9 has too few patients.

    References
    ----------
    Wolpert, "Stacked generalization", Neural Networks 5 (1992).
    """
    check_choice("method", method, METHODS)
    if len(members) < 2:
        raise EcgkitError(f"an ensemble has at least two members, not {len(members)}: pass more")
    tables = align(members)
    reference = next(iter(tables.values()))
    classes = class_names(reference)
    combined = np.empty((len(reference), len(classes)), dtype=np.float32)
    for fold in (VALIDATION_FOLD, TEST_FOLD):
        scores, rows = [stats.fold_scores(table, classes, fold) for table in tables.values()], reference["fold"] == fold
        prob = np.stack([one.prob for one in scores])
        if fold == VALIDATION_FOLD:
            case = _Case(scores[0], prob, patient_codes(reference.loc[rows, "patient_id"]), tuple(tables), seed)
            description = _describe(case, method)
        is_fitted_on = fold == VALIDATION_FOLD and method in FITS
        combined[rows.to_numpy()] = _out_of_fold(case, method) if is_fitted_on else combine(description, prob)
    kept = [*("record_id", "patient_id", "fold"), *(f"true_{name}" for name in classes)]
    added = pd.DataFrame(combined, columns=[f"prob_{name}" for name in classes])
    return Ensemble(description, pd.concat([reference[kept], added], axis=1))


def write_ensemble(root: Path, members: Sequence[Session | str], method: str, *, seed: int = 0) -> Session:
    """Combine finished sessions into a new session, with the files that every session has.

    Parameters
    ----------
    root : Path
        The folder that holds ``training_sessions``.
    members : sequence of Session or str
        Finished training sessions of one dataset and label set, none of them an ensemble.
    method : str
        As of `fit_ensemble`.
    seed : int, default 0
        As of `fit_ensemble`.

    Returns
    -------
    Session
        A finished session, new, resumed, or made before from the same predictions by the same method:
        ``config.json`` (with model ``"ensemble"``), ``ensemble.json``, the files of the report,
        ``environment.json``, ``notes.txt`` and
        ``training_log.txt``.

    Raises
    ------
    EcgkitError
        If a member is not finished, is given twice or is an ensemble, or they differ in dataset or label set.
    """
    opened = [
        sessions.open_finished(one.path if isinstance(one, Session) else one, paths.TRAINING, root) for one in members
    ]
    shared = _shared_config(opened)
    config = {"model": ENSEMBLE, "method": method, "members": [session.name for session in opened], **shared}
    config |= {"seed": seed, "predictions_sha256": list(predictions_sha256(opened).values())}
    with locked(
        root / paths.TRAINING / ".ensembles.lock", "waiting for another process that makes ensembles", wait=say
    ):
        return sessions.find_finished(paths.TRAINING, root, config) or _write_session(root, config, opened)


def _write_session(root: Path, config: dict[str, Any], opened: Sequence[Session]) -> Session:
    """Fit an ensemble and write its session, new or resumed."""
    method = str(config["method"])
    ensemble = fit_ensemble(
        {session.name: session_predictions(session) for session in opened}, method, seed=config["seed"]
    )
    names = ", ".join(session.name for session in opened)
    with sessions.claim(paths.TRAINING, root, config) as session:
        session.write_json("environment.json", sessions.environment())
        session.write_json("ensemble.json", ensemble.description | weights_sha256(opened) | _cost(opened))
        session.log(f"ensemble of {names} by {method}: {FORMULAS[method]}")
        if ensemble.description["fitted_on"]:
            session.log(f"fitted on fold {VALIDATION_FOLD}, whose own predictions are out of fold")
        header = f"ensemble ({method}) of the best checkpoints of {names}"
        classes, unlabelled = ensemble.description["classes"], combine_unlabelled(opened, ensemble.description)
        evaluate_session(session, ensemble.predictions, classes, unlabelled=unlabelled, header=header)
        session.mark_done()
    return session


def weights_sha256(members: Sequence[Session]) -> dict[str, dict[str, str]]:
    """Return ``weights_sha256`` of ``ensemble.json``: the SHA-256 of each member's weights, by name."""
    files = {session.name: session.best_weights for session in members}
    return {"weights_sha256": {name: file_sha256(file) for name, file in files.items() if file.is_file()}}


def combine_unlabelled(members: Sequence[Session], description: Mapping[str, Any]) -> pd.DataFrame | None:
    """Combine the members' predictions of records without a label; None if a member has none of them."""
    if not all((session.path / UNLABELLED).is_file() for session in members):
        return None
    tables = align({session.name: stored_predictions(session, UNLABELLED) for session in members})
    columns = [f"prob_{name}" for name in description["classes"]]
    combined = next(iter(tables.values())).copy()
    combined[columns] = combine(description, np.stack([table[columns].to_numpy(float) for table in tables.values()]))
    return combined


def _shared_config(members: Sequence[Session]) -> dict[str, Any]:
    """Return the shared configuration of the members; refuse members that cannot be combined."""
    names = [session.name for session in members]
    if twice := [name for name in names if names.count(name) > 1]:
        raise EcgkitError(f"{twice[0]} is a member twice: name each session once")
    for session in members:
        if is_ensemble(session):
            members_of = ", ".join(session.config.get("members", ()))
            raise EcgkitError(f"{session.name} is an ensemble itself: name its members {members_of}")
        try:
            check_same(members[0], session)
        except EcgkitError as error:
            raise EcgkitError(f"{session.name} cannot be a member: {error}") from error
    return {key: members[0].config.get(key) for key in ("dataset", *SAME)} if members else {}


def _cost(members: Sequence[Session]) -> dict[str, float | None]:
    """Add up the parameters and seconds of the members; None if one is unknown."""
    parameters, seconds = (sum(values) for values in zip(*map(cost, members), strict=True))
    return {
        "parameters": None if np.isnan(parameters) else int(parameters),
        "seconds": None if np.isnan(seconds) else seconds,
    }


@dataclass(frozen=True)
class _Case:
    """The data of fold 9 on which an ensemble is fitted.

    Attributes
    ----------
    scores : FoldScores
        Outcomes, and which of them are known.
    prob : ndarray of float64, shape (members, records, classes)
        Probabilities.
    patients : ndarray, shape (records,)
        The patient of each record.
    members : tuple of str
        The names of the members.
    seed : int
        Of the splits of the patients.
    """

    scores: FoldScores
    prob: Floats
    patients: NDArray[np.int64]
    members: tuple[str, ...]
    seed: int

    def take(self, rows: NDArray[np.int64]) -> _Case:
        """Return the same for some of the records."""
        return replace(self, scores=self.scores.take(rows), prob=self.prob[:, rows], patients=self.patients[rows])

    @property
    def n_splits(self) -> int:
        """The number of splits of the patients."""
        return min(SPLITS, len(np.unique(self.patients)))

    def splits(self) -> Iterator[Split]:
        """Split the records by patient; yield for each split the rows of the others, then its own."""
        if self.n_splits < 2:
            raise EcgkitError(f"fold {VALIDATION_FOLD} has one patient: an ensemble is fitted on at least two")
        divided = GroupKFold(self.n_splits, shuffle=True, random_state=self.seed)
        yield from divided.split(self.patients, groups=self.patients)


def _describe(case: _Case, method: str) -> dict[str, Any]:
    """Fit a method on all records of a case, and describe the result as JSON."""
    description: dict[str, Any] = {
        "version": VERSION,
        "method": method,
        "formula": FORMULAS[method],
        "members": list(case.members),
        "classes": list(case.scores.classes),
        "fitted_on": f"fold_{VALIDATION_FOLD}" if method in FITS else None,
    }
    if method not in FITS:
        return description | {"weights": dict.fromkeys(case.members, 1 / len(case.members))}
    return description | {"splits": case.n_splits, "seed": case.seed} | FITS[method](case)


def _out_of_fold(case: _Case, method: str) -> Floats:
    """Predict each split of the patients by a fit on the others."""
    predicted = np.empty(case.scores.prob.shape)
    for others, own in case.splits():
        predicted[own] = combine(_describe(case.take(others), method), case.prob[:, own])
    return predicted


def _fit_weights(case: _Case) -> dict[str, Any]:
    """Find the non-negative weights of sum 1 with the lowest log loss, which is convex in them."""
    # The probability of the outcomes is the weighted mean of the members' probabilities of them.
    likelihood = np.where(case.scores.positive, case.prob, 1 - case.prob)[:, case.scores.known].clip(CLIP, 1.0)

    def loss(weights: Floats) -> tuple[float, Floats]:
        mixed = weights @ likelihood
        return -float(np.log(mixed).mean()), -(likelihood / mixed).mean(axis=1)

    n_members = len(case.members)
    best = minimize(
        loss,
        np.full(n_members, 1 / n_members),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * n_members,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    weights = best.x.clip(0.0) / best.x.clip(0.0).sum()
    # The gradient of a convex loss bounds the distance to its minimum.
    gap = float((likelihood / (weights @ likelihood)).mean(axis=1).max()) - 1
    if not gap < WEIGHTS_GAP:
        raise EcgkitError(f"the weights may be {gap:.2g} above the lowest log loss: choose a method such as mean_logit")
    return {"weights": dict(zip(case.members, weights.tolist(), strict=True))}


def _fit_stacking(case: _Case) -> dict[str, Any]:
    """Fit a logistic regression per class on the members' logits."""
    logits, splits = clipped_logit(case.prob), list(case.splits()) if case.n_splits > 1 else []
    fits = {}
    for i, name in enumerate(case.scores.classes):
        known = case.scores.known[:, i]
        fit = _stack_class(case.scores.positive[known, i], logits[:, known, i].T, known_splits(splits, known))
        fits[name] = fit | {"weights": dict(zip(case.members, fit["weights"], strict=True))}
    return {"coefficients": fits}


def _stack_class(truth: Bools, logits: Floats, splits: Sequence[Split]) -> dict[str, Any]:
    """Fit one class, or fall back on the mean of logits and state the reason."""
    usable = [pair for pair in splits if 0 < truth[pair[0]].sum() < len(pair[0])]
    reason = too_few_outcomes(truth) or ("" if usable else "one patient has all records of one outcome")
    if reason:
        equal = [1 / logits.shape[1]] * logits.shape[1]
        reason += ": the mean of logits is used"
        return {"intercept": 0.0, "weights": equal, "regularisation": None, "reason": reason}
    centre, spread = logits.mean(axis=0), logits.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    z = (logits - centre) / scale
    losses = [_held_out_loss(truth, z, usable, c) for c in REGULARISATIONS]
    chosen = REGULARISATIONS[int(np.argmin(losses))]
    fitted = _regression(chosen).fit(z, truth)
    weights = fitted.coef_[0] / scale
    return {
        "intercept": float(fitted.intercept_[0] - weights @ centre),
        "weights": weights.tolist(),
        "regularisation": chosen,
    }


def _regression(c: float) -> LogisticRegression:
    """Return an unfitted logistic regression."""
    return LogisticRegression(C=c, solver="newton-cholesky", tol=1e-6)


def _held_out_loss(truth: Bools, z: Floats, splits: Sequence[Split], c: float) -> float:
    """Compute the log loss of predictions by fits on the other splits."""
    predicted = [_regression(c).fit(z[others], truth[others]).predict_proba(z[own])[:, 1] for others, own in splits]
    return float(log_loss(np.concatenate([truth[own] for _, own in splits]), np.concatenate(predicted), labels=[0, 1]))


FITS: dict[str, Callable[[_Case], dict[str, Any]]] = {
    "weights": _fit_weights,
    "stacking": _fit_stacking,
}
"""The methods with parameters that are fitted on fold 9."""
