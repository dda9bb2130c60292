"""Weights are read back as they were written, and what does not fit is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch

from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.inference.matching import check_made_for
from ecgkit.inference.metadata import MetadataScaler
from ecgkit.inference.tensor_file import tensor_bytes
from ecgkit.inference.weights import TrainedModel, load_weights
from ecgkit.models import create_model
from ecgkit.signals.filters import Filters
from ecgkit.signals.prepare import Preparation
from ecgkit.training.inference import check_match

CLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
Tensors = dict[str, torch.Tensor]
Facts = dict[str, str]


@pytest.fixture(scope="module")
def trained() -> TrainedModel:
    torch.manual_seed(0)
    keywords = {"n_leads": 12, "n_classes": 5, "n_samples": 1000, "sampling_rate": 100, "n_metadata": 4}
    keywords |= {"widths": [8, 8, 8, 8], "blocks": 1}
    model = create_model("resnet1d", **keywords).eval()
    mean, std = np.linspace(-0.1, 0.1, 12, dtype=np.float32), np.linspace(0.1, 0.3, 12, dtype=np.float32)
    preparation = Preparation(100, 1000, mean, std, Filters(bandpass=(0.5, 40.0)))
    return TrainedModel(model, "resnet1d", keywords, CLASSES, "superclass", preparation, MetadataScaler(60.0, 15.0))


def change(path: Path, tensors: Callable[[Tensors], object] = dict, facts: Callable[[Facts], object] = dict) -> None:
    """Write a file of weights anew with other tensors or facts."""
    with safetensors.safe_open(path, framework="pt") as file:
        said, held = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors(held)
    facts(said)
    del said["sha256"]
    path.write_bytes(tensor_bytes(held, said))


def test_what_is_written_is_read_back(trained: TrainedModel, tmp_path: Path) -> None:
    again = load_weights(trained.save(tmp_path / "a.safetensors"), classes=CLASSES, sampling_rate=100)
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor)
    assert (again.name, again.keywords, again.classes) == (trained.name, trained.keywords, trained.classes)
    np.testing.assert_array_equal(again.mean, trained.mean)
    np.testing.assert_array_equal(again.std, trained.std)
    assert again.scaler == trained.scaler
    assert (again.label_set, again.preparation.to_dict()) == ("superclass", trained.preparation.to_dict())
    assert not again.model.training


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.pop("head.bias"), "lacks .*head.bias"),
        (lambda t: [t.pop("head.bias"), t.pop("head.weight")], "lacks 2 .*head.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "surplus .*extra"),
        (lambda t: t.update({"head.bias": torch.zeros(4)}), "head.bias.* as .4,., not .5,."),
        (lambda t: t.update({"head.bias": torch.zeros(5).double()}), "float64, not torch.float32"),
    ],
)
def test_other_tensors_are_named(
    spoil: Callable[[Tensors], object], message: str, trained: TrainedModel, tmp_path: Path
) -> None:
    path = trained.save(tmp_path / "a.safetensors")
    change(path, tensors=spoil)
    with pytest.raises(EcgkitError, match=message):
        load_weights(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.update(format="theirs"), "'theirs'"),
        (lambda f: f.pop("classes"), "KeyError.'classes'"),
        (lambda f: f.pop("model"), "KeyError.'model'"),
        (lambda f: f.update(keywords="{"), "cannot read the weights"),
        (lambda f: f.update(keywords="[" * 100_000), "cannot read the weights"),
        (lambda f: f.update(keywords="3"), "TypeError"),
        (lambda f: f.update(preparation="[]"), "TypeError"),
        (lambda f: f.update(metadata_scaler='{"mean": 3}'), "TypeError"),
        (lambda f: f.update(classes=json.dumps(CLASSES[:4])), "4 classes for a model of 5"),
        (lambda f: f.update(preparation=f["preparation"].replace("std_mv", "sd")), "KeyError.'std_mv'"),
        (lambda f: f.update(format="ecgkit-weights-1"), "ecgkit-weights-1.*train the model again"),
        (lambda f: f.update(model='"alexnet"'), "unknown model 'alexnet'"),
    ],
)
def test_other_facts_are_named(
    spoil: Callable[[Facts], object], message: str, trained: TrainedModel, tmp_path: Path
) -> None:
    path = trained.save(tmp_path / "a.safetensors")
    change(path, facts=spoil)
    with pytest.raises(EcgkitError, match=message):
        load_weights(path)


def test_equal_weights_are_equal_bytes(trained: TrainedModel, tmp_path: Path) -> None:
    first, again = trained.save(tmp_path / "a"), load_weights(str(trained.save(tmp_path / "b")))
    assert again.save(tmp_path / "c").read_bytes() == first.read_bytes()
    with safetensors.safe_open(first, framework="pt") as file:  # any reader of safetensors reads it
        torch.testing.assert_close(file.get_tensor("head.bias"), trained.model.state_dict()["head.bias"])


def test_a_flipped_byte_is_noticed_wherever_it_is(trained: TrainedModel, tmp_path: Path) -> None:
    path = trained.save(tmp_path / "a.safetensors")
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(good[:8], "little")
    for place in (*range(8), *rng.integers(8, header - 8, 40), *rng.integers(header, len(good), 40), len(good) - 1):
        bad = bytearray(good)
        bad[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(bad))
        with pytest.raises(EcgkitError, match="a.safetensors"):
            load_weights(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, trained: TrainedModel, tmp_path: Path) -> None:
    path = trained.save(tmp_path / "a.safetensors")
    change(path, tensors=lambda tensors: tensors["head.bias"].__setitem__(2, value))
    with pytest.raises(EcgkitError, match="head.bias"):
        load_weights(path)


def test_a_file_that_is_cut_off_or_missing_is_named(trained: TrainedModel, tmp_path: Path) -> None:
    path = trained.save(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    for broken in (path, tmp_path / "none.safetensors"):
        with pytest.raises(EcgkitError, match=f"cannot read the weights .*{broken.name}"):
            load_weights(broken)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"classes": CLASSES[:4]},
            "has the classes NORM, MI, STTC, CD, HYP, not NORM, MI, STTC, CD .it also has HYP.:",
        ),
        ({"classes": (*CLASSES, "AFIB")}, "it lacks AFIB"),
        ({"classes": CLASSES[::-1]}, "in another order"),
        ({"sampling_rate": 500}, "made for a sampling rate of 100 Hz, not of 500 Hz"),
    ],
)
def test_a_model_made_for_something_else_is_refused(
    asked: dict[str, object], message: str, trained: TrainedModel, tmp_path: Path
) -> None:
    path = trained.save(tmp_path / "a.safetensors")
    with pytest.raises(EcgkitError, match=message):
        load_weights(path, **asked)
    with pytest.raises(EcgkitError, match=f"^this model .*{message}"):
        check_made_for("this model", trained, **asked)


def test_a_dataset_of_another_rate_other_classes_or_shorter_records_is_refused(
    trained: TrainedModel, demo_dataset: Dataset
) -> None:
    filters = {"filters": trained.preparation.filters.to_dict()}
    own = replace(demo_dataset, manifest=demo_dataset.manifest | filters)
    check_match(trained, own)
    check_match(trained, replace(own, classes=()))  # opened without labels
    for other, message in (
        (replace(own, sampling_rate=500), "of 100 Hz, not of 500 Hz"),
        (replace(own, classes=CLASSES[:4]), "it also has HYP"),
        (replace(own, n_samples=999), "reads 1000 samples, the records of .* have 999"),
        (demo_dataset, "filters"),
    ):
        with pytest.raises(EcgkitError, match=message):
            check_match(trained, other)
