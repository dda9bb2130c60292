"""Groups contain the right records, their metrics are right, and no gap is found where there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from scipy.special import expit
from scipy.stats import norm

from ecgkit.errors import EcgkitError
from ecgkit.evaluation.subgroups import noted_noise, subgroup_report
from ecgkit.sources.base import record_table
from ecgkit.sources.ptbxl.source import PtbXl
from ecgkit.stats import FoldScores
from ecgkit.stats.resampling import patient_weights
from ecgkit.stats.subgroups import describe_gap, widest_gap

CLASSES = ("NORM", "MI", "STTC")
THRESHOLDS = {"thresholds": dict.fromkeys(CLASSES, 0.4), "f_max_threshold": 0.4}


def make_scores(n_records: int = 400, seed: int = 0) -> FoldScores:
    rng = np.random.default_rng(seed)
    prob = expit(rng.normal(-1, 1.5, (n_records, len(CLASSES))))
    return FoldScores(10, CLASSES, rng.random(prob.shape) < prob, prob, prob)


def make_records(n_records: int = 400, **columns: Any) -> pd.DataFrame:
    ids = np.arange(n_records)
    return record_table(
        {"record_id": ids, "patient_id": ids // 2, "fold": np.full(n_records, 10), **columns}, PtbXl.columns
    )


def report_of(scores: FoldScores, records: pd.DataFrame, resamples: int = 50) -> dict[str, Any]:
    return subgroup_report(scores, records, THRESHOLDS, resamples=resamples)


def sizes(report: dict[str, Any], division: str) -> dict[str, int]:
    return {name: group["n_records"] for name, group in report["divisions"][division]["groups"].items()}


def test_one_patient_has_no_interval() -> None:
    found = report_of(make_scores(), make_records().assign(patient_id="7"))["all"]["metrics"]["macro"]["auc"]
    assert 0 < found["value"] < 1
    assert (found["low"], found["high"]) == (None, None)


def test_blanks_are_unknown_and_no_group() -> None:
    scores = make_scores(6)
    records = make_records(
        6, sex=["male", "female", pd.NA, "male", pd.NA, ""], age=[50, np.nan, 20, 80, 90, np.nan], device=[pd.NA] * 6
    )
    report = report_of(scores, records)
    assert sizes(report, "sex") == {"female": 1, "male": 2}
    assert report["divisions"]["sex"]["unknown"] == 3
    assert sizes(report, "age_band") == {"under 40": 1, "40 to 59": 1, "75 and over": 2}
    assert report["divisions"]["age_band"]["unknown"] == 2
    assert sizes(report, "device") == {}
    assert report["divisions"]["device"]["unknown"] == 6


def test_a_blank_in_the_columns_on_noise_means_that_none_was_noted() -> None:
    noise = {"baseline_drift": ["V1", pd.NA, pd.NA, " "], "electrodes_problems": ["V6", pd.NA, "V4", pd.NA]}
    report = report_of(make_scores(4), make_records(4, device=["CS-12"] * 4, **noise))
    assert sizes(report, "noise") == {"none noted": 2, "noted": 2}
    assert report["divisions"]["noise"]["unknown"] == 0


def test_age_bands_begin_at_40_60_and_75_and_over_89_is_in_the_last() -> None:
    age = [39.9, 40, 59.9, 60, 74.9, 75, 90]
    report = report_of(make_scores(7), make_records(7, age=age, age_over_89=[False] * 6 + [True]))
    assert sizes(report, "age_band") == {"under 40": 1, "40 to 59": 2, "60 to 74": 2, "75 and over": 2}


def test_rare_devices_go_together_and_are_counted() -> None:
    device = ["B"] * 20 + ["A"] * 40 + ["C"] * 19 + ["D"] * 1 + [pd.NA] * 20
    report = report_of(make_scores(100), make_records(100, device=device))
    assert list(sizes(report, "device").items()) == [("A", 40), ("B", 20), ("other", 20)]
    assert report["divisions"]["device"]["groups"]["other"]["n_devices"] == 2
    assert report["divisions"]["device"]["unknown"] == 20


def test_comorbidity_counts_the_classes_of_a_record() -> None:
    scores = make_scores(4)
    truth = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=bool)
    report = report_of(replace(scores, y_true=truth), make_records(4))
    assert sizes(report, "comorbidity") == {"no class": 1, "one class": 1, "several classes": 2}


def test_the_numbers_of_a_group_are_those_of_its_records() -> None:
    scores, sex = make_scores(), np.random.default_rng(1).choice(["male", "female"], 400)
    report = report_of(scores, make_records(sex=sex))
    for name in ("male", "female"):
        rows = sex == name
        group = report["divisions"]["sex"]["groups"][name]
        truth, prob = scores.y_true[rows], scores.prob[rows]
        assert group["metrics"]["macro"]["auc"]["value"] == pytest.approx(sklearn.metrics.roc_auc_score(truth, prob))
        f1 = sklearn.metrics.f1_score(truth, prob >= 0.4, average="macro")
        assert group["metrics"]["macro"]["f1"]["value"] == pytest.approx(f1)
        loss = sklearn.metrics.hamming_loss(truth, prob >= 0.4)
        assert group["metrics"]["samples"]["hamming_loss"]["value"] == pytest.approx(loss)
        assert group["n_patients"] == len(np.unique(np.flatnonzero(rows) // 2))
        assert group["n_positive"] == dict(zip(CLASSES, truth.sum(axis=0).tolist(), strict=True))


def test_intervals_are_those_of_patients_drawn_from_the_whole_fold() -> None:
    """Repeat the records as often as their patients were drawn, and take those of the group."""
    scores, sex = make_scores(), np.random.default_rng(1).choice(["male", "female"], 400)
    records = make_records(sex=sex)
    entry = report_of(scores, records, 40)["divisions"]["sex"]["groups"]["female"]["metrics"]["MI"]["auc"]
    drawn = []
    for counts in patient_weights(records["patient_id"], resamples=40):
        rows = np.repeat(np.arange(400), counts.astype(int))
        rows = rows[sex[rows] == "female"]
        drawn.append(sklearn.metrics.roc_auc_score(scores.y_true[rows, 1], scores.prob[rows, 1]))
    assert [entry["low"], entry["high"]] == pytest.approx(np.percentile(drawn, [2.5, 97.5]))


def test_a_class_that_a_group_lacks_has_no_auc_and_is_out_of_its_macro_mean() -> None:
    scores, sex = make_scores(), np.repeat(["male", "female"], 200)
    truth = scores.y_true.copy()
    truth[sex == "female", 1] = False
    report = report_of(replace(scores, y_true=truth), make_records(sex=sex))
    female = report["divisions"]["sex"]["groups"]["female"]
    assert female["classes_without_auc"] == ["MI"]
    assert female["metrics"]["MI"]["auc"] == {"value": None, "low": None, "high": None}
    aucs = [female["metrics"][name]["auc"]["value"] for name in ("NORM", "STTC")]
    assert female["metrics"]["macro"]["auc"]["value"] == pytest.approx(np.mean(aucs))

    gaps = report["divisions"]["sex"]["gaps"]
    assert gaps["MI"] is None
    # The men have an AUC of all three classes; they are compared on the two that the women have, too.
    assert gaps["macro"]["classes"] == ["NORM", "STTC"]
    male = report["divisions"]["sex"]["groups"]["male"]["metrics"]
    of_two = np.mean([male[name]["auc"]["value"] for name in ("NORM", "STTC")])
    assert gaps["macro"]["groups"]["male"]["value"] == pytest.approx(of_two)
    assert describe_gap(report, "sex").startswith("Macro AUC without MI by sex: ")
    assert describe_gap(report, "sex", of="MI").endswith("there are not two groups large enough to be compared.")


@pytest.mark.parametrize(
    ("n_records", "n_positive", "is_small"), [(49, 20, True), (50, 20, False), (50, 9, True), (50, 41, True)]
)
def test_a_group_is_small_with_few_records_or_few_outcomes_of_every_class(
    n_records: int, n_positive: int, is_small: bool
) -> None:
    scores = make_scores()
    sex = np.where(np.arange(400) < n_records, "male", "female")
    truth = np.broadcast_to((np.arange(400) < n_positive) | (np.arange(400) > 300), (3, 400)).T
    report = report_of(replace(scores, y_true=truth), make_records(sex=sex))
    assert report["divisions"]["sex"]["groups"]["male"]["is_small"] is is_small
    assert report["divisions"]["sex"]["groups"]["female"]["is_small"] is False
    assert (report["divisions"]["sex"]["gaps"]["macro"] is None) is is_small


def test_a_group_with_one_common_class_does_not_reduce_the_macro_gap_to_it() -> None:
    scores, device = make_scores(), np.repeat(["A", "B", "C"], [170, 170, 60])
    truth = scores.y_true.copy()
    truth[device == "C", 1:] = False
    gaps = report_of(replace(scores, y_true=truth), make_records(device=device))["divisions"]["device"]["gaps"]
    assert gaps["macro"]["classes"] == list(CLASSES)
    assert list(gaps["macro"]["groups"]) == ["A", "B"]
    assert gaps["macro"]["not_compared"] == ["C"]
    assert list(gaps["NORM"]["groups"]) == ["A", "B", "C"]


def test_a_gap_that_is_there_is_found_and_said() -> None:
    scores, age = make_scores(2000), np.repeat([30.0, 50.0, 70.0, 80.0], 500)
    rng = np.random.default_rng(2)
    prob = np.where((age == 80)[:, None], rng.random(scores.prob.shape), scores.prob)
    report = report_of(replace(scores, prob=prob, calibrated=prob), make_records(2000, age=age), 200)
    gap = report["divisions"]["age_band"]["gaps"]["macro"]
    assert gap["worst"] == "75 and over"
    assert gap["groups"]["75 and over"]["value"] == pytest.approx(0.5, abs=0.05)
    assert 0.1 < gap["difference"]["low"] < gap["difference"]["value"] < gap["difference"]["high"] < 0.5
    ends = [f"{gap['groups'][gap[end]]['value']:.3f} ({gap[end]})" for end in ("best", "worst")]
    by = "{value:.3f} ({low:.3f} to {high:.3f})".format(**gap["difference"])
    sentence = f"Macro AUC by age band: best {ends[0]}, worst {ends[1]}, a difference of {by}."
    assert describe_gap(report, "age_band") == sentence


def test_where_the_interval_includes_zero_no_difference_is_said_to_be_shown() -> None:
    sex = np.random.default_rng(1).choice(["male", "female"], 400)
    report = report_of(make_scores(), make_records(sex=sex), 200)
    difference = report["divisions"]["sex"]["gaps"]["macro"]["difference"]
    assert difference["low"] < 0 < difference["value"] < difference["high"]
    assert "no difference is shown" in describe_gap(report, "sex")


def test_the_interval_of_two_groups_is_that_of_their_difference() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.05, 20_000)
    drawn = {"a": 0.9 + shared + rng.normal(0, 0.01, 20_000), "b": 0.8 + shared + rng.normal(0, 0.02, 20_000)}
    best, worst, difference = widest_gap({"a": 0.9, "b": 0.8}, drawn)
    assert (best, worst) == ("a", "b")
    # What moves both groups, as patients in both do, is not in their difference.
    reach = norm.ppf(0.975) * np.hypot(0.01, 0.02)
    assert [difference["low"], difference["high"]] == pytest.approx([0.1 - reach, 0.1 + reach], abs=0.001)


def test_of_many_equal_groups_the_best_and_worst_seldom_pass_for_different() -> None:
    """Eight equal groups: an interval of the best against the worst alone would find a gap in half of the trials."""
    rng = np.random.default_rng(0)
    found, found_alone, trials = 0, 0, 400
    for _ in range(trials):
        observed = dict(enumerate(rng.normal(0.9, 0.02, 8)))
        drawn = {str(i): value + rng.normal(0, 0.02, 300) for i, value in observed.items()}
        best, worst, difference = widest_gap({str(i): value for i, value in observed.items()}, drawn)
        assert difference["low"] is not None
        found += difference["low"] > 0
        found_alone += np.percentile(drawn[best] - drawn[worst], 2.5) > 0
    # 400 trials of 0.05 have a standard error of 0.011.
    assert 0.02 <= found / trials <= 0.09
    assert found_alone / trials > 0.4


def test_resamples_in_which_a_group_has_no_auc_are_left_out_of_its_gap() -> None:
    rng = np.random.default_rng(0)
    drawn = {name: rng.normal(0.8, 0.1, 100) for name in "ab"}
    with_gaps = {"a": np.append(drawn["a"], [np.nan, 0.1]), "b": np.append(drawn["b"], [0.9, np.nan])}
    assert widest_gap({"a": 0.9, "b": 0.7}, with_gaps) == widest_gap({"a": 0.9, "b": 0.7}, drawn)
    nothing = widest_gap({"a": 0.9, "b": 0.7}, {name: np.full(5, np.nan) for name in "ab"})[2]
    assert nothing == {"value": pytest.approx(0.2), "low": None, "high": None}


def test_the_report_is_json_with_every_metric_of_every_group_and_its_table() -> None:
    records = make_records(sex=["male"] * 398 + ["female"] * 2, device=["A"] * 399 + ["B"], age=[50] * 400)
    report = report_of(make_scores(), records)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    divisions = report["divisions"].values()
    groups = [report["all"], *(group for division in divisions for group in division["groups"].values())]
    for group in groups:
        assert list(group["metrics"]) == [*CLASSES, "macro", "micro", "samples"]
        assert group["metrics"].keys() == report["all"]["metrics"].keys()
    with pytest.raises(EcgkitError, match="unknown division 'age'"):
        describe_gap(report, "age")


def test_records_that_do_not_belong_to_the_scores_are_refused() -> None:
    with pytest.raises(EcgkitError, match="400 scores and 399 records"):
        subgroup_report(make_scores(), make_records().iloc[:-1], THRESHOLDS, resamples=5)


def test_a_dataset_without_columns_on_patients_and_recordings_has_the_other_divisions() -> None:
    report = subgroup_report(make_scores(), make_records()[["patient_id", "sex"]], THRESHOLDS, resamples=5)
    assert list(report["divisions"]) == ["sex", "comorbidity"]


def test_noise_is_unknown_where_nothing_was_noted_of_the_recording_at_all() -> None:
    records = pd.DataFrame(
        {
            "device": pd.array(["CS-12", None, None, None], dtype="string"),
            "site": pd.array([None, None, "2", " "], dtype="string"),
            "validated_by_human": pd.array([None, None, None, None], dtype="boolean"),
            "static_noise": pd.array([None, "V1", None, None], dtype="string"),
        }
    )
    assert noted_noise(records).tolist() == ["none noted", "noted", "none noted", None]
    # A table without these columns cannot distinguish the two kinds of blanks.
    assert noted_noise(records[["static_noise"]]).tolist() == ["none noted", "noted", "none noted", "none noted"]
