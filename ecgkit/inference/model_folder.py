"""A model folder: weights, thresholds, calibration and model card. A finished training session is one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from ecgkit import paths
from ecgkit.errors import EcgkitError
from ecgkit.inference.missing_leads import LEAD_LOSSES
from ecgkit.inference.reference import REFERENCE, Reference, read_reference
from ecgkit.io import file_sha256, read_json
from ecgkit.sessions import Session

if TYPE_CHECKING:
    from ecgkit.inference.weights import TrainedModel

WEIGHTS = Path("weights") / "best.safetensors"
THRESHOLDS = "thresholds.json"
CALIBRATION = "calibration.json"
CARD = "model_card.md"
ENSEMBLE = "ensemble.json"
ONNX = "model.onnx"

WAY_OUT = "copy the model folder again, or train the model again"


class Thresholds(TypedDict):
    """What is read of ``thresholds.json``."""

    thresholds: dict[str, float]


class Calibration(TypedDict):
    """What is read of ``calibration.json``."""

    classes: dict[str, dict[str, Any]]


class Ensemble(TypedDict):
    """What is read of ``ensemble.json``."""

    members: list[str]
    classes: list[str]
    method: str
    weights_sha256: NotRequired[dict[str, str]]


class EnsembleConfig(TypedDict):
    """What is read of the ``config.json`` of an ensemble."""

    predictions_sha256: NotRequired[list[str]]


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
    reference : Reference or None
        The distribution of the training records; None of a folder without ``reference.json``.
    """

    path: Path
    trained: TrainedModel
    thresholds: dict[str, Any]
    calibration: dict[str, Any]
    card: str
    reference: Reference | None = None


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
    from ecgkit.inference.weights import load_weights

    trained = load_weights(path / WEIGHTS, model=model)
    if not trained.classes:
        raise EcgkitError(
            f"the encoder of {path} was pretrained without labels and knows no class: train a model from it with "
            f"ecgkit train DATASET --init {path}"
        )
    thresholds, calibration = ({}, {}) if trained.target else read_decisions(path)
    reference = read_reference(path / REFERENCE, trained.model.n_features, way_out=WAY_OUT)
    return ModelFolder(path, trained, thresholds, calibration, read_card(path), reference)


def read_decisions(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the thresholds and the calibration of a model folder or an ensemble."""
    missing = [name for name in (THRESHOLDS, CALIBRATION) if not (path / name).is_file()]
    if missing:
        raise EcgkitError(f"{path} lacks {', '.join(missing)}: {WAY_OUT}")
    return read_thresholds(path), read_json(path / CALIBRATION, Calibration, way_out=WAY_OUT)


def read_thresholds(path: Path) -> dict[str, Any]:
    """Read the thresholds of a model folder."""
    thresholds: dict[str, Any] = read_json(path / THRESHOLDS, Thresholds, way_out=WAY_OUT)
    if thresholds.get("of") != "calibrated":
        raise EcgkitError(f"{path / THRESHOLDS} is of an older version: train the model again")
    return thresholds


def read_ensemble(path: Path) -> tuple[dict[str, Any], dict[str, Path]]:
    """Read ``ensemble.json`` and find the folders of the members, by name, next to that of the ensemble.

    Raises
    ------
    EcgkitError
        If a member is missing, or is another model than the one that the ensemble was made of.
    """
    description: dict[str, Any] = read_json(path / ENSEMBLE, Ensemble, way_out=WAY_OUT)
    members = {name: find_folder(path.parent / name, path) for name in description["members"]}
    for name, (file, checksum) in _made_of(path, description).items():
        if (members[name] / file).is_file() and file_sha256(members[name] / file) != checksum:
            raise EcgkitError(
                f"the member {name} of {path} is another model than the one that the ensemble was made of (its {file} "
                "differs): copy that model back, or make the ensemble again"
            )
    return description, members


def _made_of(path: Path, description: dict[str, Any]) -> dict[str, tuple[Path, str]]:
    """Return a file of each member, and the SHA-256 that it had; ensembles of earlier versions know the predictions."""
    if "weights_sha256" in description:
        return {name: (WEIGHTS, description["weights_sha256"].get(name, "")) for name in description["members"]}
    has_config = (path / "config.json").is_file()
    config = read_json(path / "config.json", EnsembleConfig, way_out=WAY_OUT) if has_config else {}
    pairs = zip(description["members"], config.get("predictions_sha256", ()), strict=False)
    return {name: (Path("predictions.parquet"), checksum) for name, checksum in pairs}


def shipped() -> tuple[str, ...]:
    """Return the names of the models that ship, sorted; ``"ensemble"`` is the mean of several."""
    found = (path for path in SHIPPED.glob("[!.]*") if (path / WEIGHTS).is_file() or (path / ENSEMBLE).is_file())
    return tuple(sorted(path.name for path in found))


def read_card(path: Path) -> str:
    """Read ``model_card.md``; empty without one."""
    # People may write into it, in any editor.
    return (path / CARD).read_text(encoding="utf-8", errors="replace") if (path / CARD).is_file() else ""


def is_session_name(name: str, root: Path) -> bool:
    """Return True for the name of a training session, whatever folder of this name is in the working directory."""
    return name == Path(name).name and (root / paths.TRAINING / name).is_dir()


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
    if text.isdigit() or not folder.is_dir() or is_session_name(text, root):
        folder = root / text if paths.is_pretraining(text) else session
    if not folder.is_dir():
        ship = ", ".join(shipped()) or "none"
        raise EcgkitError(
            f"no model {text!r}: choose one that ships ({ship}), a training session of {root}, or a model folder"
        )
    if folder.parent.name in (paths.TRAINING, paths.PRETRAINING):
        Session(folder).check_finished()
    if not any((folder / name).is_file() for name in (WEIGHTS, ENSEMBLE, ONNX)):
        lacks = [str(name) for name in (WEIGHTS, THRESHOLDS, CALIBRATION) if not (folder / name).is_file()]
        raise EcgkitError(f"{folder} lacks {', '.join(lacks)}: choose a model folder or a training session with them")
    return folder


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that decides what a model answers; those of an ensemble's members as well.

    Parameters
    ----------
    folder : Path
        As from `find_folder`.

    Returns
    -------
    dict of str to str
        By the names of the files, with that of their folder for a member.
    """
    used = [folder / name for name in (WEIGHTS, ONNX, ENSEMBLE, THRESHOLDS, CALIBRATION, REFERENCE, LEAD_LOSSES)]
    found = {path.name: file_sha256(path) for path in used if path.is_file()}
    if ENSEMBLE in found:
        for member, place in read_ensemble(folder)[1].items():
            found |= {f"{member}/{name}": value for name, value in checksums(place).items()}
    return found
