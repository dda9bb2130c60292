"""Work on records of a dataset, shared by several processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgkit.datasets.store import Dataset
from ecgkit.errors import EcgkitError

Result = TypeVar("Result")


def chosen_positions(dataset: Dataset, positions: ArrayLike | None) -> NDArray[np.int64]:
    """Give the positions asked for; those of all records where they are None."""
    return np.arange(len(dataset)) if positions is None else np.asarray(positions, dtype=np.int64)


def in_blocks(
    function: Callable[[Dataset, NDArray[np.int64]], Result], dataset: Dataset, positions: NDArray[np.int64], jobs: int
) -> list[Result]:
    """Call a function of (dataset, positions) on one block of the positions a process.

    Parameters
    ----------
    function : callable
        What is done; of a module, so that processes find it.
    dataset : Dataset
        An opened dataset.
    positions : ndarray of int64
        Which of ``dataset.records``.
    jobs : int
        Processes that share the work; with 1 it is done here.

    Returns
    -------
    list
        What the function gave, in the order of the blocks.

    Raises
    ------
    EcgkitError
        If ``jobs`` is not positive.
    """
    if jobs < 1:
        raise EcgkitError(f"jobs is {jobs}: give the number of processes, 1 or more")
    if jobs == 1:
        return [function(dataset, positions)]
    import joblib

    blocks = np.array_split(positions, jobs)
    return joblib.Parallel(n_jobs=jobs)(joblib.delayed(function)(dataset, block) for block in blocks)
