"""A sweep: checked before it starts, gone on with after a failure, ranked by fold 9 and silent on fold 10."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from ecgkit import paths, sessions
from ecgkit.cli import main
from ecgkit.errors import EcgkitError
from ecgkit.io import locked
from ecgkit.workflow import sweep

HEAD = 'dataset = "demo"\nmodel = "resnet1d"\n'
SEEDS = HEAD + "epochs = 1\n[grid]\nseed = [0, 1, 2]\n"


@pytest.fixture
def root(demo_root: Path, tmp_path: Path) -> Path:
    (tmp_path / paths.PROCESSED).mkdir()
    (tmp_path / paths.PROCESSED / "demo").symlink_to(demo_root / paths.PROCESSED / "demo")
    return tmp_path


def write(root: Path, text: str, name: str = "seeds.toml") -> str:
    (root / name).write_text(text)
    return str(root / name)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> dict[int, Callable[[], None]]:
    """Stand in for the notebook: a fold-9 AUC of 0.8 and a tenth of the seed; what is given for a seed is called."""
    troubles: dict[int, Callable[[], None]] = {}

    def run_notebook(notebook: Path, parameters: dict[str, Any], session: sessions.Session, **_: object) -> None:
        sys.stdout.write("epoch   1/1  loss 0.5  fold 9: loss 0.5, macro AUC 0.8\n")
        sys.stdout.write("fold 10, 29 records: macro AUC 0.987\n")
        troubles.get(parameters["seed"], lambda: None)()
        auc = {"fold_9": 0.8 + parameters["seed"] / 10, "fold_10": 0.987}
        session.write_json("metrics.json", {fold: {"macro": {"auc": {"value": v}}} for fold, v in auc.items()})
        (session.path / "history.csv").write_text("epoch,seconds\n1,1.5\n2,2\n")
        session.mark_done()

    monkeypatch.setattr("ecgkit.workflow.run.run_notebook", run_notebook)
    return troubles


def stop(error: BaseException) -> Callable[[], None]:
    def raising() -> None:
        raise error

    return raising


def states(root: Path) -> dict[int, str]:
    table = pd.read_csv(root / "sweeps" / "seeds.csv")
    return dict(zip(table["seed"], table["state"], strict=True))


def test_a_grid_is_every_combination_and_runs_are_more(tmp_path: Path) -> None:
    text = HEAD + "[grid]\nseed = [0, 1]\nepochs = [2, 3]\n[[run]]\nmodel = 'xlstm'\n[[run]]\nrecipe = 'x.toml'\n"
    asked = sweep.read_sweep(write(tmp_path, text))
    common = {"dataset": "demo", "model": "resnet1d"}
    assert asked.runs == (
        common | {"seed": 0, "epochs": 2},
        common | {"seed": 0, "epochs": 3},
        common | {"seed": 1, "epochs": 2},
        common | {"seed": 1, "epochs": 3},
        common | {"model": "xlstm"},
        common | {"recipe": str(tmp_path / "x.toml")},
    )
    assert asked.varying == ["model", "seed", "epochs", "recipe"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD, "seeds.toml varies nothing: add [grid]"),
        ("dataset = ", "cannot read the sweep"),
        (HEAD + "[grid]\nseed = 3\n", "seed in [grid] is 3: give a list"),
        (HEAD + "[grid]\nseed = []\n", "seed in [grid] is []: give a list"),
        (HEAD + "[run]\nseed = 3\n", "run is a dict: write each run as [[run]]"),
        (HEAD + "[[grid]]\nseed = [3]\n", "grid is a list: write it as [grid]"),
        (HEAD + "[grid]\nsead = [3]\n", "run 1 of 1: unknown parameter 'sead'"),
        (HEAD + "[grid]\nseed = [0, 1.5]\n", "run 2 of 2: seed is 1.5"),
        (HEAD + "[grid]\nepochs = [1, 0]\n", "run 2 of 2: epochs is 0"),
        (HEAD + "[grid]\nlearning_rate = [inf]\n", "learning_rate is inf: give a finite number"),
        (HEAD + "[[run]]\nmodel = 'vit'\n", "run 1 of 1: unknown model 'vit'"),
        (HEAD + "[[run]]\nlabel_set = 'form'\n", "unknown label set 'form'"),
        (HEAD + "[[run]]\nrecipe = 'nowhere.toml'\n", "cannot read the recipe"),
        ("model = 'resnet1d'\n[grid]\nseed = [1]\n", "no dataset is given"),
        (HEAD + "[grid]\nseed = [0, 1]\n[[run]]\nseed = 1\n", "runs 2 and 3 are the same"),
        (HEAD + "[[run]]\nseed = 0\n[[run]]\nlabel_set = 'superclass'\n", "runs 1 and 2 are the same"),
    ],
)
def test_all_is_checked_before_the_first_run(
    root: Path, notebook: object, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(root, text)
    assert main(["sweep", file, "--root", str(root)]) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""
    assert sorted(path.name for path in root.iterdir()) == [paths.PROCESSED, "seeds.toml"]


def test_a_failure_does_not_stop_the_rest_and_is_tried_again(
    root: Path, notebook: dict[int, Callable[[], None]], capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(root, SEEDS)
    notebook[1] = stop(EcgkitError("the loss is no number:\nlower it"))
    assert main(["sweep", file, "--root", str(root)]) == 1
    output = capsys.readouterr()
    assert output.err == ("ecgkit: 1 of 3 runs failed: the same command tries them again and skips the others\n")
    *_, header, best, second, failed, path = output.out.splitlines()
    assert header.split() == ["seed", "session", "state", "fold_9_macro_auc", "seconds", "error"]
    assert best.split() == ["2", "session_3", "done", "1.0000", "3.5"]
    assert second.split() == ["0", "session_1", "done", "0.8000", "3.5"]
    assert failed.split(maxsplit=3) == ["1", "session_2", "failed", "the loss is no number: lower it"]
    assert path == str(root / "sweeps" / "seeds.csv")
    assert "1/3  epoch   1/1" in output.out
    del notebook[1]
    assert main(["sweep", file, "--root", str(root)]) == 0
    assert states(root) == {2: "skipped", 1: "done", 0: "skipped"}
    assert [s.name for s in sessions.list_sessions(paths.TRAINING, root)] == ["session_1", "session_2", "session_3"]


def test_the_last_fold_is_shown_nowhere(root: Path, notebook: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", write(root, SEEDS), "--root", str(root)]) == 0
    output = capsys.readouterr()
    written = "".join(path.read_text() for path in (root / "sweeps").glob("seeds.*"))
    for text in (output.out, output.err, written):
        assert "0.987" not in text
        assert "fold 10" not in text
        assert "fold_10" not in text
    (best, *_) = json.loads((root / "sweeps" / "seeds.json").read_text())["runs"]
    assert best["parameters"] == {"dataset": "demo", "model": "resnet1d", "epochs": 1, "seed": 2}
    assert best["fold_9_macro_auc"] == 1.0


def test_an_interrupted_sweep_goes_on(root: Path, notebook: dict[int, Callable[[], None]]) -> None:
    file = write(root, SEEDS)
    notebook[1] = stop(KeyboardInterrupt())
    assert main(["sweep", file, "--root", str(root)]) == 130
    assert states(root) == {0: "done", 1: "waiting", 2: "waiting"}
    del notebook[1]
    assert main(["sweep", file, "--root", str(root)]) == 0
    assert states(root) == {0: "skipped", 1: "done", 2: "done"}
    cut_off = sessions.open_session("session_2", paths.TRAINING, root)
    assert (cut_off.config["seed"], cut_off.is_done) == (1, True)


def test_one_sweep_runs_once_at_a_time(root: Path, notebook: object, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "sweeps").mkdir()
    with locked(root / "sweeps" / ".seeds.lock", "the test has it"):
        assert main(["sweep", write(root, SEEDS), "--root", str(root)]) == 2
    assert "another process runs the sweep seeds" in capsys.readouterr().err
    assert sessions.list_sessions(paths.TRAINING, root) == []


def make_tasks(root: Path, count: int) -> list[sweep.Task]:
    return [
        sweep.Task(root, i + 1, count, {"dataset": "nowhere", "model": "resnet1d"}, {"seed": i}) for i in range(count)
    ]


def test_no_more_is_handed_over_than_runs_at_once(tmp_path: Path) -> None:
    class Lazy(Executor):
        """Ends the first of its tasks whenever a further one would not be taken."""

        most = 0

        def __init__(self) -> None:
            self.open: list[tuple[Future[sweep.Outcome], sweep.Task]] = []

        def submit(self, _: object, /, task: sweep.Task) -> Future[sweep.Outcome]:
            future: Future[sweep.Outcome] = Future()
            self.open.append((future, task))
            self.most = max(self.most, len(self.open))
            if len(self.open) == 2 or task.number == task.of:
                for running, its in self.open:
                    running.set_result(sweep.Outcome(its.number, its.parameters, sweep.DONE))
                self.open.clear()
            return future

    executor = Lazy()
    outcomes = list(sweep.as_they_end(make_tasks(tmp_path, 7), executor, 2))
    assert sorted(outcome.number for outcome in outcomes) == [1, 2, 3, 4, 5, 6, 7]
    assert executor.most == 2


def test_what_goes_to_a_process_and_comes_back_survives_the_way(tmp_path: Path) -> None:
    function, (task,) = pickle.loads(pickle.dumps((sweep.run_task, make_tasks(tmp_path, 1))))  # noqa: S301 - its own
    outcome = function(task)
    assert pickle.loads(pickle.dumps(outcome)) == outcome  # noqa: S301 - its own
    assert outcome.state == sweep.FAILED
    assert "no dataset nowhere" in outcome.error


def test_a_worker_that_dies_is_a_failure(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        executor.submit(eval, "__import__('os')._exit(1)").exception()
        outcomes = list(sweep.as_they_end(make_tasks(tmp_path, 2), executor, 1))
    assert [outcome.state for outcome in outcomes] == [sweep.FAILED, sweep.FAILED]
    assert all(outcome.error.startswith("a worker process ended before its time") for outcome in outcomes)


def test_a_cluster_takes_the_same_path(
    root: Path, notebook: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    class Client(ThreadPoolExecutor):
        def __init__(self, address: str) -> None:
            super().__init__(3)  # workers with several threads: a run of each process at a time nevertheless
            asked.append(address)

        def get_executor(self, *, pure: bool) -> Executor:
            assert not pure  # or equal calls would be one
            return self

    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(Client=Client))
    command = ["sweep", write(root, SEEDS), "--scheduler", "tcp://cluster:8786", "--root", str(root)]
    assert main(command) == 0
    assert asked == ["tcp://cluster:8786"]
    assert states(root) == {2: "done", 1: "done", 0: "done"}
    capsys.readouterr()
    assert main([*command, "--jobs", "2"]) == 2
    assert "--jobs is for this machine" in capsys.readouterr().err


@pytest.mark.parametrize("missing", [True, False])
def test_no_cluster_is_one_line(
    root: Path, missing: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(address: str) -> None:
        raise OSError("timed out")

    monkeypatch.setitem(sys.modules, "distributed", None if missing else SimpleNamespace(Client=refuse))
    assert main(["sweep", write(root, SEEDS), "--scheduler", "tcp://a:1", "--root", str(root)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert ("pip install distributed" if missing else "no Dask scheduler answers at tcp://a:1") in error
    assert not (root / "sweeps").exists()


def test_lines_that_come_in_parts_are_whole_or_hidden() -> None:
    shown = StringIO()
    lines = sweep.RunLines(shown, "2/9  ")
    for part in ("epo", "ch  12/80  loss 1\nfold 10: 0.9\n/a b/session_3: run", "ning with 2_Training.ipynb\nepoch"):
        lines.write(part)
    assert shown.getvalue() == "2/9  epoch  12/80  loss 1\n2/9  /a b/session_3: running with 2_Training.ipynb\n"


def test_the_best_comes_first_and_what_has_no_auc_last() -> None:
    values = [0.7, None, 0.9, 0.7, None]
    outcomes = [sweep.Outcome(i, {}, fold_9_macro_auc=value) for i, value in enumerate(values)]
    assert [outcome.number for outcome in sweep.ranked(outcomes)] == [2, 0, 3, 1, 4]
