"""The quality of maps: which neighbourhoods they preserve, and how much they depend on the seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import procrustes
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.maps.projections import Projection, choose
from ecgkit.feature_space.standardize import standardize

N_NEIGHBORS = 15
MAX_RECORDS = 3000
"""Of more records a random choice is measured: all distances between 3,000 points take seconds and 0.2 GB."""

COLUMNS = (
    "method",
    "trustworthiness",
    "continuity",
    "preservation",
    "chance",
    "shared_neighbours",
    "procrustes",
    "n_neighbors",
    "measured",
)


def map_quality(
    projections: Sequence[Projection],
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    *,
    n_neighbors: int = N_NEIGHBORS,
    max_records: int = MAX_RECORDS,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure what maps keep of the neighbourhoods of the embeddings, and what they share with other seeds.

    Parameters
    ----------
    projections : sequence of Projection
        Maps of the same embeddings, by any methods and seeds.
    embeddings : ndarray, shape (records, features)
        One row per record; standardised with the statistics of folds 1-8, as for the maps.
    records : DataFrame
        The records, in the same order; column ``fold``.
    n_neighbors : int, default 15
        How many nearest records count as neighbours; fewer than half of those measured, where they are few.
    max_records : int, default 3000
        Of a map of more records a random choice is measured, whose neighbours are looked for within the choice.
    seed : int, default 0
        Seed of the choice.

    Returns
    -------
    DataFrame
        One row per map, index ``map`` (`Projection.name`); columns ``method``; ``trustworthiness`` and ``continuity``,
        as `trustworthiness`; ``preservation``, the mean share of a record's neighbours that the map keeps
        as neighbours; ``chance``, the preservation that a random map is expected to have; ``shared_neighbours`` and
        ``procrustes``, the means of `seed_agreement` over the other seeds of the method, NaN where there is none;
        ``n_neighbors``; ``measured``, the number of records measured.

    Raises
    ------
    EcgkitError
        If there is no map, two maps have the same name, one shows fewer than three records, or ``n_neighbors`` is below
        1.
    """
    names = [projection.name for projection in projections]
    if not names or len(set(names)) < len(names):
        raise EcgkitError(f"maps {', '.join(names) or '(none)'}: pass one or more, each with another method or seed")
    points = standardize(embeddings, records)
    ranks_of: dict[bytes, tuple[NDArray[np.int64], NDArray[np.int32]]] = {}
    rows = []
    for projection in projections:
        key = projection.positions.tobytes()
        if key not in ranks_of:
            rows_measured = choose(np.arange(len(projection.positions)), max_records, seed)
            ranks_of[key] = rows_measured, _ranks(points[projection.positions[rows_measured]])
        chosen, ranks = ranks_of[key]
        measured = _measure(ranks, projection.coordinates[chosen], _capped(n_neighbors, len(chosen)))
        rows.append({"method": projection.method} | measured)
    table = pd.DataFrame(rows, index=pd.Index(names, name="map"))
    agreement = seed_agreement(projections, n_neighbors=n_neighbors)
    for column in ("shared_neighbours", "procrustes"):
        table[column] = [_mean_with_others(agreement, name, column) for name in names]
    return table[list(COLUMNS)]


def _measure(ranks: NDArray[np.int32], coordinates: NDArray[np.floating], n_neighbors: int) -> dict[str, float]:
    """Compare the ranks among the embeddings with those on a map."""
    of_map = _ranks(coordinates)
    number = len(ranks)
    both = (ranks <= n_neighbors) & (of_map <= n_neighbors)
    return {
        "trustworthiness": _kept(ranks, of_map, n_neighbors),
        "continuity": _kept(of_map, ranks, n_neighbors),
        "preservation": float((both.sum() - number) / (number * n_neighbors)),  # without the record itself
        "chance": n_neighbors / (number - 1),
        "n_neighbors": n_neighbors,
        "measured": number,
    }


