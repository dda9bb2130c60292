"""Ensembles: what is fitted, on what, that it can be computed again, and the session that it becomes."""

from __future__ import annotations

import hashlib
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from ecgkit import evaluation, paths, sessions, stats
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.comparison import class_names
from ecgkit.evaluation.ensembles import FITS, combine_unlabelled, fit_ensemble, write_ensemble
from ecgkit.evaluation.leaderboard import leaderboard
from ecgkit.sessions import Session
from ecgkit.stats.ensembles import METHODS, apply_ensemble
from ecgkit.training.config import TrainingConfig

CLASSES = ("NORM", "MI", "STTC")
NOISES = {"session_1": 0.6, "session_2": 1.0, "session_3": 3.0}
FEW = 180
CONFIG = TrainingConfig(dataset="demo", model="resnet1d", epochs=3, batch_size=64, learning_rate=1e-3)


def make_members(n_records: int = 600, noises: dict[str, float] | None = None) -> dict[str, pd.DataFrame]:
    """Return predictions of models for the same truth, each with independent noise; three records per patient."""
    rng = np.random.default_rng(0)
    true_logit = rng.normal(-1, 2.0, (n_records, len(CLASSES)))
    truth = rng.random(true_logit.shape) < expit(true_logit)
    ids = np.arange(n_records)
    tables = {}
    for name, noise in (noises or NOISES).items():
        table = pd.DataFrame({"record_id": ids, "patient_id": ids // 3, "fold": np.where(ids < n_records // 2, 9, 10)})
        prob = expit(true_logit + rng.normal(0, noise, true_logit.shape)).astype(np.float32)
        for i, one in enumerate(CLASSES):
            table[f"true_{one}"], table[f"prob_{one}"] = truth[:, i], prob[:, i]
        tables[name] = table
    return tables


def arrays(table: pd.DataFrame, fold: int) -> tuple[np.ndarray, np.ndarray]:
    scores = stats.fold_scores(table, class_names(table), fold)
    return scores.y_true, scores.prob


def changed(members: dict[str, pd.DataFrame], rows: np.ndarray) -> dict[str, pd.DataFrame]:
    """Turn the true labels of some records round, and spoil their probabilities."""
    spoilt = {}
    for name, table in members.items():
        spoilt[name] = table.copy()
        for one in CLASSES:
            spoilt[name].loc[rows, f"true_{one}"] = ~table.loc[rows, f"true_{one}"]
            spoilt[name].loc[rows, f"prob_{one}"] = (1 - table.loc[rows, f"prob_{one}"]).astype(np.float32)
    return spoilt


def shape_of(description: dict[str, Any]) -> dict[str, Any]:
    """Return the fitted parameters."""
    return {key: description.get(key) for key in ("weights", "coefficients", "picked")}


@pytest.mark.parametrize("method", METHODS)
def test_a_description_gives_the_same_probabilities_again(method: str) -> None:
    members = make_members()
    ensemble = fit_ensemble(members, method)
    description = json.loads(json.dumps(ensemble.description, allow_nan=False))
    for fold in (9, 10):
        again = apply_ensemble(description, {name: arrays(table, fold)[1] for name, table in members.items()})
        in_table = arrays(ensemble.predictions, fold)[1]
        if fold == 9 and method in FITS:
            # Out of fold: close to what the fit on all of fold 9 gives, and not that.
            assert np.abs(again - in_table).mean() < 0.05
            assert (again.astype(np.float32) != in_table.astype(np.float32)).any()
        else:
            np.testing.assert_array_equal(again.astype(np.float32), in_table.astype(np.float32))


@pytest.mark.parametrize("method", METHODS)
def test_the_table_is_one_that_can_be_evaluated(method: str, tmp_path: Path) -> None:
    members = make_members()
    members["session_2"] = members["session_2"].sample(frac=1, random_state=0)
    table = fit_ensemble(members, method).predictions
    reference = members["session_1"]
    kept = [name for name in reference if not name.startswith("prob_")]
    pd.testing.assert_frame_equal(table[kept], reference[kept])
    assert set(table[[f"prob_{name}" for name in CLASSES]].dtypes.astype(str)) == {"float32"}
    results = evaluation.evaluate_session(Session(tmp_path), table, CLASSES)
    assert results["fold_10"]["macro"]["auc"]["value"] > 0.8


@pytest.mark.parametrize("method", METHODS)
def test_fold_10_has_no_say_in_what_is_fitted(method: str) -> None:
    members = make_members()
    spoilt = changed(members, np.arange(300, 600))
    first, second = fit_ensemble(members, method), fit_ensemble(spoilt, method)
    assert first.description == second.description
    pd.testing.assert_frame_equal(first.predictions.head(300), second.predictions.head(300))


@pytest.mark.parametrize("method", list(FITS))
def test_no_patient_of_fold_9_has_a_say_in_its_own_probabilities(method: str) -> None:
    members = make_members()
    is_patient = (members["session_1"]["patient_id"] == 17).to_numpy()
    relabelled = {name: table.copy() for name, table in members.items()}
    for table in relabelled.values():
        for one in CLASSES:
            table.loc[is_patient, f"true_{one}"] = ~table.loc[is_patient, f"true_{one}"]
    columns = [f"prob_{name}" for name in CLASSES]
    before, after = (fit_ensemble(tables, method).predictions for tables in (members, relabelled))
    pd.testing.assert_frame_equal(before.loc[is_patient, columns], after.loc[is_patient, columns])
    if method == "weights":
        others = ~is_patient & (before["fold"] == 9).to_numpy()
        assert (before.loc[others, columns].to_numpy() != after.loc[others, columns].to_numpy()).any()


def test_means_are_means() -> None:
    members = make_members()
    prob = np.stack([arrays(table, 10)[1] for table in members.values()])
    of_prob = arrays(fit_ensemble(members, "mean_prob").predictions, 10)[1]
    of_logit = arrays(fit_ensemble(members, "mean_logit").predictions, 10)[1]
    np.testing.assert_allclose(of_prob, prob.mean(axis=0), atol=1e-7)
    np.testing.assert_allclose(of_logit, expit(logit(prob.clip(1e-7, 1 - 1e-7)).mean(axis=0)), atol=1e-7)


def test_weights_have_the_lowest_log_loss_of_all_on_a_grid() -> None:
    members = make_members()
    truth = arrays(members["session_1"], 9)[0]
    prob = np.stack([arrays(table, 9)[1] for table in members.values()]).clip(1e-7, 1 - 1e-7)

    def loss(weights: tuple[float, ...]) -> float:
        mixed = np.tensordot(weights, prob, axes=1)
        return float(np.mean([sklearn.metrics.log_loss(truth[:, i], mixed[:, i]) for i in range(3)]))

    fitted = tuple(fit_ensemble(members, "weights").description["weights"].values())
    assert sum(fitted) == pytest.approx(1.0)
    assert min(fitted) >= 0
    grid = [(a / 20, b / 20, (20 - a - b) / 20) for a, b in itertools.product(range(21), repeat=2) if a + b <= 20]
    losses = [loss(weights) for weights in grid]
    best = grid[int(np.argmin(losses))]
    assert loss(fitted) <= min(losses)
    np.testing.assert_allclose(fitted, best, atol=0.05)


def test_a_useless_member_gets_no_weight() -> None:
    members = make_members(noises={"session_1": 0.3, "session_2": 0.3, "session_3": 50.0})
    weights = fit_ensemble(members, "weights").description["weights"]
    assert weights["session_3"] < 0.02


def test_stacking_is_the_penalised_regression_on_the_logits() -> None:
    members = make_members()
    fits = fit_ensemble(members, "stacking").description["coefficients"]
    truth = arrays(members["session_1"], 9)[0]
    for i, name in enumerate(CLASSES):
        x = np.column_stack([logit(arrays(table, 9)[1][:, i].clip(1e-7, 1 - 1e-7)) for table in members.values()])
        z = (x - x.mean(axis=0)) / x.std(axis=0)
        reference = LogisticRegression(C=fits[name]["regularisation"], tol=1e-10, max_iter=1000).fit(z, truth[:, i])
        expected = reference.predict_proba(z)[:, 1]
        given = expit(x @ list(fits[name]["weights"].values()) + fits[name]["intercept"])
        np.testing.assert_allclose(given, expected, atol=1e-4)
        # The member that sees best counts most.
        assert max(fits[name]["weights"], key=fits[name]["weights"].get) == "session_1"


def test_stacking_a_rare_class_falls_back_on_the_mean_of_logits() -> None:
    members = make_members()
    for table in members.values():
        table.loc[(table["fold"] == 9) & (table.index > 8), "true_MI"] = False
        table["true_STTC"] = table["patient_id"].isin([4, 150])  # one patient of three records in fold 9
    ensemble = fit_ensemble(members, "stacking")
    fits = ensemble.description["coefficients"]
    assert "fewer than 10: the mean of logits is used" in fits["MI"]["reason"]
    assert "reason" not in fits["NORM"]
    equal = arrays(fit_ensemble(members, "mean_logit").predictions, 10)[1]
    np.testing.assert_allclose(arrays(ensemble.predictions, 10)[1][:, 1:], equal[:, 1:], atol=1e-6)


def test_stacking_when_one_patient_has_all_positives() -> None:
    members = make_members()
    for table in members.values():
        table["patient_id"] = np.where(table.index < 20, 0, table["patient_id"] + 1)
        table["true_MI"] = table.index < 20
    fits = fit_ensemble(members, "stacking").description["coefficients"]
    # Held out of fold, the class cannot be fitted by the others; the parts that can be used choose.
    assert fits["MI"]["regularisation"] is not None
    for table in members.values():
        table["patient_id"] = np.where((table.index < 20) | (table["fold"] == 10), 0, table["patient_id"])
    alone = {name: table[(table["fold"] == 10) | (table.index < 40)] for name, table in members.items()}
    two_patients = {name: table.assign(patient_id=np.where(table.index < 20, 0, 1)) for name, table in alone.items()}
    fits = fit_ensemble(two_patients, "stacking").description["coefficients"]
    assert fits["MI"]["reason"] == "one patient has all records of one outcome: the mean of logits is used"


def test_perfect_members_and_copies_of_one_are_no_trouble() -> None:
    members = make_members(noises={"session_1": 0.5, "session_2": 0.5})
    for table in members.values():
        table["prob_MI"] = table["true_MI"].astype(np.float32)
        table["prob_STTC"] = np.float32(0.25)
    for method in METHODS:
        table = fit_ensemble(members, method).predictions
        truth, prob = arrays(table, 10)
        assert stats.auc(truth, prob)[1] == 1.0
        assert np.isfinite(prob).all()


def test_an_ensemble_beats_its_members_where_their_errors_differ() -> None:
    members = make_members(1500, noises={"session_1": 1.5, "session_2": 1.5, "session_3": 1.5})
    best = max(stats.macro_auc(*arrays(table, 10)) for table in members.values())
    for method in METHODS:
        assert stats.macro_auc(*arrays(fit_ensemble(members, method).predictions, 10)) > best + 0.02


def test_out_of_fold_numbers_are_not_fooled() -> None:
    """Of members that know nothing, a fit on fold 9 makes something that looks good there: out of fold it does not."""
    members = make_members(300, noises={f"session_{i}": 200.0 for i in range(1, 21)})
    ensemble = fit_ensemble(members, "stacking")
    truth = arrays(members["session_1"], 9)[0]
    fitted = apply_ensemble(ensemble.description, {name: arrays(table, 9)[1] for name, table in members.items()})
    out_of_fold = stats.macro_auc(truth, arrays(ensemble.predictions, 9)[1])
    assert stats.macro_auc(truth, fitted) > 0.6
    assert out_of_fold == pytest.approx(0.5, abs=0.07)


def test_what_cannot_be_put_together_is_refused() -> None:
    members = make_members()
    one_patient = {name: table.assign(patient_id=0) for name, table in members.items()}
    other = {**members, "session_2": members["session_2"].iloc[1:]}
    for given, method, message in (
        (members, "voting", "unknown method 'voting': choose one of mean_prob"),
        ({"session_1": members["session_1"]}, "mean_prob", "at least two members, not 1"),
        (one_patient, "weights", "fold 9 has one patient"),
        (other, "mean_prob", "1 are missing from session_2"),
    ):
        with pytest.raises(EcgkitError, match=message) as error:
            fit_ensemble(given, method)
        assert "\n" not in str(error.value)
    description = fit_ensemble(members, "mean_prob").description
    prob = {name: arrays(table, 10)[1] for name, table in members.items()}
    with pytest.raises(EcgkitError, match="no probabilities of session_2"):
        apply_ensemble(description, {"session_1": prob["session_1"], "session_3": prob["session_3"]})
    with pytest.raises(EcgkitError, match=r"session_2 have the shape \(300, 2\)"):
        apply_ensemble(description, prob | {"session_2": prob["session_2"][:, :2]})
    with pytest.raises(EcgkitError, match="outside 0 to 1"):
        apply_ensemble(description, prob | {"session_2": prob["session_2"] + 1})


def write_members(root: Path, **settings: Any) -> list[Session]:
    written = []
    for number, table in enumerate(make_members(FEW).values()):
        session = sessions.create(paths.TRAINING, root)
        config = asdict(replace(CONFIG, seed=number, **settings)) | {"dataset_fingerprint": "abc"}
        session.write_json("config.json", config)
        session.write_text("training_log.txt", "training resnet1d, 1,000 parameters, on 17,418 records of demo")
        (session.path / "history.csv").write_text("epoch,seconds\n1,10.5\n")
        evaluation.evaluate_session(session, table, CLASSES)
        session.mark_done()
        written.append(session)
    return written


@pytest.mark.parametrize("method", ["mean_logit", "stacking"])
def test_an_ensemble_is_a_session_like_others(method: str, tmp_path: Path) -> None:
    members = write_members(tmp_path)

    session = write_ensemble(tmp_path, [members[0], "session_2", "3"], method)

    assert session.path == tmp_path / paths.TRAINING / "session_4"
    assert session.is_done
    names = {path.name for path in session.path.iterdir() if not path.name.startswith(".")}
    files = {"predictions.parquet", "metrics.json", "thresholds.json", "calibration.json", "classification_report.txt"}
    assert names == files | {
        "config.json",
        "ensemble.json",
        "environment.json",
        "notes.txt",
        "report.html",
        "training_log.txt",
        "DONE",
    }
    assert session.config == {
        "model": "ensemble",
        "method": method,
        "members": ["session_1", "session_2", "session_3"],
        "dataset": "demo",
        "dataset_fingerprint": "abc",
        "label_set": "superclass",
        "min_records": 0,
        "seed": 0,
        "predictions_sha256": [
            hashlib.sha256((one.path / "predictions.parquet").read_bytes()).hexdigest() for one in members
        ],
    }
    description = session.read_json("ensemble.json")
    expected = fit_ensemble(make_members(FEW), method)
    assert shape_of(description) == shape_of(expected.description)
    assert (description["parameters"], description["seconds"]) == (3000, 31.5)
    assert description["weights_sha256"] == {}  # as none of them has weights here
    table = pd.read_parquet(session.path / "predictions.parquet")
    pd.testing.assert_frame_equal(table[list(expected.predictions)], expected.predictions)
    report = (session.path / "classification_report.txt").read_text().splitlines()
    assert report[0] == f"ensemble ({method}) of the best checkpoints of session_1, session_2, session_3"
    assert ("out of fold" in (session.path / "training_log.txt").read_text()) == (method == "stacking")
    assert "session_3:" not in (session.path / "notes.txt").read_text()  # which is a training, and no ensemble
    assert "packages" in session.read_json("environment.json")


def test_an_ensemble_that_was_interrupted_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    write_members(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("ecgkit.evaluation.ensembles.evaluate_session", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_ensemble(tmp_path, ["session_1", "session_2"], "mean_prob")
    assert write_ensemble(tmp_path, ["session_1", "session_2"], "mean_prob").name == "session_4"
    assert [session.is_done for session in sessions.list_sessions(paths.TRAINING, tmp_path)] == [True] * 4


def test_two_at_once_make_one_ensemble(tmp_path: Path) -> None:
    write_members(tmp_path)
    with ThreadPoolExecutor(2) as executor:
        made = executor.map(lambda _: write_ensemble(tmp_path, ["session_1", "session_2"], "mean_prob").name, range(2))
    assert list(made) == ["session_4"] * 2
    assert len(sessions.list_sessions(paths.TRAINING, tmp_path)) == 4


def test_an_ensemble_stands_in_the_leaderboard(tmp_path: Path) -> None:
    write_members(tmp_path)
    write_ensemble(tmp_path, ["session_1", "session_2"], "weights")
    board = leaderboard(sessions.list_sessions(paths.TRAINING, tmp_path), resamples=20)
    row = board.sessions.loc["session_4"]
    assert (row["model"], row["configuration"]) == ("ensemble", "ensemble (weights)")
    assert (row["parameters"], row["training_seconds"]) == (2000, 21.0)


def test_members_that_do_not_go_together_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    write_members(tmp_path)
    other = write_members(tmp_path, label_set="diagnostic")[0]
    ensemble = write_ensemble(tmp_path, ["session_1", "session_2"], "mean_prob")
    unfinished = sessions.create(paths.TRAINING, tmp_path)
    before = len(sessions.list_sessions(paths.TRAINING, tmp_path))
    for members, message in (
        (["session_1", "session_1"], "session_1 is a member twice"),
        (
            ["session_1", other],
            "session_4 cannot be a member: its label_set is diagnostic, that of session_1 is superclass",
        ),
        (["session_1", ensemble], "session_7 is an ensemble itself: name its members session_1, session_2"),
        (["session_1", unfinished], "is not finished"),
        (["session_1", "session_99"], "no session 'session_99'"),
        (["session_1"], "at least two members, not 1"),
        ([], "at least two members, not 0"),
    ):
        with pytest.raises(EcgkitError, match=message) as error:
            write_ensemble(tmp_path, members, "mean_prob")
        assert "\n" not in str(error.value)
    assert len(sessions.list_sessions(paths.TRAINING, tmp_path)) == before


def test_records_without_a_label_are_combined_as_the_others(tmp_path: Path) -> None:
    members = [Session(tmp_path / name) for name in ("session_1", "session_2")]
    description = {"method": "mean_prob", "members": ["session_1", "session_2"], "classes": list(CLASSES)}
    description["weights"] = dict.fromkeys(description["members"], 0.5)
    tables = list(make_members(FEW).values())[:2]
    for session, table in zip(members, tables, strict=True):
        session.path.mkdir()
        session.write_table("unlabelled.parquet", table)
    combined = combine_unlabelled(members, description)
    mean = (tables[0]["prob_NORM"] + tables[1]["prob_NORM"]) / 2
    np.testing.assert_allclose(combined["prob_NORM"], mean, rtol=1e-6)
    (members[0].path / "unlabelled.parquet").unlink()
    assert combine_unlabelled(members, description) is None
