"""Embeddings on disk: computed once for a training session, and read by everything that uses them."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError, check_seed
from ecgkit.feature_space.cache import CACHED, read_manifest, write_files
from ecgkit.feature_space.layers import EMBEDDING, STATISTICS, check_layers, embed_layers, layer_names
from ecgkit.inference.weights import TrainedModel, load_weights
from ecgkit.io import file_sha256, locked, read_array, read_table
from ecgkit.progress import say
from ecgkit.sessions import Session
from ecgkit.stats.folds import PART_OF_FOLD
from ecgkit.training import TrainedSession

FOLDER = "embeddings"
TRAINED = "trained"
ALL_LAYERS = "all"
ENCODERS = re.compile(r"(trained|untrained|epoch)(?:_(\d+))?")
COLUMNS = ("record_id", "patient_id", "fold")


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors of records.

    Attributes
    ----------
    vectors : ndarray of float32, shape (records, features)
        One row per record.
    records : DataFrame
        In the same order: ``record_id``, and ``patient_id`` and ``fold`` if they come from a session.
    path : Path
        The ``.npy`` file.
    """

    vectors: NDArray[np.float32]
    records: pd.DataFrame
    path: Path


def session_embeddings(
    source: TrainedSession,
    layers: Sequence[str] = (EMBEDDING,),
    *,
    encoder: str = TRAINED,
    folds: Sequence[int] | None = None,
    progress: bool = False,
) -> dict[str, Embeddings]:
    """Return the embeddings of a training session's records, from its cache if they are there.

    New embeddings are written to ``embeddings/ENCODER/LAYER.npy`` in the cache of the session, float32
    ``(records, features)``, with ``LAYER.parquet``, one row per record in the same order, and ``LAYER.json``, the
    fingerprints of weights and dataset. Files of other weights or another dataset are replaced.

    Parameters
    ----------
    source : TrainedSession
        The training session, opened.
    layers : sequence of str, default the embedding alone
        Names of `layer_names` or of any other submodule; ``("all",)`` for all of `layer_names`.
    encoder : str, default "trained"
        ``"trained"`` for the best checkpoint, ``"untrained_0"`` for fresh weights of seed 0 (or another number), or
        ``"epoch_3"`` for the weights behind epoch 3, which the session has if it was trained with
        ``save_every_epoch``.
    folds : sequence of int, optional
        The folds to embed; None for all ten.
    progress : bool, default False
        Whether to show progress on standard error.

    Returns
    -------
    dict of str to Embeddings
        By the name of the layer. The rows of the requested folds, in the dataset's order.

    Raises
    ------
    EcgkitError
        If a fold, a layer or the encoder does not exist.
    """
    wanted = check_folds(folds)
    trained = encoder_of(source, encoder)
    names = layer_names(trained.model) if tuple(layers) == (ALL_LAYERS,) else tuple(dict.fromkeys(layers))
    check_layers(trained.model, names)
    folder = source.cache / FOLDER / encoder
    facts = _facts(source, encoder)
    folder.mkdir(parents=True, exist_ok=True)
    # A second process waits, and then finds what the first has written.
    with locked(folder / ".lock", f"waiting for another process that embeds {source.session.name}", wait=say):
        stored = {name: _stored_folds(folder, name, facts) for name in names}
        # Folds that are stored are computed again with the others, so that one file has all of them.
        missing = {name: folds | wanted for name, folds in stored.items() if not wanted <= folds}
        if missing:
            _write(trained, source.dataset, folder, missing, facts, progress=progress)
        return {name: _read(folder, name, wanted) for name in names}


