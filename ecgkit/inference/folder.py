"""A model that stands alone: a folder with weights, thresholds, calibration, results and a card, and no other file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecgkit.errors import EcgkitError
from ecgkit.inference.shipped import DESCRIPTION
from ecgkit.io import file_sha256
from ecgkit.training.weights import TrainedModel, load_weights

FORMAT = "ecgkit-model-1"
WEIGHTS = "model.safetensors"
CARD = "README.md"
NEEDED = {
    DESCRIPTION: ("format", "label_set", "classes", "sampling_rate", "filters", "weights_sha256"),
    "thresholds.json": ("thresholds",),
    "calibration.json": ("classes",),
}
"""The JSON files that a prediction needs, and what has to be in them."""


@dataclass(frozen=True)
class ModelFolder:
    """A model that stands alone, read.

    Attributes
    ----------
    path : Path
        Its folder.
    trained : TrainedModel
        Network, classes, statistics and the scaler of age.
    description : dict
        What ``model.json`` says.
    thresholds, calibration : dict
        What ``thresholds.json`` and ``calibration.json`` say.
    card : str
        ``README.md``.
    """

    path: Path
    trained: TrainedModel
    description: dict[str, Any]
    thresholds: dict[str, Any]
    calibration: dict[str, Any]
    card: str


def read_model(path: Path) -> ModelFolder:
    """Read a folder that `ecgkit.inference.export.export_model` wrote.

    Parameters
    ----------
    path : Path
        The folder.

    Returns
    -------
    ModelFolder

    Raises
    ------
    EcgkitError
        If a file is missing, damaged or of another version, or the weights are not those that ``model.json`` describes.
    """
    said = {name: _read_json(path, name, keys) for name, keys in NEEDED.items()}
    description = said[DESCRIPTION]
    if description["format"] != FORMAT:
        raise EcgkitError(
            f"{path / DESCRIPTION} has the format {description['format']!r}, not {FORMAT!r}: export the session again"
        )
    trained = load_weights(path / WEIGHTS, classes=description["classes"], sampling_rate=description["sampling_rate"])
    # Behind the checks of the tensors, which say more of what is wrong.
    if file_sha256(path / WEIGHTS) != description["weights_sha256"]:
        raise EcgkitError(f"{path / WEIGHTS} is not the file that {DESCRIPTION} describes: export the session again")
    return ModelFolder(
        path, trained, description, said["thresholds.json"], said["calibration.json"], _read_text(path / CARD)
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EcgkitError(f"cannot read {path} ({error}): export the session again") from error


def _read_json(folder: Path, name: str, keys: Sequence[str]) -> dict[str, Any]:
    text = _read_text(folder / name)
    try:
        data = json.loads(text)
    except ValueError as error:
        raise EcgkitError(f"{folder / name} is no JSON ({error}): export the session again") from error
    missing = [key for key in keys if not isinstance(data, dict) or key not in data]
    if missing:
        raise EcgkitError(f"{folder / name} does not say {missing[0]!r}: export the session again")
    return data