def trustworthiness(
    embeddings: NDArray[np.floating], coordinates: NDArray[np.floating], *, n_neighbors: int = N_NEIGHBORS
) -> float:
    """Measure to what degree neighbours on a map are neighbours among the embeddings.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        Where the neighbours truly are; standardised, if they were for the map.
    coordinates : ndarray, shape (records, dimensions)
        The map.
    n_neighbors : int, default 15
        How many nearest records count as neighbours.

    Returns
    -------
    float
        1 if each neighbour on the map is a neighbour; less the further away the false ones are. About 0.5 for a map
        that has nothing to do with the embeddings.

    Raises
    ------
    EcgkitError
        If there are not more than twice as many records as neighbours, or the rows do not fit.

    References
    ----------
    Venna and Kaski, "Neighborhood preservation in nonlinear projection methods: an experimental study", ICANN 2001,
    doi:10.1007/3-540-44668-0_68.
    """
    _check_pair(embeddings, coordinates, n_neighbors)
    return _kept(_ranks(embeddings), _ranks(coordinates), n_neighbors)


def continuity(
    embeddings: NDArray[np.floating], coordinates: NDArray[np.floating], *, n_neighbors: int = N_NEIGHBORS
) -> float:
    """Measure to what degree neighbours among the embeddings are neighbours on a map.

    `trustworthiness` with the roles of embeddings and map swapped (Venna and Kaski 2001): it is lost where the map
    tears apart what belongs together.

    Parameters
    ----------
    embeddings, coordinates, n_neighbors
        As for `trustworthiness`.

    Returns
    -------
    float
        1 if each neighbour is a neighbour on the map; about 0.5 for a map that has nothing to do with the embeddings.

    Raises
    ------
    EcgkitError
        If there are not more than twice as many records as neighbours, or the rows do not fit.
    """
    return trustworthiness(coordinates, embeddings, n_neighbors=n_neighbors)


def _ranks(points: NDArray[np.floating]) -> NDArray[np.int32]:
    """Return the rank of each point (column) by its distance from each point (row): 0 itself, 1 the nearest."""
    distances = pairwise_distances(points.astype(np.float64))
    np.fill_diagonal(distances, -1.0)
    order = np.argsort(distances, axis=1, kind="stable")
    ranks = np.empty(order.shape, np.int32)
    np.put_along_axis(ranks, order, np.arange(len(points), dtype=np.int32)[None, :], axis=1)
    return ranks


def _kept(truth: NDArray[np.int32], shown: NDArray[np.int32], n_neighbors: int) -> float:
    """Sum the ranks beyond ``n_neighbors`` of those shown as neighbours, scaled to 0..1."""
    number = len(truth)
    beyond = np.where(shown <= n_neighbors, truth - n_neighbors, 0)
    worst = number * n_neighbors * (2 * number - 3 * n_neighbors - 1) / 2
    return 1.0 - float(beyond.clip(min=0).sum(dtype=np.int64)) / worst


def _check_pair(first: NDArray[np.floating], second: NDArray[np.floating], n_neighbors: int) -> None:
    """Raise EcgkitError for tables that are not of the same records."""
    if len(first) != len(second):
        raise EcgkitError(f"{len(first)} and {len(second)} rows: pass one row per record, in the same order")
    _check_neighbors(n_neighbors, len(first))


def _check_neighbors(n_neighbors: int, number: int) -> None:
    """Raise EcgkitError for more neighbours than the formula allows."""
    if not 1 <= n_neighbors < number / 2:
        raise EcgkitError(f"{n_neighbors} neighbours of {number} records: give at least 1, and fewer than half of them")


