"""The leaderboard: fold 9 orders, fold 10 reports, what cannot be compared is left out, and published results."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_sessions import CLASSES, CONFIG, make_predictions, make_session

from ecgkit import evaluation, paths, sessions, stats
from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.comparison import compare_sessions
from ecgkit.evaluation.files import SAME
from ecgkit.evaluation.leaderboard import PUBLISHED, cost, format_table, leaderboard, published, standing
from ecgkit.sessions import Session
from ecgkit.stats.multiple_testing import holm
from ecgkit.training import config as training_config
from ecgkit.training.fitting import fit
from ecgkit.training.inference import predict_folds


def with_fold_10(session: Session, noise: float) -> None:
    """Replace what a session predicts for fold 10, and evaluate it again."""
    table = pd.read_parquet(session.path / "predictions.parquet")
    other = make_predictions(noise, seed=7)
    is_test = (table["fold"] == 10).to_numpy()
    for name in CLASSES:
        table.loc[is_test, f"prob_{name}"] = other.loc[is_test, f"prob_{name}"]
    evaluation.evaluate_session(session, table, CLASSES)
    session.mark_done()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with five finished sessions: three seeds of one configuration, and two others."""
    folder = tmp_path_factory.mktemp("board")
    for seed in range(3):
        make_session(folder, replace(CONFIG, seed=seed))
    make_session(folder, replace(CONFIG, epochs=9, model_options={"blocks": 1}), noise=0.5)
    make_session(folder, replace(CONFIG, model="xlstm"), noise=3.0)
    return folder


def all_sessions(root: Path) -> list[Session]:
    return sessions.list_sessions(paths.TRAINING, root)


def test_the_table_says_what_the_sessions_files_say(root: Path) -> None:
    board = leaderboard(all_sessions(root), resamples=50)
    assert (board.dataset, board.label_set, board.classes) == ("ptbxl", "superclass", CLASSES)
    assert board.left_out == ()
    assert len(board.sessions) == 5
    for session in all_sessions(root):
        row, results = board.sessions.loc[session.name], session.read_json("metrics.json")
        assert row["fold_9_auc"] == results["fold_9"]["macro"]["auc"]["value"]
        test = results["fold_10"]["macro"]["auc"]
        assert [row["fold_10_auc"], row["fold_10_low"], row["fold_10_high"]] == [
            test["value"],
            test["low"],
            test["high"],
        ]
        assert row["ece"] == results["fold_10"]["macro"]["ece"]["value"]
        assert (row["model"], row["seed"]) == (session.config["model"], session.config["seed"])
        assert (row["parameters"], row["training_seconds"]) == (1_234_567, 20.0)


def test_fold_9_orders_and_names_the_best_whatever_fold_10_says(tmp_path: Path) -> None:
    good_on_9 = make_session(tmp_path, noise=0.5)
    good_on_10 = make_session(tmp_path, replace(CONFIG, model="xlstm"), noise=1.5)
    before = leaderboard([good_on_9, good_on_10], resamples=50)
    with_fold_10(good_on_9, noise=4.0)
    with_fold_10(good_on_10, noise=0.1)

    board = leaderboard([good_on_9, good_on_10], resamples=50)

    assert board.best == before.best == "session_1"
    assert board.configurations.index[0] == before.configurations.index[0] == "resnet1d"
    assert list(board.sessions.index) == list(before.sessions.index) == ["session_1", "session_2"]
    assert board.sessions.loc["session_2", "difference"] > 0.1
    assert board.sessions.loc["session_2", "difference_low"] > 0


def test_differences_are_those_of_the_paired_comparison_with_the_best(root: Path) -> None:
    board = leaderboard(all_sessions(root), resamples=100, seed=3)
    others = board.sessions.drop(index=board.best)
    assert board.sessions.loc[board.best, ["difference", "p", "p_holm"]].isna().all()
    opened = {session.name: session for session in all_sessions(root)}
    for name, row in others.iterrows():
        expected = compare_sessions(opened[str(name)], opened[board.best], resamples=100, seed=3).macro.loc["auc"]
        for column in ("difference", "difference_low", "difference_high", "p"):
            assert row[column] == pytest.approx(expected[column], abs=1e-12), column
    np.testing.assert_array_equal(others["p_holm"], holm(others["p"]))
    assert (others["p_holm"] >= others["p"]).all()


def test_seeds_of_one_configuration_are_one_row(root: Path) -> None:
    board = leaderboard(all_sessions(root), resamples=50)
    table = board.configurations
    # The difference between two configurations of one model is named, and the seed is not.
    assert set(table.index) == {"resnet1d, epochs 3, model_options none", "resnet1d, epochs 9, blocks 1", "xlstm"}
    row = table.loc["resnet1d, epochs 3, model_options none"]
    runs = board.sessions.loc[["session_1", "session_2", "session_3"]]
    assert (row["seeds"], row["members"]) == (3, "session_1, session_2, session_3")
    for fold in ("fold_9", "fold_10"):
        assert row[f"{fold}_auc"] == pytest.approx(runs[f"{fold}_auc"].mean())
        assert row[f"{fold}_sd"] == pytest.approx(np.std(runs[f"{fold}_auc"], ddof=1))
    assert row["fold_9_sd"] > 0
    assert np.isnan(table.loc["xlstm", "fold_9_sd"])
    assert board.configurations.index[0] == "resnet1d, epochs 9, blocks 1"
    best = table.loc[board.configurations.index[0], "fold_10_auc"]
    assert row["difference"] == pytest.approx(row["fold_10_auc"] - best)


