"""Evaluating fold 10 of a session that was trained without it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from ecgkit.errors import EcgkitError
from ecgkit.evaluation.files import read_metrics, stored_predictions
from ecgkit.evaluation.report import evaluate, write_report
from ecgkit.sessions import Session
from ecgkit.stats.calibration import add_calibration
from ecgkit.stats.folds import TEST_FOLD, VALIDATION_FOLD
from ecgkit.training.inference import open_trained, predict_folds, predict_unlabelled


def evaluate_test_fold(session: Session, root: Path) -> dict[str, Any]:
    """Predict and evaluate fold 10 of a finished session, once; calibration and thresholds stay those of fold 9.

    Predictions, metrics, report and figures are replaced, and the date is added to ``training_log.txt``.

    Parameters
    ----------
    session : Session
        A finished training session that has not been evaluated on fold 10.
    root : Path
        The folder that holds ``processed_datasets``.

    Returns
    -------
    dict
        The contents of ``metrics.json``.

    Raises
    ------
    EcgkitError
        If the session is not finished or has been evaluated on fold 10, or its dataset is missing or has changed.
    """
    session.check_finished()
    if f"fold_{TEST_FOLD}" in read_metrics(session):
        raise EcgkitError(f"{session.path} has been evaluated on fold {TEST_FOLD}: see report.html, or train again")
    opened = open_trained(session, root, test=True)
    stored = stored_predictions(session)
    tested = predict_folds(opened.trained, opened.dataset, folds=(TEST_FOLD,))
    classes = opened.trained.classes
    calibration, thresholds = (
        session.read_json(name) if (session.path / name).is_file() else None
        for name in ("calibration.json", "thresholds.json")
    )
    unlabelled = predict_unlabelled(opened.trained, opened.dataset, folds=(VALIDATION_FOLD, TEST_FOLD))
    if calibration is not None:
        tested, unlabelled = (add_calibration(table, calibration, classes) for table in (tested, unlabelled))
    predictions = pd.concat([stored[stored["fold"] == VALIDATION_FOLD], tested], ignore_index=True)
    results = evaluate(predictions, classes, thresholds, unlabelled=unlabelled)
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    session.reopen()
    session.log(f"fold {TEST_FOLD} evaluated on {now}")
    fitted: dict[str, Any] = {"calibration": calibration, "thresholds": thresholds, "unlabelled": unlabelled}
    write_report(session, predictions, results, **fitted, data=opened.dataset, redraw=True)
    session.mark_done()
    return results
