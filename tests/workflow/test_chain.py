"""The chain on a small demo: complete, skipped when nothing changed, resumed after an interruption."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from ecgkit import paths, sessions
from ecgkit.cli import main
from ecgkit.sessions import Session
from ecgkit.workflow import chain as pipeline
from ecgkit.workflow import run_step

SESSION_FILES = {
    "2_Training.ipynb",
    "DONE",
    "calibration.json",
    "classification_report.txt",
    "config.json",
    "environment.json",
    "figures",
    "history.csv",
    "metrics.json",
    "model_card.md",
    "notes.txt",
    "predictions.parquet",
    "reference.json",
    "report.html",
    "selective.json",
    "subgroups.json",
    "thresholds.json",
    "training_log.txt",
    "unlabelled.parquet",
    "weights",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chain")


@pytest.fixture(scope="module")
def chain(root: Path) -> pipeline.Chain:
    """Run the whole chain once, on a demo of 300 records and for one epoch."""
    dataset = run_step("preprocess", root, source="demo", source_options={"n_records": 300}, name="small", jobs=1)
    assert not dataset.skipped
    return pipeline.run(root, dataset="small", models=["resnet1d"], epochs=1)


def test_a_recipe_says_what_is_trained_and_the_same_call_is_skipped(
    demo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / paths.PROCESSED).mkdir()
    (tmp_path / paths.PROCESSED / "demo").symlink_to(demo_root / paths.PROCESSED / "demo")
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'epochs = 1\nbatch_size = 64\nlearning_rate = 1e-3\nlabel_set = "rhythm"\nseed = 5\nmetadata = true\n'
        "min_records = 16\n"
        "[model_options]\nwidths = [8, 8]\n"
    )
    call = ["train", "demo", "--model", "resnet1d", "--recipe", str(recipe), "--root", str(tmp_path)]
    assert main(call) == 0
    config = Session(Path(capsys.readouterr().out.splitlines()[-1])).config
    assert (config["label_set"], config["seed"], config["metadata"]) == ("rhythm", 5, True)
    assert config["model_options"]["widths"] == [8, 8]
    assert main(call) == 0
    assert "unchanged, skipped" in capsys.readouterr().out


@pytest.mark.slow
def test_every_step_leaves_what_the_design_says(chain: pipeline.Chain) -> None:
    assert chain.dataset.name == "small"
    assert {"DONE", "1_Preprocessing.ipynb", "dataset.json", "labels", "records.parquet", "signals.npy"} <= names(
        chain.dataset
    )
    (training,), (probes,) = chain.training, chain.probes
    assert names(training) - {".lock"} == SESSION_FILES | {"cache"}
    assert {"age", "sex", "height", "weight", "DONE", "config.json", "environment.json", "notes.txt"} <= names(probes)
    assert {"overview.html", "map.html", "figures"} <= names(probes)
    assert {"training_log.txt", "classification_report.txt", "metrics.json"} <= names(probes / "age")
    assert names(training / "figures") >= {"history.png", "roc_curves.png", "confusion_matrices"}
    assert len(names(training / "figures" / "confusion_matrices")) == 5
    predictions = pd.read_parquet(training / "predictions.parquet")
    classes = ["NORM", "MI", "STTC", "CD", "HYP"]
    expected = [f"{kind}_{name}" for kind in ("true", "prob", "calibrated") for name in classes]
    assert set(predictions.columns) == {"record_id", "patient_id", "fold", *expected}
    assert set(predictions["fold"]) == {9, 10}
    metrics = json.loads((training / "metrics.json").read_text())
    assert metrics["version"] == 1
    assert set(metrics["fold_10"]) == {*classes, "macro", "micro", "samples"}
    assert set(metrics["fold_10"]["macro"]["auc"]) == {"value", "low", "high"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_the_executed_notebook_lies_in_the_session(chain: pipeline.Chain) -> None:
    notebook = nbformat.read(chain.training[0] / "2_Training.ipynb", as_version=4)
    assert any("injected-parameters" in cell.metadata.get("tags", []) for cell in notebook.cells)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 8


@pytest.mark.slow
def test_again_skips_everything(chain: pipeline.Chain, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = pipeline.run(root, dataset="small", models=["resnet1d"], epochs=1)
    assert again == chain
    assert capsys.readouterr().out.count("unchanged, skipped") == 2
    assert run_step("preprocess", root, source="demo", source_options={"n_records": 300}, name="small", jobs=1).skipped


@pytest.mark.slow
def test_a_killed_run_goes_on_in_the_same_session(chain: pipeline.Chain, root: Path) -> None:
    arguments = ["train", "small", "--model", "resnet1d", "--epochs", "8", "--root", str(root)]
    killed = Session(chain.training[0].with_name("session_2"))
    with subprocess.Popen([sys.executable, "-m", "ecgkit", *arguments], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (killed.path / "weights" / "last.ckpt").is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    assert 1 <= len(pd.read_csv(killed.path / "history.csv")) < 8
    assert not killed.is_done
    time.sleep(2)  # the kernel that lost its parent looks for it once a second
    again = subprocess.run(
        [sys.executable, "-m", "ecgkit", *arguments, "--resume"], capture_output=True, text=True, check=True
    )
    assert again.stdout.splitlines()[-1] == str(killed.path)
    assert killed.is_done
    assert "resum" in (killed.path / "training_log.txt").read_text()
    assert list(pd.read_csv(killed.path / "history.csv")["epoch"]) == list(range(1, 9))


@pytest.mark.slow
def test_commands_print_their_folder_last_and_obey_force(
    chain: pipeline.Chain, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--dataset", "small", "--models", "resnet1d", "--epochs", "1", "--root", str(root)]
    assert main(["run", *arguments]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^resnet1d +0\.\d{4} \(", shown, re.MULTILINE)
    assert str(chain.training[0] / "report.html") in shown
    assert str(chain.probes[0] / "overview.html") in shown
    assert (
        main(["preprocess", "demo", "--name", "small", "--source-options", "n_records=250", "--root", str(root)]) == 2
    )
    assert "holds another dataset" in capsys.readouterr().err
    assert main(["train", "small", "--model", "resnet1d", "--epochs", "1", "--force", "--root", str(root)]) == 0
    newest = sessions.list_sessions(paths.TRAINING, root)[-1]
    assert capsys.readouterr().out.splitlines()[-1] == str(newest.path)
    assert newest.path not in chain.training
    first, second = (pd.read_parquet(path / "predictions.parquet") for path in (chain.training[0], newest.path))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


@pytest.mark.slow
def test_papermill_by_hand_works_from_any_folder(chain: pipeline.Chain, root: Path, tmp_path: Path) -> None:
    notebook = paths.notebook_path("2_Training.ipynb")
    arguments = ["-p", "dataset", "small", "-p", "epochs", "1", "-p", "seed", "5", "-p", "root", str(root)]
    command = [sys.executable, "-m", "papermill", str(notebook), "out.ipynb", *arguments]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    newest = sessions.open_finished("latest", paths.TRAINING, root)
    assert newest.config["seed"] == 5
    assert newest.is_done