def check_folds(folds: Sequence[int] | None) -> set[int]:
    """Return the folds as a set, all ten if None; raise EcgkitError if one is not 1 to 10, or there is none."""
    if folds is None:
        return set(PART_OF_FOLD)
    if strange := sorted(set(folds) - set(PART_OF_FOLD)):
        raise EcgkitError(
            f"fold {strange[0]} is not one of 1 to 10: give folds such as 9,10, or leave them out for all"
        )
    if not folds:
        raise EcgkitError("there is no fold to embed: give folds such as 9,10, or leave them out for all")
    return set(folds)


def encoder_of(source: TrainedSession, encoder: str) -> TrainedModel:
    """Open the weights of an encoder.

    Parameters
    ----------
    source : TrainedSession
        The training session.
    encoder : str
        As of `session_embeddings`.

    Returns
    -------
    TrainedModel

    Raises
    ------
    EcgkitError
        If it is not a name of an encoder, or the session did not keep that epoch.
    """
    match = ENCODERS.fullmatch(encoder)
    if match is None or (match[1] == TRAINED) != (match[2] is None):
        raise EcgkitError(f'encoder is {encoder!r}: give "trained", "untrained_0" (or another seed) or "epoch_3"')
    if match[1] == TRAINED:
        return source.trained
    number = int(match[2])
    if match[1] == "untrained":
        check_seed(number, f"the seed of {encoder}")
        return source.trained.untrained(number)
    path = epoch_weights(source.session).get(number)
    if path is None:
        raise EcgkitError(
            f"{source.session.path} kept no weights of epoch {number}: train it with save_every_epoch = true"
        )
    return load_weights(path)


def epoch_weights(session: Session) -> dict[int, Path]:
    """Return the weights that a session kept of its epochs, by number, ascending."""
    paths = sorted((session.path / "weights").glob("epoch_*.safetensors"))
    return {int(path.stem.removeprefix("epoch_")): path for path in paths}


def _facts(source: TrainedSession, encoder: str) -> dict[str, Any]:
    """Return what decides whether stored embeddings are valid."""
    return {
        "version": 3,
        "encoder": encoder,
        "weights_sha256": file_sha256(source.session.best_weights),
        "dataset_fingerprint": source.dataset.fingerprint,
        "n_records": len(source.dataset),
        "statistics": list(STATISTICS),
    }


def _stored_folds(folder: Path, layer: str, facts: dict[str, Any]) -> set[int]:
    """Return the folds in a layer's files; none if they are missing or not valid."""
    return set(read_manifest(Session(folder), layer, facts).get("folds", ()))


def _write(
    trained: TrainedModel,
    dataset: Dataset,
    folder: Path,
    folds_of: Mapping[str, set[int]],
    facts: dict[str, Any],
    *,
    progress: bool,
) -> None:
    """Embed the records of some folds and write each layer's three files, the manifest last."""
    folds = sorted(set[int]().union(*folds_of.values()))
    positions = dataset.folds(*folds)
    table = dataset.records.loc[positions, list(COLUMNS)].reset_index(drop=True)
    for layer, values in embed_layers(trained, dataset, positions, tuple(folds_of), progress=progress).items():
        files: dict[str, bytes | pd.DataFrame] = {f"{layer}.npy": array_bytes(values), f"{layer}.parquet": table}
        stated = facts | {"layer": layer, "folds": folds, "shape": list(values.shape)}
        write_files(Session(folder), layer, files, stated)


def array_bytes(values: NDArray[Any]) -> bytes:
    """Return the contents of a ``.npy`` file."""
    data = io.BytesIO()
    np.save(data, values)
    return data.getvalue()


def _read(folder: Path, layer: str, folds: set[int]) -> Embeddings:
    """Open a layer's files and take the rows of some folds."""
    path = folder / f"{layer}.npy"
    values = read_array(path, way_out=CACHED)
    records = read_table(folder / f"{layer}.parquet", {"fold": "integer"}, way_out=CACHED)
    rows = records["fold"].isin(folds).to_numpy()
    if rows.all():
        return Embeddings(values, records, path)
    return Embeddings(values[rows], records[rows].reset_index(drop=True), path)
