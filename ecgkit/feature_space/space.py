"""The records and vectors of a feature space: those of a training session, or vectors of another program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit import paths, sessions
from ecgkit.datasets import Dataset
from ecgkit.datasets.contents import as_plain, read_labels
from ecgkit.feature_space.embeddings import FOLDER, session_embeddings
from ecgkit.feature_space.layers import EMBEDDING, layer_names
from ecgkit.feature_space.vectors import read_vectors
from ecgkit.io import read_table
from ecgkit.stats.folds import TEST_FOLD
from ecgkit.training import TrainedSession, open_model_on, open_trained

MAX_UNTRAINED = 5
"""Largest number of untrained encoders with which the trained one is compared, if they have been embedded."""


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """The records of a feature space.

    Attributes
    ----------
    source : TrainedSession
        The training session, opened.
    positions : ndarray of int64
        Rows of the dataset: all of them, or those of which another program has a vector.
    records, labels : DataFrame
        Of these rows, index 0 to n - 1.
    vectors : ndarray of float32, shape (records, features), or None
        Vectors of another program.
    name : str
        The network and its session, or the file of vectors.
    """

    source: TrainedSession
    positions: NDArray[np.int64]
    records: pd.DataFrame
    labels: pd.DataFrame
    vectors: NDArray[np.float32] | None
    name: str

    @property
    def dataset(self) -> Dataset:
        """The dataset of the training."""
        return self.source.dataset

    @property
    def test_rows(self) -> NDArray[np.int64]:
        """Rows of the records of fold 10."""
        return np.flatnonzero((self.records["fold"] == TEST_FOLD).to_numpy())

    def signals(self, rows: Sequence[int] | NDArray[np.integer]) -> list[NDArray[np.float32]]:
        """Return the ECGs of some rows, each ``(12, samples)`` in mV."""
        return [self.dataset.signal(int(self.positions[row])) for row in rows]


def open_space(training_session: str, root: Path, *, vectors: str = "", dataset: str = "") -> FeatureSpace:
    """Open a training session or a model with the records of its feature space.

    Parameters
    ----------
    training_session : str
        Name of a finished training session; with ``dataset``, of a model that ships, or a model folder.
    root : Path
        The folder of data sets and sessions.
    vectors : str, default ""
        A ``.npy`` file of another program's vectors, as of `ecgkit.feature_space.vectors.read_vectors`.
    dataset : str, default ""
        The dataset of a model that is not a training session, as of `ecgkit.training.inference.open_model_on`.

    Returns
    -------
    FeatureSpace

    Raises
    ------
    EcgkitError
        If the session is not finished, its dataset has changed, or vectors cannot be used.
    """
    if dataset:
        source = open_model_on(training_session, dataset, root)
    else:  # `ecgkit evaluate` opens fold 10 of a session whose configuration has it closed.
        source = open_trained(sessions.open_finished(training_session, paths.TRAINING, root), root, test=True)
    opened, name = source.dataset, ", ".join(dict.fromkeys((source.trained.name, source.session.name)))
    positions, values = np.arange(len(opened)), None
    if vectors:
        positions, values = read_vectors(vectors, opened.records)
        name = Path(vectors).name
    records, labels = (table.iloc[positions].reset_index(drop=True) for table in (opened.records, opened.labels))
    return FeatureSpace(source, positions, records, labels, values, name)


def embed_space(space: FeatureSpace, *, encoder: str = "trained", n_layers: int = 0) -> dict[str, NDArray[np.float32]]:
    """Embed all records, or read what an earlier call has embedded.

    Parameters
    ----------
    space : FeatureSpace
        The records.
    encoder : str, default "trained"
        As of `ecgkit.feature_space.embeddings.session_embeddings`.
    n_layers : int, default 0
        Number of layers before the embedding, evenly spaced from the input to the head; all if there are fewer.

    Returns
    -------
    dict of str to ndarray of float32, shape (records, features)
        By layer, in the order of the network; the last is ``"embedding"``. Vectors of another program are the
        embedding, and have no untrained encoder.
    """
    if space.vectors is not None:
        return {EMBEDDING: space.vectors} if encoder == "trained" else {}
    names = layer_names(space.source.trained.model)[:-1]
    chosen = np.unique(np.linspace(0, len(names) - 1, min(n_layers, len(names))).round().astype(int)).tolist()
    found = session_embeddings(space.source, [*(names[i] for i in chosen), EMBEDDING], encoder=encoder)
    return {name: one.vectors for name, one in found.items()}


def embed_untrained(space: FeatureSpace, *, seed: int) -> list[NDArray[np.float32]]:
    """Embed all records by encoders with fresh weights of the same architecture, one array per seed.

    The one of ``seed`` is computed if it is not there; up to four others are read if ``ecgkit embed`` has written them.
    """
    first = f"untrained_{seed}"
    folder = space.source.cache / FOLDER
    others = sorted(path.parent.name for path in folder.glob(f"untrained_*/{EMBEDDING}.json"))
    names = [first, *(name for name in others if name != first)][:MAX_UNTRAINED]
    tables = [embed_space(space, encoder=name) for name in names]
    return [table[EMBEDDING] for table in tables if table]


def read_label_set(space: FeatureSpace, name: str) -> pd.DataFrame | None:
    """Return the labels of another set for the same records; None without the set."""
    if name not in space.dataset.manifest["labels"]:
        return None
    labels = read_labels(space.dataset.path, space.dataset.manifest, name)
    return as_plain(labels.iloc[space.dataset.rows[space.positions]].reset_index(drop=True))


def read_probabilities(space: FeatureSpace) -> tuple[pd.DataFrame, dict[str, float]]:
    """Read the predictions of the training session.

    Parameters
    ----------
    space : FeatureSpace
        The records.

    Returns
    -------
    probabilities : DataFrame of float
        Calibrated, one row per record, one column per class; NaN outside folds 9 and 10.
    thresholds : dict of str to float
        By class, on the same scale.
    """
    session, classes = space.source.session, list(space.dataset.classes)
    columns = [f"calibrated_{name}" for name in classes]
    wanted = {"record_id": "text"} | dict.fromkeys(columns, "number")
    predictions = read_table(session.path / "predictions.parquet", wanted, way_out="train again").set_index("record_id")
    found = predictions[columns].reindex(space.records["record_id"])
    return found.set_axis(classes, axis=1).reset_index(drop=True), session.read_json("thresholds.json")["thresholds"]
