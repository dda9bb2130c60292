"""A sweep: values are listed in a file, and each training is a session."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from ecgkit import paths
from ecgkit.cluster import check_places, workers
from ecgkit.errors import EcgkitError, one_line, shown
from ecgkit.evaluation.files import main_metric, read_history
from ecgkit.io import file_name, locked, read_toml
from ecgkit.sessions import Session
from ecgkit.training.config import flatten_tables
from ecgkit.workflow.chain import Work, finished, notebook_executor
from ecgkit.workflow.run import report, run_step
from ecgkit.workflow.space import encode
from ecgkit.workflow.steps import STEPS, recorded
from ecgkit.workflow.study import DATABASE, open_study, quiet_optuna, short, write_table

if TYPE_CHECKING:
    import optuna

SWEEPS = "sweeps"
"""The folder of sweeps under the root."""

# A notebook's session is named by the environment, which the threads of a process share.
_environment = threading.Lock()


@dataclass(frozen=True)
class Sweep:
    """A sweep as its file describes it.

    Attributes
    ----------
    file : Path
        The file.
    runs : tuple of dict
        The settings of each training: fields of `TrainingConfig`, or such as ``model_options.dropout``.
    """

    file: Path
    runs: tuple[dict[str, Any], ...]

    def folder(self, root: Path) -> Path:
        """Return the folder of its study."""
        return root / SWEEPS / file_name(self.file.stem)

    @property
    def varying(self) -> list[str]:
        """The names whose values differ between the runs, in the order of the file."""
        names = dict.fromkeys(name for run in self.runs for name in run)
        return [name for name in names if len({json.dumps(run.get(name)) for run in self.runs}) > 1]


def read_sweep(file: str | Path) -> Sweep:
    """Read the file of a sweep.

    Keys at the top are settings of all runs. ``[grid]`` holds lists, and each combination of their values is a run (the
    last one varies fastest); each ``[[run]]`` is one more. The path of a ``recipe`` is relative to the file.

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
        If the file cannot be read, or does not have this form.
    """
    path = Path(file).expanduser().resolve()
    fixed = read_toml(path)
    grid, extra = fixed.pop("grid", {}), fixed.pop("run", [])
    if not isinstance(grid, dict) or not isinstance(extra, list) or not all(isinstance(run, dict) for run in extra):
        raise EcgkitError(f"{path.name}: write [grid] once, with lists, and each further run as [[run]]")
    grid = flatten_tables(grid)
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise EcgkitError(f"{path.name}: {name} in [grid] is {shown(values)}: give a list with at least one value")
    if not grid and not extra:
        raise EcgkitError(f"{path.name} varies nothing: add [grid] with lists, or [[run]] entries")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())] if grid else []
    runs = [flatten_tables(fixed) | flatten_tables(run) for run in [*points, *extra]]
    for run in runs:
        if isinstance(run.get("recipe"), str):
            run["recipe"] = str(path.parent / run["recipe"])
    return Sweep(path, tuple(runs))


def settings_of(run: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings with ``model_options.dropout`` as a key of ``model_options``."""
    settings: dict[str, Any] = {}
    for name, value in run.items():
        table, _, key = name.rpartition(".")
        if table:
            settings[table] = settings.get(table, {}) | {key: value}
        else:
            settings[name] = value
    return settings


def check_sweep(sweep: Sweep, root: Path, *, test: bool) -> list[dict[str, Any]]:
    """Resolve the configuration of every run, before the first one starts and without writing anything.

    Returns
    -------
    list of dict
        The recorded configurations.

    Raises
    ------
    EcgkitError
        Naming the run, if a setting is unknown or refused, or two runs are the same.
    """
    configs: list[dict[str, Any]] = []
    for number, run in enumerate(sweep.runs, start=1):
        try:
            config = recorded(STEPS["train"].resolve(root, settings_of(run) | {"test": test}), root)
        except EcgkitError as error:
            raise EcgkitError(f"{sweep.file.name}, run {number} of {len(sweep.runs)}: {error}") from error
        if config in configs:
            raise EcgkitError(f"{sweep.file.name}: runs {configs.index(config) + 1} and {number} are the same")
        configs.append(config)
    return configs


