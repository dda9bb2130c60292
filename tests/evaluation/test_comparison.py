"""Two sessions on the same records: paired intervals, DeLong's test, Holm's correction, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from scipy.special import expit

from ecgkit import evaluation, paths, sessions, stats
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.comparison import (
    Comparison,
    align,
    class_names,
    compare,
    compare_sessions,
    session_predictions,
)
from ecgkit.stats import FoldScores
from ecgkit.stats.multiple_testing import holm
from ecgkit.stats.paired_tests import bootstrap_p, delong
from ecgkit.stats.resampling import interval, patient_weights

CLASSES = ("NORM", "MI", "STTC")


def make_scores(n_records: int = 400, *, noise: float, seed: int = 0, noise_seed: int = 1) -> FoldScores:
    """Return outcomes that follow from a seed, and probabilities of them with more or less noise."""
    rng = np.random.default_rng(seed)
    true_logit = rng.normal(-1, 1.5, (n_records, len(CLASSES)))
    truth = rng.random(true_logit.shape) < expit(true_logit)
    seen = true_logit + np.random.default_rng(noise_seed).normal(0, noise, true_logit.shape)
    return FoldScores(10, CLASSES, truth, expit(seen), expit(seen))


def table_of(scores: FoldScores, patients: np.ndarray) -> pd.DataFrame:
    """Return scores as a table of predictions."""
    table = pd.DataFrame({"record_id": np.arange(len(patients)), "patient_id": patients, "fold": scores.fold})
    for i, name in enumerate(scores.classes):
        table[f"true_{name}"], table[f"prob_{name}"] = scores.y_true[:, i], scores.prob[:, i]
        if scores.calibrated is not None:
            table[f"calibrated_{name}"] = scores.calibrated[:, i]
    return table


def compare_scores(first: FoldScores, second: FoldScores, patients: np.ndarray, **keywords: Any) -> Comparison:
    tables = {"session_1": table_of(first, patients), "session_2": table_of(second, patients)}
    return compare(tables, **keywords)


def make_table(noise: float, *, n_records: int = 400, noise_seed: int = 1) -> pd.DataFrame:
    scores = make_scores(n_records, noise=noise, noise_seed=noise_seed)
    ids = np.arange(n_records)
    table = pd.DataFrame({"record_id": ids + 1000, "patient_id": ids // 2, "fold": np.where(ids % 4 < 2, 9, 10)})
    for i, name in enumerate(CLASSES):
        table[f"true_{name}"], table[f"prob_{name}"] = scores.y_true[:, i], scores.prob[:, i].astype(np.float32)
    return table


def test_a_comparison_is_what_a_loop_over_resampled_patients_gives() -> None:
    first, second = make_scores(120, noise=0.5), make_scores(120, noise=1.5, noise_seed=2)
    patients = np.arange(120) // 3
    limits = (dict.fromkeys(CLASSES, 0.3), dict.fromkeys(CLASSES, 0.4))

    result = compare_scores(first, second, patients, thresholds=limits, resamples=40, seed=5)

    draws: dict[str, list[float]] = {"auc": [], "average_precision": [], "f1": []}
    for weights in patient_weights(patients, resamples=40, seed=5):
        rows = np.repeat(np.arange(120), weights.astype(int))
        truth = first.y_true[rows]
        values = []
        for scores, limit in ((first, 0.3), (second, 0.4)):
            prob = scores.prob[rows]
            f1 = sklearn.metrics.f1_score(truth, prob >= limit, average="macro")
            values.append(
                (sklearn.metrics.roc_auc_score(truth, prob), sklearn.metrics.average_precision_score(truth, prob), f1)
            )
        for name, one, other in zip(draws, *values, strict=True):
            draws[name].append(one - other)
    assert list(result.macro.index) == list(draws)
    for name, drawn in draws.items():
        row = result.macro.loc[name]
        assert (row["difference_low"], row["difference_high"]) == pytest.approx(interval(drawn), abs=1e-12)
        assert row["p"] == bootstrap_p(drawn)
        assert row["difference"] == pytest.approx(row["first"] - row["second"])
    assert result.macro.loc["auc", "first"] == pytest.approx(stats.macro_auc(first.y_true, first.prob))
    assert (result.n_records, result.n_patients, result.resamples) == (120, 40, 40)


def test_each_class_has_its_row_with_delong_beside_the_bootstrap() -> None:
    first, second = make_scores(noise=0.3), make_scores(noise=2.0)
    classes = compare_scores(first, second, np.arange(400), resamples=500).classes
    assert list(classes.index) == list(CLASSES)
    for i, name in enumerate(CLASSES):
        test = delong(first.y_true[:, i], first.prob[:, i], second.prob[:, i])
        assert classes.loc[name, "delong_p"] == test.p
        # One record per patient: both describe the same, and the interval is 3.92 standard errors wide.
        width = classes.loc[name, "difference_high"] - classes.loc[name, "difference_low"]
        assert width == pytest.approx(2 * 1.96 * test.standard_error, rel=0.15)
    np.testing.assert_array_equal(classes["p_holm"], holm(classes["p"]))
    np.testing.assert_array_equal(classes["delong_p_holm"], holm(classes["delong_p"]))


def test_copies_of_a_record_widen_the_interval_but_not_delongs_error() -> None:
    first, second = make_scores(noise=0.5), make_scores(noise=0.7, noise_seed=2)
    rows = np.repeat(np.arange(400), 4)
    once = compare_scores(first, second, np.arange(400)).classes
    four = compare_scores(first.take(rows), second.take(rows), rows).classes
    by_record = compare_scores(first.take(rows), second.take(rows), np.arange(1600)).classes
    width, width_four, width_record = (
        (table["difference_high"] - table["difference_low"]).to_numpy() for table in (once, four, by_record)
    )
    np.testing.assert_allclose(width_four, width)
    assert (width_record < 0.65 * width).all()
    assert (four["delong_p"] < once["delong_p"]).all()


def test_the_paired_interval_is_narrower_than_one_of_two_draws_apart() -> None:
    first, second = make_scores(noise=0.5), make_scores(noise=0.52)
    row = compare_scores(first, second, np.arange(400), resamples=300).macro.loc["auc"]
    apart = [patient_weights(np.arange(400), resamples=300, seed=seed) for seed in (1, 2)]
    draws = [
        stats.auc(scores.y_true, scores.prob, weights=weights).mean(axis=1)
        for scores, weights in zip((first, second), apart, strict=True)
    ]
    low, high = interval(draws[0] - draws[1])
    assert row["difference_high"] - row["difference_low"] < 0.3 * (high - low)


def verdict(first: FoldScores, second: FoldScores) -> tuple[Comparison, str]:
    result = compare_scores(first, second, np.arange(len(first.prob)), resamples=200)
    return result, result.verdict


def test_better_is_said_only_where_the_interval_leaves_zero_out() -> None:
    good, bad = make_scores(noise=0.1), make_scores(noise=3.0)
    assert verdict(good, bad)[1].startswith("session_1 is better than session_2: macro AUC on fold 10 is higher by 0.1")
    assert verdict(bad, good)[1].startswith("session_2 is better than session_1: macro AUC on fold 10 is higher by 0.1")
    for seed in range(8):
        result, sentence = verdict(
            make_scores(noise=1.0, noise_seed=seed), make_scores(noise=1.1, noise_seed=seed + 50)
        )
        row = result.macro.loc["auc"]
        leaves_zero_out = row["difference_low"] > 0 or row["difference_high"] < 0
        assert ("better" in sentence) == leaves_zero_out
        assert ("no difference shown" in sentence) != leaves_zero_out


def test_a_session_is_not_better_than_itself() -> None:
    result, sentence = verdict(make_scores(noise=1.0), make_scores(noise=1.0))
    assert result.macro.loc["auc", "p"] == 1.0
    assert sentence == (
        "no difference shown between session_1 and session_2: macro AUC on fold 10 differs by 0.0000 "
        "(95 % interval 0.0000 to 0.0000, p = 1.000)"
    )


def test_two_records_of_a_class_show_no_difference_however_far_apart_the_auc_is() -> None:
    first, second = make_scores(noise=0.5), make_scores(noise=1.5)
    truth = first.y_true.copy()
    truth[:, 1] = np.arange(len(truth)) < 2
    first, second = replace(first, y_true=truth), replace(second, y_true=truth)
    first.prob[:2, 1], second.prob[:2, 1] = 0.99, 0.01
    row = compare_scores(first, second, np.arange(400), resamples=200).classes.loc["MI"]
    assert row["difference"] > 0.5
    assert np.isnan(
        row[["difference_low", "difference_high", "p", "p_holm", "delong_p", "delong_p_holm"]].tolist()
    ).all()
    alone = [
        FoldScores(10, ("MI",), scores.y_true[:, 1:2], scores.prob[:, 1:2], scores.prob[:, 1:2])
        for scores in (first, second)
    ]
    result, sentence = verdict(*alone)
    assert result.macro.loc["auc", "difference"] > 0.5
    assert "no difference shown" in sentence
    assert "not defined" not in sentence


def test_a_class_without_an_outcome_is_left_out_of_the_mean() -> None:
    first, second = make_scores(noise=0.5), make_scores(noise=1.5)
    truth = first.y_true.copy()
    truth[:, 1] = False
    first, second = replace(first, y_true=truth), replace(second, y_true=truth)
    result = compare_scores(first, second, np.arange(400), resamples=50)
    assert np.isnan(
        result.classes.loc["MI", ["difference", "difference_low", "p", "p_holm", "delong_p"]].to_numpy()
    ).all()
    assert result.classes["resamples"].tolist() == [50, 0, 50]
    kept = result.classes.loc[["NORM", "STTC"], "difference"].mean()
    assert result.macro.loc["auc", "difference"] == pytest.approx(kept)
    nothing = np.zeros_like(truth)
    _, sentence = verdict(replace(first, y_true=nothing), replace(second, y_true=nothing))
    assert "macro AUC is not defined" in sentence


def test_an_interval_needs_two_patients() -> None:
    with pytest.raises(EcgkitError, match="one patient"):
        compare_scores(make_scores(noise=1.0), make_scores(noise=2.0), np.zeros(400))


def test_tables_in_another_order_are_brought_into_one() -> None:
    table = make_table(1.0)
    shuffled = table.sample(frac=1, random_state=0)[[*list(table)[:3], *reversed(list(table)[3:])]]
    aligned = align({"session_1": table, "session_2": shuffled})
    pd.testing.assert_frame_equal(aligned["session_2"][list(table)], table)
    assert class_names(table) == CLASSES


def test_tables_of_other_records_or_labels_are_refused_with_their_number() -> None:
    table = make_table(1.0)
    short = table[~table["record_id"].isin(table.loc[table["fold"] == 10, "record_id"].head(12))]
    relabelled, moved, other_class = table.copy(), table.copy(), table.rename(columns={"true_MI": "true_CD"})
    relabelled.loc[:4, "true_MI"] = ~relabelled.loc[:4, "true_MI"]
    moved.loc[0, "patient_id"] = 999
    cases = [
        (short, "of the 200 records of fold 10 in session_1, 12 are missing from session_2, which has 0 others"),
        (relabelled, "5 records have other true labels in session_2"),
        (moved, "1 records have other patients"),
        (other_class, r"do not have the same classes \(CD, MI\)"),
        (pd.concat([table, table.head(1)]), "session_2 has a record twice"),
    ]
    for wrong, message in cases:
        with pytest.raises(EcgkitError, match=message) as error:
            align({"session_1": table, "session_2": wrong})
        assert "\n" not in str(error.value)


def test_finished_sessions_are_compared_at_their_own_thresholds(tmp_path: Path) -> None:
    for noise in (0.3, 2.0):
        session = sessions.create(paths.TRAINING, tmp_path)
        evaluation.evaluate_session(session, make_table(noise), CLASSES)
        session.mark_done()
    first, second = sessions.list_sessions(paths.TRAINING, tmp_path)

    result = compare_sessions(first, second, resamples=200)

    assert result.names == ("session_1", "session_2")
    assert (result.fold, result.n_records, result.n_patients) == (10, 200, 100)
    for column, session in (("first", first), ("second", second)):
        macro = session.read_json("metrics.json")["fold_10"]["macro"]
        for metric in ("auc", "average_precision", "f1"):
            assert result.macro.loc[metric, column] == pytest.approx(macro[metric]["value"], abs=1e-12)
    assert "session_1 is better than session_2" in result.verdict
    with pytest.raises(EcgkitError, match="same name"):
        compare_sessions(first, first)


def test_a_session_that_is_not_finished_or_damaged_is_refused(tmp_path: Path) -> None:
    session = sessions.create(paths.TRAINING, tmp_path)
    with pytest.raises(EcgkitError, match="not finished"):
        session_predictions(session)
    for name in ("config.json", "metrics.json", "predictions.parquet"):
        (session.path / name).write_bytes(b"no table")
    session.mark_done()
    for spoil in (None, (session.path / "predictions.parquet").unlink):
        if spoil:
            spoil()
        with pytest.raises(EcgkitError, match=r"predictions\.parquet") as error:
            session_predictions(session)
        assert "\n" not in str(error.value)
