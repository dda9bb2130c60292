"""A look into a training session, from the parameters of a notebook to the embeddings that it takes."""

from __future__ import annotations

import hashlib
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgkit import paths, sessions
from ecgkit._files import write_atomically
from ecgkit.errors import EcgkitError, check_types
from ecgkit.models.kernels import backend
from ecgkit.sessions import NEW, Session
from ecgkit.store import Dataset
from ecgkit.training import TrainedSession, embed, open_trained

NOTEBOOK = "3_Feature_Space.ipynb"


@dataclass(frozen=True)
class FeatureSpaceConfig:
    """Every parameter of a look into the feature space.

    Attributes
    ----------
    training_session : str
        Name of the training session.
    clusters : int
        Number of clusters.
    neighbours : int
        Neighbours that UMAP keeps a record close to.
    seed : int
        Of clusters, maps, splits of the probes, and the untrained encoder.

    Raises
    ------
    EcgkitError
        If a value does not fit.
    """

    training_session: str
    clusters: int
    neighbours: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        for name, least in {"clusters": 2, "neighbours": 2, "seed": 0}.items():
            if getattr(self, name) < least:
                raise EcgkitError(f"{name} is {getattr(self, name)}: give {least} or more")


@dataclass(frozen=True)
class FeatureSpacePlan:
    """What is going to be looked into.

    Attributes
    ----------
    config : FeatureSpaceConfig
        Every parameter, as resolved.
    source : TrainedSession
        The training session, opened.
    """

    config: FeatureSpaceConfig
    source: TrainedSession

    @property
    def recorded(self) -> dict[str, Any]:
        """What ``config.json`` holds: the parameters, the weights' checksum and the dataset's fingerprint."""
        weights = (self.source.session.path / "weights" / "best.safetensors").read_bytes()
        facts = {
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "dataset_fingerprint": self.source.dataset.fingerprint,
        }
        return asdict(self.config) | facts


@dataclass(frozen=True)
class FeatureSpaceRun:
    """A plan with the probe session that it runs in.

    Attributes
    ----------
    session : Session
        The probe session's folder.
    plan : FeatureSpacePlan
        What is looked into.
    """

    session: Session
    plan: FeatureSpacePlan

    @property
    def config(self) -> FeatureSpaceConfig:
        """Every parameter."""
        return self.plan.config

    @property
    def dataset(self) -> Dataset:
        """The dataset of the training, with its labels."""
        return self.plan.source.dataset

    def embeddings(self, *, trained: bool = True) -> NDArray[np.float32]:
        """Give the embedding of every record of the dataset, from a file if the session has it already.

        Parameters
        ----------
        trained : bool, default True
            Of the trained encoder, or else of one of the same architecture with fresh weights.

        Returns
        -------
        ndarray of float32, shape (records, features)
            The rows as in ``dataset.records``.
        """
        path = self.session.path / "embeddings" / ("trained.npy" if trained else "untrained.npy")
        if path.is_file():
            return np.load(path)
        encoder = self.plan.source.trained if trained else self.plan.source.trained.untrained(self.config.seed)
        values = embed(encoder, self.dataset, np.arange(len(self.dataset)))
        data = io.BytesIO()
        np.save(data, values)
        write_atomically(path, data.getvalue())
        if trained:
            ids = self.dataset.records[["record_id", "patient_id", "fold"]]
            self.session.write_table("embeddings/records.parquet", ids)
        return values


def plan(*, root: Path, training_session: str, clusters: int | None = None, **settings: Any) -> FeatureSpacePlan:
    """Resolve the parameters and open the training session, without writing anything.

    Parameters
    ----------
    root : Path
        The folder that holds data sets and sessions.
    training_session : str
        Name of a finished training session, or ``"latest"``.
    clusters : int, optional
        Number of clusters; None means the number of classes.
    **settings
        Other fields of `FeatureSpaceConfig`.

    Returns
    -------
    FeatureSpacePlan

    Raises
    ------
    EcgkitError
        If the session is missing or not finished, its dataset has changed, or a value does not fit.
    """
    opened = open_trained(sessions.open_finished(training_session, paths.TRAINING, root), root)
    number = clusters if clusters is not None else max(2, len(opened.dataset.classes))
    return FeatureSpacePlan(FeatureSpaceConfig(opened.session.name, number, **settings), opened)


def begin(*, root: Path, session: str = NEW, **parameters: Any) -> FeatureSpaceRun:
    """Begin a probe session, or go on with one that was cut off.

    Parameters
    ----------
    root : Path
        The folder that holds data sets and sessions.
    session : str, default "new"
        ``"new"``, or the name of an unfinished probe session.
    **parameters
        As of `plan`.

    Returns
    -------
    FeatureSpaceRun

    Raises
    ------
    EcgkitError
        As `plan` does, or if the probe session does not fit what is asked.
    """
    planned = plan(root=root, **parameters)
    begun = sessions.begin(
        paths.PROBES,
        root,
        config=planned.recorded,
        notebook=paths.notebook_path(NOTEBOOK),
        session=session,
        kernel_backend=backend(),
    )
    return FeatureSpaceRun(begun, planned)