def run_sweep(
    root: Path,
    sweep: Sweep,
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    test: bool = False,
    cell_timeout: int | None = None,
) -> pd.DataFrame:
    """Train what is not finished yet, each run in its own session.

    Parameters
    ----------
    root : Path
        The folder of data sets and sessions.
    sweep : Sweep
        The sweep.
    jobs : int, optional
        Number of trainings at the same time, each with its share of the cores; by default one.
    scheduler : str, optional
        Address of a Dask scheduler whose workers train instead; they need the same root.
    test : bool, default False
        Whether fold 10 is evaluated; without it, no run opens fold 10.
    cell_timeout : int, optional
        Seconds after which a cell of a notebook that has not ended is stopped, and its run failed; by default never.

    Returns
    -------
    DataFrame
        As `ecgkit.workflow.study.table_of`. A failure does not stop the other runs.

    Raises
    ------
    EcgkitError
        If a run is refused (before the first one starts), another process runs this sweep, or there is no scheduler.
    """
    root = paths.resolve_root(root)
    if jobs is not None and jobs < 1:
        raise EcgkitError(f"jobs is {jobs}: give a positive number")
    check_places(jobs, scheduler)
    configs = check_sweep(sweep, root, test=test)
    folder = sweep.folder(root)
    at_once = len(configs) if scheduler else min(jobs or 1, len(configs))
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet_optuna())
        data = [root / paths.PROCESSED / name for name in {config["dataset"] for config in configs}]
        cluster = stack.enter_context(workers(scheduler, sees=[root, *data]))
        executor = cluster or stack.enter_context(notebook_executor(at_once))
        folder.mkdir(parents=True, exist_ok=True)
        message = f"another process runs the sweep {sweep.file.stem}: wait until it has finished, or stop it"
        stack.enter_context(locked(folder / ".running", message))
        # The sessions are the memory of a sweep: its study is made anew, and finished sessions are found again.
        (folder / DATABASE).unlink(missing_ok=True)
        study, axes = open_study(folder, {"file": str(sweep.file)}, shared=False), axes_of(sweep)
        work: Work = deque((n, partial(train_one, root, config, cell_timeout)) for n, config in enumerate(configs))
        for n, future in finished(executor, work, at_once=at_once):
            values = {name: sweep.runs[n].get(name) for name in axes}
            study.enqueue_trial({name: encode(value) for name, value in values.items()})
            result = record_result(study, study.ask(axes), future)
            varied = " ".join(f"{name}={short(value)}" for name, value in values.items())
            report(f"{n + 1}/{len(configs)}  {varied}  {result}")
            table = write_table(folder, study)
        return table


def axes_of(sweep: Sweep) -> dict[str, Any]:
    """Return the values of each name that varies, as Optuna's distributions; None where a run leaves it unset."""
    from optuna.distributions import CategoricalDistribution

    values = {name: dict.fromkeys(encode(run.get(name)) for run in sweep.runs) for name in sweep.varying}
    return {name: CategoricalDistribution(tuple(found)) for name, found in values.items()}


class Trained(NamedTuple):
    """A finished training: its session, its macro AUC on fold 9 with the 95 % interval, and the seconds it took."""

    session: str
    auc: float
    low: float | None
    high: float | None
    seconds: float


def train_one(root: Path, config: dict[str, Any], cell_timeout: int | None) -> Trained:
    """Train in a new session, or find a finished one."""
    names = [item.name for item in dataclasses.fields(STEPS["train"].config_class)]
    with _environment:
        settings = {name: config[name] for name in names}
        outcome = run_step("train", root, verbose=False, quiet=True, cell_timeout=cell_timeout, **settings)
    session = Session(outcome.path)
    _, found = main_metric(session, "fold_9")
    if found["value"] is None:
        raise EcgkitError(f"{session.name}: the macro AUC of fold 9 is not defined")
    seconds = float(read_history(session)["seconds"].sum(min_count=1))
    return Trained(session.name, found["value"], found["low"], found["high"], seconds)


def record_result(study: optuna.Study, trial: optuna.Trial, future: Future[Trained]) -> str:
    """Record the result of a run in the study, and describe it; a failure is one run's, and the others continue."""
    import optuna

    try:
        trained = future.result()
    except Exception as error:  # of whatever kind
        trial.set_user_attr("error", one_line(error))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return f"failed  {one_line(error)}"
    for name in ("session", "seconds", "low", "high"):
        trial.set_user_attr(name, getattr(trained, name))
    study.tell(trial, trained.auc)
    return f"done  {trained.session}  fold 9 macro AUC {trained.auc:.4f}"


def over_seeds(table: pd.DataFrame, varying: Sequence[str]) -> pd.DataFrame:
    """Average the trials that differ in nothing but their seed.

    Parameters
    ----------
    table : DataFrame
        As from `ecgkit.workflow.study.table_of`.
    varying : sequence of str
        The names whose values differ between the trials.

    Returns
    -------
    DataFrame
        A row for each setting, in the order of the trials: its values, the number of ``seeds`` that are done, and
        the ``mean``, ``lowest`` and ``highest`` macro AUC on fold 9. Without rows if nothing but the seed varies.
    """
    names = [name for name in varying if name != "seed"]
    if len(names) == len(varying) or not names or "done" not in set(table["state"]):
        return pd.DataFrame()
    groups = table[table["state"] == "done"].sort_values("trial").groupby(names, sort=False, dropna=False)
    scores = groups["fold_9_macro_auc"].agg(["count", "mean", "min", "max"])
    return scores.set_axis(["seeds", "mean", "lowest", "highest"], axis="columns").reset_index()
