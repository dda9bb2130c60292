"""Linear probes of the weights of each epoch that a session kept."""

from __future__ import annotations

import hashlib

import pandas as pd

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.cache import CACHED, read_manifest, write_files
from ecgkit.feature_space.embeddings import epoch_weights, session_embeddings
from ecgkit.feature_space.layers import EMBEDDING
from ecgkit.feature_space.probes.by_layer import UNTRAINED, probe_layers
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
        As from `ecgkit.feature_space.probes.probe_layers`, with the column ``epoch`` instead of ``layer``, missing for
        the untrained network; ``change`` is from the epoch before. It is kept in the session as
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
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in kept.values())).hexdigest()
    facts = {"version": 3, "seed": seed, "weights_sha256": digest, "dataset_fingerprint": source.dataset.fingerprint}
    cache = source.session.folder("cache")
    file = f"{NAME}.parquet"
    if read_manifest(cache, NAME, facts):
        return read_table(cache.path / file, way_out=CACHED)
    trained, fresh = (
        {key: session_embeddings(source, encoder=name, progress=progress)[EMBEDDING].vectors for key, name in encoders}
        for encoders in ([(str(n), f"epoch_{n}") for n in kept], [(UNTRAINED, f"untrained_{seed}")])
    )
    table = probe_layers(trained, source.dataset.records, untrained=fresh, seed=seed)
    table["layer"] = pd.to_numeric(table["layer"], errors="coerce").astype("Int64")
    table = table.rename(columns={"layer": "epoch"})
    write_files(cache, NAME, {file: table}, facts)
    return table
