"""A comparison as a session: who takes part, and what it leaves behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from made_sessions import CONFIG, make_session

from ecgkit import paths, sessions
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.comparison_session import ComparisonRun, open_comparison
from ecgkit.evaluation.config import ComparisonConfig, find_members
from ecgkit.stats.ensembles import METHODS
from ecgkit.workflow import Outcome, run_step, start


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with two seeds of one model, one of another data set, one unfinished, another model."""
    make_session(tmp_path)
    make_session(tmp_path, replace(CONFIG, seed=1))
    make_session(tmp_path, replace(CONFIG, dataset="demo"), fingerprint="other")
    make_session(tmp_path, replace(CONFIG, seed=2), done=False)
    make_session(tmp_path, replace(CONFIG, model="xlstm"), noise=3.0)
    return tmp_path


def names(root: Path, **parameters: object) -> list[str]:
    return [session.name for session in find_members(ComparisonConfig(**parameters), root)[0]]


def begin_comparison(root: Path, **parameters: object) -> ComparisonRun:
    run = start("compare", root=root, **parameters)
    return open_comparison(run.session, run.config, run.root)


def test_all_finished_trainings_of_the_newest_one_s_data_take_part(root: Path) -> None:
    assert names(root) == ["session_1", "session_2", "session_5"]


def test_sessions_can_be_named(root: Path) -> None:
    assert names(root, sessions="5, session_1") == ["session_5", "session_1"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sessions": "session_4,session_1"}, "session_4 is not finished"),
        ({"sessions": "session_9,session_1"}, "no session 'session_9'"),
        ({"sessions": "session_1"}, "session_1 alone cannot be compared"),
        ({"sessions": "session_1,session_3"}, "session_1 is left out"),
        ({"dataset": "demo"}, "session_3 alone cannot be compared"),
        ({"dataset": "mimic"}, "no finished training of mimic"),
        ({"sessions": "session_1,session_5", "dataset": "demo"}, "dataset is demo and sessions are named"),
        ({"ensembles": "mean_logit,vote"}, "unknown ensemble 'vote'"),
        ({"resamples": 39}, "resamples is 39"),
    ],
)
def test_what_cannot_be_compared_is_refused(parameters: dict[str, object], message: str, root: Path) -> None:
    with pytest.raises(EcgkitError, match=message):
        ComparisonConfig.resolve(root, **parameters)


def test_a_named_session_without_fold_10_is_refused_before_anything_is_computed(root: Path) -> None:
    without_test = make_session(root, replace(CONFIG, seed=6))
    results = without_test.read_json("metrics.json")
    without_test.write_json("metrics.json", {name: part for name, part in results.items() if name != "fold_10"})
    without_test.mark_done()
    with pytest.raises(EcgkitError, match=f"ecgkit evaluate {without_test.name}"):
        ComparisonConfig.resolve(root, sessions=f"session_1,{without_test.name}")


def test_who_takes_no_part_is_said(root: Path) -> None:
    copy = make_session(root, replace(CONFIG, seed=1))
    copy.write_json("reproduction.json", {"reproduces": "session_2"})
    run = begin_comparison(root, ensembles="mean_logit", resamples=40)
    run.ensembles()
    reasons = {sentence.split()[0]: sentence for sentence in run.left_out}
    assert "its dataset is demo, that of session_5 is ptbxl" in reasons["session_3"]
    assert "not finished" in reasons["session_4"]
    assert "reproduces session_2" in reasons["session_6"]
    assert len(reasons) == 3
    assert set(run.left_out) <= set(run.leaderboard().left_out)
    left_out = find_members(ComparisonConfig(), root)[1]
    assert any("session_7" in sentence and "ensemble" in sentence for sentence in left_out)


def test_an_ensemble_may_be_named_and_joins_no_other(root: Path) -> None:
    (made,) = begin_comparison(root, ensembles="mean_logit", resamples=40).ensembles()
    run = begin_comparison(root, sessions=f"1,2,{made.name}", ensembles="weights", resamples=40)
    (weighted,) = run.ensembles()
    assert weighted.config["members"] == ["session_1", "session_2"]
    assert made.name in run.leaderboard(weighted).sessions.index


def test_other_predictions_are_another_comparison(root: Path) -> None:
    before = ComparisonConfig.resolve(root).inputs(root)
    with_other = begin_comparison(root, ensembles="mean_logit", resamples=40).ensembles()
    table = pd.read_parquet(root / "training_sessions" / "session_1" / "predictions.parquet")
    table["prob_MI"] = 1 - table["prob_MI"]
    table.to_parquet(root / "training_sessions" / "session_1" / "predictions.parquet", index=False)
    assert ComparisonConfig.resolve(root).inputs(root) != before
    again = begin_comparison(root, ensembles="mean_logit", resamples=40).ensembles()
    assert [session.name for session in again] != [session.name for session in with_other]


def test_ensembles_are_made_once_and_do_not_take_part_in_others(root: Path) -> None:
    run = begin_comparison(root, ensembles="mean_logit,weights", resamples=40)
    made = run.ensembles()
    assert [session.config["method"] for session in made] == ["mean_logit", "weights"]
    assert [session.name for session in run.ensembles()] == [session.name for session in made]
    assert names(root) == ["session_1", "session_2", "session_5"]


def test_an_ensemble_that_was_made_before_takes_part_and_is_not_left_out(root: Path) -> None:
    first = begin_comparison(root, ensembles="mean_logit", resamples=40)
    before = first.leaderboard(*first.ensembles())
    again = begin_comparison(root, ensembles="mean_logit", resamples=40)
    assert len(again.leaderboard().left_out) == len(before.left_out) + 1
    assert again.leaderboard(*again.ensembles()).left_out == before.left_out


def test_the_leaderboard_is_left_behind_as_a_table_and_as_json(root: Path) -> None:
    run = begin_comparison(root, ensembles="mean_logit", resamples=40)
    board = run.leaderboard(*run.ensembles())
    run.save(board)
    table = pd.read_csv(run.session.path / "leaderboard.csv", index_col=0)
    assert table.index.tolist() == board.sessions.index.tolist()
    data = json.loads((run.session.path / "leaderboard.json").read_text())
    assert [row["session"] for row in data["sessions"]] == board.sessions.index.tolist()
    assert data["best_by_fold_9"] == board.best
    assert data["sessions"][0]["difference"] is None
    first, second = run.first_two(board)
    assert [first.name, second.name] == board.sessions.index[:2].tolist()


@pytest.mark.slow
def test_the_notebook_runs_and_is_skipped_the_second_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"ensembles": "mean_logit,stacking", "resamples": 50}
    step = run_step("compare", root, **settings)
    session = sessions.Session(step.path)
    assert session.is_done
    assert session.path.parent == root / paths.COMPARISONS
    there = {path.name for path in session.path.rglob("*")}
    assert {"6_Comparison.ipynb", "leaderboard.csv", "leaderboard.png", "paired_differences.png"} <= there
    monkeypatch.setattr("ecgkit.workflow.run.run_notebook", lambda *call, **_: call[-1].mark_done())
    assert run_step("compare", root, **settings) == Outcome(session.path, skipped=True)
    forced = run_step("compare", root, force=True, **settings)
    assert not forced.skipped
    assert forced.path != session.path


def test_the_notebook_names_the_ensembles_that_there_are() -> None:
    assert ComparisonConfig().ensembles == ",".join(METHODS)
    notebook = paths.notebook_path("6_Comparison.ipynb").read_text()
    assert f'ensembles = \\"{",".join(METHODS)}\\"' in notebook
