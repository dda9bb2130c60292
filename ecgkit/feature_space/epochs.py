"""Linear probes of the weights of each epoch that a session kept."""

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
from ecgkit.io import read_table
from ecgkit.training import TrainedSession

NAME = "probed_epochs"


def probe_epochs(source: TrainedSession, *, seed: int = 0, progress: bool = False) -> pd.DataFrame:
    """Embed all records by each kept epoch's weights and probe the embeddings, or read the results of an earlier call.

    Parameters
    ----------
    source : TrainedSession
        A session that was trained with ``save_every_epoch``.
    seed : int, default 0
        Seed of the splits of the probes, and of the untrained encoder.
    progress : bool, default False
        Whether to show the progress of the embedding on standard error.

    Returns
    -------
    DataFrame
        As from `ecgkit.feature_space.probes.probe_epochs`. It is kept in the session as
        ``cache/probed_epochs.parquet``.

    Raises
    ------
    EcgkitError
        If the session kept no epoch's weights.
    """
    kept = epoch_weights(source.session)
    if not kept:
        raise EcgkitError(
            f"{source.session.path} kept no epoch's weights: train with save_every_epoch = true in the recipe"
        )
    facts = _facts(source, seed)
    cache = source.session.folder("cache")
    table_path, facts_path = (cache.path / f"{NAME}.{suffix}" for suffix in ("parquet", "json"))
    if table_path.is_file() and facts_path.is_file() and cache.read_json(facts_path.name) == facts:
        return read_table(table_path, way_out="delete it, and it is computed again")

    def embedding(encoder: str) -> NDArray[np.float32]:
        return session_embeddings(source, encoder=encoder, progress=progress)[EMBEDDING].vectors

    epochs = {number: embedding(f"epoch_{number}") for number in kept}
    table = probe_embeddings(epochs, source.dataset.records, untrained=embedding(f"untrained_{seed}"), seed=seed)
    facts_path.unlink(missing_ok=True)
    cache.write_table(table_path.name, table)
    cache.write_json(facts_path.name, facts)
    return table


def _facts(source: TrainedSession, seed: int) -> dict[str, Any]:
    """Return what the probes depend on."""
    digest = hashlib.sha256()
    for path in epoch_weights(source.session).values():
        digest.update(path.read_bytes())
    return {
        "version": 2,
        "seed": seed,
        "weights_sha256": digest.hexdigest(),
        "dataset_fingerprint": source.dataset.fingerprint,
    }