def _capped(n_neighbors: int, number: int) -> int:
    """Return the number of neighbours, reduced if there are few records."""
    capped = min(n_neighbors, (number - 1) // 2)
    if capped < 1:
        raise EcgkitError(
            f"{n_neighbors} neighbours of {number} records: give at least 1 neighbour, and 3 records or more to show"
        )
    return capped


def seed_agreement(projections: Sequence[Projection], *, n_neighbors: int = N_NEIGHBORS) -> pd.DataFrame:
    """Compare maps by the same method that differ in their seed.

    Parameters
    ----------
    projections : sequence of Projection
        Maps; those by the same method are compared, pair by pair, and are to show the same records.
    n_neighbors : int, default 15
        How many nearest records count as neighbours; fewer than half of the records, where they are few.

    Returns
    -------
    DataFrame
        One row per pair, columns ``first`` and ``second`` (names of maps), ``shared_neighbours``, the mean share of a
        record's neighbours on one map that are its neighbours on the other (1 for the same map, about ``n_neighbors``
        by the number of records for unrelated ones), and ``procrustes``, the sum of squared distances that is left
        after the one map has been moved, turned, mirrored and scaled to fit the other (0 for the same map, 1 at the
        most).

    Raises
    ------
    EcgkitError
        If two maps by the same method show different records, one shows fewer than three, or ``n_neighbors`` is below
        1.

    References
    ----------
    Gower, "Generalized Procrustes analysis", Psychometrika 40 (1975), doi:10.1007/BF02291478.
    """
    neighbours = [
        _neighbours(projection.coordinates, _capped(n_neighbors, len(projection.coordinates)))
        for projection in projections
    ]
    rows = []
    for i, first in enumerate(projections):
        for j, second in enumerate(projections[i + 1 :], start=i + 1):
            if first.method != second.method:
                continue
            if not np.array_equal(first.positions, second.positions):
                raise EcgkitError(f"{first.name} and {second.name} show different records: give both the same ones")
            shared = np.mean([len(np.intersect1d(*pair)) for pair in zip(neighbours[i], neighbours[j], strict=True)])
            disparity = procrustes(first.coordinates.astype(np.float64), second.coordinates.astype(np.float64))[2]
            rows.append((first.name, second.name, shared / neighbours[i].shape[1], disparity))
    return pd.DataFrame(rows, columns=["first", "second", "shared_neighbours", "procrustes"])


def _neighbours(coordinates: NDArray[np.floating], n_neighbors: int) -> NDArray[np.int64]:
    """Return the rows of each point's nearest points, without itself."""
    return NearestNeighbors(n_neighbors=n_neighbors).fit(coordinates).kneighbors(return_distance=False)


def _mean_with_others(agreement: pd.DataFrame, name: str, column: str) -> float:
    """Average over the pairs that a map is in."""
    return float(agreement.loc[(agreement["first"] == name) | (agreement["second"] == name), column].mean())


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
    return {str(name): _note(row) for name, row in table.iterrows()}


def note_of(projection: Projection, embeddings: NDArray[np.floating], records: pd.DataFrame) -> str:
    """Measure one map with `map_quality`, and format the result as one line.

    Parameters
    ----------
    projection : Projection
        The map.
    embeddings : ndarray, shape (records, features)
        One row per record; standardised with the statistics of folds 1-8, as for the map.
    records : DataFrame
        The records, in the same order; column ``fold``.

    Returns
    -------
    str
        Trustworthiness, continuity and the neighbours kept; of a large map also of how many records.

    Raises
    ------
    EcgkitError
        As `map_quality`.
    """
    row = map_quality([projection], embeddings, records).iloc[0]
    number = len(projection.positions)
    sampled = f" ({row['measured']:,} of {number:,} records measured)" if row["measured"] < number else ""
    return _note(row).replace("\n", ", ") + sampled


def _note(row: pd.Series) -> str:
    """Format the quality of one map."""
    kept = f"{row['preservation']:.0%} of {row['n_neighbors']} nearest kept"
    seeds = "" if np.isnan(row["shared_neighbours"]) else f", {row['shared_neighbours']:.0%} shared with other seeds"
    return f"trustworthiness {row['trustworthiness']:.3f}, continuity {row['continuity']:.3f}\n{kept}{seeds}"
