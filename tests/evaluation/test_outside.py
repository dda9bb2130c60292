"""A model on a data set that it was not trained on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_sources import cinc_folder, millivolts, write_cinc
from sklearn.metrics import roc_auc_score

from ecgkit import datasets, sessions
from ecgkit.cli import main
from ecgkit.datasets import Dataset, open_dataset
from ecgkit.errors import EcgkitError
from ecgkit.evaluation import outside
from ecgkit.evaluation.outside import Subject, evaluate_outside, without_training_records
from ecgkit.inference.loading import load_model
from ecgkit.inference.model_folder import SHIPPED
from ecgkit.signals.filters import Filters
from ecgkit.sources.cinc import Cinc

MODEL = "resnet1d"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a dataset of PhysioNet/CinC, one record of six from PTB-XL."""
    made = tmp_path_factory.mktemp("outside")
    folder = cinc_folder(made / "challenge", 60)
    datasets.build_dataset(Cinc(folder), made / "processed_datasets" / "challenge", progress=False, jobs=1)
    return made


@pytest.fixture(scope="module")
def data(root: Path) -> Dataset:
    return open_dataset(root / "processed_datasets" / "challenge", label_set="superclass")


@pytest.fixture(scope="module")
def session(root: Path) -> sessions.Session:
    return evaluate_outside(MODEL, "challenge", root, resamples=50)


def subject(**config: object) -> Subject:
    return Subject(load_model(MODEL), SHIPPED / MODEL, dict(config))


def test_all_records_but_those_of_the_training_data_are_evaluated(session: sessions.Session, data: Dataset) -> None:
    results = session.read_json(outside.RESULTS)
    table = pd.read_parquet(session.path / "predictions.parquet")
    assert session.is_done
    assert not table["record_id"].str.startswith("HR").any()
    assert results["left_out"] == data.records["record_id"].str.startswith("HR").sum() > 0
    assert len(table) + results["left_out"] == len(data)
    assert (results["trained_on"], results["overlap_checked"]) == ("ptbxl", True)
    for name in results["classes"]:
        expected = roc_auc_score(table[f"true_{name}"].astype(bool), table[f"prob_{name}"])
        assert results["outside"][name]["auc"]["value"] == pytest.approx(expected)
        own = json.loads((SHIPPED / MODEL / "metrics.json").read_text())["fold_10"][name]["auc"]
        assert results["drop"][name]["value"] == pytest.approx(own["value"] - expected)
        assert results["drop"][name]["low"] < results["drop"][name]["value"] < results["drop"][name]["high"]
    for name in ("report.html", "figures/auc_by_class.png", "figures/reliability.png", "config.json"):
        assert (session.path / name).is_file()


def test_records_are_prepared_as_for_every_prediction(session: sessions.Session, data: Dataset) -> None:
    table = pd.read_parquet(session.path / "predictions.parquet").set_index("record_id")
    row = int(np.flatnonzero(data.records["record_id"] == "E00002")[0])
    prob = load_model(MODEL).predict_proba(data.signal(row)[None], sampling_rate=100)[0]
    columns = [f"calibrated_{name}" for name in load_model(MODEL).classes]
    np.testing.assert_allclose(table.loc["E00002", columns].astype(float), prob, atol=1e-6)


def test_the_repair_is_fitted_on_other_patients_than_it_is_evaluated_on(session: sessions.Session) -> None:
    patients = pd.Series(np.repeat([f"p{i}" for i in range(500)], 2))
    sample = outside.drawn_sample(patients)
    assert not set(patients[sample]) & set(patients[~sample])
    assert sample.sum() == 200
    repair = session.read_json(outside.RESULTS)["repair"]
    assert list(repair["results"]) == list(outside.REPAIRS)
    assert repair["n_fitted"] + repair["n_evaluated"] == session.read_json(outside.RESULTS)["n_records"]


def test_a_temperature_keeps_what_an_offset_repairs() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(4000) < 0.05
    prob = 1 / (1 + np.exp(-2 * rng.normal(np.where(truth, 1.0, -1.0), 1.0)))  # calibrated where half have the class
    names = np.arange(4000).astype(str)
    table = pd.DataFrame({"record_id": names, "patient_id": names, "fold": 10, "true_MI": truth})
    table = table.assign(prob_MI=prob, calibrated_MI=prob)
    scores = outside.stats.fold_scores(table, ["MI"], 10)
    found = outside.repair_report(table, scores, {"MI": 0.5}, resamples=20)
    ece = {name: of_repair["MI"]["ece"]["value"] for name, of_repair in found["results"].items()}
    assert ece["temperature"] > ece["none"] / 2
    assert max(ece["offset, labels"], ece["offset, no labels"]) < ece["none"] / 4
    assert found["shift"]["MI"]["share by EM"] == pytest.approx(0.05, abs=0.02)


