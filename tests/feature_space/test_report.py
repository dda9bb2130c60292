from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from scipy.special import expit

from ecgkit.feature_space.probes import (
    TARGETS,
    Target,
    fit_probes,
    probe_layers,
    probe_table,
    readable_table,
    write_probe_session,
)
from ecgkit.feature_space.probes.report import probe_figures, report_text
from ecgkit.io import file_name
from ecgkit.plots import probe_comparison
from ecgkit.plots.style import new_figure
from ecgkit.sessions import Session


@pytest.fixture(scope="module")
def results(world):
    records = world.records.assign(height=np.nan)
    return fit_probes(world.embeddings, records, seed=1, untrained=[world.noise], targets=TARGETS[:3], resamples=100)


@pytest.fixture(scope="module")
def session(results, tmp_path_factory) -> Session:
    folder = Session(tmp_path_factory.mktemp("probe_training_sessions") / "session_1")
    write_probe_session(folder, results)
    return folder


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_each_target_has_its_folder(session: Session) -> None:
    assert files(session.path / "age") == [
        "classification_report.txt",
        "figures/classes.png",
        "figures/predicted.png",
        "metrics.json",
        "predictions.parquet",
        "training_log.txt",
        "weights/probe.safetensors",
    ]
    assert "figures/probability.png" in files(session.path / "sex")
    assert files(session.path / "height") == ["classification_report.txt", "metrics.json", "training_log.txt"]


def test_metrics_have_the_layout_of_every_session(session: Session, results) -> None:
    data = json.loads((session.path / "age" / "metrics.json").read_text())
    assert data["version"] == 2
    controls = ["baseline", "demographics", "untrained", "shuffled_labels", "permutation"]
    assert list(data["fold_10"]) == ["probe", *controls]
    assert list(data["fold_10"]["probe"])[:2] == ["r2", "mae"]
    entry = data["fold_10"]["probe"]["r2"]
    assert entry["value"] == results["age"].comparison.metrics["probe"]["r2"]["value"]
    assert entry["low"] < entry["value"] < entry["high"]
    assert data["fold_10"]["baseline"]["calibration_slope"] == {"value": None, "low": None, "high": None}
    sex = json.loads((session.path / "sex" / "metrics.json").read_text())
    assert list(sex["fold_10"]["baseline"]) == ["auc", "accuracy", "f1"]
    assert sex["selectivity"]["value"] == pytest.approx(
        sex["fold_10"]["probe"]["auc"]["value"] - sex["fold_10"]["shuffled_labels"]["auc"]["value"]
    )
    assert sex["differences"]["untrained"]["auc"]["verdict"] == "better"
    assert np.sum(sex["confusion"]["records"]) == len(results["sex"].predictions)


def test_a_skipped_target_says_why_in_every_file(session: Session, results) -> None:
    data = json.loads((session.path / "height" / "metrics.json").read_text())
    assert data == {"version": 2, "fold_10": {}, "skipped": results["height"].skipped}
    for name in ("training_log.txt", "classification_report.txt"):
        assert results["height"].skipped in (session.path / "height" / name).read_text()


def test_the_weights_alone_give_the_predictions(session: Session, results, world) -> None:
    test = (world.records["fold"] == 10).to_numpy()
    for name, part in (("age", "value"), ("sex", "value"), ("age", "bins")):
        with safe_open(session.path / name / "weights" / "probe.safetensors", framework="numpy") as file:
            mean, scale, coefficients, intercepts = (
                file.get_tensor(f"{part}.{tensor}") for tensor in ("mean", "scale", "coefficients", "intercepts")
            )
            facts = file.metadata()
        outputs = (world.embeddings[test] - mean) / scale @ coefficients.T + intercepts
        table = results[name].predictions
        if part == "bins":
            predicted = np.array(json.loads(facts["bins.classes"]))[outputs.argmax(axis=1)]
            assert (predicted == table["probe_class"]).all()
        else:
            predicted = expit(outputs[:, 0]) if name == "sex" else outputs[:, 0]
            np.testing.assert_allclose(predicted, table["probe"], rtol=1e-4)
    with safe_open(session.path / "sex" / "weights" / "probe.safetensors", framework="numpy") as file:
        assert file.metadata()["positive"] == "female"
        assert json.loads(file.metadata()["value.classes"]) == ["male", "female"]


