"""Mistakes are mistakes, the worst come first, and examples are of their kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from ecgkit.errors import EcgkitError
from ecgkit.evaluation.mistakes import confident_mistakes, cooccurrence_tables, threshold_examples
from ecgkit.stats import FoldScores

CLASSES = ("NORM", "MI", "STTC")
LIMITS = {"NORM": 0.5, "MI": 0.2, "STTC": 0.3}


def make_scores(n_records: int = 300, seed: int = 0) -> FoldScores:
    rng = np.random.default_rng(seed)
    prob = expit(rng.normal(-1, 1.5, (n_records, len(CLASSES))))
    return FoldScores(10, CLASSES, rng.random(prob.shape) < prob, prob, prob**1.2)


def few_scores() -> FoldScores:
    """Five records: right; MI missed; MI missed and STTC a false alarm; NORM a false alarm; right."""
    truth = np.array([[1, 0, 0], [0, 1, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=bool)
    prob = np.array([[0.9, 0.1, 0.2], [0.4, 0.1, 0.8], [0.1, 0.15, 0.95], [0.7, 0.1, 0.6], [0.1, 0.1, 0.1]])
    return FoldScores(10, CLASSES, truth, prob, prob)


def test_cooccurrence_is_the_share_of_the_records_of_the_row() -> None:
    scores = make_scores()
    tables = cooccurrence_tables(scores, LIMITS)
    decided = scores.require_calibrated() >= [LIMITS[name] for name in CLASSES]
    for key, labels in (("truth", scores.y_true), ("predicted", decided)):
        for i, row in enumerate(CLASSES):
            for j, column in enumerate(CLASSES):
                share = labels[labels[:, i], j].mean()
                assert tables[key].loc[row, column] == pytest.approx(share)
    np.testing.assert_allclose(tables["difference"], tables["predicted"] - tables["truth"])
    assert (np.diag(tables["predicted"]) == 1).all()


def test_a_class_that_is_never_predicted_leaves_its_row_blank() -> None:
    tables = cooccurrence_tables(make_scores(), LIMITS | {"MI": 1.0})
    assert tables["predicted"].loc["MI"].isna().all()
    assert tables["difference"].loc["MI"].isna().all()
    assert (tables["predicted"].loc[["NORM", "STTC"], "MI"] == 0).all()
    assert tables["truth"].notna().all(axis=None)


def test_the_worst_mistakes_come_first_and_no_record_twice() -> None:
    table = confident_mistakes(few_scores(), LIMITS, record_ids=[11, 12, 13, 14, 15])
    # Of record 13 two decisions are wrong: the false alarm at 0.95 is worse than the miss at 0.15.
    assert table.to_dict("list") == {
        "position": [2, 1, 3],
        "record_id": [13, 12, 14],
        "class": ["STTC", "MI", "NORM"],
        "kind": ["false alarm", "missed", "false alarm"],
        "calibrated": [0.95, 0.1, 0.7],
        "true_labels": ["MI", "MI, STTC", "STTC"],
        "predicted_labels": ["STTC", "STTC", "NORM, STTC"],
    }
    assert confident_mistakes(few_scores(), LIMITS, n=1)["position"].tolist() == [2]
    assert "record_id" not in confident_mistakes(few_scores(), LIMITS)


def test_mistakes_of_one_kind() -> None:
    missed = confident_mistakes(few_scores(), LIMITS, kind="missed")
    # The miss of record 2 counts now that its false alarm does not.
    assert missed[["position", "class"]].to_numpy().tolist() == [[1, "MI"], [2, "MI"]]
    alarms = confident_mistakes(few_scores(), LIMITS, kind="false alarm")
    assert alarms["position"].tolist() == [2, 3]
    with pytest.raises(EcgkitError, match="unknown kind 'wrong': choose one of missed, false alarm"):
        confident_mistakes(few_scores(), LIMITS, kind="wrong")


def test_no_mistake_that_is_left_out_is_worse_than_one_that_is_named() -> None:
    scores = make_scores()
    table = confident_mistakes(scores, LIMITS, n=20)
    assert scores.calibrated is not None
    wrong = scores.y_true != (scores.calibrated >= [LIMITS[name] for name in CLASSES])
    surprise = np.where(wrong, np.abs(scores.calibrated - scores.y_true), 0.0).max(axis=1)
    columns = [CLASSES.index(name) for name in table["class"]]
    assert wrong[table["position"], columns].all()
    assert table["position"].is_unique
    np.testing.assert_allclose(surprise[table["position"]], np.sort(surprise)[::-1][:20])


def test_a_model_without_mistakes_has_an_empty_table() -> None:
    scores = few_scores()
    table = confident_mistakes(replace(scores, calibrated=scores.y_true.astype(float)), LIMITS)
    assert table.empty
    assert list(table) == ["position", "class", "kind", "calibrated", "true_labels", "predicted_labels"]


def test_examples_lie_below_at_and_above_the_threshold() -> None:
    scores = make_scores()
    table = threshold_examples(scores, LIMITS, record_ids=1000 + np.arange(300))
    assert table["place"].tolist() == ["below", "at", "above"] * 3
    assert (table["record_id"] == 1000 + table["position"]).all()
    for i, name in enumerate(CLASSES):
        prob, limit = scores.require_calibrated()[:, i], LIMITS[name]
        below, at, above = table.loc[table["class"] == name, "position"]
        others = np.delete(prob, at)
        assert np.abs(logit(prob) - logit(limit)).argmin() == at
        assert prob[below] == np.quantile(others[others < limit], 0.5, method="lower")
        assert prob[above] == np.quantile(others[others >= limit], 0.5, method="lower")
    rows = table["position"].to_numpy()
    columns = np.repeat(np.arange(3), 3)
    assert (table["is_true"] == scores.y_true[rows, columns]).all()
    assert (table["calibrated"] == scores.require_calibrated()[rows, columns]).all()


def test_a_side_without_records_has_no_example() -> None:
    table = threshold_examples(few_scores(), {"NORM": 0.95, "MI": 0.0, "STTC": 0.3})
    places = {name: rows["place"].tolist() for name, rows in table.groupby("class")}
    assert places == {"NORM": ["below", "at"], "MI": ["at", "above"], "STTC": ["below", "at", "above"]}
    assert set(table["true_labels"]) <= {"NORM", "MI, STTC", "MI", "STTC", "none"}


def test_what_is_missing_is_named() -> None:
    for function in (confident_mistakes, threshold_examples):
        with pytest.raises(EcgkitError, match="add_calibration"):
            function(replace(few_scores(), calibrated=None), LIMITS)
        with pytest.raises(EcgkitError, match="2 record_ids for 5 records"):
            function(few_scores(), LIMITS, record_ids=[1, 2])
        with pytest.raises(EcgkitError, match="no threshold for MI"):
            function(few_scores(), {"NORM": 0.5, "STTC": 0.5})
    with pytest.raises(EcgkitError, match="n is 0"):
        confident_mistakes(few_scores(), LIMITS, n=0)
