"""Figures of groups, abstention and mistakes show the numbers of the reports, to scale, next to their legends."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.special import expit

from ecgkit.errors import EcgkitError
from ecgkit.evaluation import add_calibration, fit_calibration, fit_thresholds
from ecgkit.evaluation.mistakes import confident_mistakes, cooccurrence_tables
from ecgkit.evaluation.selective import selective_report
from ecgkit.evaluation.subgroups import subgroup_report
from ecgkit.plots.ecg import mistakes, plot_ecg, plot_ecgs
from ecgkit.plots.subgroups import cooccurrence_compared, risk_coverage, subgroup_forest
from ecgkit.signals.ecg import LEADS
from ecgkit.sources.base import record_table
from ecgkit.sources.ptbxl.source import PtbXl
from ecgkit.stats import fold_scores

CLASSES = ("NORM", "MI", "STTC")
MM_PER_INCH = 25.4


def make_predictions(classes: tuple[str, ...] = CLASSES, n_records: int = 600) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = {"record_id": np.arange(n_records), "patient_id": np.arange(n_records)}
    table["fold"] = np.where(np.arange(n_records) < n_records // 2, 9, 10)
    for name in classes:
        score = rng.normal(-1, 1.5, n_records)
        table |= {f"true_{name}": rng.random(n_records) < expit(score), f"prob_{name}": expit(score).astype(np.float32)}
    predictions = pd.DataFrame(table)
    return add_calibration(predictions, fit_calibration(predictions, classes), classes)


@pytest.fixture(scope="module")
def subgroups() -> dict[str, Any]:
    predictions = make_predictions()
    scores = fold_scores(predictions, CLASSES, 10)
    rng = np.random.default_rng(0)
    columns = {
        name: predictions.loc[predictions["fold"] == 10, name].to_numpy() for name in ("record_id", "patient_id")
    }
    columns |= {"fold": np.full(300, 10), "sex": rng.choice(["male", "female"], 300), "age": [30] * 290 + [80] * 10}
    records = record_table(columns | {"device": ["A"] * 280 + ["B"] * 10 + ["C"] * 5 + [pd.NA] * 5}, PtbXl.columns)
    scores.y_true[290:, 1] = False
    return subgroup_report(scores, records, fit_thresholds(predictions, CLASSES), resamples=50)


def points_of(figure: Figure, gid: str) -> list[tuple[float, float]]:
    lines = [line for line in figure.axes[0].lines if line.get_gid() == gid]
    return [(float(np.asarray(line.get_xdata())[0]), float(np.asarray(line.get_ydata())[0])) for line in lines]


def test_long_names_leave_room_for_the_rows(subgroups: dict[str, Any]) -> None:
    report = subgroups | {"all": subgroups["all"] | {"classes_without_auc": [f"{i} {'infarction ' * 7}" for i in "ab"]}}
    figure = subgroup_forest(report)
    assert "300 records, 300 patients; without 2 of the classes" in [text.get_text() for text in figure.axes[0].texts]
    figure.draw_without_rendering()  # a warning of the layout is an error
    assert figure.axes[0].get_position().width > 0.3


def test_a_row_for_each_group_with_small_ones_set_apart(subgroups: dict[str, Any]) -> None:
    figure = subgroup_forest(subgroups)
    rows = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert rows[:4] == ["all records", "sex", "female", "male"]
    assert "recording device (5 unknown)" in rows
    assert "other (2 devices)" in rows
    values = {rows[round(y)]: x for gid in ("group", "small") for x, y in points_of(figure, gid)}
    groups = {name: group for part in subgroups["divisions"].values() for name, group in part["groups"].items()}
    for name in ("female", "male", "75 and over", "A", "none noted", "one class"):
        assert values[name] == groups[name]["metrics"]["macro"]["auc"]["value"]
    small = {rows[round(y)] for _, y in points_of(figure, "small")}
    assert {"75 and over", "other (2 devices)"} <= small
    assert not {"all records", "female", "male", "A"} & small
    notes = [text.get_text() for text in figure.axes[0].texts]
    assert "10 records, 10 patients; without MI" in notes
    assert figure.axes[0].get_xlabel() == "macro AUC"
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white" and line.get_gid()]
    lacking = {name for name, group in groups.items() if group["classes_without_auc"] and name != "no class"}
    assert {rows[round(float(np.asarray(line.get_ydata()).item()))] for line in hollow} == lacking


def test_a_class_or_another_metric_can_be_drawn(subgroups: dict[str, Any]) -> None:
    figure = subgroup_forest(subgroups, of="MI")
    notes = [text.get_text() for text in figure.axes[0].texts]
    assert "10 records, 0 with MI; not defined" in notes
    assert subgroup_forest(subgroups, of="samples", metric="hamming_loss").axes[0].get_xlabel() == "hamming loss"
    with pytest.raises(EcgkitError, match="unknown class 'HYP': choose one of NORM"):
        subgroup_forest(subgroups, of="HYP")
    with pytest.raises(EcgkitError, match="unknown metric 'AUC'"):
        subgroup_forest(subgroups, metric="AUC")


def test_notes_and_legends_stand_beside_the_data(subgroups: dict[str, Any]) -> None:
    for figure in (subgroup_forest(subgroups), risk_coverage(make_selective())):
        figure.draw_without_rendering()
        legend = figure.legends[0].get_window_extent()
        for axes in figure.axes:
            assert not legend.overlaps(axes.get_window_extent())
            for text in axes.texts:
                assert text.get_window_extent().x0 > axes.get_window_extent().x1
                assert text.get_window_extent().x1 <= figure.bbox.x1


def make_selective(predictions: pd.DataFrame | None = None) -> dict[str, Any]:
    predictions = make_predictions() if predictions is None else predictions
    return selective_report(predictions, CLASSES, fit_thresholds(predictions, CLASSES), resamples=20)


def test_the_curve_of_risk_and_the_chosen_point_are_those_of_the_report() -> None:
    report = make_selective()
    figure = risk_coverage(report)
    for axes, metric, scale in ((figure.axes[0], "hamming_loss", 100), (figure.axes[1], "macro_auc", 1)):
        lines = {line.get_gid(): np.asarray(line.get_xydata()) for line in axes.lines}
        expected = [[100 * point["coverage"], scale * point[metric]["value"]] for point in report["curve"]]
        np.testing.assert_allclose(lines["curve"], expected)
        coverage = 100 * report["coverage"]["fold_10"]["value"]
        np.testing.assert_allclose(lines["chosen"], [[coverage, scale * report["metrics"][metric]["after"]["value"]]])
        assert "%" in axes.get_xlabel()


def test_the_auc_ends_where_a_class_is_gone_and_a_model_that_decides_nothing_can_be_drawn() -> None:
    report = make_selective()
    report["curve"][-1]["classes_without_auc"] = ["MI"]
    line = next(line for line in risk_coverage(report).axes[1].lines if line.get_gid() == "curve")
    assert np.isnan(np.asarray(line.get_ydata())).tolist() == [False] * 19 + [True]
    assert risk_coverage(report).axes[1].get_title()
    assert not risk_coverage(make_selective()).axes[1].get_title()

    predictions = make_predictions()
    for name in CLASSES:
        limit = np.float32(fit_thresholds(predictions, CLASSES)["thresholds"][name])
        predictions.loc[predictions["fold"] == 10, [f"prob_{name}", f"calibrated_{name}"]] = limit
    figure = risk_coverage(make_selective(predictions))
    figure.draw_without_rendering()
    assert "none decided" in figure.axes[0].title.get_text()


def test_cooccurrence_in_truth_and_prediction_and_their_difference() -> None:
    predictions = make_predictions()
    tables = cooccurrence_tables(fold_scores(predictions, CLASSES, 10), fit_thresholds(predictions, CLASSES))
    figure = cooccurrence_compared(tables)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == list(CLASSES)
    for axes, key in zip(figure.axes[:3], ("truth", "predicted", "difference"), strict=True):
        np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), 100 * tables[key].to_numpy())
        assert [tick.get_text() for tick in axes.get_xticklabels()] == list(CLASSES)
    assert figure.axes[0].texts[1].get_text() == f"{100 * tables['truth'].iloc[0, 1]:.0f}"
    assert sum(text.get_text() != "" for text in figure.axes[2].texts) == 6
    low, high = figure.axes[2].images[0].get_clim()
    assert low == -high


def test_many_classes_and_a_class_without_records_can_be_drawn() -> None:
    many = tuple(f"C{i:02d}" for i in range(30))
    predictions = make_predictions(many, 200)
    predictions["true_C05"] = False
    thresholds = {"thresholds": dict.fromkeys(many, 0.5) | {"C05": 1.0}}
    figure = cooccurrence_compared(cooccurrence_tables(fold_scores(predictions, many, 10), thresholds))
    figure.draw_without_rendering()
    tops = [axes.get_position().y1 for axes in figure.axes[:3]]
    assert tops == sorted(tops, reverse=True)
    assert not figure.axes[0].texts


def make_signals(number: int = 2, seconds: float = 10.0, amplitude: float = 0.5) -> np.ndarray:
    time = np.arange(round(seconds * 100)) / 100
    phase = np.arange(12)[:, None] + 0.3 * np.arange(number)[:, None, None]
    return (amplitude * np.sin(2 * np.pi * time + phase)).astype(np.float32)


def test_each_mistake_has_its_ecg_its_truth_and_its_prediction() -> None:
    predictions = make_predictions()
    scores = fold_scores(predictions, CLASSES, 10)
    table = confident_mistakes(scores, fit_thresholds(predictions, CLASSES), n=2, record_ids=np.arange(300, 600))
    signals = make_signals()
    figure = mistakes(signals, table, sampling_rate=100)
    titles = [text.get_text() for text in figure.texts][:2]
    assert len(figure.axes) == 2
    for i, row in enumerate(table.to_dict("records")):
        assert titles[i].startswith(f"Record {row['record_id']}: {row['class']} false negative, ")
        assert titles[i].endswith(f"truth: {row['true_labels']}; predicted: {row['predicted_labels']}")
        expected = {line.get_gid(): line for line in plot_ecg(signals[i], sampling_rate=100).axes[0].lines}
        assert set(LEADS) < set(expected)
        for line in figure.axes[i].lines:
            drawn = np.asarray(expected[line.get_gid()].get_ydata()) if line.get_gid() in LEADS[2:] else None
            if drawn is not None:
                np.testing.assert_allclose(np.diff(line.get_ydata()), np.diff(drawn), atol=1e-5)
    unnamed = mistakes(signals, table.drop(columns="record_id"), sampling_rate=100)
    assert unnamed.texts[0].get_text().startswith(f"Record at position {table['position'][0]}: ")


def test_ecgs_are_to_scale_whatever_their_number() -> None:
    for number in (1, 3):
        figure = plot_ecgs(make_signals(number), ["one line", "two\nlines", ""][:number], sampling_rate=100)
        for axes in figure.axes:
            line = [line for line in axes.lines if line.get_gid() == "II"][-1]
            points = figure.dpi_scale_trans.inverted().transform(axes.transData.transform(line.get_xydata()))
            assert np.ptp(points[:, 0]) * MM_PER_INCH == pytest.approx(25 * 9.99)
            assert np.ptp(points[:, 1]) * MM_PER_INCH == pytest.approx(10.0, abs=0.02)
        boxes = [axes.get_window_extent() for axes in figure.axes]
        assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))
        figure.draw_without_rendering()
        for text in figure.texts:
            box = text.get_window_extent()
            assert not any(box.overlaps(other) for other in boxes)
            assert 0 <= box.y0 <= box.y1 <= figure.bbox.height


def test_what_is_not_shown_is_said() -> None:
    figure = plot_ecgs(make_signals(1, seconds=12.0, amplitude=6.0), ["title"], sampling_rate=100)
    note = figure.texts[-1].get_text()
    assert "the first 10 s of 12 s" in note
    assert "cut at the next row: I, aVR, V1, V4, II" in note
    assert "cut" not in plot_ecgs(make_signals(1), ["title"], sampling_rate=100).texts[-1].get_text()


def test_no_mistakes_are_a_figure_that_says_so() -> None:
    empty = pd.DataFrame({"position": [], "class": [], "kind": []})
    assert mistakes([], empty, sampling_rate=100).texts[0].get_text() == "There is no such mistake."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"titles": ["one"]}, "2 signals and 1 titles"),
        ({"signals": [], "titles": []}, "0 signals"),
        ({"sampling_rate": 0}, "sampling_rate is 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(EcgkitError, match=message):
        plot_ecgs(**{"signals": make_signals(), "titles": ["one", "two"], "sampling_rate": 100} | arguments)
    with pytest.raises(EcgkitError, match="2 signals and 0 titles"):
        mistakes(make_signals(), pd.DataFrame(), sampling_rate=100)