def test_a_configuration_is_named_by_what_changes_the_model(tmp_path: Path) -> None:
    make_session(tmp_path)
    older = make_session(tmp_path, replace(CONFIG, seed=5, test=False), done=False)
    recorded = older.config
    del recorded["distill"], recorded["robustness"]  # as a version wrote it that had no such parameters
    older.write_json("config.json", recorded)
    older.mark_done()
    make_session(tmp_path, replace(CONFIG, robustness={"hum": 0.1}))
    make_session(tmp_path, replace(CONFIG, model="cnn"))
    make_session(tmp_path, replace(CONFIG, model="cnn", distill="labels.csv"))
    table = leaderboard(all_sessions(tmp_path), resamples=20).configurations
    expected = {"resnet1d, robustness none", "resnet1d, robustness.hum 0.1", "cnn, distill none"}
    assert set(table.index) == expected | {"cnn, distill labels.csv"}
    assert table.loc["resnet1d, robustness none", "members"] == "session_1, session_2"


def test_the_interval_of_one_seed_is_that_of_its_session(root: Path) -> None:
    board = leaderboard(all_sessions(root))
    row, session = board.configurations.loc["xlstm"], board.sessions.loc["session_5"]
    for column in ("fold_10_auc", "fold_10_low", "fold_10_high"):
        assert row[column] == pytest.approx(session[column], abs=1e-12)
    three = board.configurations.loc["resnet1d, epochs 3, model_options none"]
    assert three["fold_10_low"] < three["fold_10_auc"] < three["fold_10_high"]


def test_a_seed_that_was_run_twice_counts_once(tmp_path: Path) -> None:
    for seed, noise in ((0, 1.0), (0, 2.0), (1, 1.0)):
        make_session(tmp_path, replace(CONFIG, seed=seed), noise=noise)
    board = leaderboard(all_sessions(tmp_path), resamples=20)
    row = board.configurations.loc["resnet1d"]
    assert (row["seeds"], row["members"]) == (2, "session_2, session_3")
    assert len(board.sessions) == 3


def test_what_cannot_be_compared_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    make_session(tmp_path, done=False)
    make_session(tmp_path, fingerprint="other contents")
    make_session(tmp_path, replace(CONFIG, dataset="ptbxl_500hz"), fingerprint="500")
    make_session(tmp_path, replace(CONFIG, label_set="diagnostic"))
    make_session(tmp_path, replace(CONFIG, min_records=20))
    damaged = make_session(tmp_path)
    (damaged.path / "metrics.json").write_text("{}")
    damaged.mark_done()
    fewer = make_session(tmp_path)
    fewer.write_table("predictions.parquet", pd.read_parquet(fewer.path / "predictions.parquet").iloc[3:])
    fewer.mark_done()
    make_session(tmp_path)

    board = leaderboard(all_sessions(tmp_path), resamples=20)

    assert list(board.sessions.index) == ["session_8"]
    reasons = [
        "not finished",
        "its dataset ptbxl had other contents than that of session_8",
        "its dataset is ptbxl_500hz, that of session_8 is ptbxl",
        "its label_set is diagnostic, that of session_8 is superclass",
        "its min_records is 20, that of session_8 is 0",
        "metrics.json: version is missing",
        "of the 200 records of fold 9 in session_8, 2 are missing from session_7",
    ]
    assert len(board.left_out) == len(reasons)
    for number, (sentence, reason) in enumerate(zip(board.left_out, reasons, strict=True), start=1):
        assert sentence.startswith(f"session_{number} is left out: ")
        assert reason in sentence
        assert "\n" not in sentence


def test_no_session_is_refused() -> None:
    with pytest.raises(EcgkitError, match="none of 0 sessions"):
        leaderboard([])


