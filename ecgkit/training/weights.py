"""A trained model and its file: the tensors, and beside them all that is needed to use them on millivolts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.io import file_sha256, write_atomically
from ecgkit.models import ECGModel, create_model, is_user_file, locate
from ecgkit.models.user_file import check_model
from ecgkit.stats.folds import TRAIN_FOLDS
from ecgkit.training.config import TrainingConfig
from ecgkit.training.data import MetadataScaler, fit_metadata_scaler, input_samples
from ecgkit.training.targets import QUANTITIES

FORMAT = "ecgkit-weights-1"


@dataclass(frozen=True)
class TargetScale:
    """What the one output of a model for a quantity means: ``output * std + mean``, in its unit.

    Attributes
    ----------
    name : str
        ``"age"``, ``"height"`` or ``"weight"``.
    unit : str
        ``"years"``, ``"cm"`` or ``"kg"``.
    mean, std : float
        Of the known values in folds 1-8, in the unit.
    """

    name: str
    unit: str
    mean: float
    std: float


JSON_FACTS = ("keywords", "classes", "signal_mean_mv", "signal_std_mv", "metadata_scaler")


@dataclass(frozen=True)
class TrainedModel:
    """A model with what its input and output mean.

    Attributes
    ----------
    model : ECGModel
        The network.
    name : str
        Its name in the registry.
    keywords : dict
        What it was made with.
    classes : tuple of str
        One for each logit, in order.
    mean, std : ndarray of float32, shape (12,)
        Statistics of folds 1-8 in mV that standardise a signal.
    scaler : MetadataScaler or None
        Makes the metadata columns of a model that takes age and sex.
    target : TargetScale or None
        The quantity that the output means; None for one logit per class.
    sha256 : str
        Checksum of a user's own file, which lies next to the weights; empty for a registered model.
    """

    model: ECGModel
    name: str
    keywords: dict[str, Any]
    classes: tuple[str, ...]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    scaler: MetadataScaler | None
    target: TargetScale | None = None
    sha256: str = ""

    @property
    def sampling_rate(self) -> int:
        """The sampling rate that the model was made for, in Hz."""
        return int(self.keywords["sampling_rate"])

    @property
    def n_parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def predict(self, signal: Tensor, metadata: Tensor | None) -> Tensor:
        """Predict the probability of each class, uncalibrated, or the value of a quantity in its unit."""
        outputs = self.model(signal, metadata)
        return outputs * self.target.std + self.target.mean if self.target else outputs.sigmoid()

    def save(self, path: Path) -> Path:
        """Write the model to a safetensors file, whole or not at all."""
        facts = {
            "format": FORMAT,
            "model": self.name,
            "keywords": json.dumps(self.keywords),
            "classes": json.dumps(self.classes),
            "signal_mean_mv": json.dumps([float(value) for value in self.mean]),
            "signal_std_mv": json.dumps([float(value) for value in self.std]),
            "metadata_scaler": json.dumps(asdict(self.scaler) if self.scaler else None),
            "target": json.dumps(asdict(self.target) if self.target else None),
            "model_sha256": self.sha256,
        }
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        return write_atomically(path, safetensors.torch.save(tensors, facts))

    def untrained(self, seed: int) -> TrainedModel:
        """Give the same architecture with fresh weights, for a probe of what training adds."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = type(self.model)(**self.keywords).eval()
        # Residual branches begin as zero, which helps training; a control whose branches are silent would be too weak.
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                torch.nn.init.ones_(module.weight)
        return replace(self, model=model)


def new_model(config: TrainingConfig, dataset: Dataset) -> TrainedModel:
    """Make the untrained model of a configuration for a dataset; its weights follow from ``config.seed``.

    Raises
    ------
    EcgkitError
        If the recipe gives the architecture a keyword that it does not have, or crops are longer than a record.
    """
    scaler = fit_metadata_scaler(dataset) if config.metadata else None
    keywords = {
        "n_leads": dataset.signals.shape[1],
        "n_classes": len(dataset.classes),
        "n_samples": input_samples(config, dataset),
        "sampling_rate": dataset.sampling_rate,
        "n_metadata": scaler.n_columns if scaler else 0,
        **config.model_options,
    }
    torch.manual_seed(config.seed)
    model = create_model(config.model, **keywords)
    name, sha256 = config.model, ""
    if is_user_file(config.model):
        check_model(model)
        file, class_name = locate(config.model)
        name, sha256 = f"{file.name}:{class_name}", file_sha256(file)
    target = fit_target_scale(config.target, dataset)
    return TrainedModel(model, name, keywords, dataset.classes, dataset.mean, dataset.std, scaler, target, sha256)


def fit_target_scale(target: str, dataset: Dataset) -> TargetScale | None:
    """Compute mean and standard deviation of a quantity over folds 1-8; None for any other target."""
    if target not in QUANTITIES:
        return None
    values = dataset.labels[target].to_numpy(np.float64)[dataset.folds(*TRAIN_FOLDS)]
    return TargetScale(target, QUANTITIES[target].unit, float(values.mean()), float(values.std()) or 1.0)


