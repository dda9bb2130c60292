"""Models as ONNX graphs: the probabilities of torch, from every length and rate, in a process without torch."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import ecgkit
from ecgkit import EcgkitError, paths
from ecgkit.cli import main
from ecgkit.inference.export import export_model
from ecgkit.inference.model_folder import CARD, SHIPPED, WEIGHTS
from ecgkit.inference.onnx_graph import Calibrating, Resampling
from ecgkit.readers import save_ecg
from ecgkit.signals.filters import resample
from ecgkit.sources.demo import Demo
from ecgkit.sources.ptbxl.source import PtbXl
from ecgkit.stats.calibration import calibrate

NAMES = ("resnet1d", "xlstm", "hybrid")
ALIKE = 1e-4
"""The largest difference of two probabilities of one model."""

GRAPHS: dict[str, Path] = {}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def graph(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a graph of a model that ships, made once."""
    if name not in GRAPHS:
        GRAPHS[name] = export_model(SHIPPED / name, tmp_path_factory.mktemp("onnx") / name, format="onnx")
    return GRAPHS[name]


@pytest.fixture(scope="module")
def ecgs() -> list[ecgkit.ECG]:
    """Twelve ECGs whose leads have offsets."""
    demo = Demo(n_records=20, sampling_rate=100, seed=2)
    offsets = np.random.default_rng(0).normal(0, 0.5, (12, 12, 1))
    read = [demo.read(str(i + 1)) for i in range(12)]
    return [ecgkit.ECG(ecg.signal + offset, 100, ecg.record_id) for ecg, offset in zip(read, offsets, strict=True)]


def shown(text: str) -> dict[str, str]:
    (row,) = csv.DictReader(io.StringIO(text))
    return row


def test_the_graph_alone_gives_the_calibrated_probabilities(name: str, graph: Path, ecgs: list[ecgkit.ECG]) -> None:
    session = onnxruntime.InferenceSession(graph / "model.onnx")
    signals = np.stack([ecg.signal for ecg in ecgs])
    model = ecgkit.load_model(name)
    for some in (signals, signals[:1], signals[:3, :, :250], signals[:2, :, :777], np.tile(signals[:2], 3)[..., :2345]):
        (probability,) = session.run(["probability"], {"signal": some})
        np.testing.assert_allclose(probability, model.predict_proba(some, sampling_rate=100), atol=ALIKE)


def test_the_graph_gives_the_distance_from_the_training(name: str, graph: Path, ecgs: list[ecgkit.ECG]) -> None:
    expected = ecgkit.load_model(name).outcome(ecgs)
    found = ecgkit.load_model(graph).outcome(ecgs)
    np.testing.assert_allclose(found.distance, expected.distance, rtol=1e-3)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=ALIKE)


def test_the_folder_predicts_as_the_model(name: str, graph: Path, ecgs: list[ecgkit.ECG]) -> None:
    model, other = ecgkit.load_model(name), ecgkit.load_model(graph)
    assert (other.backend, other.classes, other.n_samples) == ("onnx", model.classes, model.n_samples)
    np.testing.assert_array_equal(other.thresholds, model.thresholds)
    table, expected = other(ecgs), model(ecgs)
    assert list(table) == list(expected)
    numbers = [column for column in table if column.startswith(("prob_", "calibrated_"))]
    np.testing.assert_allclose(table[numbers], expected[numbers], atol=ALIKE)
    fast = [ecgkit.ECG(resample(ecg.signal, sampling_rate=100, target_rate=360), 360) for ecg in ecgs[:3]]
    np.testing.assert_allclose(other.predict_proba(fast), model.predict_proba(fast), atol=ALIKE)
    with pytest.raises(EcgkitError, match="embedding"):
        other.embed(ecgs)
    with pytest.raises(EcgkitError, match="microvolts"):
        other.predict([ecgkit.ECG(ecgs[0].signal * 1000, 100)])


@pytest.mark.real
def test_the_graph_equals_torch_on_five_hundred_real_records(name: str, graph: Path, ptbxl_folder: Path) -> None:
    source = PtbXl(ptbxl_folder)
    ids = source.records.query("fold >= 9")["record_id"].iloc[:500]
    signals = np.stack([source.read(record_id).signal for record_id in ids])
    models = ecgkit.load_model(name), ecgkit.load_model(graph)
    one, other = (model.predict_proba(signals, sampling_rate=100) for model in models)
    assert np.abs(one - other).max() < ALIKE


def test_a_graph_may_resample_from_one_rate(tmp_path: Path, ecgs: list[ecgkit.ECG]) -> None:
    folder = export_model(SHIPPED / "resnet1d", tmp_path / "fast", format="onnx", sampling_rate=250)
    model = ecgkit.load_model(folder)
    assert (model.sampling_rate, model.n_samples) == (250, 625)
    fast = np.stack([resample(ecg.signal, sampling_rate=100, target_rate=250) for ecg in ecgs])
    expected = ecgkit.load_model("resnet1d").predict_proba(fast, sampling_rate=250)
    np.testing.assert_allclose(model.predict_proba(fast, sampling_rate=250), expected, atol=ALIKE)


