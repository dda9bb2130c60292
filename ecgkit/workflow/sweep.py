"""A sweep: many trainings from one TOML file, each in a session of its own, ranked by fold 9."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import json
import math
import re
import sys
import threading
import tomllib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from ecgkit import datasets, paths, sessions
from ecgkit.errors import EcgkitError
from ecgkit.io import json_bytes, locked, write_atomically
from ecgkit.workflow import chain as pipeline
from ecgkit.workflow.run import run_step, say
from ecgkit.workflow.steps import STEPS, recorded

FOLDER = "sweeps"
"""Where under the root the tables of sweeps lie."""

VERSION = 1
"""The version of the layout of a sweep's JSON file."""

WAITING, DONE, SKIPPED, FAILED = "waiting", "done", "skipped", "failed"

SHOWN = re.compile(r"epoch +\d+/|\S.*: (running|resuming) ")
"""What is shown of a run's output: where it runs and its epochs, not its report, which speaks of fold 10."""

ONE_AT_A_TIME = threading.Lock()
"""A run names its session by the environment and redirects standard output: a process has one of each."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep's file asks for.

    Attributes
    ----------
    file : Path
        The file.
    runs : tuple of dict
        The parameters of each run, as given.
    """

    file: Path
    runs: tuple[dict[str, Any], ...]

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.file.stem

    @property
    def varying(self) -> list[str]:
        """The parameters that are not the same in all runs, in the order of the file."""
        names = dict.fromkeys(name for run in self.runs for name in run)
        return [name for name in names if len({json.dumps(run.get(name)) for run in self.runs}) > 1]


