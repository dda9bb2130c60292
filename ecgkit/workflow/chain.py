"""The chain of notebooks: preprocess, train, probe; what has not changed is skipped, what was cut off goes on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from filelock import FileLock

from ecgkit import datasets, paths, sessions
from ecgkit.datasets import config as preprocessing
from ecgkit.datasets.config import PreprocessingConfig
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.sessions import Session
from ecgkit.workflow.runner import check_parameters, run_notebook


@dataclass(frozen=True)
class Step:
    """What came of one step.

    Attributes
    ----------
    path : Path
        The folder of the dataset or session.
    skipped : bool
        Whether it was there already, made from the same inputs with the same parameters.
    """

    path: Path
    skipped: bool


def say(line: str) -> None:
    """Print one line of progress at once."""
    print(line, flush=True)  # noqa: T201 - the runner's progress belongs on standard output


def preprocess(root: Path, *, force: bool = False, **parameters: Any) -> Step:
    """Run the notebook 1_Preprocessing.

    Parameters
    ----------
    root : Path
        The folder that holds raw and processed datasets.
    force : bool, default False
        Make the dataset again though nothing changed.
    **parameters
        Of the notebook: fields of `PreprocessingConfig`, and ``jobs``.

    Returns
    -------
    Step

    Raises
    ------
    EcgkitError
        If a parameter does not fit or the notebook fails.
    """
    root = paths.resolve_root(root)
    notebook = paths.notebook_path(preprocessing.NOTEBOOK)
    parameters = check_parameters(notebook, parameters)
    config = PreprocessingConfig(**{name: value for name, value in parameters.items() if name != "jobs"})
    source = config.make_source(root)
    folder = Session(config.directory(root, source))
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    # One at a time: a second run of the same chain waits here, and then finds the dataset made.
    with FileLock(folder.path.with_name(f".{folder.name}.lock")):
        current = datasets.is_current(folder.path, source, config.filters)
        if current and folder.is_done and not force:
            say(f"{folder.path}: unchanged, skipped")
            return Step(folder.path, skipped=True)
        say(f"{folder.path}: preprocessing {source.describe()}")
        # A dataset under its own name follows its source; one that the user named is not replaced unasked.
        replace = folder.path.exists() and (force or (not current and config.name is None))
        run_notebook(notebook, parameters | {"overwrite": replace, "root": str(root)}, folder)
    return Step(folder.path, skipped=False)


def train(root: Path, *, force: bool = False, resume: bool | None = None, **parameters: Any) -> Step:
    """Run the notebook 2_Training in a session of its own, or in one that was cut off.

    Parameters
    ----------
    root : Path
        The folder that holds data sets and sessions.
    force : bool, default False
        Train again though a finished session has the same configuration and dataset.
    resume : bool, optional
        None goes on with a session of this configuration that was cut off if there is one; True insists on one.
    **parameters
        Of the notebook.

    Returns
    -------
    Step

    Raises
    ------
    EcgkitError
        If a parameter does not fit or the notebook fails.
    """
    from ecgkit import training  # loads torch

    root = paths.resolve_root(root)
    notebook = paths.notebook_path(training.NOTEBOOK)
    parameters = check_parameters(notebook, parameters)
    config = training.plan(root=root, **parameters).recorded
    return run_step(notebook, parameters, paths.TRAINING, root, config, force=force, resume=resume)


def probe(root: Path, *, force: bool = False, **parameters: Any) -> Step:
    """Run the notebook 3_Feature_Space on a training session.

    Parameters
    ----------
    root : Path
        The folder that holds data sets and sessions.
    force : bool, default False
        Probe again though a finished probe session has the same configuration.
    **parameters
        Of the notebook; ``training_session`` among them.

    Returns
    -------
    Step

    Raises
    ------
    EcgkitError
        If a parameter does not fit or the notebook fails.
    """
    from ecgkit import feature_space  # loads torch

    root = paths.resolve_root(root)
    notebook = paths.notebook_path(feature_space.NOTEBOOK)
    parameters = check_parameters(notebook, parameters)
    config = feature_space.plan(root=root, **parameters).recorded
    return run_step(notebook, parameters, paths.PROBES, root, config, force=force)


def compare(root: Path, *, force: bool = False, **parameters: Any) -> Step:
    """Run the notebook 6_Comparison on training sessions.

    Parameters
    ----------
    root : Path
        The folder that holds data sets and sessions.
    force : bool, default False
        Compare again though a finished comparison has the same configuration.
    **parameters
        Of the notebook.

    Returns
    -------
    Step

    Raises
    ------
    EcgkitError
        If a parameter does not fit or the notebook fails.
    """
    from ecgkit.evaluation import run as comparison

    root = paths.resolve_root(root)
    notebook = paths.notebook_path(comparison.NOTEBOOK)
    parameters = check_parameters(notebook, parameters)
    config = comparison.plan(root=root, **parameters).recorded
    return run_step(notebook, parameters, paths.COMPARISONS, root, config, force=force)


def run_step(
    notebook: Path,
    parameters: dict[str, Any],
    kind: str,
    root: Path,
    config: dict[str, Any],
    *,
    force: bool,
    resume: bool | None = None,
) -> Step:
    """Run a notebook into a session, unless a finished one has the same configuration."""
    finished = sessions.find_finished(kind, root, config)
    if finished and not force and not resume:
        say(f"{finished.path}: unchanged, skipped")
        return Step(finished.path, skipped=True)
    with sessions.claim(kind, root, config, resume=False if force else resume) as session:
        say(f"{session.path}: {'going on' if session.config else 'running'} with {notebook.name}")
        run_notebook(notebook, parameters | {"root": str(root)}, session)
    return Step(session.path, skipped=False)


@dataclass(frozen=True)
class Chain:
    """What `run` makes.

    Attributes
    ----------
    dataset : Path
        The processed dataset.
    training : list of Path
        One training session a model.
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
    """Run the whole chain: a processed dataset, a training session a model, and a probe session for each of these.

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
        Run every step though nothing changed.
    jobs : int, optional
        Notebooks that run at once (by default one), and processes of the preprocessing (by default one a core).
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
    settings = given(label_set=label_set, epochs=epochs, seed=seed)
    check_arguments(root, dataset=dataset, models=models, raw=raw, settings=settings, jobs=jobs)
    if dataset in preprocessing.SOURCES:
        folder = preprocess(root, force=force, source=dataset, **given(raw=raw, jobs=jobs)).path
    else:
        folder = root / paths.PROCESSED / dataset
    with notebook_executor(min(jobs or 1, len(models))) as each:
        training = each(
            train, [{"root": root, "force": force, "dataset": folder.name, "model": m} | settings for m in models]
        )
        probed = each(
            probe,
            [
                {"root": root, "force": force, "training_session": step.path.name} | given(seed=seed)
                for step in training
                if probes
            ],
        )
    return Chain(folder, [step.path for step in training], [step.path for step in probed])


def given(**values: Any) -> dict[str, Any]:
    """Keep the values that were given, those that are not None."""
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
        label_sets = PreprocessingConfig(source=dataset, raw=raw).make_source(root).labels
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
def notebook_executor(jobs: int) -> Iterator[Callable[[Callable[..., Step], list[dict[str, Any]]], list[Step]]]:
    """Give a function that calls a step for each set of keywords, here one after the other or in processes at once."""
    if jobs == 1:
        yield lambda function, calls: [function(**keywords) for keywords in calls]
        return
    threads = max(1, datasets.n_cores() // jobs)
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=limit_threads, initargs=(threads,)) as executor:
        yield lambda function, calls: submit_all(executor, function, calls)


def submit_all(executor: Executor, function: Callable[..., Step], calls: list[dict[str, Any]]) -> list[Step]:
    """Run all calls on an executor; all end before the first error, if any, is raised."""
    futures = [executor.submit(function, **keywords) for keywords in calls]
    failed = [future.exception() for future in futures if future.exception()]
    if failed:
        raise failed[0]  # type: ignore[misc]
    return [future.result() for future in futures]


def limit_threads(threads: int) -> None:
    """Share the cores between notebooks that run at once; their kernels inherit the environment."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(threads)
