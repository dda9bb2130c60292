"""A trained model and its file: the tensors, and in the header everything that is needed to use them on millivolts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgkit.errors import EcgkitError
from ecgkit.inference.matching import check_made_for
from ecgkit.inference.metadata import MetadataScaler, TargetScale
from ecgkit.inference.tensor_file import read_tensors, tensor_bytes
from ecgkit.io import write_atomically
from ecgkit.models import ECGModel, create_model
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.prepare import Preparation

FORMAT = "ecgkit-weights-3"


@dataclass(frozen=True)
class TrainedModel:
    """A network with the meaning of its input and output.

    Attributes
    ----------
    model : ECGModel
        The network.
    name : str
        Its name in the registry, or ``"FILE.py:CLASS"``.
    keywords : dict
        What it was made with.
    classes : tuple of str
        One per logit, in order.
    label_set : str
        The label set of the classes; empty if there is none.
    preparation : Preparation
        How a signal is prepared for the network.
    scaler : MetadataScaler or None
        Scales age and sex, for a model that reads them.
    target : TargetScale or None
        The quantity, of a model that was trained for one.
    sha256 : str
        Checksum of a user's file with the architecture, which lies next to the weights; empty for a registered one.
    bfloat16_auc_change : float or None
        By how much the macro AUC on fold 9 differs in bfloat16, where it was measured.
    """

    model: ECGModel
    name: str
    keywords: dict[str, Any]
    classes: tuple[str, ...]
    label_set: str
    preparation: Preparation
    scaler: MetadataScaler | None = None
    target: TargetScale | None = None
    sha256: str = ""
    bfloat16_auc_change: float | None = None

    @property
    def sampling_rate(self) -> int:
        """The sampling rate that the network reads, in Hz."""
        return self.preparation.sampling_rate

    @property
    def n_samples(self) -> int:
        """The samples per lead that the network reads at once."""
        return self.preparation.n_samples

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean of each lead over the training folds, in mV."""
        return self.preparation.mean

    @property
    def std(self) -> NDArray[np.float32]:
        """Standard deviation of each lead over the training folds, in mV."""
        return self.preparation.std

    @property
    def n_parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def predict(self, signal: Tensor, metadata: Tensor | None) -> Tensor:
        """Return the uncalibrated probability of each class, or the value of a quantity in its unit."""
        return self._scaled(self.model(signal, metadata))

    def predict_with_features(self, signal: Tensor, metadata: Tensor | None) -> Tensor:
        """Return what `predict` returns and, in further columns, the features of the signal."""
        features = self.model.embed(signal)
        return torch.cat([self._scaled(self.model.classify(features, metadata)), features.float()], dim=1)

    def _scaled(self, output: Tensor) -> Tensor:
        """Return probabilities of logits, or a quantity in its unit."""
        output = output.float()
        return output * self.target.std + self.target.mean if self.target else output.sigmoid()

    def save(self, path: Path) -> Path:
        """Write the model to a safetensors file, completely or not at all."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        return write_atomically(path, tensor_bytes(tensors, self.header()))

    def header(self) -> dict[str, str]:
        """Return everything but the tensors and the checksum, each value as JSON."""
        facts = {
            "model": self.name,
            "model_sha256": self.sha256,
            "keywords": self.keywords,
            "classes": self.classes,
            "label_set": self.label_set,
            "leads": LEADS,
            "units": "mV",
            "preparation": self.preparation.to_dict(),
            "metadata_scaler": asdict(self.scaler) if self.scaler else None,
            "target": asdict(self.target) if self.target else None,
            "bfloat16_auc_change": self.bfloat16_auc_change,
        }
        return {"format": FORMAT} | {name: json.dumps(value) for name, value in facts.items()}

    def untrained(self, seed: int) -> TrainedModel:
        """Return the same architecture with new random weights, for a probe of what training adds."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = type(self.model)(**self.keywords).eval()
        # Residual branches begin as zero, which helps training; a control whose branches are silent would be too weak.
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                torch.nn.init.ones_(module.weight)
        return replace(self, model=model)


