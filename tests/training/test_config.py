"""Configurations: defaults, recipe, settings, in this order; what is not allowed is refused by name."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from ecgkit.errors import EcgkitError
from ecgkit.inference import batches
from ecgkit.models import MODELS, load_architecture
from ecgkit.training.base_config import FittingConfig
from ecgkit.training.config import RECIPES, TrainingConfig, configure, read_recipe
from ecgkit.training.pretraining.config import PretrainingConfig
from ecgkit.workflow.parameters import attribute_texts, parameters_of


def test_every_model_has_a_recipe_and_every_recipe_a_model() -> None:
    assert sorted(path.stem for path in RECIPES.glob("*.toml")) == sorted(MODELS)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("source", [None, "demo", "ptbxl"])
def test_recipes_configure(model: str, source: str | None) -> None:
    config = configure(dataset="x", model=model, source=source)
    assert config.model == model
    assert config.label_set == "superclass"


def test_settings_win_over_the_recipe_and_none_sets_nothing() -> None:
    recipe = tomllib.loads((RECIPES / "resnet1d.toml").read_text())
    config = configure(dataset="x", model="resnet1d", epochs=3, batch_size=None)
    assert (config.epochs, config.batch_size) == (3, recipe["batch_size"])
    on_demo = configure(dataset="x", model="resnet1d", source="demo")
    assert on_demo.batch_size == recipe["source"]["demo"]["batch_size"]


@pytest.mark.parametrize("model", MODELS)
def test_the_configuration_names_every_option_of_the_architecture(model: str) -> None:
    config = configure(dataset="x", model=model, model_options={"dropout": 0.5})
    assert config.model_options["dropout"] == 0.5
    assert json.loads(json.dumps(config.model_options)) == config.model_options
    known = inspect.signature(load_architecture(model)).parameters
    assert config.model_options.keys() == known.keys() - {"shared"}
    assert config.precision in ("float32", "bfloat16")
    with pytest.raises(EcgkitError, match=f"{model} has no option 'height'"):
        configure(dataset="x", model=model, model_options={"height": 3})


def test_a_recipe_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("epochs = 1\nlearning_rat = 1e-3\n")
    with pytest.raises(EcgkitError, match=r"mine\.toml has the unknown key 'learning_rat'"):
        read_recipe("resnet1d", recipe=path)
    path.write_text("epochs = \n")
    with pytest.raises(EcgkitError, match=r"mine\.toml cannot be read"):
        read_recipe("resnet1d", recipe=path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"epochs = 1  # \xe9", "cannot be read"),
        (b'source = "demo"', "source is 'demo'"),
        (b"[source]\ndemo = 3", "source.demo is 3"),
        (b'model_options = "x"', "model_options is 'x'"),
        (b"loss_options = 3", "loss_options is 3"),
    ],
)
def test_a_recipe_that_is_not_made_of_tables_is_refused(text: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(text)
    with pytest.raises(EcgkitError, match=message):
        read_recipe("resnet1d", source="demo", recipe=tmp_path / "mine.toml")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "vit"}, "model 'vit'.*resnet1d"),
        ({"model": "vit:Net"}, "vit:Net"),
        ({"model": "missing.py:Net"}, r"missing\.py"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 2.5}, "epochs is 2.5.*int"),
        ({"metadata": 1}, "metadata is 1.*bool"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"gradient_clip": float("inf")}, "gradient_clip is inf"),
        ({"lead_dropout": 1.0}, "lead_dropout is 1.0"),
        ({"schedule": "step"}, "schedule 'step'.*one_cycle, cosine, constant"),
        ({"loss": "hinge"}, "loss 'hinge'"),
        ({"loss": "focal", "loss_options": {"gama": 1.0}}, "focal.*'gama'"),
        ({"loss": "mse"}, "mse"),
        ({"crop_seconds": -1.0}, "crop_seconds is -1.0"),
        ({"crops_per_record": 4, "crop_seconds": 0.0}, "crops_per_record is 4.*crop_seconds"),
        ({"mixup": -0.1}, "mixup is -0.1"),
        ({"precision": "half"}, "precision 'half'"),
        ({"device": "tpu"}, "device 'tpu'.*auto, cpu, cuda"),
        ({"target": "bmi"}, "target 'bmi'.*age, sex, height, weight"),
        ({"target": "age", "label_set": "superclass"}, "'superclass'.*'age'"),
        ({"target": "sex", "metadata": True}, "sex.*metadata"),
        ({"target": "sex", "unlabelled": "negative"}, "unlabelled.*sex"),
        ({"target": "age", "loss": "bce"}, "'bce'.*age"),
        ({"optimiser": "sgd"}, "'optimiser'"),
    ],
)
def test_what_is_not_allowed_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(EcgkitError, match=message):
        configure(**({"dataset": "x", "model": "resnet1d"} | settings))


def test_the_configuration_names_every_number_of_the_loss() -> None:
    config = configure(dataset="x", model="cnn", loss="focal", loss_options={"gamma": 1.0})
    assert config.loss_options == {"alpha": 0.5, "gamma": 1.0}


@pytest.mark.parametrize(("target", "loss"), [("age", "mse"), ("height", "mse"), ("weight", "mse"), ("sex", "bce")])
def test_a_target_takes_the_place_of_the_label_set(target: str, loss: str) -> None:
    config = configure(dataset="x", model="resnet1d", target=target)
    assert (config.label_set, config.target, config.loss) == ("", target, loss)
    assert config.monitor == ("validation_macro_auc" if target == "sex" else "validation_r2")
    assert configure(dataset="x", model="resnet1d", target=target, mixup=0.1).mixup == 0.1


def test_cuda_is_refused_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert configure(dataset="x", model="cnn", device="auto").device == "cpu"
    with pytest.raises(EcgkitError, match="device is 'cuda'"):
        configure(dataset="x", model="cnn", device="cuda")


@pytest.mark.parametrize("config", [TrainingConfig, PretrainingConfig])
def test_every_field_is_documented_once_and_in_order(config: type) -> None:
    documented = [
        name
        for documenting in (FittingConfig, config)
        for name in re.findall(r"^(\w+) : ", inspect.getdoc(documenting), re.MULTILINE)
    ]
    assert documented == [item.name for item in dataclasses.fields(config)]
    assert list(attribute_texts(config)) == documented


def test_listing_the_parameters_loads_no_torch() -> None:
    code = "import sys, ecgkit.training.config; print('torch' in sys.modules or 'lightning' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_configurations_are_frozen() -> None:
    config = TrainingConfig(dataset="x", model="xlstm", epochs=1, batch_size=8, learning_rate=1e-3)
    with pytest.raises(AttributeError):
        config.epochs = 2


def test_the_default_that_the_help_shows_is_what_an_unset_field_becomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(batches, "has_bfloat16", lambda _: True)
    (tmp_path / "empty.toml").write_text("")
    given = {"dataset": "x", "model": "cnn", "recipe": tmp_path / "empty.toml"}
    unset = configure(**given)
    assert (unset.device, unset.precision) == ("cuda", "bfloat16")
    for name, parameter in parameters_of(TrainingConfig).items():
        if name not in given:
            assert getattr(configure(**given, **{name: parameter.default}), name) == getattr(unset, name), name
