"""The chain of notebooks: preprocess, train, probe, compare; what has not changed is skipped."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ecgkit import paths
from ecgkit.datasets.config import PreprocessingConfig, is_folder
from ecgkit.errors import INTERRUPTED, EcgkitError, check_choice, interrupt
from ecgkit.models.names import check_name
from ecgkit.processes import THREADS, WorkerPool, n_cores
from ecgkit.sources import SOURCES
from ecgkit.workflow.parameters import check_settings
from ecgkit.workflow.run import Outcome, report, run_step
from ecgkit.workflow.steps import STEPS

COSTS = {"preprocess": 1.0, "train": 3.0, "probe": 4.0, "compare": 1.5}
"""How long the steps take, relative to each other: for the time that is left."""

Work = deque[tuple[Any, Callable[[], Any]]]
"""Calls that wait, each with a key."""


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
        One probe session per training session; none if they were left out.
    comparison : Path or None
        The comparison of the trainings; None of a single one.
    """

    dataset: Path
    training: list[Path]
    probes: list[Path]
    comparison: Path | None


@dataclass
class Progress:
    """Prints a line per finished step, with the time that is left.

    Attributes
    ----------
    names : list of str
        The steps that will be run, one entry each.
    """

    names: list[str]
    done: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)
    worked: float = 0.0

    def finish(self, name: str, what: str, outcome: Outcome) -> None:
        """Print that a step is finished, with the time that is left by the time per cost so far."""
        self.done.append(name)
        self.worked += 0.0 if outcome.skipped else COSTS[name]
        left = sum(COSTS[one] for one in self.names) - sum(COSTS[one] for one in self.done)
        result = "unchanged, skipped" if outcome.skipped else "done"
        text = f"step {len(self.done)} of {len(self.names)}: {what}: {result}"
        if left and self.worked:
            text += f"; about {(time.monotonic() - self.begun) / self.worked * left / 60:.1f} min left"
        report(text)


def run(
    root: Path,
    *,
    dataset: str,
    models: Sequence[str],
    raw: str | None = None,
    force: bool = False,
    jobs: int | None = None,
    probes: bool = True,
    verbose: bool = False,
    cell_timeout: int | None = None,
    **settings: Any,
) -> Chain:
    """Run the whole chain: a processed dataset, then a training and a probe session per model, and a comparison.

    Parameters
    ----------
    root : Path
        The folder of data sets and sessions.
    dataset : str
        A source (``"demo"``, ``"ptbxl"``) or a folder of raw data, which is preprocessed first, or the name of a
        processed dataset.
    models : sequence of str
        Names of architectures.
    raw : str, optional
        Folder of the source's raw data.
    force : bool, default False
        Run every step although nothing changed.
    jobs : int, optional
        Number of notebooks that run at the same time, each with its share of the cores; by default one per core.
    probes : bool, default True
        Whether the trained models are probed; those trained for a target have no classes and are not.
    verbose : bool, default False
        Whether what the notebooks print is shown.
    cell_timeout : int, optional
        Seconds after which a cell that has not ended is stopped; by default never.
    **settings
        Other fields of `TrainingConfig`.

    Returns
    -------
    Chain

    Raises
    ------
    EcgkitError
        If an argument is refused (before the first step starts), or a step fails.
    """
    root = paths.resolve_root(root)
    if jobs is not None and jobs < 1:
        raise EcgkitError(f"jobs is {jobs}: give a positive number")
    if not models or len(set(models)) != len(models):
        raise EcgkitError(f"models is {','.join(models)!r}: name each model once")
    for model in models:
        check_name(model)
    check_trainings(root, dataset, models, raw, settings)
    probes = probes and not settings.get("target")
    names = ["preprocess"] * is_raw(dataset, root) + ["train"] * len(models)
    names += ["probe"] * (len(models) * probes) + ["compare"] * (len(models) > 1)
    progress = Progress(names)
    report(f"{len(names)} steps on {dataset}: {', '.join(models)}")
    common: dict[str, Any] = {"force": force, "verbose": verbose, "quiet": True, "cell_timeout": cell_timeout}
    folder = root / paths.PROCESSED / dataset
    if is_raw(dataset, root):
        made = run_step("preprocess", root, source=dataset, raw=raw, jobs=jobs, **common)
        progress.finish("preprocess", f"preprocess {dataset}", made)
        folder = made.path
    at_once = min(jobs or n_cores(), len(models))
    calls = [settings | {"dataset": folder.name, "model": model} for model in models]
    with notebook_executor(at_once) as executor:
        trained, probed = run_models(executor, root, calls, common, progress, at_once=at_once, probes=probes)
    compared = None
    if len(models) > 1:
        members = ",".join(path.name for path in trained)
        outcome = run_step("compare", root, sessions=members, **common)
        progress.finish("compare", "compare", outcome)
        compared = outcome.path
    return Chain(folder, trained, probed, compared)


