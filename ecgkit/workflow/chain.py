"""The chain of notebooks: preprocess, train, probe; what has not changed is skipped, what was interrupted resumes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ecgkit import datasets, paths
from ecgkit.datasets import config as preprocessing
from ecgkit.datasets.config import PreprocessingConfig
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.workflow.run import Outcome, run_step


@dataclass(frozen=True)
class Chain:
    """The result of `run`.

    Attributes
    ----------
    dataset : Path
        The processed dataset.
    training : list of Path
        One training session per model.
    probes : list of Path
        One probe session for each training session; none if they were not asked for.
    """

    dataset: Path
    training: list[Path]
    probes: list[Path]


def run(
    root: Path,
    *,
    dataset: str,
    models: Sequence[str],
    raw: str | None = None,
    label_set: str | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    force: bool = False,
    jobs: int | None = None,
    probes: bool = True,
) -> Chain:
    """Run the whole chain: a processed dataset, a training session per model, and a probe session for each of these.

    Parameters
    ----------
    root : Path
        The folder that holds data sets and sessions.
    dataset : str
        A source (``"demo"``, ``"ptbxl"``), which is preprocessed first, or the name of a processed dataset.
    models : sequence of str
        Names of architectures.
    raw : str, optional
        Folder of the source's raw data.
    label_set : str, optional
        Name of a label set; the notebook's own if None.
    epochs, seed : int, optional
        The recipe's and the notebook's if None.
    force : bool, default False
        Run every step although nothing changed.
    jobs : int, optional
        Notebooks that run at the same time (by default one), and processes of the preprocessing (one per core).
    probes : bool, default True
        Whether the trained models are probed.

    Returns
    -------
    Chain

    Raises
    ------
    EcgkitError
        If an argument does not fit (before the first step starts), or a step fails.
    """
    root = paths.resolve_root(root)
    settings = drop_none(label_set=label_set, epochs=epochs, seed=seed)
    check_arguments(root, dataset=dataset, models=models, raw=raw, settings=settings, jobs=jobs)
    if dataset in preprocessing.SOURCES:
        folder = run_step("preprocess", root, force=force, source=dataset, raw=raw, jobs=jobs).path
    else:
        folder = root / paths.PROCESSED / dataset
    with notebook_executor(min(jobs or 1, len(models))) as each:
        trained = each("train", root, [{"dataset": folder.name, "model": m} | settings for m in models], force)
        sources = [{"training_session": one.path.name, "seed": seed} for one in trained if probes]
        probed = each("probe", root, sources, force)
    return Chain(folder, [one.path for one in trained], [one.path for one in probed])


def drop_none(**values: Any) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def check_models(models: Sequence[str], *, jobs: int | None) -> None:
    """Check what can be checked without any data: the names of the models, and how many run at once.

    Raises
    ------
    EcgkitError
        If a model is unknown or named twice, or none is named, or fewer than one notebook is to run at once.
    """
    from ecgkit.models import MODELS

    if jobs is not None and jobs < 1:
        raise EcgkitError(f"jobs is {jobs}: give a positive number")
    if not models or len(set(models)) != len(models):
        raise EcgkitError(f"models is {','.join(models)!r}: name each model once")
    for model in models:
        check_choice("model", model, MODELS)


def check_arguments(
    root: Path, *, dataset: str, models: Sequence[str], raw: str | None, settings: dict[str, Any], jobs: int | None
) -> None:
    """Check all arguments of the chain before anything is read or written."""
    from ecgkit import training

    check_models(models, jobs=jobs)
    known = preprocessing.SOURCES
    if dataset in known:
        label_sets = PreprocessingConfig(source=dataset, raw=raw).open_source(root).labels
        source = dataset
    else:
        if raw is not None:
            raise EcgkitError(
                f"--raw goes with a source ({', '.join(known)}), not with the processed dataset {dataset!r}"
            )
        folder = root / paths.PROCESSED
        if not (folder / dataset).is_dir():
            made = sorted(path.parent.name for path in folder.glob("[!.]*/dataset.json"))
            choices = ", ".join(dict.fromkeys([*known, *made]))
            raise EcgkitError(f"unknown dataset {dataset!r}: choose one of {choices}")
        opened = datasets.open_dataset(folder / dataset)
        label_sets, source = opened.manifest["labels"], opened.manifest["source"]["name"]
    if (wanted := settings.get("label_set")) and wanted not in label_sets:
        raise EcgkitError(f"unknown label set {wanted!r}: {dataset} has {', '.join(label_sets)}")
    for model in models:
        training.configure(dataset=dataset, model=model, source=source, **settings)


@contextlib.contextmanager
def notebook_executor(jobs: int) -> Iterator[Callable[..., list[Outcome]]]:
    """Yield a function that runs a step once for each of several settings, one after another or in processes."""
    if jobs == 1:
        yield lambda step, root, calls, force: [run_step(step, root, force=force, **settings) for settings in calls]
        return
    threads = max(1, datasets.n_cores() // jobs)
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=limit_threads, initargs=(threads,)) as executor:
        yield lambda *arguments: submit_all(executor, *arguments)


def submit_all(
    executor: Executor,
    step: str,
    root: Path,
    calls: list[dict[str, Any]],
    force: bool,  # noqa: FBT001
) -> list[Outcome]:
    """Run a step for all settings on an executor; all end before the first error, if any, is raised."""
    futures = [executor.submit(run_step, step, root, force=force, **settings) for settings in calls]
    failed = [future.exception() for future in futures if future.exception()]
    if failed:
        raise failed[0]  # type: ignore[misc]
    return [future.result() for future in futures]


def limit_threads(threads: int) -> None:
    """Share the cores between notebooks that run at the same time; their kernels inherit the environment."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(threads)
