"""A trained model and its file: the tensors, and beside them all that is needed to use them on millivolts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray

from ecgkit._files import write_atomically
from ecgkit.errors import EcgkitError
from ecgkit.models import ECGModel, create_model
from ecgkit.store import Dataset
from ecgkit.training.config import TrainingConfig
from ecgkit.training.data import MetadataScaler, fit_metadata_scaler

FORMAT = "ecgkit-weights-1"


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
    """

    model: ECGModel
    name: str
    keywords: dict[str, Any]
    classes: tuple[str, ...]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    scaler: MetadataScaler | None

    @property
    def n_parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

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
        }
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        return write_atomically(path, safetensors.torch.save(tensors, facts))

    def untrained(self, seed: int) -> TrainedModel:
        """Give the same architecture with fresh weights, for a probe of what training adds."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = create_model(self.name, **self.keywords).eval()
        # Residual branches begin as zero, which helps training; a control whose branches are silent would be too weak.
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                torch.nn.init.ones_(module.weight)
        return TrainedModel(model, self.name, self.keywords, self.classes, self.mean, self.std, self.scaler)


def new_model(config: TrainingConfig, dataset: Dataset) -> TrainedModel:
    """Make the untrained model of a configuration for a dataset; its weights follow from ``config.seed``.

    Raises
    ------
    EcgkitError
        If the recipe gives the architecture a keyword that it does not have.
    """
    scaler = fit_metadata_scaler(dataset) if config.metadata else None
    keywords = {
        "n_leads": dataset.signals.shape[1],
        "n_classes": len(dataset.classes),
        "n_samples": dataset.n_samples,
        "sampling_rate": dataset.sampling_rate,
        "n_metadata": scaler.n_columns if scaler else 0,
        **config.model_options,
    }
    torch.manual_seed(config.seed)
    model = create_model(config.model, **keywords)
    return TrainedModel(model, config.model, keywords, dataset.classes, dataset.mean, dataset.std, scaler)


def load_weights(path: Path) -> TrainedModel:
    """Read a file that `TrainedModel.save` wrote.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` file.

    Returns
    -------
    TrainedModel
        In evaluation mode.

    Raises
    ------
    EcgkitError
        If the file is missing or damaged, was not written by ecgkit, or its tensors are not those of the architecture.
    """
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
    keywords = json.loads(facts["keywords"])
    model = create_model(facts["model"], **keywords)
    expected = model.state_dict().keys()
    if expected != tensors.keys():
        odd = sorted(expected ^ tensors.keys())[0]
        what = "lacks" if odd in expected else "has the surplus"
        raise EcgkitError(f"{path} {what} tensor {odd!r} of a {facts['model']}: it was written by another version")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise EcgkitError(f"{path} does not fit {facts['model']}: {' '.join(str(error).split())}") from error
    scaler = json.loads(facts["metadata_scaler"])
    return TrainedModel(
        model=model.eval(),
        name=facts["model"],
        keywords=keywords,
        classes=tuple(json.loads(facts["classes"])),
        mean=np.array(json.loads(facts["signal_mean_mv"]), np.float32),
        std=np.array(json.loads(facts["signal_std_mv"]), np.float32),
        scaler=MetadataScaler(**scaler) if scaler else None,
    )