def test_predictions_are_those_of_fold_10_and_can_be_scored_again(session: Session, world) -> None:
    table = pd.read_parquet(session.path / "age" / "predictions.parquet")
    test = world.records[world.records["fold"] == 10]
    assert table["record_id"].tolist() == test["record_id"].tolist()
    assert table["true"].tolist() == test["age"].tolist()
    assert {"probe", "untrained", "baseline", "probe_class", "true_class"} <= set(table)


def test_report_begins_with_the_numbers_and_their_units(session: Session, results) -> None:
    report = (session.path / "age" / "classification_report.txt").read_text()
    mae = results["age"].comparison.metrics["probe"]["mae"]["value"]
    assert re.search(rf"mean absolute error \(years\) +{mae:.3f} \([\d.]+ to [\d.]+\)", report)
    assert report.index("baseline") < report.index("precision")
    assert re.search(r"lower limit of agreement \(years\) +-", report)
    assert "macro avg" in report
    assert "'female' is positive" in (session.path / "sex" / "classification_report.txt").read_text()


def test_log_says_what_was_tried_and_chosen(session: Session, results) -> None:
    log = (session.path / "age" / "training_log.txt").read_text()
    assert log.count("chosen within folds 1-8") == 6  # number and bins, of two encoders and of sex alone
    assert log.count("as for the probe") == 2  # number and bins of shuffled labels
    probe = results["age"].probes["probe"]["value"]
    assert f"ridge regression, alpha {probe.strength:.4g}" in log
    assert f"{probe.trials['r2'].max():.6f}" in log
    assert f"{results['age'].counts['training']:,} records" in log


def test_writing_again_replaces(tmp_path: Path, results) -> None:
    session = Session(tmp_path)
    session.folder("height").write_text("training_log.txt", "from before")
    (tmp_path / "overview.html").write_text("from before")
    write_probe_session(session, {"height": results["height"]})
    assert results["height"].skipped in (tmp_path / "height" / "training_log.txt").read_text()
    assert "from before" not in (tmp_path / "overview.html").read_text()


def test_what_a_target_that_is_skipped_now_had_before_is_gone(tmp_path: Path, results) -> None:
    session = Session(tmp_path)
    write_probe_session(session, {"age": results["age"]})
    assert len(files(tmp_path / "age")) > 3
    write_probe_session(session, {"age": replace(results["height"], target=results["age"].target)})
    assert files(tmp_path / "age") == ["classification_report.txt", "metrics.json", "training_log.txt"]
    assert probe_figures(results["height"]) == {}


def test_classes_of_any_name_have_folders_of_their_own_inside_the_session(tmp_path: Path, results) -> None:
    skipped = dict.fromkeys(("LAFB/LPFB", "LAFB-LPFB", "..", "_AVB"), results["height"])
    session = Session(tmp_path / "session_1")
    session.path.mkdir()
    write_probe_session(session, skipped)
    folders = sorted(path.name for path in session.path.iterdir() if path.is_dir())
    assert folders == sorted(["LAFB-LPFB", "LAFB-LPFB-2", "--", "_AVB", "figures"])
    assert [path.name for path in tmp_path.iterdir()] == ["session_1"]
    page = (session.path / "overview.html").read_text()
    for link in re.findall(r'(?:href|src)="([^"#]+)"', page):
        assert (session.path / link).is_file(), link


@pytest.mark.parametrize(
    ("name", "expected"),
    [("LAFB/LPFB", "LAFB-LPFB"), ("..", "--"), (".", "-"), ("", "-"), ("_AVB", "_AVB"), ("a b\\c:d", "a-b-c-d")],
)
def test_names_of_files_hold_no_path(name: str, expected: str) -> None:
    assert file_name(name) == expected


def test_all_layers_are_in_the_metrics_and_their_figure_in_the_overview(tmp_path: Path, results, world) -> None:
    records = world.records.assign(height=np.nan)
    layers = {"stem": world.noise, "last": world.embeddings[:, 1:], "all layers": world.embeddings}
    table = probe_layers(layers, records, targets=TARGETS[:3], untrained={"all layers": world.noise}, resamples=20)
    write_probe_session(Session(tmp_path), results, table)
    page = (tmp_path / "overview.html").read_text()
    assert "figures/probes_by_layer.png" in page
    assert (tmp_path / "figures" / "probes_by_layer.png").is_file()
    row = table[(table["target"] == "age") & (table["layer"] == "all layers")].set_index("encoder")
    metrics = json.loads((tmp_path / "age" / "metrics.json").read_text())["fold_10"]
    assert metrics["all_layers"]["r2"]["value"] == row["value"]["trained"]
    assert metrics["all_layers_untrained"]["r2"]["high"] == row["high"]["untrained"]
    assert json.loads((tmp_path / "height" / "metrics.json").read_text())["fold_10"] == {}


