"""A look into a training session, from the parameters of a notebook to the vectors that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ecgkit import paths, sessions
from ecgkit.datasets import Dataset, open_dataset
from ecgkit.errors import EcgkitError, check_types
from ecgkit.feature_space.embeddings import (
    ALL_LAYERS,
    FOLDER,
    Embeddings,
    epoch_weights,
    positions_of,
    read_vectors,
    session_embeddings,
)
from ecgkit.feature_space.epochs import read_probed_epochs
from ecgkit.feature_space.layers import EMBEDDING
from ecgkit.feature_space.parallel import dataset_measurements
from ecgkit.feature_space.probes.targets import TARGETS
from ecgkit.feature_space.supervised import read_supervised
from ecgkit.io import file_sha256
from ecgkit.models.kernels import backend
from ecgkit.sessions import NEW, Session
from ecgkit.stats.folds import TEST_FOLD, TRAIN_FOLDS
from ecgkit.training import TrainedSession, open_trained

NOTEBOOK = "3_Feature_Space.ipynb"
MAX_CLUSTERS = 12
"""So many clusters are made of many classes, if no number is asked for."""

MAX_UNTRAINED = 5
"""So many untrained encoders stand beside the trained one, if they have been embedded."""


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
        Of clusters, maps, splits of the probes, and the first untrained encoder.
    vectors : str
        A ``.npy`` file of another program's vectors, which are looked into instead of the session's embeddings; empty
        for the session's own. The session then gives the records and their labels.

    Raises
    ------
    EcgkitError
        If a value does not fit.
    """

    training_session: str
    clusters: int
    neighbours: int = 15
    seed: int = 0
    vectors: str = ""

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
    vectors : Embeddings or None
        Vectors of another program, instead of the session's embeddings.
    """

    config: FeatureSpaceConfig
    source: TrainedSession
    vectors: Embeddings | None = None

    @property
    def recorded(self) -> dict[str, Any]:
        """What ``config.json`` holds: the parameters, the checksums of what is read, the dataset's fingerprint."""
        weights = self.source.session.best_weights
        facts = {"weights_sha256": file_sha256(weights), "dataset_fingerprint": self.source.dataset.fingerprint}
        if self.vectors is not None:
            facts["vectors_sha256"] = file_sha256(self.vectors.path)
        return asdict(self.config) | facts | {"read": self._slow_results()}

    def _slow_results(self) -> list[str]:
        """Name what slow commands have left for the notebook, so that a run after them is another run."""
        folder = self.source.session.path
        patterns = (f"{FOLDER}/untrained_*/{EMBEDDING}.json", "supervised/*/DONE", "probed_epochs.json")
        found = [path for pattern in patterns for path in folder.glob(pattern)]
        names = {path.parent.name if path.parent != folder else path.stem for path in found}
        return sorted(names - {f"untrained_{self.config.seed}"})  # which the notebook itself leaves


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

    @property
    def name(self) -> str:
        """What is looked into, for titles: a session's network, or the file of foreign vectors."""
        if self.plan.vectors is not None:
            return self.plan.vectors.path.name
        return f"{self.plan.source.config.model}, {self.plan.source.session.name}"

    @cached_property
    def _rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The records of the dataset that are looked at, and the rows of their vectors."""
        if self.plan.vectors is None:
            everything = np.arange(len(self.dataset))
            return everything, everything
        return positions_of(self.plan.vectors, self.dataset.records)

    @property
    def positions(self) -> NDArray[np.int64]:
        """Where in the dataset the records that are looked at lie: all of them, or those with a foreign vector."""
        return self._rows[0]

    @cached_property
    def records(self) -> pd.DataFrame:
        """The records that are looked at, index 0 to n - 1."""
        return self.dataset.records.iloc[self.positions].reset_index(drop=True)

    @cached_property
    def labels(self) -> pd.DataFrame:
        """Their labels, in the same order."""
        return self.dataset.labels.iloc[self.positions].reset_index(drop=True)

    def embeddings(self) -> NDArray[np.float32]:
        """Give the vectors of the records, ``(records, features)``: the session's embeddings, or those brought in."""
        if self.plan.vectors is not None:
            return self.plan.vectors.vectors[self._rows[1]]
        return self.layers()[EMBEDDING]

    def layers(self, *, trained: bool = True) -> dict[str, NDArray[np.float32]]:
        """Give what each layer says of the records, in the network's order; nothing for foreign vectors.

        Parameters
        ----------
        trained : bool, default True
            Of the trained encoder, or else of one with fresh weights.

        Returns
        -------
        dict of str to ndarray of float32, shape (records, features)
        """
        if self.plan.vectors is not None:
            return {}
        encoder = "trained" if trained else f"untrained_{self.config.seed}"
        found = session_embeddings(self.plan.source, [ALL_LAYERS], encoder=encoder)
        return {name: one.vectors for name, one in found.items()}

    def untrained(self) -> list[NDArray[np.float32]]:
        """Give the embeddings of encoders with fresh weights, one array a seed; none for foreign vectors.

        The first is made if it is not there; others, up to five, are read where ``ecgkit embed`` has left them.
        """
        if self.plan.vectors is not None:
            return []
        first = f"untrained_{self.config.seed}"
        folder = self.plan.source.session.path / FOLDER
        others = sorted(path.parent.name for path in folder.glob(f"untrained_*/{EMBEDDING}.json"))
        names = [first, *(name for name in others if name != first)][:MAX_UNTRAINED]
        return [session_embeddings(self.plan.source, encoder=name)[EMBEDDING].vectors for name in names]

    def measures(self) -> pd.DataFrame:
        """Give simple measures of each ECG, as `dataset_measurements`; made once for a dataset."""
        return dataset_measurements(self.dataset).iloc[self.positions].reset_index(drop=True)

    def supervised(self) -> dict[str, pd.DataFrame]:
        """Give what networks trained for age, sex, height or weight predict, where ``ecgkit supervise`` was run."""
        if self.plan.vectors is not None:
            return {}
        tables = {target.name: read_supervised(self.plan.source, target.name) for target in TARGETS}
        return {name: table for name, table in tables.items() if table is not None}

    def epochs(self) -> pd.DataFrame | None:
        """Give the probes of a training's epochs, where ``ecgkit probe-epochs`` was run; None where not."""
        return None if self.plan.vectors is not None else read_probed_epochs(self.plan.source)

    @property
    def kept_epochs(self) -> int:
        """How many epochs' weights the training session kept."""
        return len(epoch_weights(self.plan.source.session))

    def predictions(self) -> pd.DataFrame:
        """Give the session's ``predictions.parquet`` for folds 9 and 10."""
        return pd.read_parquet(self.plan.source.session.path / "predictions.parquet")

    def thresholds(self) -> dict[str, float]:
        """Give the session's thresholds, from fold 9, by class."""
        return self.plan.source.session.read_json("thresholds.json")["thresholds"]

    def head(self) -> Callable[[NDArray[np.floating]], NDArray[np.float64]] | None:
        """Give what turns embeddings into logits, ``(records, classes)``; None for foreign vectors.

        None as well for a network that is told age and sex: its head reads more than the embedding.
        """
        model = self.plan.source.trained.model
        if self.plan.vectors is not None or model.n_metadata:
            return None

        def logits(embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
            with torch.inference_mode():
                features = model.cpu().hidden(torch.from_numpy(np.asarray(embeddings, dtype=np.float32)))
                return model.head(features).double().numpy()

        return logits

    def signals(self, positions: NDArray[np.integer]) -> list[NDArray[np.float32]]:
        """Give the ECGs of some of the records, in mV, each ``(12, samples)``."""
        return [self.dataset.signal(int(self.positions[i])) for i in positions]

    def label_set(self, name: str) -> pd.DataFrame | None:
        """Give the labels of another set for the same records, all false where a record has none; None without it."""
        if not (self.dataset.path / "labels" / f"{name}.parquet").is_file():
            return None
        other = open_dataset(self.dataset.path, label_set=name)
        labels = other.labels.set_axis(other.records["record_id"], axis=0)
        return labels.reindex(self.records["record_id"], fill_value=False).reset_index(drop=True)


def plan(
    *, root: Path, training_session: str, clusters: int | None = None, vectors: str | None = None, **settings: Any
) -> FeatureSpacePlan:
    """Resolve the parameters and open the training session, without writing anything.

    Parameters
    ----------
    root : Path
        The folder that holds data sets and sessions.
    training_session : str
        Name of a finished training session, or ``"latest"``.
    clusters : int, optional
        Number of clusters; None means the number of classes, but at most 12.
    vectors : str, optional
        A ``.npy`` file of other vectors, with its table of ``record_id`` beside it, as of
        `ecgkit.feature_space.embeddings.read_vectors`; None for the session's embeddings.
    **settings
        Other fields of `FeatureSpaceConfig`.

    Returns
    -------
    FeatureSpacePlan

    Raises
    ------
    EcgkitError
        If the session is missing or not finished, its dataset has changed, vectors cannot be read, or a value does not
        fit.
    """
    known = {item.name for item in fields(FeatureSpaceConfig)}
    if unknown := sorted(settings.keys() - known):
        raise EcgkitError(f"unknown parameter {unknown[0]!r}: choose from {', '.join(sorted(known))}")
    opened = open_trained(sessions.open_finished(training_session, paths.TRAINING, root), root)
    number = clusters if clusters is not None else min(max(2, len(opened.dataset.classes)), MAX_CLUSTERS)
    path = str(Path(vectors).expanduser().absolute()) if vectors else ""
    config = FeatureSpaceConfig(opened.session.name, number, vectors=path, **settings)
    return FeatureSpacePlan(config, opened, _vectors_of(opened.dataset, path) if path else None)


def _vectors_of(dataset: Dataset, path: str) -> Embeddings:
    """Read foreign vectors, and check that there are some to learn from and some to test on."""
    vectors = read_vectors(path)
    folds = set(dataset.records["fold"].iloc[positions_of(vectors, dataset.records)[0]])
    for needed, name in ((set(TRAIN_FOLDS), "folds 1-8"), ({TEST_FOLD}, f"fold {TEST_FOLD}")):
        if not folds & needed:
            raise EcgkitError(f"no record of {name} has a vector in {path}: embed these records, too")
    return vectors


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
