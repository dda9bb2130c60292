"""Finding and loading a model by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ecgkit import paths
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.inference.batches import BACKENDS, PRECISIONS, default_device, has_bfloat16
from ecgkit.inference.matching import check_made_for
from ecgkit.inference.missing_leads import read_lead_losses
from ecgkit.inference.model_folder import (
    CALIBRATION,
    ENSEMBLE,
    ONNX,
    THRESHOLDS,
    WAY_OUT,
    WEIGHTS,
    ModelFolder,
    find_folder,
    read_card,
    read_decisions,
    read_ensemble,
    read_model,
    shipped,
)
from ecgkit.inference.predictor import EnsemblePredictor, NetworkPredictor, Predictor, QuantityPredictor
from ecgkit.sessions.folder import DONE

if TYPE_CHECKING:
    from ecgkit.inference.weights import TrainedModel

AUTO = "auto"
LARGEST_CHANGE = 0.0005
"""By at most so much may the macro AUC on fold 9 differ in bfloat16 for ``precision="auto"`` to use it."""

OWN_MODEL = re.compile(r"(?P<model>.+\.py:\w+)\s+(?P<weights>.+)")


def load_model(
    name: str | int | Path,
    *,
    root: str | Path | None = None,
    classes: Sequence[str] | None = None,
    sampling_rate: float | None = None,
    precision: str = "float32",
    backend: str = "auto",
) -> Predictor:
    """Load a trained model, ready to predict.

    A model folder or session with a user's own architecture holds its ``.py`` file, and opening it runs that file.

    Parameters
    ----------
    name : str, int or Path
        A model that ships, such as ``"xlstm"``, or ``"ensemble"``, the mean of several; a finished training session,
        such as ``"session_3"`` or 3, an ensemble included; a model folder, such as ``ecgkit export-model`` writes; or
        ``"FILE.py:CLASS WEIGHTS"``, weights of an architecture of your own.
    root : str or Path, optional
        The folder that contains the folder of training sessions; by default the project's.
    classes : sequence of str, optional
        The classes that the model must have, in this order.
    sampling_rate : float, optional
        The sampling rate, in Hz, that the model must have been made for. Signals of any rate are resampled to the
        model's own; give this where that is not wanted.
    precision : {"float32", "bfloat16", "auto"}, default "float32"
        bfloat16 is faster where the hardware has it, and changes probabilities in the third digit. ``"auto"`` uses it
        there for a model whose macro AUC on fold 9 it was shown to change by less than 0.0005.
    backend : {"auto", "torch", "onnx"}
        ``"onnx"`` runs a folder of ``ecgkit export-model --format onnx`` in ONNX Runtime, in float32 and without torch;
        ``"auto"`` does so where the folder has no weights.

    Returns
    -------
    Predictor
        With ``classes``, ``thresholds``, ``predict_proba``, ``predict`` and ``embed``.

    Raises
    ------
    EcgkitError
        If there is no such model, it is not finished, a file is missing, damaged or of another version, or classes or
        sampling rate differ from the arguments.
    """
    check_choice("precision", precision, (*PRECISIONS, AUTO))
    check_choice("backend", backend, BACKENDS)
    own = OWN_MODEL.fullmatch(str(name))
    if own:
        predictor = _load_own(own["model"], Path(own["weights"]).expanduser(), precision)
    else:
        folder = find_folder(name, paths.resolve_root(root))
        predictor = _open_onnx(folder, precision) if _is_onnx(folder, backend) else _open(folder, precision)
        predictor.lead_losses = read_lead_losses(folder, way_out=WAY_OUT)
    check_made_for(f"the model {predictor.name}", predictor, classes=classes, sampling_rate=sampling_rate)
    return predictor


def list_models(root: str | Path | None = None) -> list[str]:
    """Return the names that `load_model` takes: the models that ship, then the finished training sessions.

    Parameters
    ----------
    root : str or Path, optional
        The folder that contains the folder of training sessions; by default the project's.

    Returns
    -------
    list of str
    """
    finished = (paths.resolve_root(root) / paths.TRAINING).glob(f"session_*/{DONE}")
    names = [path.parent.name for path in finished]
    return [*shipped(), *sorted(names, key=lambda name: (len(name), name))]


def _is_onnx(folder: Path, backend: str) -> bool:
    """Choose the backend for a folder, and refuse one that the folder has no file for."""
    has_graph = (folder / ONNX).is_file()
    has_weights = (folder / WEIGHTS).is_file() or (folder / ENSEMBLE).is_file()
    if backend == "onnx" and not has_graph:
        raise EcgkitError(
            f"{folder.name} has no {ONNX}: make a folder with one by ecgkit export-model {folder.name} --format onnx"
        )
    if backend == "torch" and not has_weights:
        raise EcgkitError(f"{folder.name} has no weights: choose backend onnx")
    return backend == "onnx" or not has_weights


def _open_onnx(folder: Path, precision: str) -> Predictor:
    """Open an ONNX graph."""
    from ecgkit.inference.onnx_model import OnnxPredictor

    if precision == "bfloat16":
        raise EcgkitError(f"{folder.name} is an ONNX graph in float32: choose precision float32 or auto")
    return OnnxPredictor(folder)


def _open(folder: Path, precision: str) -> Predictor:
    """Open a model folder, or an ensemble with the sessions next to it."""
    if (folder / ENSEMBLE).is_file():
        description, found = read_ensemble(folder)
        members: dict[str, Predictor] = {}
        for name, place in found.items():
            members[name] = _network(read_model(place), precision)
            check_made_for(f"the member {name} of {folder.name}", members[name], classes=description["classes"])
        decisions, card = read_decisions(folder), read_card(folder)
        return EnsemblePredictor(folder.name, description, members, decisions=decisions, card=card)
    return _network(read_model(folder), precision)


def _network(folder: ModelFolder, precision: str) -> Predictor:
    kind = QuantityPredictor if folder.trained.target else NetworkPredictor
    return kind(folder, precision=choose_precision(folder.trained, precision))


def choose_precision(trained: TrainedModel, precision: str) -> str:
    """Resolve ``"auto"`` for a model and this machine."""
    if precision != AUTO:
        return precision
    change = trained.bfloat16_auc_change
    is_safe = change is not None and abs(change) < LARGEST_CHANGE
    return "bfloat16" if is_safe and has_bfloat16(default_device()) else "float32"


def _load_own(model: str, weights: Path, precision: str) -> Predictor:
    """Load weights of a user's architecture; those of no model folder are uncalibrated and decided at 0.5."""
    weights = weights.absolute()
    folder = weights.parent.parent
    if weights == folder / WEIGHTS and (folder / THRESHOLDS).is_file() and (folder / CALIBRATION).is_file():
        return _network(read_model(folder, model=model), precision)
    if not weights.is_file():
        raise EcgkitError(f"no weights {weights}: give the file after {model}")
    from ecgkit.inference.weights import load_weights

    trained = load_weights(weights, model=model)
    thresholds = {"of": "calibrated", "thresholds": dict.fromkeys(trained.classes, 0.5)}
    calibration = {"classes": {name: {"method": "identity"} for name in trained.classes}}
    return _network(ModelFolder(weights, trained, thresholds, calibration, ""), precision)
