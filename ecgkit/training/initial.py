"""Fine-tuning: a training that starts from trained weights instead of random ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecgkit.errors import EcgkitError
from ecgkit.inference.model_folder import ENSEMBLE, WEIGHTS, find_folder, shipped
from ecgkit.io import file_sha256
from ecgkit.stats.folds import TRAIN_FOLDS
from ecgkit.stats.identifiers import patient_codes

if TYPE_CHECKING:
    from ecgkit.datasets import Dataset
    from ecgkit.inference.weights import TrainedModel

OF_ARCHITECTURE = ("n_leads", "n_classes", "n_samples", "sampling_rate", "n_metadata")
"""Keywords of a network that are not options of its architecture."""

POOLING = "pooling"
"""The option that may differ from that of the weights, and the name of its layer."""


def initial_folder(name: str, root: Path) -> Path:
    """Return the folder of the weights to start from.

    Raises
    ------
    EcgkitError
        If there is no such model, it is not finished, or it has no weights of one network.
    """
    folder = find_folder(name, root)
    if (folder / ENSEMBLE).is_file() or not (folder / WEIGHTS).is_file():
        raise EcgkitError(f"init is {name}, which has no weights of one network: name one of its members")
    return folder


def read_initial(name: str) -> TrainedModel:
    """Read the weights to start from: a model that ships or an absolute folder, see `initial_folder`."""
    from ecgkit.inference.weights import load_weights

    return load_weights(initial_folder(name, Path()) / WEIGHTS)


def initial_settings(settings: dict[str, Any], manifest: dict[str, Any], root: Path) -> dict[str, Any]:
    """Complete the settings of a training by the architecture of the weights that it starts from.

    Parameters
    ----------
    settings : dict
        Settings of the user, ``init`` among them.
    manifest : dict
        Of the processed dataset.
    root : Path
        The folder of data sets and sessions.

    Returns
    -------
    dict
        With ``model``, ``model_options`` (with the user's ``pooling``), ``metadata`` and ``crop_seconds`` of the
        weights; ``init`` is a model that ships, or an absolute folder.

    Raises
    ------
    EcgkitError
        If a setting contradicts the weights, the dataset has another sampling rate, other filters or shorter records
        than they were trained with, or they have learned from patients in its fold 9 or 10.
    """
    from ecgkit.inference.weights import load_weights
    from ecgkit.training.lineage import check_unseen

    name = str(settings["init"])
    folder = initial_folder(name, root)
    trained = load_weights(folder / WEIGHTS)
    preparation, filters = trained.preparation, trained.preparation.filters.to_dict()
    if preparation.sampling_rate != manifest["sampling_rate"]:
        raise EcgkitError(
            f"{name} reads {preparation.sampling_rate} Hz and the dataset has {manifest['sampling_rate']} Hz: "
            f"preprocess the data with --rate {preparation.sampling_rate}"
        )
    if filters != manifest["filters"]:
        raise EcgkitError(f"{name} was trained with the filters {filters}: preprocess the data with the same")
    if preparation.n_samples > manifest["n_samples"]:
        raise EcgkitError(f"{name} reads {preparation.seconds:g} s, longer than the records: preprocess longer ones")
    check_unseen(name, folder, str(settings["dataset"]), root)
    model = f"{folder / 'weights' / trained.name}" if ".py:" in trained.name else trained.name
    pooling = {key: value for key, value in (settings.get("model_options") or {}).items() if key == POOLING}
    options = {key: value for key, value in trained.keywords.items() if key not in OF_ARCHITECTURE} | pooling
    of_weights = {
        "model": model,
        "model_options": options,
        "metadata": trained.scaler is not None,
        "crop_seconds": preparation.seconds if preparation.n_samples < manifest["n_samples"] else 0.0,
    }
    for key, value in of_weights.items():
        if settings.get(key) not in (None, value, *([pooling] if key == "model_options" else [])):
            raise EcgkitError(f"{key} is {settings[key]!r} and that of {name} is {value!r}: leave it out")
    if not of_weights["crop_seconds"]:
        of_weights["crops_per_record"] = 1
    return settings | of_weights | {"init": name if name in shipped() else str(folder)}


def start_from(new: TrainedModel, initial: TrainedModel | None, *, freeze: bool) -> None:
    """Copy trained weights into a new network; its last layer too, if classes and pooling are the same.

    Parameters
    ----------
    new : TrainedModel
        The new network, of the same architecture; changed in place.
    initial : TrainedModel or None
        The weights to start from; None for random ones, the control of a frozen network.
    freeze : bool
        Whether only the last layer is trained, and a pooling that the weights do not have.
    """
    own, head = new.model.state_dict(), head_names(new)
    state = initial.model.state_dict() if initial else {}
    kept = {name: value for name, value in state.items() if name in own and value.shape == own[name].shape}
    if not initial or new.classes != initial.classes or not head <= kept.keys():
        kept = {name: value for name, value in kept.items() if name not in head}
    new.model.load_state_dict(kept, strict=False)
    if freeze:
        for name, parameter in new.model.named_parameters():
            is_new_pooling = name.startswith(f"{POOLING}.") and name not in kept
            parameter.requires_grad = name in head or is_new_pooling


def head_names(trained: TrainedModel) -> set[str]:
    """Return the names of the tensors whose shape depends on the number of classes: the last layer."""
    import torch

    with torch.random.fork_rng(devices=[]):
        wider = type(trained.model)(**trained.keywords | {"n_classes": len(trained.classes) + 1})
    there = {name: tensor.shape for name, tensor in trained.model.state_dict().items()}
    return {name for name, tensor in wider.state_dict().items() if there.get(name) != tensor.shape}


def initial_sha256(name: str, root: Path) -> str:
    """Return the checksum of the weights to start from."""
    return file_sha256(initial_folder(name, root) / WEIGHTS)


def with_fraction(dataset: Dataset, fraction: float, seed: int) -> Dataset:
    """Keep a random part of the patients of folds 1-8, and all of the other folds.

    Parameters
    ----------
    dataset : Dataset
        Opened with labels or a target.
    fraction : float
        Share of the patients of folds 1-8, above 0 and up to 1.
    seed : int
        Decides which; a larger part contains a smaller one of the same seed.

    Returns
    -------
    Dataset
    """
    training = dataset.folds(*TRAIN_FOLDS)
    codes = patient_codes(dataset.records["patient_id"].iloc[training])
    order = np.random.default_rng(seed).permutation(codes.max() + 1)
    chosen = np.isin(codes, order[: max(1, round(fraction * len(order)))])
    return dataset.subset(np.setdiff1d(np.arange(len(dataset)), training[~chosen]))