def load_weights(
    path: str | Path, *, classes: Sequence[str] | None = None, sampling_rate: float | None = None, model: str = ""
) -> TrainedModel:
    """Read a file that `TrainedModel.save` wrote.

    Parameters
    ----------
    path : str or Path
        A ``.safetensors`` file.
    classes : sequence of str, optional
        The classes that the model must have, in this order.
    sampling_rate : float, optional
        The sampling rate, in Hz, that it must have been made for.
    model : str, optional
        ``"FILE.py:CLASS"``, another place of the architecture than the one in the header.

    Returns
    -------
    TrainedModel
        In evaluation mode.

    Raises
    ------
    EcgkitError
        If the file is missing, damaged, not written by this version of ecgkit, its tensors are not finite or differ
        from those of the architecture in name, shape or type, or classes or sampling rate differ from the arguments.
    """
    path = Path(path)
    facts, tensors = read_tensors(path, FORMAT)
    trained = _build(path, facts, model)
    _check_tensors(path, trained.name, trained.model.state_dict(), tensors)
    trained.model.load_state_dict(tensors)
    check_made_for(f"the model in {path}", trained, classes=classes, sampling_rate=sampling_rate)
    return trained


def _build(path: Path, facts: dict[str, Any], model: str) -> TrainedModel:
    """Make the model that a header describes, without its weights."""
    try:
        preparation = Preparation.from_dict(facts["preparation"])
        expected = {
            "classes": (len(facts["classes"]), facts["keywords"]["n_classes"]),
            "means of leads": (len(preparation.mean), facts["keywords"]["n_leads"]),
            "standard deviations of leads": (len(preparation.std), facts["keywords"]["n_leads"]),
        }
        for name, (found, wanted) in expected.items():
            if found != wanted:
                raise ValueError(f"{found} {name} for a model of {wanted}")
        name, keywords = facts["model"], facts["keywords"]
        return TrainedModel(
            model=_create(path, facts, model).eval(),
            name=name,
            keywords=keywords,
            classes=tuple(facts["classes"]),
            label_set=facts["label_set"],
            preparation=preparation,
            scaler=MetadataScaler(**facts["metadata_scaler"]) if facts["metadata_scaler"] else None,
            target=TargetScale(**facts["target"]) if facts["target"] else None,
            sha256=facts["model_sha256"],
            bfloat16_auc_change=facts["bfloat16_auc_change"],
        )
    except EcgkitError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise EcgkitError(f"the header of {path} is of another version ({error!r}): train the model again") from error


def _create(path: Path, facts: dict[str, Any], model: str) -> ECGModel:
    """Create the network of a header; a user's file lies next to the weights, unless it is given."""
    if model:
        return create_model(model, **facts["keywords"])
    sha256 = facts["model_sha256"] or None
    return create_model(facts["model"], folder=path.parent, sha256=sha256, **facts["keywords"])


def _check_tensors(path: Path, name: str, expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Check that a file contains the tensors of an architecture and no others, each of its shape and type."""
    problem = ""
    if lacking := sorted(expected.keys() - found.keys()):
        problem = f"lacks {len(lacking)} tensors such as {lacking[0]!r}"
    elif surplus := sorted(found.keys() - expected.keys()):
        problem = f"has {len(surplus)} surplus tensors such as {surplus[0]!r}"
    else:
        for key, tensor in expected.items():
            pairs = ((tuple(found[key].shape), tuple(tensor.shape)), (found[key].dtype, tensor.dtype))
            for is_there, needed in pairs:
                if is_there != needed:
                    problem = f"has tensor {key!r} as {is_there}, not {needed}"
    if problem:
        raise EcgkitError(f"{path} {problem}, unlike the {name} of this version: train the model again")
