"""A user's own architecture in a user's own file trains, resumes, is kept with the weights, and predicts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ecgkit
from ecgkit import evaluation, paths, sessions, training
from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.feature_space.embeddings import session_embeddings
from ecgkit.inference.export import export_model
from ecgkit.models import create_model, load_architecture
from ecgkit.models.user_file import check_model
from ecgkit.sources.demo import Demo

SHAPE = {"n_leads": 12, "n_classes": 5, "n_samples": 1000, "sampling_rate": 100}

MY_MODEL = '''
from torch import nn
from ecgkit.models import ECGModel

class MyNet(ECGModel):
    """A toy."""

    gradcam_layer = "trunk"

    def __init__(self, *, width=8, dropout=0.1, **shared):
        super().__init__(**shared)
        self.trunk = nn.Sequential(nn.Conv1d(self.n_leads, width, 7, 4), nn.BatchNorm1d(width), nn.ReLU())
        self.build_head(width, dropout=dropout)

    def encode(self, signal):
        return self.trunk(signal).mean(dim=-1)
'''


@pytest.fixture
def my_model(tmp_path: Path) -> Path:
    path = tmp_path / "my_model.py"
    path.write_text(MY_MODEL)
    return path


def test_a_user_model_is_created_with_its_options(my_model: Path) -> None:
    model = create_model(f"{my_model}:MyNet", width=16, **SHAPE)
    assert model(torch.zeros(3, 12, 1000)).shape == (3, 5)
    assert type(model) is load_architecture("my_model.py:MyNet", folder=my_model.parent)
    check_model(model)
    with pytest.raises(EcgkitError, match="'depth'.*width"):
        create_model(f"{my_model}:MyNet", depth=3, **SHAPE)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("class MyNet", "class Other", "no class MyNet"),
        ("(ECGModel)", "(nn.Module)", "subclass"),
        ("def encode", "def forwards", "encode"),
        (
            "    def encode",
            "    def forward(self, signal, metadata=None):\n        return signal\n\n    def encode",
            "forward",
        ),
        ("    gradcam_layer", "    layer", "gradcam_layer"),
        ("dropout=0.1, **shared):", "dropout=0.1):", "shared"),
        ("width=8", "width", "'width'"),
        ("import nn", "import nn nn", "SyntaxError"),
        ("from torch", "from no_such_package", "no_such_package"),
    ],
)
def test_a_file_that_does_not_follow_the_contract_is_named(my_model: Path, old: str, new: str, named: str) -> None:
    my_model.write_text(MY_MODEL.replace(old, new))
    with pytest.raises(EcgkitError, match=rf"my_model\.py.*{named}|{named}.*my_model\.py"):
        load_architecture(f"{my_model}:MyNet")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"trunk"', '"stem"', "stem"),
        (".mean(dim=-1)", ".mean(dim=1)", "does not follow|embed"),
        ("self.build_head(width, dropout=dropout)", "pass", "n_features|head|metadata_branch"),
    ],
)
def test_a_network_that_does_not_follow_the_contract_is_named(my_model: Path, old: str, new: str, named: str) -> None:
    my_model.write_text(MY_MODEL.replace(old, new))
    with pytest.raises(EcgkitError, match=f"MyNet.*({named})"):
        check_model(create_model(f"{my_model}:MyNet", **SHAPE))


@pytest.mark.parametrize("spec", ["my_model.py", "my_model.txt:MyNet", "my_model.py:", "missing.py:MyNet"])
def test_what_is_no_file_and_class_is_refused(spec: str, my_model: Path) -> None:
    with pytest.raises(EcgkitError, match=spec):
        load_architecture(spec, folder=my_model.parent)


def test_a_session_keeps_the_file_that_it_needs(
    my_model: Path, demo_root: Path, demo_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"dataset": "demo", "model": "my_model.py:MyNet", "epochs": 2}
    config = training.TrainingConfig.resolve(demo_root, **settings)
    assert config.model_options == {"width": 8, "dropout": 0.1}
    session = sessions.create(paths.TRAINING, tmp_path)
    session.write_json("config.json", vars(config) | config.inputs(demo_root))
    expected = training.fit(session, config, demo_dataset)

    other = sessions.create(paths.TRAINING, tmp_path)

    def stop(*_: object) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        training.fit(other, config, demo_dataset, on_epoch=stop)
    resumed = training.fit(other, config, demo_dataset)
    for name, tensor in expected.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name

    my_model.unlink()
    opened = training.open_trained(session, demo_root)
    positions = demo_dataset.folds(9)
    np.testing.assert_array_equal(
        training.predict(opened.trained, demo_dataset, positions), training.predict(expected, demo_dataset, positions)
    )
    assert opened.trained.name == "my_model.py:MyNet"
    copy = session.path / "weights" / "my_model.py"
    copy.write_text(MY_MODEL.replace("A toy", "Another toy"))
    with pytest.raises(EcgkitError, match=r"my_model\.py has changed"):
        training.load_weights(session.best_weights)


def test_a_user_model_is_exported_loaded_and_probed_and_opening_it_runs_its_file(
    my_model: Path, demo_root: Path, demo_dataset: Dataset, tmp_path: Path
) -> None:
    my_model.write_text(MY_MODEL + '\nprint("the file was run")\n')
    spec, sources = f"{my_model}:MyNet", Demo(n_records=300, seed=3)
    config = training.TrainingConfig.resolve(demo_root, dataset="demo", model=spec, epochs=1)
    session = sessions.create(paths.TRAINING, tmp_path)
    session.write_json("config.json", vars(config) | config.inputs(demo_root))
    session.write_json("environment.json", sessions.environment())
    trained = training.fit(session, config, demo_dataset)
    predictions = training.predict_folds(trained, demo_dataset)
    evaluation.evaluate_session(session, predictions, demo_dataset.classes, data=demo_dataset)
    session.mark_done()

    exported = export_model(session.path, tmp_path / "exported")
    assert (exported / "weights" / "my_model.py").read_bytes() == my_model.read_bytes()
    signals = np.stack([sources.read(record_id).signal for record_id in sources.records["record_id"][:4]])
    expected = ecgkit.load_model(session.path).predict_proba(signals, sampling_rate=100)
    weights = exported / "weights" / "best.safetensors"
    for name in (exported, f"{spec} {weights}"):
        np.testing.assert_array_equal(ecgkit.load_model(name).predict_proba(signals, sampling_rate=100), expected)
    bare = Path(shutil.copy(weights, tmp_path / "bare.safetensors"))  # no thresholds, no calibration
    uncalibrated = ecgkit.load_model(f"{spec} {bare}")
    assert (uncalibrated.thresholds == 0.5).all()
    np.testing.assert_array_equal(
        uncalibrated.predict_proba(signals, sampling_rate=100),
        ecgkit.load_model(exported)([ecgkit.ECG(signal, 100) for signal in signals]).filter(like="prob_").to_numpy(),
    )
    opened = training.open_trained(session, demo_root)
    vectors = session_embeddings(opened, ("embedding", "trunk"))
    assert vectors["embedding"].vectors.shape == (len(demo_dataset), 8)
    assert len(vectors["trunk"].vectors) == len(demo_dataset)

    code = "import ecgkit, sys; print(ecgkit.load_model(sys.argv[1]))"
    ran = subprocess.run([sys.executable, "-c", code, exported], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("the file was run")
