"""A search: judged by fold 9 with fold 10 out of reach, shared by processes, gone on with after any kind of end."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.storages.journal import JournalFileOpenLock

from ecgkit import paths, sessions, training
from ecgkit.cli import main
from ecgkit.datasets.store import Dataset, open_dataset
from ecgkit.errors import EcgkitError
from ecgkit.models import MODELS
from ecgkit.sessions import Session
from ecgkit.training.config import TrainingConfig, configure
from ecgkit.workflow import search
from ecgkit.workflow.space import apply, read_space
from ecgkit.workflow.workers import SILENCE, enrolled

RATES = "learning_rate = {low = 1e-4, high = 1e-2, log = true}\n"
TINY = RATES + "noise = [0.0, 0.2]\n[model_options]\nwidths = [[8, 8]]\nblocks = [1]\n"
OnEpoch = Callable[[int, float], None]


@pytest.fixture
def root(demo_root: Path, tmp_path: Path) -> Path:
    (tmp_path / paths.PROCESSED).mkdir()
    (tmp_path / paths.PROCESSED / "demo").symlink_to(demo_root / paths.PROCESSED / "demo")
    (tmp_path / "space.toml").write_text(RATES + "noise = {low = 0, high = 0.2}\n")
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path


def plan(root: Path, **settings: Any) -> search.SearchPlan:
    given = {"model": "resnet1d", "dataset": "demo", "space": root / "space.toml", "epochs": 3} | settings
    return search.plan(root, **given)


class Trainings:
    """Stand in for `fit`: the AUC is best at a learning rate of 0.001, and rises by 0.01 an epoch."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.troubles: dict[int, BaseException] = {}

    def __call__(self, session: Session, config: TrainingConfig, _: Dataset, *, on_epoch: OnEpoch) -> None:
        number = len(self.rates)
        self.rates.append(config.learning_rate)
        for name in ("best.safetensors", "last.ckpt"):
            (session.path / "weights").mkdir(exist_ok=True)
            (session.path / "weights" / name).touch()
        for epoch in range(1, config.epochs + 1):
            on_epoch(epoch, self.auc(config, epoch))
            if number in self.troubles:
                raise self.troubles[number]

    @staticmethod
    def auc(config: TrainingConfig, epoch: int) -> float:
        return 0.9 - abs(np.log10(config.learning_rate) + 3) / 10 + 0.01 * epoch


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    stand_in = Trainings()
    monkeypatch.setattr(search, "fit", stand_in)
    return stand_in


def states(result: search.SearchResult) -> dict[int, str]:
    return dict(sorted(zip(result.trials["trial"], result.trials["state"], strict=True)))


def values(folder: Path) -> pd.DataFrame:
    """Read the table of a study but for what a clock says."""
    return pd.read_csv(folder / "trials.csv").drop(columns="seconds")


