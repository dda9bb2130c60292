"""A reproduction has the same numbers to the last bit, or names the difference in one line."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from ecgkit import evaluation, paths, sessions, training
from ecgkit.cli import main
from ecgkit.sessions import Session
from ecgkit.workflow import reproduce as reproduction
from ecgkit.workflow import run_step, start
from ecgkit.workflow.runner import environment_variables

RECIPE = """
epochs = 1
batch_size = 32
learning_rate = 2e-3
patience = 3
noise = 0.05
[model_options]
widths = [8, 8, 8, 8]
"""


@pytest.fixture(scope="module")
def trained(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Train a tiny model once, with a recipe file that is deleted afterwards."""
    root = tmp_path_factory.mktemp("trained")
    (root / paths.PROCESSED).mkdir()
    (root / paths.PROCESSED / "demo").symlink_to(demo_root / paths.PROCESSED / "demo")
    (root / "mine.toml").write_text(RECIPE)
    arguments = ["train", "demo", "--model", "resnet1d", "--recipe", str(root / "mine.toml"), "--seed", "7"]
    with redirect_stdout(StringIO()):
        assert main([*arguments, "--root", str(root)]) == 0
    (root / "mine.toml").unlink()
    return sessions.open_finished("session_1", paths.TRAINING, root)