def test_the_first_table_of_the_overview_has_a_column_for_each_control(session: Session, results) -> None:
    head, first = re.findall(r"<tr>(.*?)</tr>", (session.path / "overview.html").read_text(), re.S)[:2]
    names = re.findall(r"<th[^>]*>(.*?)</th>", head)
    assert names == [
        "target",
        "metric",
        "probe",
        "baseline",
        "age and sex",
        "untrained encoder",
        "shuffled labels",
        "p",
    ]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", first)
    assert cells[5].startswith(f"{results['age'].comparison.metrics['untrained']['r2']['value']:.2f} (")


def test_devices_are_classes_in_the_report(world) -> None:
    device = np.array(["A", "B", "C"])[np.arange(len(world.records)) % 3]
    target = Target("device", categories=("A", "B", "C"))
    records = world.records.assign(device=device)
    report = report_text(fit_probes(world.noise, records, seed=1, targets=(target,), resamples=10)["device"])
    assert "Classes of device: A, B, C" in report


def test_the_table_has_a_row_per_target_source_and_metric(results) -> None:
    table = probe_table(results)
    rows = table[(table["target"] == "age") & (table["metric"] == "r2")].set_index("source")
    assert list(rows.index) == ["probe", "baseline", "demographics", "untrained", "shuffled_labels"]
    found = results["age"].comparison
    assert rows["value"]["probe"] == found.metrics["probe"]["r2"]["value"]
    assert rows["low"]["probe"] < rows["value"]["probe"] < rows["high"]["probe"]
    assert rows["p_adjusted"]["probe"] == found.p_adjusted
    assert rows["difference"]["untrained"] == pytest.approx(rows["value"]["probe"] - rows["value"]["untrained"])
    assert set(table.loc[table["metric"] == "mae", "unit"]) == {"years"}
    skipped = table[table["target"] == "height"]
    assert skipped["value"].isna().all()
    assert "height is known for 0 records" in skipped["description"].iloc[0]
    readable = readable_table(results)
    assert readable["probe"]["age"].startswith(f"{rows['value']['probe']:.2f} (")
    assert readable["metric"].to_dict() == {"age": "R2", "sex": "AUC"}


def test_the_overview_summarises_each_probe_and_its_links_exist(session: Session) -> None:
    page = (session.path / "overview.html").read_text()
    assert "no probe: height is known for 0 records" in page
    assert "linearly present" in page
    links = re.findall(r'(?:href|src)="([^"#]+)"', page)
    assert {path.name for path in session.path.glob("*.*")} - {"overview.html"} <= set(links)
    assert {
        "age/figures/predicted.png",
        "age/weights/probe.safetensors",
        "figures/probe_comparison.png",
        "probes.parquet",
    } <= set(links)
    for link in links:
        assert (session.path / link).is_file(), link


def test_the_overview_shows_every_figure_of_the_session_and_names_each_control_as_the_figures_do(
    tmp_path: Path, results
) -> None:
    session = Session(tmp_path)
    for name in ("umap_classes", "k_selection", "my_own"):
        session.save_figure(new_figure(2, 2), name)
    (tmp_path / "map.html").write_text("")
    write_probe_session(session, results)
    page = (tmp_path / "overview.html").read_text()
    shown = re.findall(r'<img[^>]*src="([^"]+)"', page)
    assert shown == [f"figures/{name}.png" for name in ("k_selection", "umap_classes", "probe_comparison", "my_own")]
    assert 'href="map.html"' in page
    drawn = {label.get_text() for label in probe_comparison(probe_table(results)).axes[0].get_yticklabels()}
    assert drawn == set(readable_table(results).columns) - {"metric", "p"}
    assert all(f">{name}<" in page for name in drawn)


def test_a_class_called_figures_keeps_the_figures_of_the_session(tmp_path: Path, results) -> None:
    write_probe_session(Session(tmp_path), {"figures": results["height"]})
    assert (tmp_path / "figures" / "probe_comparison.png").is_file()
    assert (tmp_path / "figures-2" / "metrics.json").is_file()