@pytest.mark.parametrize("model", MODELS)
def test_the_space_that_ships_holds_the_recipe_that_ships(model: str) -> None:
    config = configure(dataset="ptbxl", model=model, source="ptbxl")
    space = read_space(config)
    position = space.position_of(config)
    assert position is not None
    assert position["learning_rate"] == config.learning_rate
    assert ("model_options.dropout" in position) == ("dropout" in config.model_options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "varies nothing"),
        ("learning_rate = ", "cannot read the space"),
        ("learning_rat = [0.1]", "unknown name 'learning_rat': choose from amplitude"),
        ("seed = [0, 1]", "seed is the same for all trials"),
        ("label_set = ['superclass']", "label_set is the same for all trials"),
        ("learning_rate = 0.1", "learning_rate is 0.1: give a list of choices, or low and high"),
        ("learning_rate = []", "learning_rate is []: give a list of at least one value"),
        ("batch_size = [32, 32]", "give a list of at least one value, each once"),
        ("learning_rate = {low = 0.1}", "give a list of choices, or low and high"),
        ("learning_rate = {low = 0.1, high = 0.2, lag = true}", "give a list of choices, or low and high"),
        ("learning_rate = {low = 0.2, high = 0.1}", "low of learning_rate is 0.2 and high is 0.1"),
        ("learning_rate = {low = 0.1, high = inf}", "high of learning_rate is inf"),
        ("learning_rate = {low = 0.1, high = 0.2, step = 0}", "step of learning_rate is 0"),
        ("learning_rate = {low = 0.1, high = 0.2, step = 0.1, log = true}", "log of learning_rate is True"),
        ("noise = {low = 0, high = 0.2, log = true}", "log of noise is True: .*a low above 0"),
        ("noise = {low = -1, high = 0.2}", "noise is -1: give zero or a positive number"),
        ("lead_dropout = {low = 0, high = 1}", "lead_dropout is 1: give a share"),
        ("batch_size = {low = 8, high = 64.5}", "high of batch_size is 64.5: give a whole number"),
        ("batch_size = ['many']", "batch_size is 'many', a str"),
        ("metadata = {low = 0, high = 1}", "metadata is no number"),
        ("schedule = ['one_cycle', 'steps']", "unknown schedule 'steps'"),
        ("model_options.width = [8]", "resnet1d has no option 'width'"),
        ("model_options = [8]", "unknown name 'model_options'"),
        ("model_options.kernel_size = [5, 'a']", 'resnet1d cannot be built with .*"kernel_size": "a"'),
        ("crop_seconds = [0, 20]", "crop_seconds is 20: give up to 10"),
    ],
)
def test_what_is_wrong_with_a_space_is_said_before_anything_is_written(
    root: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "space.toml").write_text(text)
    asked = ["search", "resnet1d", "--trials", "1", "--dataset", "demo", "--space", str(root / "space.toml")]
    assert main([*asked, "--root", str(root)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(EcgkitError, match=message.replace("[]", r"\[\]")):
        plan(root)
    assert not (root / "searches").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials", "0"], "trials is 0: give a positive number"),
        (["--timeout", "-1"], "timeout is -1.0: give a positive number of seconds"),
        (["--study", "a/b"], "study is 'a/b'"),
        (["--dataset", "nowhere"], "no dataset nowhere"),
        (["--epochs", "0"], "epochs is 0"),
        (["--space", "nowhere.toml"], "cannot read the space nowhere.toml"),
        (["--recipe", "nowhere.toml"], "cannot read the recipe nowhere.toml"),
    ],
)
def test_bad_input_is_one_line(
    root: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "resnet1d", "--trials", "1", "--dataset", "demo", *arguments, "--root", str(root)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (root / "searches").exists()


def test_a_launcher_of_several_processes_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(EcgkitError, match="start `ecgkit search` several times"):
        plan(root)


def test_values_reach_the_configuration_as_the_file_has_them(tmp_path: Path) -> None:
    config = configure(dataset="demo", model="resnet1d", source="demo")
    text = "batch_size = {low = 16, high = 64, step = 8}\nmetadata = [true, false]\nnoise = {low = 0, high = 1}\n"
    (tmp_path / "kinds.toml").write_text(
        text + "[model_options]\nwidths = [[8], [8, 16]]\n[loss_options]\ngamma = [1]\n"
    )
    with pytest.raises(EcgkitError, match="gamma"):  # the recipe's loss has no such number
        read_space(config, tmp_path / "kinds.toml")
    (tmp_path / "kinds.toml").write_text(text + "model_options.widths = [[8], [8, 16]]\n")
    space = read_space(config, tmp_path / "kinds.toml")
    kept = {"batch_size": 24, "metadata": True, "noise": 0.5, "model_options.widths": "[8, 16]"}
    decoded = kept | {"model_options.widths": [8, 16]}
    assert space.suggest(optuna.trial.FixedTrial(kept)) == decoded
    assert space.decoded(kept) == decoded
    assert space.position_of(config) is None
    inside = apply(config, decoded)
    assert (inside.batch_size, inside.model_options["widths"], inside.model_options["blocks"]) == (
        24,
        [8, 16],
        config.model_options["blocks"],
    )
    assert space.position_of(inside) == kept
    assert space.position_of(apply(inside, {"batch_size": 25})) is None  # between two steps


def test_the_same_command_does_nothing_more_and_a_larger_number_goes_on(root: Path, trainings: Trainings) -> None:
    search.run(plan(root, study="in_parts"), trials=2)
    search.run(plan(root, study="in_parts"), trials=2)
    assert len(trainings.rates) == 2
    parts = search.run(plan(root, study="in_parts"), trials=12)
    assert len(trainings.rates) == 12
    search.run(plan(root, study="at_once"), trials=12)
    pd.testing.assert_frame_equal(values(root / "searches" / "in_parts"), values(root / "searches" / "at_once"))
    assert trainings.rates[0] == configure(dataset="demo", model="resnet1d", source="demo").learning_rate
    assert len(set(trainings.rates[:12])) == 12
    other = search.run(plan(root, study="another_seed", seed=1), trials=3)
    assert other.trials["learning_rate"].tolist() != parts.trials["learning_rate"].tolist()[:3]


def test_the_best_of_fold_9_comes_first_and_alone_keeps_its_weights(root: Path, trainings: Trainings) -> None:
    result = search.run(plan(root), trials=8)
    done = result.trials[result.trials["state"] == "done"]
    rates = np.array(trainings.rates)
    assert done["trial"].iloc[0] == np.argmin(np.abs(np.log10(rates) + 3))
    assert done["fold_9_macro_auc"].is_monotonic_decreasing
    assert done["best_epoch"].tolist() == [3] * len(done)
    kept = sorted(path.relative_to(result.folder / "trials") for path in result.folder.glob("trials/*/weights/*"))
    assert kept == [Path(f"trial_{done['trial'].iloc[0]}", "weights", "best.safetensors")]
    assert {path.name for path in result.folder.glob("*.png")} == {"importances.png", "trials.png", "slices.png"}
    assert list((result.folder / "workers").iterdir()) == []


def test_a_trial_below_the_median_ends_early(root: Path, trainings: Trainings) -> None:
    (root / "space.toml").write_text("learning_rate = [0.001]\nnoise = {low = 0, high = 0.2}\n")
    before = search.run(plan(root), trials=search.START_UP)
    assert set(states(before).values()) == {"done"}
    bad = search.START_UP
    good_auc = trainings.auc
    trainings.auc = lambda config, epoch: good_auc(config, epoch) - 0.3  # type: ignore[method-assign]
    after = search.run(plan(root), trials=bad + 1)
    assert states(after)[bad] == "pruned"
    row = after.trials.set_index("trial").loc[bad]
    assert (row["epochs_run"], row["fold_9_macro_auc"]) == (2, pytest.approx(0.62))  # the first third only looks on
    assert after.recipe is not None
    assert f"trial {bad}" not in after.recipe.read_text()


def test_a_failure_is_written_down_and_does_not_stop_the_rest(
    root: Path, trainings: Trainings, capsys: pytest.CaptureFixture[str]
) -> None:
    trainings.troubles = {0: EcgkitError("the logits are\nno numbers"), 1: RuntimeError("out of memory")}
    arguments = ["search", "resnet1d", "--dataset", "demo", "--epochs", "2", "--space", str(root / "space.toml")]
    arguments += ["--root", str(root), "--study", "tried"]
    assert main([*arguments, "--trials", "2"]) == 1
    assert "no trial of tried is done" in capsys.readouterr().err
    assert not (root / "searches" / "tried" / "best.toml").exists()
    assert main([*arguments, "--trials", "3"]) == 0
    table = pd.read_csv(root / "searches" / "tried" / "trials.csv")
    assert table["state"].tolist() == ["done", "failed", "failed"]
    assert table["error"].tolist()[1:] == ["the logits are no numbers", "RuntimeError: out of memory"]
    assert capsys.readouterr().out.splitlines()[-2:] == [
        str(root / "searches" / "tried" / "best.toml"),
        str(root / "searches" / "tried"),
    ]


@pytest.mark.parametrize("end", [KeyboardInterrupt(), type("Killed", (BaseException,), {})()])
def test_what_was_cut_off_is_tried_again_and_does_not_count(
    root: Path, trainings: Trainings, end: BaseException
) -> None:
    trainings.troubles = {1: end}
    with pytest.raises(type(end)):
        search.run(plan(root), trials=3)
    result = search.run(plan(root), trials=3)
    assert states(result) == {0: "done", 1: "interrupted", 2: "done", 3: "done"}
    assert trainings.rates[2] == trainings.rates[1]
    assert len(trainings.rates) == 4


def test_ctrl_c_leaves_tables_and_an_exit_code(root: Path, trainings: Trainings) -> None:
    trainings.troubles = {1: KeyboardInterrupt()}
    asked = ["search", "resnet1d", "--trials", "3", "--dataset", "demo", "--epochs", "1", "--root", str(root)]
    assert main([*asked, "--space", str(root / "space.toml")]) == 130
    folder = root / "searches" / "resnet1d_demo_superclass"
    assert pd.read_csv(folder / "trials.csv")["state"].tolist() == ["done", "interrupted"]
    assert (folder / "best.toml").is_file()
    assert not list(folder.glob("**/*.lock"))


def begin_elsewhere(asked: search.SearchPlan, worker: str) -> None:
    """Begin a trial as another process does."""
    with search.quiet_optuna():
        study = search.open_study(asked)
        study.ask().set_user_attr("worker", worker)


def test_a_trial_of_a_living_process_is_left_alone(root: Path, trainings: Trainings) -> None:
    asked = plan(root)
    asked.folder.mkdir(parents=True)
    with enrolled(asked.folder / "workers") as other:
        begin_elsewhere(asked, other.name)
        assert states(search.run(asked, trials=2)) == {0: "running", 1: "done"}
    assert states(search.run(asked, trials=2)) == {0: "interrupted", 1: "done", 2: "done"}


def test_a_process_of_another_machine_is_alive_as_long_as_it_says_so(tmp_path: Path) -> None:
    with enrolled(tmp_path) as worker:
        other = tmp_path / "elsewhere-1-abcd"
        assert not worker.sees(other.name)
        other.touch()
        assert worker.sees(other.name)
        long_ago = time.time() - SILENCE - 5
        os.utime(other, (long_ago, long_ago))
        assert not worker.sees(other.name)
        assert worker.sees(worker.name)
        assert not worker.sees("")


def test_a_trial_that_another_process_gave_up_does_no_harm(root: Path, trainings: Trainings) -> None:
    asked = plan(root)

    def be_taken_for_dead(config: TrainingConfig, epoch: int) -> float:
        if epoch == 2 and len(trainings.rates) == 1:
            study = search.open_study(asked)
            search.give_up(study, study.trials[0])
        return 0.7

    trainings.auc = be_taken_for_dead  # type: ignore[method-assign]
    assert states(search.run(asked, trials=1)) == {0: "interrupted", 1: "done"}


def test_no_trial_begins_after_the_time_is_up(root: Path, trainings: Trainings) -> None:
    assert states(search.run(plan(root), trials=3, timeout=1e-9)) == {}
    assert trainings.rates == []


def test_a_study_is_gone_on_with_only_as_it_was_begun(root: Path, trainings: Trainings) -> None:
    search.run(plan(root, study="mine"), trials=1)
    with pytest.raises(EcgkitError, match=r"begun otherwise \(config.epochs: 3 -> 2\): give another --study"):
        search.run(plan(root, study="mine", epochs=2), trials=2)
    (root / "space.toml").write_text(RATES)
    with pytest.raises(EcgkitError, match="begun otherwise .*space.noise"):
        search.run(plan(root, study="mine"), trials=2)
    assert len(trainings.rates) == 1


def test_a_line_that_a_full_disk_cut_is_taken_out(root: Path, trainings: Trainings) -> None:
    result = search.run(plan(root), trials=2)
    journal = result.folder / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker_id":"a')
    search.mend(journal, JournalFileOpenLock(str(journal)))
    assert journal.read_bytes() == whole
    assert set(states(search.run(plan(root), trials=3)).values()) == {"done"}


def test_where_all_trials_are_equal_nothing_is_important(root: Path, trainings: Trainings) -> None:
    trainings.auc = lambda *_: 0.8  # type: ignore[method-assign]
    result = search.run(plan(root), trials=5)
    assert not (result.folder / "importances.png").exists()
    assert "no figures yet" in (result.folder / "search_log.txt").read_text()


@pytest.fixture(scope="module")
def searched(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> search.SearchResult:
    """Search in earnest: four trials of two epochs of a toy model."""
    root = tmp_path_factory.mktemp("searched")
    shutil.copytree(demo_root / paths.PROCESSED / "demo", root / paths.PROCESSED / "demo")
    (root / "tiny.toml").write_text(TINY)
    asked = search.plan(root, model="resnet1d", dataset="demo", space=root / "tiny.toml", epochs=2)
    return search.run(asked, trials=4)


def poison_fold_10(dataset: Path) -> int:
    """Replace signals, ages and labels of the last fold; gives the number of its records."""
    records = pd.read_parquet(dataset / "records.parquet")
    last = (records["fold"] == 10).to_numpy()
    signals = np.lib.format.open_memmap(dataset / "signals.npy", mode="r+")
    signals[last] = np.iinfo(np.int16).max
    signals.flush()
    records.loc[last, "age"] = 1e6
    records.to_parquet(dataset / "records.parquet", index=False)
    for path in (dataset / "labels").iterdir():
        labels = pd.read_parquet(path)
        labels.loc[last] = ~labels.loc[last]
        labels.to_parquet(path, index=False)
    return int(last.sum())


def test_a_dataset_opened_without_a_fold_is_the_rest_of_it(demo_dataset: Dataset) -> None:
    part = open_dataset(demo_dataset.path, label_set="superclass", folds=search.FOLDS)
    rest = demo_dataset.folds(*search.FOLDS)
    assert 0 < len(part) == len(rest) < len(demo_dataset)
    pd.testing.assert_frame_equal(part.labels, demo_dataset.labels.iloc[rest].reset_index(drop=True))
    np.testing.assert_array_equal(part.rows, demo_dataset.rows[rest])
    last = len(part) - 1
    np.testing.assert_array_equal(part.signal(last), demo_dataset.signal(int(rest[last])))
    part.check_splits()
    with pytest.raises(EcgkitError, match="no record in fold 9"):
        dataclasses.replace(part, records=part.records[part.records["fold"] < 9]).check_splits()


def test_fold_10_has_no_way_into_a_search(searched: search.SearchResult, tmp_path: Path) -> None:
    theirs = searched.folder.parents[1]
    shutil.copytree(theirs / paths.PROCESSED, tmp_path / paths.PROCESSED)
    assert poison_fold_10(tmp_path / paths.PROCESSED / "demo") > 10
    asked = search.plan(tmp_path, model="resnet1d", dataset="demo", space=theirs / "tiny.toml", epochs=2)
    assert sorted(asked.dataset.records["fold"].unique()) == list(range(1, 10))
    search.run(asked, trials=4)
    pd.testing.assert_frame_equal(values(asked.folder), values(searched.folder), check_exact=True)


def test_the_best_recipe_trains_as_its_trial_did(searched: search.SearchResult, tmp_path: Path) -> None:
    root = searched.folder.parents[1]
    planned = TrainingConfig.resolve(root, dataset="demo", model="resnet1d", recipe=str(searched.recipe))
    best = searched.trials.iloc[0]
    assert planned.config.model_options["widths"] == [8, 8]
    assert planned.config.learning_rate == best["learning_rate"]
    session = sessions.create(paths.TRAINING, tmp_path)
    training.fit(session, planned.config, planned.dataset)
    assert training.read_history(session)["validation_macro_auc"].max() == pytest.approx(best["fold_9_macro_auc"])


def test_processes_share_a_study_and_one_that_is_killed_is_made_up_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "tiny.toml").write_text("patience = [500]\n" + TINY)
    command = [sys.executable, "-m", "ecgkit.cli", "search", "resnet1d", "--dataset", "demo", "--trials", "2"]
    command += ["--epochs", "500", "--space", str(root / "tiny.toml"), "--root", str(root), "--study", "shared"]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})

    def outlive_the_other(*_: object, on_epoch: OnEpoch) -> None:
        on_epoch(1, 0.8)
        other.kill()
        other.wait()

    monkeypatch.setattr(search, "fit", outlive_the_other)
    with other:
        assert any(line.startswith("trial 0  epoch") for line in other.stdout or ())
        result = search.run(plan(root, study="shared", space=root / "tiny.toml", epochs=500), trials=2)
    assert other.returncode == -signal.SIGKILL
    assert states(result) == {0: "interrupted", 1: "done", 2: "done"}
    lost = result.trials.set_index("trial").loc[[0, 2], ["learning_rate", "noise"]]
    assert lost.loc[0].equals(lost.loc[2])
    assert list((result.folder / "workers").iterdir()) == []