@pytest.fixture(scope="module")
def made(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Train the same model without its notebook."""
    root = tmp_path_factory.mktemp("made")
    (root / paths.PROCESSED).mkdir()
    (root / paths.PROCESSED / "demo").symlink_to(demo_root / paths.PROCESSED / "demo")
    (root / "mine.toml").write_text(RECIPE)
    run = start("train", root=root, dataset="demo", model="resnet1d", recipe=str(root / "mine.toml"), seed=7)
    data = training.training_data(run.config, root)
    trained = training.fit(run.session, run.config, data)
    evaluation.evaluate_session(run.session, training.predict_folds(trained, data), data.classes)
    run.session.close()
    (root / "mine.toml").unlink()
    return run.session


def root_of(session: Session) -> Path:
    return session.path.parents[1]


@pytest.fixture
def copied(made: Session, tmp_path: Path) -> Session:
    """Return a trained session in a new root, which a test may change."""
    (tmp_path / paths.PROCESSED).mkdir()
    (tmp_path / paths.PROCESSED / "demo").symlink_to((root_of(made) / paths.PROCESSED / "demo").resolve())
    copy = tmp_path / paths.TRAINING / "session_1"
    shutil.copytree(made.path, copy)
    return Session(copy)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, copied: Session) -> list[Callable[[Session], None]]:
    """Stand in for the notebook: copy the results of the original; what the list holds is then called in turn."""
    hooks: list[Callable[[Session], None]] = []

    def run_notebook(notebook: Path, values: dict[str, object], session: Session, **_: object) -> None:
        assert values["noise"] == 0.05
        assert notebook == copied.path / "2_Training.ipynb"
        for name in ("config.json", "environment.json", "metrics.json", "predictions.parquet"):
            shutil.copyfile(copied.path / name, session.path / name)
        if hooks:
            hooks.pop(0)(session)
        session.mark_done()

    monkeypatch.setattr(reproduction, "run_notebook", run_notebook)
    return hooks


def call(session: Session, *more: str) -> int:
    return main(["reproduce", session.name, "--root", str(root_of(session)), *more])


def all_sessions(session: Session) -> list[str]:
    return [one.name for one in sessions.list_sessions(paths.TRAINING, root_of(session))]


@pytest.mark.slow
def test_the_same_machine_gives_the_same_bits(
    trained: Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = trained.config
    assert recorded["noise"] == 0.05  # of the recipe that is gone
    assert recorded["model_options"]["widths"] == [8, 8, 8, 8]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # the recorded number of threads holds, whatever is set here
    assert call(trained) == 0
    new = Session(trained.path.with_name("session_2"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(new.path)
    assert any(line.startswith("largest difference of a probability: 0 (") for line in lines)
    assert [line.split()[0] for line in lines[-11:-4]] == ["AUC", "NORM", "MI", "STTC", "CD", "HYP", "macro"]
    facts = new.read_json("reproduction.json")
    assert facts["largest_difference"] == facts["largest_metric_difference"] == 0
    assert (facts["reproduces"], facts["elsewhere"], facts["against"]) == ("session_1", [], [])
    for name in ("predictions.parquet", "metrics.json"):
        assert (new.path / name).read_bytes() == (trained.path / name).read_bytes()
    old_weights, new_weights = (load_file(one.path / "weights" / "best.safetensors") for one in (trained, new))
    assert old_weights.keys() == new_weights.keys()
    assert all(np.array_equal(old_weights[name], new_weights[name]) for name in old_weights)
    assert new.config == recorded
    assert new.is_done
    assert "reproduction of session_1" in (new.path / "notes.txt").read_text()
    executed = nbformat.read(new.path / "2_Training.ipynb", as_version=4)
    assert sum("injected-parameters" in cell.metadata.get("tags", []) for cell in executed.cells) == 1
    assert executed.metadata.papermill.parameters["options"]["noise"] == 0.05
    # The chain finds the original, not the reproduction.
    assert sessions.find_finished(paths.TRAINING, root_of(trained), recorded) == trained


@pytest.mark.slow
def test_sessions_show_what_a_training_left(trained: Session, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(root_of(trained))]
    assert main(["sessions", "show", "1", "--json", *root]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["metrics"] == trained.read_json("metrics.json")
    assert shown["environment"]["threads"] >= 1
    assert {"weights/best.safetensors", "2_Training.ipynb", "DONE"} <= set(shown["files"])
    assert main(["sessions", "show", "1", *root]) == 0
    auc = trained.read_json("metrics.json")["fold_9"]["macro"]["auc"]
    assert f"{auc['value']:.4f} ({auc['low']:.4f} to {auc['high']:.4f})" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changed",
    [
        ("config.json", {"dataset_fingerprint": "0" * 64}, "the dataset demo has the fingerprint .*recorded is 000000"),
        ("environment.json", {"packages": {"ecgkit": "0.0.1"}}, r"ecgkit is .*, recorded is 0\.0\.1"),
    ],
)
def test_what_changed_is_refused_unless_anyway(
    copied: Session,
    runs: list[Callable[[Session], None]],
    changed: tuple[str, dict[str, object], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, change, message = changed
    copied.write_json(file, copied.read_json(file) | change)
    copied.mark_done()
    assert call(copied) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert "--anyway" in error
    assert all_sessions(copied) == ["session_1"]
    assert call(copied, "--anyway") == 0
    assert f"differs from the record: {error.split(': ')[2].split(';')[0]}" in capsys.readouterr().out
    assert Session(copied.path.with_name("session_2")).read_json("reproduction.json")["elsewhere"]


def test_what_is_missing_is_one_line(copied: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(copied, "--tolerance", "-1") == 2
    assert "tolerance is -1.0" in capsys.readouterr().err
    (copied.path / "2_Training.ipynb").unlink()
    assert call(copied) == 2
    assert "no 2_Training.ipynb in" in capsys.readouterr().err
    copied.write_json("config.json", copied.config | {"dropout": 0.1})
    copied.mark_done()
    assert call(copied) == 2
    assert "config.json is of another version of ecgkit" in capsys.readouterr().err
    assert all_sessions(copied) == ["session_1"]


def interrupted(session: Session) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_reproduction_goes_on(
    copied: Session, runs: list[Callable[[Session], None]], capsys: pytest.CaptureFixture[str]
) -> None:
    runs.append(interrupted)
    assert call(copied) == 130
    new = Session(copied.path.with_name("session_2"))
    assert not new.is_done
    settings = {name: value for name, value in new.config.items() if name != "dataset_fingerprint"}
    assert run_step("train", root_of(copied), **settings).path == copied.path  # a training does not resume it
    capsys.readouterr()
    assert call(copied) == 0
    assert "session_2" in capsys.readouterr().out
    assert all_sessions(copied) == ["session_1", "session_2"]
    # interrupted between the last cell and the comparison: nothing is run again
    new.write_json("reproduction.json", {"version": 1, "reproduces": "session_1"})
    runs.append(interrupted)
    assert call(copied) == 0
    assert new.read_json("reproduction.json")["largest_difference"] == 0
    runs.clear()
    assert call(copied) == 0  # what is complete is not counted as the next one
    assert all_sessions(copied) == ["session_1", "session_2", "session_3"]


def other_probability(session: Session) -> None:
    table = pd.read_parquet(session.path / "predictions.parquet")
    table.loc[3, "prob_MI"] = 0.25 if table.loc[3, "prob_MI"] > 0.5 else 0.75
    session.write_table("predictions.parquet", table)


def test_another_probability_is_no_reproduction(
    copied: Session, runs: list[Callable[[Session], None]], capsys: pytest.CaptureFixture[str]
) -> None:
    old = float(pd.read_parquet(copied.path / "predictions.parquet").loc[3, "prob_MI"])
    difference = old - 0.25 if old > 0.5 else 0.75 - old
    runs.append(other_probability)
    assert call(copied) == 1
    output = capsys.readouterr()
    assert output.err == (
        f"ecgkit: session_2 does not reproduce session_1: a probability differs by {difference:.3g}, "
        "which is more than 0\n"
    )
    assert output.out.splitlines()[-1] == str(copied.path.with_name("session_2"))
    runs.append(other_probability)
    assert call(copied, "--tolerance", str(difference + 1e-6)) == 0
    runs.append(other_probability)
    assert call(copied, "--tolerance", str(difference - 1e-6)) == 1


def test_elsewhere_the_macro_auc_lies_in_the_recorded_interval(
    copied: Session, runs: list[Callable[[Session], None]], capsys: pytest.CaptureFixture[str]
) -> None:
    auc = copied.read_json("metrics.json")["fold_10"]["macro"]["auc"]

    def elsewhere(session: Session, macro_auc: float) -> None:
        other_probability(session)
        session.write_json("environment.json", session.read_json("environment.json") | {"processor": "Z80"})
        metrics = session.read_json("metrics.json")
        metrics["fold_10"]["macro"]["auc"]["value"] = macro_auc
        session.write_json("metrics.json", metrics)

    runs.append(lambda session: elsewhere(session, auc["low"]))
    assert call(copied) == 0
    assert "processor" in capsys.readouterr().out
    runs.append(lambda session: elsewhere(session, auc["low"] - 1e-4))
    assert call(copied) == 1
    assert "the macro AUC of fold 10 is" in capsys.readouterr().err


def test_the_largest_difference_is_over_all_probabilities_of_the_same_records() -> None:
    random = np.random.default_rng(0)
    before = pd.DataFrame({"record_id": range(20), "fold": [9] * 10 + [10] * 10, "true_A": True})
    for name in ("prob_A", "calibrated_A"):
        before[name] = random.random(20).astype(np.float32)
    after = before.assign(calibrated_A=random.random(20), true_A=False)
    expected = max(abs(float(before.calibrated_A[i]) - float(after.calibrated_A[i])) for i in range(20))
    shuffled = after.sample(frac=1, random_state=1)
    assert reproduction.largest_difference(before, shuffled) == (expected, 20)
    assert reproduction.largest_difference(before, before) == (0.0, 20)
    part = shuffled[shuffled["record_id"] < 5]
    expected = max(abs(float(before.calibrated_A[i]) - float(after.calibrated_A[i])) for i in range(5))
    assert reproduction.largest_difference(before, part) == (expected, 5)
    assert reproduction.largest_difference(before, after.assign(record_id=after["record_id"] + 100)) == (None, 0)


def test_threads_are_those_of_the_original_where_there_are_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    original = Session(tmp_path)
    for recorded, inside in ((1, "1"), (10**6, "5"), (None, "5")):
        original.write_json("environment.json", {"threads": recorded})
        with environment_variables(reproduction.threads_of(original)):
            assert os.environ["OMP_NUM_THREADS"] == inside
        assert os.environ["OMP_NUM_THREADS"] == "5"
        assert "MKL_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({}, {}, []),
        ({}, {"cpu_capability": "AVX2"}, []),  # older sessions do not know it
        ({"cpu_capability": "AVX512"}, {"cpu_capability": "AVX2"}, ["cpu_capability: AVX512 -> AVX2"]),
        ({"threads": 2}, {}, ["threads: 2 -> 1"]),
        ({"packages": {"torch": "2.6"}}, {}, ["packages.torch: 2.6 -> 2.13"]),
        ({"packages": {"torch": "2.13", "umap-learn": "0.5"}}, {}, []),
        (
            {"begun_with": {"threads": 2, "commit": "abc", "packages.ecgkit": "0.1"}},
            {},
            ["threads was 2 before the original was interrupted"],
        ),
        ({"gpus": ["H200"]}, {"gpus": ["H200"]}, ["trained on a GPU, where not every operation is deterministic"]),
    ],
)
def test_what_the_last_digit_depends_on(
    tmp_path: Path, before: dict[str, object], after: dict[str, object], lines: list[str]
) -> None:
    common = {"packages": {"torch": "2.13"}, "processor": "EPYC", "threads": 1}
    pair = [Session(tmp_path / name) for name in ("old", "new")]
    for session, more in zip(pair, (before, after), strict=True):
        session.write_json("environment.json", common | more)
    assert reproduction.surroundings(*pair) == lines


def test_an_old_environment_without_threads_promises_nothing(tmp_path: Path) -> None:
    pair = [Session(tmp_path / name) for name in ("old", "new")]
    pair[1].write_json("environment.json", {"threads": 1, "processor": "EPYC"})
    assert reproduction.surroundings(*pair) == ["threads: none -> 1"]
