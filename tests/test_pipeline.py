"""The chain on a small demo: complete, skipped when nothing changed, resumed when cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from ecgkit import paths, pipeline, sessions
from ecgkit.sessions import Session

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
    "notes.txt",
    "predictions.parquet",
    "thresholds.json",
    "training_log.txt",
    "weights",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chain")


@pytest.fixture(scope="module")
def chain(root: Path) -> pipeline.Chain:
    """Run the whole chain once, on a demo of 300 records and for one epoch."""
    dataset = pipeline.preprocess(root, source="demo", n_records=300, name="small", jobs=1)
    assert not dataset.skipped
    return pipeline.run(root, dataset="small", models=["resnet1d"], epochs=1)


@pytest.mark.slow
def test_every_step_leaves_what_the_design_says(chain: pipeline.Chain) -> None:
    assert chain.dataset.name == "small"
    assert {"DONE", "1_Preprocessing.ipynb", "dataset.json", "labels", "records.parquet", "signals.npy"} <= names(
        chain.dataset
    )
    (training,), (probes,) = chain.training, chain.probes
    assert names(training) - {".lock"} == SESSION_FILES
    assert {"age", "sex", "height", "weight", "DONE", "config.json", "environment.json", "notes.txt"} <= names(probes)
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
    assert pipeline.preprocess(root, source="demo", n_records=300, name="small", jobs=1).skipped


@pytest.mark.slow
def test_a_killed_run_goes_on_in_the_same_session(chain: pipeline.Chain, root: Path) -> None:
    arguments = [
        sys.executable,
        "-m",
        "ecgkit.cli",
        "train",
        "small",
        "--model",
        "resnet1d",
        "--epochs",
        "30",
        "--root",
        str(root),
    ]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        expected = Session(root / paths.TRAINING / "session_2")
        last = expected.path / "weights" / "last.ckpt"
        deadline = time.monotonic() + 120
        while not last.is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    assert last.is_file()
    assert not expected.is_done
    # The kernel notices that its parent is gone and ends; until then the lock of the session may be held.
    config = expected.config
    done_before = len(pd.read_csv(expected.path / "history.csv"))
    with sessions.claim(paths.TRAINING, root, config) as session:
        assert session == expected
    assert 1 <= done_before < 30


@pytest.mark.slow
def test_papermill_by_hand_works_from_any_folder(chain: pipeline.Chain, root: Path, tmp_path: Path) -> None:
    notebook = paths.notebook_path("2_Training.ipynb")
    arguments = ["-p", "dataset", "small", "-p", "epochs", "1", "-p", "seed", "5", "-p", "root", str(root)]
    command = [sys.executable, "-m", "papermill", str(notebook), "out.ipynb", *arguments]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    newest = sessions.open_finished("latest", paths.TRAINING, root)
    assert newest.config["seed"] == 5
    assert newest.is_done