@dataclass(frozen=True)
class Task:
    """One run, ready to be handed to another process.

    Attributes
    ----------
    root : Path
        The folder that holds data sets and sessions.
    number, of : int
        Its place in the sweep, from 1, and how many there are.
    parameters : dict
        Of the notebook 2_Training.
    config : dict
        The configuration as resolved, by which its session is found.
    """

    root: Path
    number: int
    of: int
    parameters: dict[str, Any]
    config: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What came of one run.

    Attributes
    ----------
    number : int
        Its place in the file, from 1.
    parameters : dict
        As given.
    state : str
        ``"waiting"``, ``"done"``, ``"skipped"`` (finished by an earlier call) or ``"failed"``.
    session : str or None
        Name of its session, if it has come so far.
    fold_9_macro_auc : float or None
        Of the best checkpoint.
    seconds : float or None
        Of the training's epochs, earlier calls included.
    error : str
        One line; empty unless it failed.
    """

    number: int
    parameters: dict[str, Any]
    state: str = WAITING
    session: str | None = None
    fold_9_macro_auc: float | None = None
    seconds: float | None = None
    error: str = ""


def read_sweep(file: str | Path) -> Sweep:
    """Read a sweep's file.

    Keys at the top are parameters of every run. ``[grid]`` holds lists, every combination of which is a run (the last
    one varies fastest); each ``[[run]]`` is one more. A ``recipe`` is taken from the file's own folder.

    Parameters
    ----------
    file : str or Path
        A TOML file.

    Returns
    -------
    Sweep

    Raises
    ------
    EcgkitError
        If there is no such file, it is no TOML, or its parts are not of this form.
    """
    path = Path(file).expanduser().resolve()
    try:
        fixed = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EcgkitError(f"cannot read the sweep {path}: {error}") from error
    grid, extra = fixed.pop("grid", {}), fixed.pop("run", [])
    if not isinstance(grid, dict):
        raise EcgkitError(f"{path.name}: grid is a {type(grid).__name__}: write it as [grid], once")
    if not isinstance(extra, list) or not all(isinstance(run, dict) for run in extra):
        raise EcgkitError(f"{path.name}: run is a {type(extra).__name__}: write each run as [[run]]")
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise EcgkitError(f"{path.name}: {name} in [grid] is {values!r}: give a list with at least one value")
    if not grid and not extra:
        raise EcgkitError(f"{path.name} varies nothing: add [grid] with lists, or [[run]] entries")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())] if grid else []
    return Sweep(path, tuple(beside(path, fixed | run) for run in [*points, *extra]))


def beside(file: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    """Take a recipe's path from the sweep's folder, since notebooks run in another one."""
    recipe = parameters.get("recipe")
    return parameters | {"recipe": str(file.parent / recipe)} if isinstance(recipe, str) else parameters


def plan(sweep: Sweep, root: Path) -> list[Task]:
    """Check every run, before the first one starts and without writing anything.

    Parameters
    ----------
    sweep : Sweep
        What is asked for.
    root : Path
        The folder that holds data sets and sessions.

    Returns
    -------
    list of Task

    Raises
    ------
    EcgkitError
        Naming the run, if a parameter is unknown or does not fit, or two runs are the same.
    """
    tasks: list[Task] = []
    for number, given in enumerate(sweep.runs, start=1):
        try:
            check_run(given)
            config = recorded(STEPS["train"].resolve(root, given), root)
        except EcgkitError as error:
            raise EcgkitError(f"{sweep.file.name}, run {number} of {len(sweep.runs)}: {error}") from error
        if same := [task.number for task in tasks if task.config == config]:
            raise EcgkitError(f"{sweep.file.name}: runs {same[0]} and {number} are the same: take one out")
        tasks.append(Task(root, number, len(sweep.runs), dict(given), config))
    return tasks


def check_run(given: dict[str, Any]) -> None:
    """Refuse what is missing, and numbers that are not finite."""
    if missing := [name for name in ("dataset", "model") if name not in given]:
        raise EcgkitError(f"no {missing[0]} is given: write it at the top, in [grid] or in [[run]]")
    if infinite := [name for name, value in given.items() if isinstance(value, float) and not math.isfinite(value)]:
        raise EcgkitError(f"{infinite[0]} is {given[infinite[0]]}: give a finite number")


def run(root: Path, sweep: Sweep, *, jobs: int | None = None, scheduler: str | None = None) -> list[Outcome]:
    """Run what is not finished yet, and keep the tables in ``ROOT/sweeps`` up to date.

    Parameters
    ----------
    root : Path
        The folder that holds data sets and sessions.
    sweep : Sweep
        What is asked for.
    jobs : int, optional
        Notebooks that run at once, each in a process with its share of the cores; by default one.
    scheduler : str, optional
        Address of a Dask scheduler whose workers run the notebooks instead; they need this very root.

    Returns
    -------
    list of Outcome
        Best fold 9 first; failures, which do not stop the rest, last.

    Raises
    ------
    EcgkitError
        If a run does not fit (before the first one starts), another process runs this sweep, or there is no scheduler.
    """
    root = paths.resolve_root(root)
    if jobs is not None and jobs < 1:
        raise EcgkitError(f"jobs is {jobs}: give a positive number")
    if jobs is not None and scheduler is not None:
        raise EcgkitError("--jobs is for this machine, and a cluster has its own workers: give it or --scheduler")
    tasks = plan(sweep, root)
    at_once = len(tasks) if scheduler else min(jobs or 1, len(tasks))
    outcomes = [Outcome(task.number, task.parameters) for task in tasks]
    with contextlib.ExitStack() as stack:
        executor = stack.enter_context(open_executor(at_once, scheduler))
        (root / FOLDER).mkdir(exist_ok=True)
        otherwise = f"another process runs the sweep {sweep.name}: wait until it is done, or end it"
        stack.enter_context(locked(root / FOLDER / f".{sweep.name}.lock", otherwise))
        write_tables(root, sweep, outcomes)
        for outcome in as_they_end(tasks, executor, at_once):
            outcomes[outcome.number - 1] = outcome
            say(describe(outcome, sweep))
            write_tables(root, sweep, outcomes)
    return ranked(outcomes)


@contextlib.contextmanager
def open_executor(jobs: int, scheduler: str | None) -> Iterator[Executor | None]:
    """Give the executor of the runs: None for this very process, a pool of processes, or a Dask client's."""
    if scheduler is not None:
        with dask_client(scheduler) as client:
            yield client.get_executor(pure=False)
    elif jobs == 1:
        yield None
    else:
        threads = max(1, datasets.n_cores() // jobs)
        context = get_context("spawn")
        with ProcessPoolExecutor(jobs, context, initializer=pipeline.limit_threads, initargs=(threads,)) as executor:
            yield executor


def dask_client(address: str) -> Any:
    """Connect to a Dask scheduler.

    Raises
    ------
    EcgkitError
        If ``dask.distributed`` is not installed, or nobody answers.
    """
    try:
        distributed = importlib.import_module("distributed")
    except ImportError as error:
        raise EcgkitError("--scheduler needs dask.distributed, which is not there: pip install distributed") from error
    try:
        return distributed.Client(address)
    except (OSError, ValueError) as error:
        raise EcgkitError(f"no Dask scheduler answers at {address}: start one by `dask scheduler` ({error})") from error


def as_they_end(tasks: Sequence[Task], executor: Executor | None, at_once: int) -> Iterator[Outcome]:
    """Run tasks and give what came of each as it ends.

    No more are handed over than run at once: after an interruption none is left that a worker would still take up.
    """
    if executor is None:
        yield from map(run_task, tasks)
        return
    waiting, running = deque(tasks), dict[Future[Outcome], Task]()
    while waiting or running:
        while waiting and len(running) < at_once:
            task = waiting.popleft()
            running[submit(executor, task)] = task
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield outcome_of(future, running.pop(future))


def submit(executor: Executor, task: Task) -> Future[Outcome]:
    """Hand a task over; of an executor that is broken comes a future that says so."""
    try:
        return executor.submit(run_task, task)
    except BrokenExecutor as error:
        future: Future[Outcome] = Future()
        future.set_exception(error)
        return future


def outcome_of(future: Future[Outcome], task: Task) -> Outcome:
    """Read a future; a task whose worker died has failed like any other."""
    try:
        return future.result()
    except BrokenExecutor:
        return failure(task, "a worker process ended before its time: free memory or lower --jobs, then run it again")
    except Exception as error:  # of whatever kind: it is one run's, and the others go on
        return failure(task, error)


def run_task(task: Task) -> Outcome:
    """Train in a session of its own, or in one that was cut off, unless a finished one is there."""
    try:
        with ONE_AT_A_TIME, contextlib.redirect_stdout(RunLines(sys.stdout, f"{task.number}/{task.of}  ")):
            step = run_step("train", task.root, **task.parameters)
        session = sessions.Session(step.path)
        auc = session.read_json("metrics.json")["fold_9"]["macro"]["auc"]["value"]
        return Outcome(
            task.number, task.parameters, SKIPPED if step.skipped else DONE, session.name, auc, seconds(session)
        )
    except Exception as error:  # of whatever kind: a failure does not stop the rest
        return failure(task, error)


def failure(task: Task, error: Exception | str) -> Outcome:
    """Put an error into one line, with the session that it left behind."""
    known = isinstance(error, (str, EcgkitError))
    text = str(error) if known else f"{type(error).__name__}: {error}"
    left = [s for s in sessions.matching(paths.TRAINING, task.root, task.config) if not s.is_done]
    name = left[-1].name if left else None
    return Outcome(task.number, task.parameters, FAILED, name, error=" ".join(text.split()))


def seconds(session: sessions.Session) -> float | None:
    """Add up how long the epochs of a training took."""
    try:
        return round(float(pd.read_csv(session.path / "history.csv")["seconds"].sum()), 1)
    except (OSError, ValueError, KeyError):
        return None


class RunLines(io.TextIOBase):
    """A text file that passes on those whole lines of a run that a sweep shows.

    Parameters
    ----------
    target : text file
        Where they go.
    prefix : str
        What each begins with.
    """

    def __init__(self, target: TextIO, prefix: str) -> None:
        self.target, self.prefix, self.rest = target, prefix, ""

    def write(self, text: str) -> int:
        """Take text, of which the last line may come in parts."""
        *lines, self.rest = (self.rest + text).split("\n")
        self.target.writelines(f"{self.prefix}{line}\n" for line in lines if SHOWN.match(line))
        return len(text)

    def flush(self) -> None:
        """Show at once what has been passed on."""
        self.target.flush()


def ranked(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Sort by fold 9, the best first; what has no AUC comes last, in the order of the file."""
    return sorted(
        outcomes, key=lambda one: -math.inf if one.fold_9_macro_auc is None else one.fold_9_macro_auc, reverse=True
    )


def describe(outcome: Outcome, sweep: Sweep) -> str:
    """Say in one line what came of a run."""
    given = outcome.parameters
    varying = " ".join(f"{name}={given[name]}" for name in sweep.varying if name in given)
    auc = outcome.fold_9_macro_auc
    result = outcome.error or (f"fold 9 macro AUC {auc:.4f}" if auc is not None else "fold 9 macro AUC not defined")
    parts = (f"{outcome.number}/{len(sweep.runs)}", outcome.state, varying, outcome.session, result)
    return "  ".join(part for part in parts if part)


def table(sweep: Sweep, outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Lay out a sweep's outcomes, best fold 9 first.

    Returns
    -------
    DataFrame
        The parameters that vary, then ``session``, ``state``, ``fold_9_macro_auc``, ``seconds`` and ``error``.
    """
    columns = ("session", "state", "fold_9_macro_auc", "seconds", "error")
    rows = [
        {name: one.parameters.get(name) for name in sweep.varying} | {name: getattr(one, name) for name in columns}
        for one in ranked(outcomes)
    ]
    return pd.DataFrame(rows, columns=[*sweep.varying, *columns], dtype=object)  # an int beside a None stays one


def table_path(root: Path, sweep: Sweep) -> Path:
    """Say where a sweep's table lies; the same with every parameter is beside it as ``.json``."""
    return root / FOLDER / f"{sweep.name}.csv"


def check_path(path: Path, sweep: Sweep) -> None:
    """Make sure that a table is not that of another file of the same name.

    Raises
    ------
    EcgkitError
        If it is.
    """
    try:
        other = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["file"]
    except (OSError, ValueError, KeyError):
        return
    if other != str(sweep.file):
        raise EcgkitError(f"{path} is the table of {other}: rename {sweep.file}, or move the table away")


def write_tables(root: Path, sweep: Sweep, outcomes: Sequence[Outcome]) -> None:
    """Write the tables of a sweep, whole or not at all."""
    path = table_path(root, sweep)
    check_path(path, sweep)
    write_atomically(path, table(sweep, outcomes).to_csv(index=False).encode())
    data = {"version": VERSION, "file": str(sweep.file), "runs": [asdict(one) for one in ranked(outcomes)]}
    write_atomically(path.with_suffix(".json"), json_bytes(data))
