"""When does a training learn what: probes of the weights of each epoch that a session kept."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.embeddings import epoch_weights, session_embeddings
from ecgkit.feature_space.layers import EMBEDDING
from ecgkit.feature_space.probes.by_layer import probe_epochs as probe_embeddings
from ecgkit.training import TrainedSession

TABLE, FACTS = "probed_epochs.parquet", "probed_epochs.json"


def probe_epochs(source: TrainedSession, *, seed: int = 0, progress: bool = False) -> pd.DataFrame:
    """Embed all records by each kept epoch's weights and probe the embeddings; or read what an earlier call found.

    Parameters
    ----------
    source : TrainedSession
        A session that was trained with ``save_every_epoch``.
    seed : int, default 0
        Of the splits of the probes, and of the untrained encoder that stands before the first epoch.
    progress : bool, default False
        Whether to show the progress of the embedding on standard error.

    Returns
    -------
    DataFrame
        As `ecgkit.feature_space.probes.by_layer.probe_epochs`. It is kept in the session as ``probed_epochs.parquet``.

    Raises
    ------
    EcgkitError
        If the session kept no epoch's weights.
    """
    if (stored := read_probed_epochs(source, seed=seed)) is not None:
        return stored
    kept = epoch_weights(source.session)
    if not kept:
        raise EcgkitError(
            f"{source.session.path} kept no epoch's weights: train it with save_every_epoch = true in the recipe"
        )

    def embedding(encoder: str) -> NDArray[np.float32]:
        return session_embeddings(source, encoder=encoder, progress=progress)[EMBEDDING].vectors

    epochs = {number: embedding(f"epoch_{number}") for number in kept}
    untrained = embedding(f"untrained_{seed}")
    table = probe_embeddings(epochs, source.dataset.records, untrained=untrained, seed=seed)
    (source.session.path / FACTS).unlink(missing_ok=True)
    source.session.write_table(TABLE, table)
    source.session.write_json(FACTS, _facts(source, seed))
    return table


def read_probed_epochs(source: TrainedSession, *, seed: int | None = None) -> pd.DataFrame | None:
    """Read what `probe_epochs` found; None if it was not run, or the weights or the dataset are others by now.

    Parameters
    ----------
    source : TrainedSession
        The training session.
    seed : int, optional
        The seed that it must have been run with; None for any.

    Returns
    -------
    DataFrame or None
    """
    folder = source.session.path
    if not (folder / TABLE).is_file() or not (folder / FACTS).is_file():
        return None
    stored = source.session.read_json(FACTS)
    facts = _facts(source, stored.get("seed", 0) if seed is None else seed)
    return pd.read_parquet(folder / TABLE) if stored == facts else None


def _facts(source: TrainedSession, seed: int) -> dict[str, Any]:
    """Say what the probes depend on."""
    digest = hashlib.sha256()
    for path in epoch_weights(source.session).values():
        digest.update(path.read_bytes())
    return {
        "version": 1,
        "seed": seed,
        "weights_sha256": digest.hexdigest(),
        "dataset_fingerprint": source.dataset.fingerprint,
    }
