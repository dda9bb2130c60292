"""The parameters of a step are the fields of its configuration, whatever runs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ecgkit.errors import EcgkitError
from ecgkit.workflow.parameters import check_settings, parameters_of
from ecgkit.workflow.steps import STEPS


@dataclass(frozen=True)
class Config:
    """A configuration.

    Attributes
    ----------
    dataset : str
        Name of a dataset; it is
        made by another step.
    learning_rate, decay : float
        Rates.
    epochs : int or None
        Number of epochs.
    metadata : bool
        Whether age and sex are read.
    edges : list of float or None
        Edges in Hz.
    options : dict
        Keywords.

    Raises
    ------
    EcgkitError
        Never.
    """

    dataset: str
    learning_rate: float = 1e-3
    decay: float = 0.0
    epochs: int | None = None
    metadata: bool = False
    edges: list[float] | None = None
    options: dict[str, Any] = field(default_factory=dict)


def test_fields_have_types_defaults_and_texts() -> None:
    known = parameters_of(Config)
    assert list(known) == ["dataset", "learning_rate", "decay", "epochs", "metadata", "edges", "options"]
    assert known["dataset"].text == "Name of a dataset; it is made by another step."
    assert known["learning_rate"].text == known["decay"].text == "Rates."
    assert (known["epochs"].kind, known["edges"].kind, known["edges"].item_kind) == (int, list, float)
    assert (known["learning_rate"].default, known["options"].default) == (1e-3, {})
    assert known["options"].text == "Keywords."


def test_numbers_get_the_type_of_their_field_and_none_is_left_out() -> None:
    settings = {"dataset": "ptbxl", "learning_rate": "3e-4", "decay": 1, "epochs": None, "options": {"a": 1}}
    checked = check_settings(Config, settings)
    assert checked == {"dataset": "ptbxl", "learning_rate": 3e-4, "decay": 1.0, "options": {"a": 1}}
    assert isinstance(checked["decay"], float)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rat": 1.0}, "learning_rat.*learning_rate"),
        ({"dataset": 1}, "dataset is 1"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'"),
        ({"epochs": "3"}, "epochs is '3'"),
        ({"epochs": True}, "epochs is True"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"metadata": 1}, "metadata is 1"),
        ({"options": [1]}, "options is"),
    ],
)
def test_what_papermill_ignores_is_an_error(settings: dict[str, object], message: str) -> None:
    with pytest.raises(EcgkitError, match=message):
        check_settings(Config, settings)


def test_a_configuration_is_resolved_once_and_for_all(demo_root: Path) -> None:
    from dataclasses import asdict

    settings = {
        "preprocess": {"source": "demo", "bandpass": [0.5, 40.0]},
        "train": {"dataset": "demo", "model": "resnet1d", "epochs": 2, "model_options": {"dropout": 0.1}},
    }
    for name, given in settings.items():
        config = STEPS[name].resolve(demo_root, given)
        assert STEPS[name].resolve(demo_root, asdict(config)) == config
        assert config.inputs(demo_root) == config.inputs(demo_root)


def test_a_mistyped_model_or_field_is_named(demo_root: Path) -> None:
    for given, message in (({"model": "resnet2d"}, "resnet2d"), ({"model": "resnet1d", "epoch": 1}, "'epoch'")):
        with pytest.raises(EcgkitError, match=message):
            STEPS["train"].resolve(demo_root, {"dataset": "demo", **given})
