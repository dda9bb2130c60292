"""A model folder: weights, thresholds, calibration and model card. A finished training session is one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecgkit import paths
from ecgkit.errors import EcgkitError
from ecgkit.inference.weights import TrainedModel, load_weights

WEIGHTS = Path("weights") / "best.safetensors"
THRESHOLDS = "thresholds.json"
CALIBRATION = "calibration.json"
CARD = "model_card.md"
ENSEMBLE = "ensemble.json"
DONE = "DONE"

SHIPPED = Path(__file__).resolve().parent / "shipped_models"
"""The folder of the model folders that ship."""


@dataclass(frozen=True)
class ModelFolder:
    """A model folder, read.

    Attributes
    ----------
    path : Path
        Its folder.
    trained : TrainedModel
        Network, classes, preparation.
    thresholds, calibration : dict
        The contents of ``thresholds.json`` and ``calibration.json``; empty for a model of a quantity.
    card : str
        The contents of ``model_card.md``; empty without one.
    """

    path: Path
    trained: TrainedModel
    thresholds: dict[str, Any]
    calibration: dict[str, Any]
    card: str


def read_model(path: Path, *, model: str = "") -> ModelFolder:
    """Read a model folder.

    Parameters
    ----------
    path : Path
        The folder.
    model : str, optional
        ``"FILE.py:CLASS"``, another place of the architecture than the one in the weights' header.

    Returns
    -------
    ModelFolder

    Raises
    ------
    EcgkitError
        If a file is missing, damaged or of another version.
    """
    trained = load_weights(path / WEIGHTS, model=model)
    card = path / CARD
    thresholds, calibration = ({}, {}) if trained.target else read_decisions(path)
    return ModelFolder(
        path,
        trained,
        thresholds,
        calibration,
        card.read_text(encoding="utf-8") if card.is_file() else "",
    )


def read_decisions(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the thresholds and the calibration of a model folder or an ensemble."""
    thresholds = read_json(path / THRESHOLDS, "thresholds")
    if thresholds.get("of") != "calibrated":
        raise EcgkitError(f"{path / THRESHOLDS} is of an older version: train the model again")
    return thresholds, read_json(path / CALIBRATION, "classes")


def shipped() -> tuple[str, ...]:
    """Return the names of the models that ship, sorted."""
    return tuple(sorted(path.name for path in SHIPPED.glob("[!.]*") if (path / WEIGHTS).is_file()))


def find_folder(name: str | int | Path, root: Path) -> Path:
    """Find a model folder.

    Parameters
    ----------
    name : str, int or Path
        A model that ships, a finished training session (its name, such as ``"session_3"``, or its number), or a folder.
    root : Path
        The folder that contains the folder of training sessions.

    Returns
    -------
    Path
        The folder, absolute.

    Raises
    ------
    EcgkitError
        If there is none, or the session is not finished.
    """
    text = str(name)
    session = root / paths.TRAINING / (f"session_{text}" if text.isdigit() else text)
    folder = Path(text).expanduser().absolute()
    if text in shipped():
        return SHIPPED / text
    if text.isdigit() or not folder.is_dir():
        folder = session
    if not folder.is_dir():
        ship = ", ".join(shipped()) or "none"
        raise EcgkitError(
            f"no model {text!r}: choose one that ships ({ship}), a training session of {root}, or a model folder"
        )
    if folder.parent.name == paths.TRAINING and not (folder / DONE).is_file():
        raise EcgkitError(f"{folder} is not finished: finish its training first")
    if not (folder / WEIGHTS).is_file() and not (folder / ENSEMBLE).is_file():
        raise EcgkitError(f"the folder {folder} has no {WEIGHTS}: choose a model folder or a training session")
    return folder


def read_json(path: Path, key: str) -> dict[str, Any]:
    """Read a JSON file that has a key."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EcgkitError(f"cannot read {path} ({error.strerror}): export the model again") from error
    except ValueError as error:
        raise EcgkitError(f"{path} is no JSON ({error}): export the model again") from error
    if not isinstance(data, dict) or key not in data:
        raise EcgkitError(f"{path} has no {key!r}: export the model again")
    return data