@pytest.mark.parametrize("rate", [50, 125, 200, 250, 360, 500, 512, 1000, 1001])
def test_the_resampling_of_a_graph_is_that_of_the_preparation(rate: int) -> None:
    import torch

    signal = np.random.default_rng(rate).normal(0, 0.02, (2, 12, 777)).cumsum(-1) + 5
    found = Resampling(rate, 100)(torch.from_numpy(signal)).numpy()
    expected = resample(signal, sampling_rate=rate, target_rate=100)
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6)  # mV; 0.4 uV of it are the filters of odd ratios


@pytest.mark.parametrize(
    "fitted",
    [
        {"method": "identity"},
        {"method": "temperature", "slope": 0.8, "intercept": 0.0},
        {"method": "platt", "slope": 1.2, "intercept": -0.4},
        {"method": "beta", "a": 1.3, "b": 0.4, "c": -0.2},
        {"method": "isotonic", "x": [0.1, 0.1001, 0.4, 0.7], "y": [0.0, 0.2, 0.2, 1.0]},
    ],
    ids=lambda fitted: fitted["method"],
)
def test_the_calibration_of_a_graph_is_that_of_the_model(fitted: dict[str, object]) -> None:
    import torch

    prob = np.concatenate([[0, 1, 0.1, 0.4], np.random.default_rng(0).uniform(size=200)])
    found = Calibrating(fitted)(torch.from_numpy(prob)).numpy()
    np.testing.assert_allclose(found, calibrate(fitted, prob), rtol=1e-9, atol=1e-12)


COUNT = "import sys; from ecgkit.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"


@pytest.mark.parametrize("name", ["resnet1d"], indirect=True)
def test_a_file_is_predicted_without_torch(
    graph: Path, ecgs: list[ecgkit.ECG], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(save_ecg(ecgs[0], tmp_path / "ecg.npz") or tmp_path / "ecg.npz")
    command = [sys.executable, "-c", COUNT, "predict", file, "--format", "csv"]
    done = subprocess.run([*command, "--model", str(graph)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == "False"
    row = shown("\n".join(lines[:-1]))
    assert main(["predict", file, "--format", "csv", "--model", "resnet1d", "--backend", "torch"]) == 0
    other = shown(capsys.readouterr().out)
    assert (row["backend"], other["backend"]) == ("onnx", "torch")
    for label in ecgkit.load_model(graph).classes:
        assert float(row[f"probability_{label}"]) == pytest.approx(float(other[f"probability_{label}"]), abs=ALIKE)
        assert row[f"decision_{label}"] == other[f"decision_{label}"]
    assert [row[key] for key in ("heart_rate", "findings")] == [other[key] for key in ("heart_rate", "findings")]


@pytest.mark.parametrize("name", ["resnet1d"], indirect=True)
def test_what_a_folder_lacks_is_one_line(graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model, backend, named in (("resnet1d", "onnx", "model.onnx"), (str(graph), "torch", "weights")):
        assert main(["predict", str(tmp_path / "x.csv"), "--model", model, "--backend", backend]) == 2
        assert named in capsys.readouterr().err
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in graph.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    (damaged / "model.onnx").write_bytes((graph / "model.onnx").read_bytes()[:-1])
    with pytest.raises(EcgkitError, match=r"model\.onnx"):
        ecgkit.load_model(damaged)
    shutil.copyfile(graph / "model.onnx", damaged / "model.onnx")
    assert ecgkit.load_model(damaged).classes == ecgkit.load_model(graph).classes
    about = json.loads((damaged / "model.json").read_text())
    for change in (
        {"units": "uV"},
        {"classes": about["classes"][:-1]},
        {"outputs": ["probability", "uncalibrated", "height"]},
        {"outputs": []},
    ):
        (damaged / "model.json").write_text(json.dumps(about | change))
        with pytest.raises(EcgkitError, match=r"model\.json"):
            ecgkit.load_model(damaged)


def test_what_a_graph_has_no_place_for_is_refused(root: Path, tmp_path: Path) -> None:
    for number, named in ((1, "filtered"), (3, "age and sex"), (4, "ensemble")):
        session = tmp_path / f"session_{number}"
        shutil.copytree(root / paths.TRAINING / session.name, session)
        (session / CARD).write_text("# a card")
        with pytest.raises(EcgkitError, match=named):
            export_model(session, tmp_path / "graph", format="onnx")
    with pytest.raises(EcgkitError, match="sampling rate"):
        export_model(SHIPPED / "resnet1d", tmp_path / "graph", sampling_rate=500)
    assert {path.name for path in tmp_path.iterdir()} == {"session_1", "session_3", "session_4"}


def test_a_model_that_ships_is_copied_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export-model", "xlstm", "--to", "mine"]) == 0
    assert (tmp_path / "mine" / WEIGHTS).read_bytes() == (SHIPPED / "xlstm" / WEIGHTS).read_bytes()
