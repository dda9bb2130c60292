"""Sweeps and searches: checked before they start, resumed after a failure, ranked by fold 9, blind to fold 10."""

from __future__ import annotations

import json
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

from ecgkit import datasets, paths, sessions, training
from ecgkit.cli import main
from ecgkit.datasets.manifest import manifest_sha256
from ecgkit.errors import EcgkitError
from ecgkit.io import file_sha256, locked
from ecgkit.models import MODELS
from ecgkit.sessions import Session
from ecgkit.training import checks
from ecgkit.training.config import TrainingConfig, configure
from ecgkit.training.data import training_data
from ecgkit.workflow import study
from ecgkit.workflow.space import apply, position_of, read_space
from ecgkit.workflow.sweep import over_seeds, read_sweep, settings_of

RATES = "learning_rate = {low = 1e-4, high = 1e-2, log = true}\n"
TINY = RATES + "noise = [0.0, 0.2]\n[model_options]\nwidths = [[8, 8]]\nblocks = [1]\n"
HEAD = 'dataset = "demo"\nmodel = "resnet1d"\n'
SEEDS = HEAD + "epochs = 1\n[grid]\nseed = [0, 1, 2]\n"
OnEpoch = Callable[[int, float], None]


@pytest.fixture
def root(demo_root: Path, tmp_path: Path) -> Path:
    (tmp_path / paths.PROCESSED).mkdir()
    (tmp_path / paths.PROCESSED / "demo").symlink_to(demo_root / paths.PROCESSED / "demo")
    (tmp_path / "space.toml").write_text(RATES + "noise = {low = 0, high = 0.2}\n")
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


