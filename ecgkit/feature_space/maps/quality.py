"""The quality of maps: which neighbourhoods they preserve, and how much they depend on the seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.maps.projections import Projection, choose, shown_records
from ecgkit.feature_space.standardize import standardize

N_NEIGHBORS = 15
MAX_RECORDS = 3000
"""Of more records a random choice is measured: all distances between 3,000 points take seconds and 0.2 GB."""


def map_quality(
    projections: Sequence[Projection],
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    *,
    n_neighbors: int = N_NEIGHBORS,
) -> pd.DataFrame:
    """Measure which neighbourhoods of the embeddings maps keep, and which they share with other seeds.

    Of more than 3,000 records a random choice is measured, whose neighbours are searched within the choice.

    Parameters
    ----------
    projections : sequence of Projection
        Maps of the same records, by any methods and seeds.
    embeddings : ndarray, shape (records, features)
        One row per record; standardised with the statistics of folds 1-8, as for the maps.
    records : DataFrame
        The records, in the same order; column ``fold``.
    n_neighbors : int, default 15
        How many nearest records count as neighbours; fewer than half of those measured, where they are few.

    Returns
    -------
    DataFrame
        One row per map, index ``map`` (`Projection.name`); columns ``trustworthiness`` (lost where the map makes
        neighbours of records that are not) and ``continuity`` (lost where it separates neighbours), both 1 at best and
        about 0.5 for a map that has nothing to do with the embeddings; ``preservation``, the mean share of a record's
        neighbours that the map keeps as neighbours; ``shared_neighbours``, the mean share of a record's neighbours on
        the map that it has also on the maps of other seeds of the method, NaN where there is none; ``n_neighbors``; and
        ``measured`` and ``shown``, numbers of records.

    Raises
    ------
    EcgkitError
        If there is no map, two maps have the same name or show different records, or there are fewer than three
        records.

    References
    ----------
    Venna and Kaski, "Neighborhood preservation in nonlinear projection methods: an experimental study", ICANN 2001,
    doi:10.1007/3-540-44668-0_68.
    """
    names = [projection.name for projection in projections]
    if len(set(names)) < len(names):
        raise EcgkitError(f"maps {', '.join(names)}: pass each with another method or seed")
    shown = shown_records(projections)
    rows = choose(np.arange(len(shown)), MAX_RECORDS)
    k = min(n_neighbors, (len(rows) - 1) // 2)
    if k < 1:
        raise EcgkitError(f"{n_neighbors} neighbours of {len(rows)} records: give 3 records or more, and 1 neighbour")
    points = standardize(embeddings, records)[shown[rows]]
    maps = [projection.coordinates[rows] for projection in projections]
    of_points, of_maps = _neighbours(points, k), [_neighbours(one, k) for one in maps]
    table = pd.DataFrame(index=pd.Index(names, name="map"))
    table["trustworthiness"] = [trustworthiness(points, one, n_neighbors=k) for one in maps]
    table["continuity"] = [trustworthiness(one, points, n_neighbors=k) for one in maps]
    table["preservation"] = [_shared(of_points, one) for one in of_maps]
    table["shared_neighbours"] = [_shared_with_seeds(i, projections, of_maps) for i in range(len(maps))]
    return table.assign(n_neighbors=k, measured=len(rows), shown=len(shown))


def _neighbours(coordinates: NDArray[np.floating], n_neighbors: int) -> NDArray[np.int64]:
    """Return the rows of each point's nearest points, without itself."""
    return NearestNeighbors(n_neighbors=n_neighbors).fit(coordinates).kneighbors(return_distance=False)


def _shared(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Return the mean share of the neighbours that are the same."""
    return float((one[:, :, None] == other[:, None, :]).any(axis=2).mean())


def _shared_with_seeds(i: int, maps: Sequence[Projection], neighbours: Sequence[NDArray[np.int64]]) -> float:
    """Return the mean share of neighbours that a map has in common with those of other seeds of its method."""
    others = [j for j, other in enumerate(maps) if j != i and other.method == maps[i].method]
    return float(np.mean([_shared(neighbours[i], neighbours[j]) for j in others])) if others else float("nan")


def quality_notes(table: pd.DataFrame) -> dict[str, str]:
    """Format the results of `map_quality` as notes below the titles of panels.

    Parameters
    ----------
    table : DataFrame
        As from `map_quality`.

    Returns
    -------
    dict of str to str
        By the name of the map, two lines.
    """
    return {str(row["map"]): _note(row) for row in table.reset_index().to_dict("records")}


def _note(row: dict[Any, Any]) -> str:
    """Format the quality of one map."""
    kept = f"{row['preservation']:.0%} of {row['n_neighbors']} nearest kept"
    seeds = "" if np.isnan(row["shared_neighbours"]) else f", {row['shared_neighbours']:.0%} shared by seeds"
    sampled = "" if row["measured"] == row["shown"] else f" ({row['measured']:,} of {row['shown']:,} records measured)"
    quality = f"trustworthiness {row['trustworthiness']:.3f}, continuity {row['continuity']:.3f}"
    return f"{quality}\n{kept}{seeds}{sampled}"