def is_raw(dataset: str, root: Path) -> bool:
    """Return True if a dataset is a source or a folder of raw data, not the name of a processed dataset."""
    is_made = "/" not in dataset and (root / paths.PROCESSED / dataset).is_dir()
    return dataset in SOURCES or (not is_made and is_folder(dataset))


def run_models(
    executor: Executor,
    root: Path,
    calls: list[dict[str, Any]],
    common: dict[str, Any],
    progress: Progress,
    *,
    at_once: int,
    probes: bool,
) -> tuple[list[Path], list[Path]]:
    """Train each model, and probe each training as soon as it is finished; the first error ends the chain."""
    work: Work = deque(
        (("train", n), partial(run_step, "train", root, **common, **calls[n])) for n in range(len(calls))
    )
    made: dict[tuple[str, int], Path] = {}
    for (name, n), future in finished(executor, work, at_once=at_once):
        outcome = future.result()
        made[name, n] = outcome.path
        progress.finish(name, f"{name} {calls[n]['model']}", outcome)
        if name == "train" and probes:
            of_probe = {"training_session": outcome.path.name, "seed": calls[n].get("seed")}
            work.append((("probe", n), partial(run_step, "probe", root, **common, **of_probe)))
    trained, probed = ([made[key] for key in sorted(made) if key[0] == name] for name in ("train", "probe"))
    return trained, probed


def finished(executor: Executor, work: Work, *, at_once: int) -> Iterator[tuple[Any, Future[Any]]]:
    """Run calls, only so many at once that none starts after Ctrl-C, and yield each key with its future when done.

    Work may be added meanwhile.
    """
    running: dict[Future[Any], Any] = {}
    while work or running:
        while work and len(running) < at_once:
            key, call = work.popleft()
            running[executor.submit(call)] = key
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(future), future


def check_trainings(root: Path, dataset: str, models: Sequence[str], raw: str | None, settings: dict[str, Any]) -> None:
    """Check dataset and configuration of all trainings, before anything is written."""
    train = STEPS["train"]
    if is_raw(dataset, root):
        from ecgkit.training.config import configure

        preprocessing = PreprocessingConfig.resolve(root, source=dataset, raw=raw)
        source, name = preprocessing.open_source(root), preprocessing.folder(root).name
        checked = {"first_label_set": next(iter(source.labels), "")} | check_settings(train.config_class, settings)
        for model in models:
            config = configure(dataset=name, model=model, source=preprocessing.source, **checked)
            if config.label_set:
                check_choice("label set", config.label_set, source.labels)
        return
    if raw is not None:
        raise EcgkitError(f"--raw goes with a source ({', '.join(SOURCES)}), not with the dataset {dataset!r}")
    folder = root / paths.PROCESSED
    if not (folder / dataset).is_dir():
        made = sorted(path.parent.name for path in folder.glob("[!.]*/dataset.json"))
        choices = ", ".join(dict.fromkeys([*SOURCES, *made]))
        raise EcgkitError(f"unknown dataset {dataset!r}: choose one of {choices}")
    for model in models:
        train.resolve(root, settings | {"dataset": dataset, "model": model})


class ThisProcess(Executor):
    """Runs each call when it is submitted."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        """Return a future that is done; an interruption is raised."""
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **keywords))
        except Exception as error:  # of whatever kind: the caller of the future handles it
            future.set_exception(error)
        return future


@contextmanager
def notebook_executor(jobs: int) -> Iterator[Executor]:
    """Yield an executor for notebooks: this process for one at a time, or processes that share the cores."""
    if jobs == 1:
        yield ThisProcess()
        return
    with WorkerPool(jobs, begin_worker) as executor:
        yield executor


def begin_worker() -> None:
    """Let Numba use as many threads as the pool gives to each process, and handle Ctrl-C; kernels inherit both."""
    os.environ.setdefault("NUMBA_NUM_THREADS", os.environ[THREADS])
    try:
        signal.signal(signal.SIGINT, interrupt)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # one that came before is raised here
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)