class TestSpace:
    """A space is a set of Optuna distributions around a recipe."""

    @pytest.mark.parametrize("model", MODELS)
    def test_the_default_space_contains_the_recipe(self, model: str) -> None:
        config = configure(dataset="ptbxl", model=model, source="ptbxl")
        position = position_of(config, read_space(config))
        assert position is not None
        assert position["learning_rate"] == config.learning_rate
        assert ("model_options.dropout" in position) == ("dropout" in config.model_options)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "varies nothing"),
            ("learning_rate = ", "cannot be read"),
            ("learning_rat = [0.1]", "learning_rat is unknown.*amplitude"),
            ("seed = [0, 1]", "seed is the same"),
            ("learning_rate = 0.1", "learning_rate is 0.1"),
            ("learning_rate = []", "learning_rate is"),
            ("learning_rate = {low = 0.1}", "learning_rate is"),
            ("learning_rate = {low = 0.1, high = 0.2, lag = true}", "lag"),
            ("learning_rate = {low = 0.2, high = 0.1}", "low is below high"),
            ("learning_rate = {low = 0.1, high = inf}", "finite"),
            ("learning_rate = {low = 0.1, high = 0.2, step = 0}", "step"),
            ("learning_rate = {low = 0.1, high = 0.2, step = 0.1, log = true}", "log"),
            ("noise = {low = -1, high = 0.2}", "noise is -1"),
            ("lead_dropout = {low = 0, high = 1}", "lead_dropout is 1"),
            ("batch_size = {low = 8, high = 64.5}", "whole"),
            ("batch_size = ['many']", "batch_size is 'many'"),
            ("metadata = {low = 0, high = 1}", "metadata is"),
            ("schedule = ['one_cycle', 'steps']", "steps"),
            ("model_options.width = [8]", "width"),
            ("model_options.blocks = [0, 1]", "blocks of resnet1d is 0"),
            ("model_options.kernel_size = [5, 4]", "kernel_size 4"),
            ("crop_seconds = [2.5, 60]\nnoise = [0, 0.1]", "60"),
        ],
    )
    def test_what_is_wrong_is_named_before_anything_is_written(
        self, root: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (root / "space.toml").write_text(text)
        asked = ["search", "resnet1d", "--trials", "1", "--dataset", "demo", "--space", str(root / "space.toml")]
        assert main([*asked, "--root", str(root)]) == 2
        assert not (root / "searches").exists()
        one_line(capsys)
        with pytest.raises(EcgkitError, match=message):
            plan(root)

    def test_faults_and_auxiliary_label_sets_are_varied(self, root: Path) -> None:
        config = configure(dataset="demo", model="resnet1d", source="demo", robustness={"hum": 0.1})
        (root / "space.toml").write_text(
            "robustness.wander = {low = 0, high = 0.5}\n[auxiliary]\nall = [0.2, 0.5]\n[loss_options]\n"
        )
        space = read_space(config, root / "space.toml")
        assert set(space) == {"robustness.wander", "auxiliary.all"}
        other = apply(config, {"robustness.wander": 0.3, "auxiliary.all": 0.5})
        assert other.robustness == {"hum": 0.1, "wander": 0.3}
        assert other.auxiliary == {"all": 0.5}
        assert position_of(other, space) == {"robustness.wander": 0.3, "auxiliary.all": 0.5}
        only_fault = {name: one for name, one in space.items() if name == "robustness.wander"}
        assert position_of(config, only_fault) == {"robustness.wander": 0.0}  # the recipe is inside the space
        for text, message in (("robustness.storm = [0.1]", "storm"), ("robustness.wander = [2]", "2")):
            (root / "space.toml").write_text(text)
            with pytest.raises(EcgkitError, match=message):
                read_space(config, root / "space.toml")

    def test_values_reach_the_configuration(self) -> None:
        config = configure(dataset="demo", model="resnet1d", source="demo", crop_seconds=2.5, crops_per_record=2)
        values = {"learning_rate": 0.5, "model_options.widths": "[4, 4]", "schedule": "cosine", "crop_seconds": 0}
        other = apply(config, values)
        assert (other.learning_rate, other.schedule, other.crops_per_record) == (0.5, "cosine", 1)
        assert other.model_options == config.model_options | {"widths": [4, 4]}


def test_a_search_of_many_networks_opens_its_data_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[TrainingConfig] = []
    monkeypatch.setattr(
        checks,
        "training_data",
        lambda config, *where, **how: opened.append(config) or training_data(config, *where, **how),
    )
    counts = []
    for options in ("[1]", "[1, 2, 3]"):
        (root / "space.toml").write_text(f"{RATES}model_options.blocks = {options}\n")
        opened.clear()
        plan(root)
        counts.append(len(opened))
    assert counts[0] == counts[1]


def plan(root: Path, **settings: Any) -> study.Search:
    given = {"model": "resnet1d", "dataset": "demo", "space": root / "space.toml", "epochs": 3} | settings
    return study.plan_search(root, **given)


class Trainings:
    """Stand in for `fit`: the AUC is best at a learning rate of 0.001, and rises by 0.01 per epoch."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.troubles: dict[int, BaseException] = {}

    def __call__(self, session: Session, config: TrainingConfig, data: datasets.Dataset, *, on_epoch: OnEpoch) -> None:
        assert set(data.records["fold"]) == set(range(1, 10))
        number = len(self.rates)
        self.rates.append(config.learning_rate)
        for name in ("best.safetensors", "last.ckpt"):
            (session.path / "weights").mkdir(exist_ok=True)
            (session.path / "weights" / name).touch()
        for epoch in range(1, config.epochs + 1):
            on_epoch(epoch, 0.9 - abs(np.log10(config.learning_rate) + 3) / 10 + 0.01 * epoch)
            if number in self.troubles:
                raise self.troubles[number]


class TestSearch:
    """A search resumes, ranks by fold 9, and keeps the best recipe and its weights."""

    @pytest.fixture
    def trainings(self, monkeypatch: pytest.MonkeyPatch) -> Trainings:
        stand_in = Trainings()
        monkeypatch.setattr(training, "fit", stand_in)
        return stand_in

    def test_the_recipe_is_tried_first_and_the_best_recipe_is_kept(self, root: Path, trainings: Trainings) -> None:
        asked = plan(root)
        table = study.run_search(asked, trials=6)
        assert trainings.rates[0] == asked.config.learning_rate
        assert len(table) == 6
        done = table[table["state"] == "done"]
        assert done["fold_9_macro_auc"].is_monotonic_decreasing
        best = int(table["trial"].iloc[0])
        kept = [path.parents[1].name for path in asked.folder.rglob("best.safetensors")]
        assert kept == [f"trial_{best}"]
        again = TrainingConfig.resolve(root, dataset="demo", model="resnet1d", recipe=str(asked.folder / "best.toml"))
        assert again.learning_rate == table["learning_rate"].iloc[0]
        assert (again.epochs, again.test) == (3, True)
        pd.testing.assert_frame_equal(
            pd.read_csv(asked.folder / "trials.csv")[["trial", "learning_rate"]], table[["trial", "learning_rate"]]
        )

    def test_a_search_resumes_and_counts_earlier_trials(self, root: Path, trainings: Trainings) -> None:
        study.run_search(plan(root), trials=2)
        assert len(study.run_search(plan(root), trials=3)) == 3
        assert len(trainings.rates) == 3
        assert len(study.run_search(plan(root), trials=3)) == 3
        assert len(trainings.rates) == 3
        with pytest.raises(EcgkitError, match="epochs: 3 -> 2"):
            study.run_search(plan(root, epochs=2), trials=4)

    def test_optuna_reads_the_study(self, root: Path, trainings: Trainings) -> None:
        asked = plan(root)
        study.run_search(asked, trials=5)
        url = f"sqlite:///{asked.folder / 'study.db'}"
        assert len(optuna.load_study(study_name=asked.folder.name, storage=url).trials) == 5
        assert {"history.png", "importances.png", "slices.png"} <= {path.name for path in asked.folder.iterdir()}

    def test_a_failure_is_one_trials(self, root: Path, trainings: Trainings) -> None:
        trainings.troubles[1] = ValueError("no\nnumber")
        table = study.run_search(plan(root), trials=3).set_index("trial")
        assert table.loc[1, ["state", "error"]].tolist() == ["failed", "ValueError: no number"]
        assert (table["state"] == "done").sum() == 2

    def test_an_interrupted_trial_is_tried_again(self, root: Path, trainings: Trainings) -> None:
        trainings.troubles[1] = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            study.run_search(plan(root), trials=3)
        study.run_search(plan(root), trials=4)
        assert trainings.rates[2] == trainings.rates[1]

    def test_no_trial_begins_after_the_timeout(self, root: Path, trainings: Trainings) -> None:
        assert len(study.run_search(plan(root), trials=30, timeout=1e-9)) <= 1
        for keywords in ({"trials": 0}, {"trials": 1, "timeout": 0}):
            with pytest.raises(EcgkitError, match="positive"):
                study.run_search(plan(root), **keywords)

    def test_a_bad_trial_is_pruned(self, root: Path, trainings: Trainings) -> None:
        (root / "space.toml").write_text("learning_rate = {low = 1e-9, high = 1e-3, log = true}\n")
        table = study.run_search(plan(root, epochs=6, learning_rate=1e-3), trials=14)
        pruned = table[table["state"] == "pruned"]
        assert len(pruned)
        assert (pruned["epochs_run"] < 6).all()

    def test_a_killed_process_leaves_its_trial_to_others(
        self, root: Path, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(study, "HEARTBEAT", 1)
        monkeypatch.setattr(study, "GRACE", 2)
        script = (
            "import time\nfrom pathlib import Path\nfrom ecgkit import training\nfrom ecgkit.workflow import study\n"
            "study.HEARTBEAT, study.GRACE = 1, 2\n"
            "training.fit = lambda *a, **k: time.sleep(60)\n"
            f"root = Path({str(root)!r})\n"
            "plan = study.plan_search(root, model='resnet1d', dataset='demo', space=root / 'space.toml', epochs=3)\n"
            "study.run_search(plan, trials=1)\n"
        )
        asked = plan(root)
        with subprocess.Popen([sys.executable, "-c", script]) as process:
            deadline = time.monotonic() + 120
            while not (asked.folder / "trials" / "trial_0").is_dir() and time.monotonic() < deadline:
                time.sleep(0.2)
            time.sleep(1)
            process.send_signal(signal.SIGKILL)
        time.sleep(3)
        table = study.run_search(asked, trials=3).set_index("trial")
        assert table.loc[0, "state"] == "failed"
        assert trainings.rates[0] == asked.config.learning_rate  # of the trial that was killed


class TestSweep:
    """A sweep trains each run in its own session, with fold 10 closed by default."""

    @pytest.fixture
    def notebook(self, monkeypatch: pytest.MonkeyPatch) -> dict[int, BaseException]:
        """Stand in for the notebook: a fold-9 AUC of 0.8 plus a tenth of the seed; the errors are raised."""
        troubles: dict[int, BaseException] = {}

        def run_notebook(_: Path, values: dict[str, Any], session: Session, **__: object) -> None:
            if error := troubles.get(values["seed"]):
                raise error
            folds = {"fold_9": 0.8 + values["seed"] / 10} | ({"fold_10": 0.987} if values["test"] else {})
            macro = {f: {"macro": {"auc": {"value": v, "low": v - 0.1, "high": v + 0.05}}} for f, v in folds.items()}
            session.write_json("metrics.json", {"version": 1, "bootstrap": {}, **macro})
            session.mark_done()

        monkeypatch.setattr("ecgkit.workflow.run.run_notebook", run_notebook)
        return troubles

    def write(self, root: Path, text: str = SEEDS) -> str:
        (root / "seeds.toml").write_text(text)
        return str(root / "seeds.toml")

    def call(self, root: Path, *more: str, text: str = SEEDS) -> int:
        return main(["sweep", self.write(root, text), "--root", str(root), *more])

    def states(self, root: Path) -> list[tuple[int, str]]:
        table = pd.read_csv(root / "sweeps" / "seeds" / "trials.csv").sort_values("trial")
        return list(zip(table["seed"], table["state"], strict=True))

    def test_a_grid_is_every_combination_and_runs_are_more(self, tmp_path: Path) -> None:
        text = "[grid]\nseed = [0, 1]\nmodel_options.dropout = [0.1, 0.2]\n[[run]]\nmodel = 'xlstm'\n"
        text += "[[run]]\nrecipe = 'x.toml'\n[run.model_options]\nblocks = 1\n"
        asked = read_sweep(self.write(tmp_path, HEAD + text))
        common = {"dataset": "demo", "model": "resnet1d"}
        assert asked.runs == (
            common | {"seed": 0, "model_options.dropout": 0.1},
            common | {"seed": 0, "model_options.dropout": 0.2},
            common | {"seed": 1, "model_options.dropout": 0.1},
            common | {"seed": 1, "model_options.dropout": 0.2},
            common | {"model": "xlstm"},
            common | {"recipe": str(tmp_path / "x.toml"), "model_options.blocks": 1},
        )
        assert settings_of(asked.runs[5])["model_options"] == {"blocks": 1}

    def test_an_empty_table_takes_the_place_of_the_recipes(self, tmp_path: Path) -> None:
        text = "robustness = {}\n[[run]]\n[[run]]\nrobustness.hum = 0.1\n[[run]]\nauxiliary = {}\n"
        runs = [settings_of(run) for run in read_sweep(self.write(tmp_path, HEAD + text)).runs]
        assert [run["robustness"] for run in runs] == [{}, {"hum": 0.1}, {}]
        assert runs[2]["auxiliary"] == {}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (HEAD, "varies nothing"),
            ("dataset = ", "cannot be read"),
            (HEAD + "[grid]\nseed = 3\n", "seed in [grid] is 3"),
            (HEAD + "[grid]\nseed = []\n", "seed in [grid] is []"),
            (HEAD + "[run]\nseed = 3\n", "[[run]]"),
            (HEAD + "[grid]\nsead = [3]\n", "run 1 of 1: unknown parameter 'sead'"),
            (HEAD + "[grid]\nseed = [0, 1.5]\n", "run 2 of 2: seed is 1.5"),
            (HEAD + "[grid]\nepochs = [1, 0]\n", "run 2 of 2: epochs is 0"),
            (HEAD + "[grid]\nlearning_rate = [inf]\n", "learning_rate is inf"),
            (HEAD + "[[run]]\nmodel = 'vit'\n", "unknown model 'vit'"),
            (HEAD + "[[run]]\nlabel_set = 'form'\n", "unknown label set 'form'"),
            (HEAD + "[[run]]\nrecipe = 'nowhere.toml'\n", "nowhere.toml"),
            (HEAD + "[[run]]\nmodel_options.width = 3\n", "width"),
            ("model = 'resnet1d'\n[grid]\nseed = [1]\n", "no dataset"),
            (HEAD + "[grid]\nseed = [0, 1]\n[[run]]\nseed = 1\n", "runs 2 and 3 are the same"),
        ],
    )
    def test_all_runs_are_checked_before_the_first_one(
        self, root: Path, notebook: object, text: str, message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.call(root, text=text) == 2
        assert message in one_line(capsys)
        assert not (root / "sweeps").exists()

    def test_any_field_varies_and_fold_10_stays_closed(
        self, root: Path, notebook: object, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.call(root, text=SEEDS + "weight_decay = [0.1]\nmodel_options.dropout = [0.0, 0.5]\n") == 0
        made = sessions.list_sessions(paths.TRAINING, root)
        assert [s.config["model_options"]["dropout"] for s in made] == [0.0, 0.5] * 3
        assert all((s.config["weight_decay"], s.config["test"]) == (0.1, False) for s in made)
        assert "0.987" not in capsys.readouterr().out

    def test_a_learning_curve_has_intervals_and_means_over_the_seeds(
        self, root: Path, notebook: dict[int, BaseException], capsys: pytest.CaptureFixture[str]
    ) -> None:
        notebook[2] = EcgkitError("too few records")
        assert self.call(root, text=HEAD + "[grid]\ntrain_fraction = [1.0, 0.1]\nseed = [0, 1, 2]\n") == 1
        output = capsys.readouterr().out
        assert output.count("0.9000 (0.8000 to 0.9500)") == 2  # of seed 1, in either share
        table = pd.read_csv(root / "sweeps" / "seeds" / "trials.csv")
        np.testing.assert_allclose(table["fold_9_low"].dropna(), [0.8, 0.8, 0.7, 0.7])
        means = over_seeds(table, ["train_fraction", "seed"])
        assert means["train_fraction"].tolist() == [1.0, 0.1]  # as in the file
        assert means["seeds"].tolist() == [2, 2]
        np.testing.assert_allclose(means[["mean", "lowest", "highest"]], [[0.85, 0.8, 0.9]] * 2)
        assert over_seeds(table, ["seed"]).empty
        assert over_seeds(table, ["train_fraction"]).empty

    def test_a_failure_does_not_stop_the_rest_and_is_repeated(
        self, root: Path, notebook: dict[int, BaseException], capsys: pytest.CaptureFixture[str]
    ) -> None:
        notebook[1] = EcgkitError("the loss is not a number:\nlower it")
        assert self.call(root) == 1
        output = capsys.readouterr()
        assert "1 of 3 runs failed" in output.err
        assert output.out.splitlines()[-1] == str(root / "sweeps" / "seeds" / "trials.csv")
        assert self.states(root) == [(0, "done"), (1, "failed"), (2, "done")]
        del notebook[1]
        assert self.call(root) == 0
        assert self.states(root) == [(0, "done"), (1, "done"), (2, "done")]
        assert len(sessions.list_sessions(paths.TRAINING, root)) == 3

    def test_an_interrupted_sweep_resumes(self, root: Path, notebook: dict[int, BaseException]) -> None:
        notebook[1] = KeyboardInterrupt()
        assert self.call(root) == 130
        del notebook[1]
        assert self.call(root) == 0
        assert [state for _, state in self.states(root)].count("done") == 3
        assert [s.config["seed"] for s in sessions.list_sessions(paths.TRAINING, root)] == [0, 1, 2]

    def test_more_values_are_trained_and_the_others_skipped(self, root: Path, notebook: object) -> None:
        assert self.call(root) == 0
        assert self.call(root, text=SEEDS.replace("2]", "2, 3]")) == 0
        assert self.states(root) == [(0, "done"), (1, "done"), (2, "done"), (3, "done")]
        assert len(sessions.list_sessions(paths.TRAINING, root)) == 4

    def test_one_sweep_runs_once_at_a_time(
        self, root: Path, notebook: object, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (root / "sweeps" / "seeds").mkdir(parents=True)
        with locked(root / "sweeps" / "seeds" / ".running", "the test has it"):
            assert self.call(root) == 2
        assert "another process runs the sweep seeds" in one_line(capsys)


def other_fold_10(folder: Path) -> None:
    """Change everything that is stored about the records of fold 10, and of the manifest only the checksums."""
    records = pd.read_parquet(folder / "records.parquet")
    rows = np.flatnonzero(records["fold"] == 10)
    signals = np.load(folder / "signals.npy", mmap_mode="r+")
    signals[rows] = -signals[rows] // 2
    signals.flush()
    records.loc[rows, ["age", "height", "weight"]] = 33.0
    records.to_parquet(folder / "records.parquet", index=False)
    for path in (folder / "labels").glob("*.parquet"):
        labels = pd.read_parquet(path)
        classes = [name for name in labels if name != "record_id"]
        labels.loc[rows, classes] = ~labels.loc[rows, classes].astype(bool)
        labels.to_parquet(path, index=False)
    manifest = json.loads((folder / "dataset.json").read_text())
    manifest["files"] = {name: file_sha256(folder / name) for name in manifest["files"]}
    (folder / "dataset.json").write_text(json.dumps(manifest | {"sha256": manifest_sha256(manifest)}))


def contents(folder: Path) -> dict[str, object]:
    """Return what a folder holds, without what a clock, an address or a version writes."""
    left_out = (".ipynb", ".log", "DONE", "environment.json", ".db", "training_log.txt", ".html", ".lock", ".running")
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.endswith(left_out):
            continue
        name = path.relative_to(folder).as_posix()
        if path.name in ("history.csv", "trials.csv"):
            found[name] = pd.read_csv(path).drop(columns="seconds").to_json()
        elif path.suffix == ".ckpt":
            continue
        elif path.name == "study.json":
            found[name] = path.read_text().replace(str(folder.parent), "")
        else:
            found[name] = path.read_bytes()
    return found


def tiny_root(demo_root: Path, folder: Path) -> Path:
    shutil.copytree(demo_root / paths.PROCESSED / "demo", folder / paths.PROCESSED / "demo")
    (folder / "tiny.toml").write_text(TINY)
    return folder


def test_a_search_writes_the_same_bytes_whatever_fold_10_holds(demo_root: Path, tmp_path: Path) -> None:
    written = []
    for name in ("before", "after"):
        root = tiny_root(demo_root, tmp_path / name)
        if name == "after":
            other_fold_10(root / paths.PROCESSED / "demo")
        asked = study.plan_search(root, model="resnet1d", dataset="demo", space=root / "tiny.toml", epochs=1)
        study.run_search(asked, trials=1)
        written.append(contents(root / "searches"))
    assert written[0] == written[1]
    assert any(name.endswith("best.safetensors") for name in written[0])


@pytest.mark.slow
def test_a_sweep_writes_the_same_bytes_whatever_fold_10_holds(demo_root: Path, tmp_path: Path) -> None:
    written = []
    text = HEAD + "epochs = 1\nmodel_options = {widths = [8, 8], blocks = 1}\n[grid]\nnoise = [0.1]\n"
    for name in ("before", "after"):
        root = tiny_root(demo_root, tmp_path / name)
        if name == "after":
            other_fold_10(root / paths.PROCESSED / "demo")
        (root / "one.toml").write_text(text)
        assert main(["sweep", str(root / "one.toml"), "--root", str(root)]) == 0
        written.append(contents(root / paths.TRAINING))
    assert written[0].keys() == written[1].keys()
    assert [name for name in written[0] if written[0][name] != written[1][name]] == []
    assert "session_1/predictions.parquet" in written[0]
