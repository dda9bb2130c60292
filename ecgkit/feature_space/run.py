"""A look into a training session, from the parameters of a notebook to the vectors that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ecgkit import paths, sessions
from ecgkit.datasets.store import Dataset, open_dataset
from ecgkit.errors import EcgkitError
from ecgkit.feature_space.config import FeatureSpaceConfig
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
from ecgkit.sessions import Session
from ecgkit.stats.folds import TEST_FOLD, TRAIN_FOLDS
from ecgkit.training import TrainedSession, open_trained

MAX_UNTRAINED = 5
"""So many untrained encoders stand beside the trained one, if they have been embedded."""


@dataclass(frozen=True)
class FeatureSpaceRun:
    """A training session whose feature space is analysed, and the session that the results go into.

    Attributes
    ----------
    session : Session
        The probe session's folder.
    config : FeatureSpaceConfig
        Every parameter.
    source : TrainedSession
        The training session, opened.
    vectors : Embeddings or None
        Embeddings of another program, instead of the session's own.
    """

    session: Session
    config: FeatureSpaceConfig
    source: TrainedSession
    vectors: Embeddings | None = None

    @property
    def dataset(self) -> Dataset:
        """The dataset of the training, with its labels."""
        return self.source.dataset

    @property
    def name(self) -> str:
        """What is looked into, for titles: a session's network, or the file of foreign vectors."""
        if self.vectors is not None:
            return self.vectors.path.name
        return f"{self.source.config.model}, {self.source.session.name}"

    @cached_property
    def _rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The records of the dataset that are looked at, and the rows of their vectors."""
        if self.vectors is None:
            everything = np.arange(len(self.dataset))
            return everything, everything
        return positions_of(self.vectors, self.dataset.records)

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
        if self.vectors is not None:
            return self.vectors.vectors[self._rows[1]]
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
        if self.vectors is not None:
            return {}
        encoder = "trained" if trained else f"untrained_{self.config.seed}"
        found = session_embeddings(self.source, [ALL_LAYERS], encoder=encoder)
        return {name: one.vectors for name, one in found.items()}

    def untrained(self) -> list[NDArray[np.float32]]:
        """Give the embeddings of encoders with fresh weights, one array a seed; none for foreign vectors.

        The first is made if it is not there; others, up to five, are read where ``ecgkit embed`` has left them.
        """
        if self.vectors is not None:
            return []
        first = f"untrained_{self.config.seed}"
        folder = self.source.session.path / FOLDER
        others = sorted(path.parent.name for path in folder.glob(f"untrained_*/{EMBEDDING}.json"))
        names = [first, *(name for name in others if name != first)][:MAX_UNTRAINED]
        return [session_embeddings(self.source, encoder=name)[EMBEDDING].vectors for name in names]

    def measures(self) -> pd.DataFrame:
        """Give simple measures of each ECG, as `dataset_measurements`; made once for a dataset."""
        return dataset_measurements(self.dataset).iloc[self.positions].reset_index(drop=True)

    def supervised(self) -> dict[str, pd.DataFrame]:
        """Give what networks trained for age, sex, height or weight predict, where ``ecgkit supervise`` was run."""
        if self.vectors is not None:
            return {}
        tables = {target.name: read_supervised(self.source, target.name) for target in TARGETS}
        return {name: table for name, table in tables.items() if table is not None}

    def epochs(self) -> pd.DataFrame | None:
        """Give the probes of a training's epochs, where ``ecgkit probe-epochs`` was run; None where not."""
        return None if self.vectors is not None else read_probed_epochs(self.source)

    @property
    def kept_epochs(self) -> int:
        """How many epochs' weights the training session kept."""
        return len(epoch_weights(self.source.session))

    def predictions(self) -> pd.DataFrame:
        """Give the session's ``predictions.parquet`` for folds 9 and 10."""
        return pd.read_parquet(self.source.session.path / "predictions.parquet")

    def thresholds(self) -> dict[str, float]:
        """Give the session's thresholds, from fold 9, by class."""
        return self.source.session.read_json("thresholds.json")["thresholds"]

    def head(self) -> Callable[[NDArray[np.floating]], NDArray[np.float64]] | None:
        """Give what turns embeddings into logits, ``(records, classes)``; None for foreign vectors.

        None as well for a network that is told age and sex: its head reads more than the embedding.
        """
        model = self.source.trained.model
        if self.vectors is not None or model.n_metadata:
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


def open_space(session: Session, config: FeatureSpaceConfig, root: Path) -> FeatureSpaceRun:
    """Open what a probe session analyses.

    Parameters
    ----------
    session : Session
        The probe session.
    config : FeatureSpaceConfig
        Its configuration.
    root : Path
        The folder of data sets and sessions.

    Returns
    -------
    FeatureSpaceRun

    Raises
    ------
    EcgkitError
        If the training session is not finished, its dataset has changed, or vectors cannot be read.
    """
    opened = open_trained(sessions.open_finished(config.training_session, paths.TRAINING, root), root)
    vectors = _vectors_of(opened.dataset, config.vectors) if config.vectors else None
    return FeatureSpaceRun(session, config, opened, vectors)


def _vectors_of(dataset: Dataset, path: str) -> Embeddings:
    """Read foreign vectors, and check that there are some to learn from and some to test on."""
    vectors = read_vectors(path)
    folds = set(dataset.records["fold"].iloc[positions_of(vectors, dataset.records)[0]])
    for needed, name in ((set(TRAIN_FOLDS), "folds 1-8"), ({TEST_FOLD}, f"fold {TEST_FOLD}")):
        if not folds & needed:
            raise EcgkitError(f"no record of {name} has a vector in {path}: embed these records, too")
    return vectors