def test_the_share_of_a_class_follows_from_the_metrics_of_a_shipped_model() -> None:
    card = (SHIPPED / MODEL / "model_card.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")] for line in card.splitlines() if line.startswith("| ")]
    in_fold_9 = {row[1]: float(row[3].replace(",", "")) for row in rows[1:8]}
    shares = outside.own_shares(subject(), load_model(MODEL).classes)
    expected = {name: in_fold_9[name] / in_fold_9["records"] for name in load_model(MODEL).classes}
    assert shares == pytest.approx(expected, abs=1e-4)


def test_the_same_call_finds_the_session_and_prints_it(
    session: sessions.Session, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate_outside(MODEL, "challenge", root, resamples=50).path == session.path
    assert main(["evaluate", MODEL, "--dataset", "challenge", "--root", str(root)]) == 0
    out = capsys.readouterr().out
    assert "macro" in out
    assert "comparison_sessions" in out.splitlines()[-1]
    assert main(["evaluate", MODEL, "--dataset", "challenge", "--json", "--root", str(root)]) == 0
    assert json.loads(capsys.readouterr().out)["dataset"] == "challenge"


def test_fold_10_of_the_model_that_was_opened_later_is_another_evaluation(root: Path, tmp_path: Path) -> None:
    (tmp_path / "processed_datasets").symlink_to(root / "processed_datasets")
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED / MODEL, folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({key: metrics[key] for key in metrics if key != "fold_10"}))
    closed = evaluate_outside(str(folder), "challenge", tmp_path, resamples=20)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    opened = evaluate_outside(str(folder), "challenge", tmp_path, resamples=20)
    assert [bool(one.read_json(outside.RESULTS)["drop"]) for one in (closed, opened)] == [False, True]


def test_data_that_the_model_has_seen_are_refused(root: Path, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(EcgkitError, match="trained on challenge"):
        without_training_records(subject(dataset="challenge", dataset_fingerprint=data.fingerprint), data, root)
    only = replace(data, records=data.records.assign(subset="PTB-XL"))
    with pytest.raises(EcgkitError, match="ptbxl"):
        without_training_records(subject(dataset="ptbxl_500hz"), only, tmp_path)
    # the same records in another folder and at another rate
    with pytest.raises(EcgkitError, match="challenge"):
        without_training_records(subject(dataset="challenge", dataset_fingerprint="other"), data, root)
    kept, found = without_training_records(subject(), data, root)
    assert (len(kept), found["overlap_checked"]) == (len(data), False)


def test_records_of_the_weights_that_a_training_started_from_are_left_out(
    root: Path, data: Dataset, tmp_path: Path
) -> None:
    n_ptbxl = int(data.records["record_id"].str.startswith("HR").sum())
    copied = tmp_path / "copied"
    shutil.copytree(SHIPPED / MODEL, copied)
    for start in (MODEL, str(copied)):
        kept, found = without_training_records(subject(dataset="mine", init=start), data, root)
        assert (len(kept), found["left_out"]) == (len(data) - n_ptbxl, n_ptbxl)
        assert found["trained_on"] == "mine, ptbxl"
    # a training that started from such a training, as a member of an ensemble
    (copied / "config.json").write_text(json.dumps({"dataset": "mine", "init": MODEL}))
    member = Subject(load_model(MODEL), tmp_path / "both", {"dataset": "mine", "members": ["copied"]})
    assert without_training_records(member, data, root)[1]["left_out"] == n_ptbxl
    # one that started from weights that are no longer there
    shutil.rmtree(copied)
    kept, found = without_training_records(subject(dataset="ptbxl", init=str(copied)), data, root)
    assert (len(kept), found["overlap_checked"]) == (len(data) - n_ptbxl, False)


def test_filtered_signals_and_other_classes_are_refused(root: Path, tmp_path: Path) -> None:
    source, folder = Cinc(root / "challenge"), tmp_path / "processed_datasets"
    datasets.build_dataset(source, folder / "filtered", filters=Filters((0.5, 40.0)), progress=False, jobs=1)
    with pytest.raises(EcgkitError, match="filtered"):
        evaluate_outside(MODEL, "filtered", tmp_path)
    with pytest.raises(EcgkitError, match="rhythm"):
        evaluate_outside(MODEL, "filtered", tmp_path, label_set="rhythm")
    with pytest.raises(EcgkitError, match="nothing"):
        evaluate_outside(MODEL, "nothing", tmp_path)


def test_a_class_with_one_outcome_is_left_out_with_the_reason(root: Path, tmp_path: Path) -> None:
    made, signal = tmp_path / "raw", millivolts(1, 5000, 500)[0]
    for number in range(40):
        dx = ("426783006", "59118001")[number % 2]
        write_cinc(made, f"E{number:05d}", signal, comments=f"#Dx: {dx}\n")
    datasets.build_dataset(Cinc(made), tmp_path / "processed_datasets" / "two", progress=False, jobs=1)
    results = evaluate_outside(MODEL, "two", tmp_path, resamples=20).read_json(outside.RESULTS)
    assert results["classes"] == ["NORM", "CD"]
    assert set(results["left_out_classes"]) == {"MI", "STTC", "HYP"}
    assert "macro" not in results["own"]