def load_weights(
    path: Path, *, classes: Sequence[str] | None = None, sampling_rate: float | None = None
) -> TrainedModel:
    """Read a file that `TrainedModel.save` wrote.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` file.
    classes : sequence of str, optional
        The classes that the model must have, in this order.
    sampling_rate : float, optional
        The sampling rate, in Hz, that it must have been made for.

    Returns
    -------
    TrainedModel
        In evaluation mode.

    Raises
    ------
    EcgkitError
        If the file is missing or damaged, was not written by ecgkit, its tensors are not exactly those of the
        architecture in name, shape and type, or classes or sampling rate are others than those given. The message says
        which.
    """
    facts, tensors = _read(path)
    said = _decode(path, facts)
    sha256 = facts.get("model_sha256", "")
    model = create_model(facts["model"], folder=path.parent, sha256=sha256, **said["keywords"])
    _check_tensors(path, facts["model"], model.state_dict(), tensors)
    model.load_state_dict(tensors)
    trained = TrainedModel(
        model=model.eval(),
        name=facts["model"],
        keywords=said["keywords"],
        classes=tuple(said["classes"]),
        mean=np.array(said["signal_mean_mv"], np.float32),
        std=np.array(said["signal_std_mv"], np.float32),
        scaler=said["metadata_scaler"],
        target=said["target"],
        sha256=sha256,
    )
    check_made_for(f"the model in {path}", trained, classes=classes, sampling_rate=sampling_rate)
    return trained


class MadeFor(Protocol):
    """What a model is asked for before it is used."""

    @property
    def classes(self) -> tuple[str, ...]:
        """One for each output, in order."""

    @property
    def sampling_rate(self) -> float:
        """In Hz."""


def check_made_for(
    what: str, model: MadeFor, *, classes: Sequence[str] | None = None, sampling_rate: float | None = None
) -> None:
    """Check that a model was made for certain classes and a certain sampling rate; None asks for nothing.

    Parameters
    ----------
    what : str
        What the message calls the model.
    model : MadeFor
        The model.
    classes : sequence of str, optional
        In order.
    sampling_rate : float, optional
        In Hz.

    Raises
    ------
    EcgkitError
        Naming what differs.
    """
    if classes is not None and (difference := _other_classes(tuple(model.classes), tuple(classes))):
        asked, has = ", ".join(classes), ", ".join(model.classes)
        raise EcgkitError(f"{what} has the classes {has}, not {asked} ({difference}): give a model made for these")
    if sampling_rate is not None and model.sampling_rate != sampling_rate:
        raise EcgkitError(
            f"{what} was made for a sampling rate of {model.sampling_rate:g} Hz, not of {sampling_rate:g} Hz: "
            "give a model made for that rate"
        )


def _other_classes(has: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    """Say how the classes of a model differ from those that are wanted; empty if they do not."""
    lacking = [name for name in wanted if name not in has]
    surplus = [name for name in has if name not in wanted]
    words = [f"it lacks {', '.join(lacking)}"] * bool(lacking) + [f"it also has {', '.join(surplus)}"] * bool(surplus)
    return " and ".join(words) or ("in another order" if has != wanted else "")


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the facts and the tensors of a file."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file, not a dict
    except (OSError, safetensors.SafetensorError) as error:
        raise EcgkitError(f"cannot read the weights {path}: {error}; train the model again") from error
    if facts.get("format") != FORMAT:
        raise EcgkitError(
            f"{path} does not hold weights of ecgkit (its format is {facts.get('format')!r}, not {FORMAT!r})"
        )
    return facts, tensors


def _decode(path: Path, facts: dict[str, str]) -> dict[str, Any]:
    """Decode the facts of a file, and check that classes and statistics are as many as the architecture's outputs."""
    try:
        said = {name: json.loads(facts[name]) for name in JSON_FACTS} | {"model": facts["model"]}
        scaler = said["metadata_scaler"]
        said["metadata_scaler"] = MetadataScaler(**scaler) if scaler else None
        target = json.loads(facts.get("target", "null"))
        said["target"] = TargetScale(**target) if target else None
        counts = {
            "classes": (len(said["classes"]), said["keywords"]["n_classes"]),
            "signal_mean_mv": (len(said["signal_mean_mv"]), said["keywords"]["n_leads"]),
            "signal_std_mv": (len(said["signal_std_mv"]), said["keywords"]["n_leads"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise EcgkitError(
            f"{path} says too little of its model ({error!r}): it was written by another version"
        ) from error
    for name, (found, expected) in counts.items():
        if found != expected:
            raise EcgkitError(f"{path} has {found} {name} for a model of {expected}: it was written by another version")
    return said


def _check_tensors(path: Path, name: str, expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Check that a file holds the tensors of an architecture, no other ones, each of its own shape and type."""
    for verb, names in (
        ("lacks", expected.keys() - found.keys()),
        ("has the surplus", found.keys() - expected.keys()),
    ):
        if names:
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise EcgkitError(
                f"{path} {verb} tensor {min(names)!r}{others} of a {name}: it was written by another version"
            )
    for key, tensor in expected.items():
        pairs = {"shape": (tuple(found[key].shape), tuple(tensor.shape)), "type": (found[key].dtype, tensor.dtype)}
        for what, (is_there, needed) in pairs.items():
            if is_there != needed:
                raise EcgkitError(
                    f"{path}: tensor {key!r} of a {name} has the {what} {is_there}, not {needed}: it was written by "
                    "another version"
                )