def test_what_a_session_does_not_say_is_not_known(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    for name in ("training_log.txt", "history.csv"):
        (session.path / name).unlink()
    assert np.isnan(cost(session)).all()
    assert leaderboard([session], resamples=20).sessions["parameters"].isna().all()


def test_the_files_of_a_real_training_are_read(demo_dataset: Dataset, tmp_path: Path) -> None:
    options: dict[str, Any] = {"widths": [8, 8], "blocks": 1}
    config = training_config.configure(
        dataset="demo", model="resnet1d", epochs=1, precision="float32", model_options=options
    )
    session = sessions.create(paths.TRAINING, tmp_path)
    session.write_json("config.json", asdict(config) | {"dataset_fingerprint": demo_dataset.fingerprint})
    trained = fit(session, config, demo_dataset)
    evaluation.evaluate_session(session, predict_folds(trained, demo_dataset), demo_dataset.classes)
    session.mark_done()

    board = leaderboard([session], resamples=20)

    assert set(SAME) <= session.config.keys()
    row = board.sessions.loc["session_1"]
    assert row["parameters"] == trained.n_parameters
    assert row["training_seconds"] == pd.read_csv(session.path / "history.csv")["seconds"].sum() > 0
    assert (row["model"], row["configuration"], row["seed"]) == ("resnet1d", "resnet1d", config.seed)
    assert board.classes == demo_dataset.classes
    assert board.references.empty
    assert board.standing.endswith("no published result is for these data and classes")


def test_published_results_have_a_source_and_lie_in_their_intervals() -> None:
    known = pd.read_csv(PUBLISHED)
    assert len(known) == 115
    assert known[["model", "regime", "year", "label_set", "macro_auc", "source"]].notna().all(axis=None)
    assert known["macro_auc"].between(0.5, 1.0).all()
    with_interval = known[known["low"].notna()]
    assert (with_interval["low"] < with_interval["macro_auc"]).all()
    assert (with_interval["macro_auc"] < with_interval["high"]).all()
    assert (known["interval"].notna() == known["low"].notna()).all()
    assert not known.duplicated(["model", "regime", "label_set"]).any()
    assert all(str(row.year) in row.source for row in known.itertuples() if not row.source.startswith("Singstad"))


def test_published_gives_one_label_set_best_first() -> None:
    table = published("superclass")
    assert set(table["label_set"]) == {"superclass"}
    assert table["macro_auc"].is_monotonic_decreasing
    wang = table.set_index("model").loc["resnet1d_wang"]
    assert (wang["macro_auc"], wang["regime"], wang["year"], wang["interval"]) == (0.93, "from scratch", 2021, "")
    with pytest.raises(EcgkitError, match="unknown label set 'superdiag': choose one of superclass"):
        published("superdiag")


def test_references_are_for_ptbxl_with_all_classes(root: Path) -> None:
    board = leaderboard(all_sessions(root), resamples=20)
    pd.testing.assert_frame_equal(board.references, published("superclass"))
    assert replace(board, dataset="ptbxl_500hz").references.equals(board.references)
    assert replace(board, dataset="demo").references.empty
    assert replace(board, classes=CLASSES[:4]).references.empty

    best = board.sessions.loc[board.best]
    assert board.standing.startswith(f"{best['fold_10_auc']:.3f} ({best['fold_10_low']:.3f} to ")
    assert best["fold_10_auc"] == pytest.approx(fold_10_auc(all_sessions(root)[3]))


@pytest.mark.parametrize("request_", [{"split": [0.7, 0.15, 0.15]}, {"source": {"part": {"part": True}}}, None])
def test_a_part_of_ptbxl_or_another_division_has_no_published_results(
    request_: dict[str, object] | None, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "training_sessions").symlink_to(root / "training_sessions")
    if request_:
        folder = tmp_path / "processed_datasets" / "ptbxl"
        folder.mkdir(parents=True)
        (folder / "dataset.json").write_text(json.dumps({"request": request_}))
    found = [Session(tmp_path / "training_sessions" / f"session_{number}") for number in (1, 2)]
    assert leaderboard(found, resamples=20).references.empty == bool(request_)


def fold_10_auc(session: Session) -> float:
    scores = stats.fold_scores(pd.read_parquet(session.path / "predictions.parquet"), CLASSES, 10)
    return stats.macro_auc(scores.y_true, scores.prob)


def test_the_sentence_says_where_an_interval_stands() -> None:
    table = published("superclass")
    wang = table[table["model"] == "resnet1d_wang"]
    assert standing(0.927, 0.919, 0.934, wang) == "0.927 (0.919 to 0.934) includes the published 0.930 of resnet1d_wang"
    some = table[table["model"].isin(["Wavelet+NN", "resnet1d_wang", "ECGFounder"])]
    assert standing(0.927, 0.919, 0.934, some) == (
        "0.927 (0.919 to 0.934) lies below the published 0.935 of ECGFounder (pretrained, fine-tuned); "
        "includes the published 0.930 of resnet1d_wang, 0.924 of ECGFounder (pretrained, linear probe); "
        "lies above the published 0.874 of Wavelet+NN"
    )
    above_all = standing(0.95, 0.94, 0.96, table)
    assert above_all.startswith("0.950 (0.940 to 0.960) lies above the published 0.935 of ECGFounder")
    assert above_all.endswith(" and 17 more")
    assert standing(0.9, 0.88, 0.92, table.iloc[:0]) == (
        "0.900 (0.880 to 0.920); no published result is for these data and classes"
    )


def test_a_table_for_readers_has_no_empty_columns_and_no_decimals_of_counts() -> None:
    table = pd.DataFrame({"parameters": [573013, None], "auc": [0.93, np.nan], "sd": [np.nan, np.nan]})
    shown = format_table(table.astype({"parameters": "Int64"}))
    assert shown.to_numpy().tolist() == [["573,013", "0.9300"], ["-", "-"]]
