"""Many trainings in one Optuna study on disk: a sweep over given values, and a search for better ones, on fold 9."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import re
import shutil
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ecgkit import paths, sessions
from ecgkit.cluster import check_places, workers
from ecgkit.errors import EcgkitError, one_line, require, shown
from ecgkit.evaluation.files import main_metric, read_history
from ecgkit.io import csv_bytes, file_name, json_bytes, locked, read_json, read_toml, toml_value, write_atomically
from ecgkit.sessions import Session
from ecgkit.workflow.chain import Work, finished, notebook_executor
from ecgkit.workflow.run import report, run_step
from ecgkit.workflow.space import (
    NOT_VARIED,
    TABLES,
    apply,
    encode,
    flatten_tables,
    position_of,
    read_space,
    suggest,
)
from ecgkit.workflow.steps import STEPS, recorded

if TYPE_CHECKING:
    import optuna

    from ecgkit.training import TrainingConfig

SWEEPS, SEARCHES = "sweeps", "searches"
"""The folders of studies under the root."""

DATABASE, ABOUT, TABLE, RECIPE = "study.db", "study.json", "trials.csv", "best.toml"
"""Optuna's storage, what is varied around which configuration, the table of trials, and the recipe of the best."""

VERSION = 2
"""The version of the layout of a study's folder."""

STATES = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
HEARTBEAT, GRACE = 30, 120
"""Seconds between two signs of life of a trial, and without one until it has failed and its values are tried again."""

START_UP = 5
"""The number of trials before the first one can be pruned, so that there is a median to compare with."""

MIN_TRIALS = 4
"""The number of finished trials that the figures need."""

# A notebook's session is named by the environment, which the threads of a process share.
_environment = threading.Lock()


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silence Optuna's own lines and its notes on experimental features; real warnings stay."""
    optuna = require("optuna", "search")
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def open_study(
    folder: Path, about: dict[str, Any], *, shared: bool, pruner: optuna.pruners.BasePruner | None = None
) -> optuna.Study:
    """Open a study, or create it.

    Parameters
    ----------
    folder : Path
        Its folder.
    about : dict
        The space and the configuration around it, as JSON data.
    shared : bool
        Whether several processes run its trials: they then give signs of life.
    pruner : optuna.pruners.BasePruner, optional
        Ends trials early.

    Returns
    -------
    optuna.Study
        In ``study.db``, which ``optuna-dashboard sqlite:///FOLDER/study.db`` shows. In a shared study, a trial of a
        process that was killed fails after `GRACE` seconds, and its values are tried again.

    Raises
    ------
    EcgkitError
        If the study was created with another configuration, dataset or space.
    """
    import optuna
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback

    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", f"another process is opening {folder}: try again", timeout=60):
        about = json.loads(json_bytes(about | {"version": VERSION}))
        if not (folder / ABOUT).is_file():
            write_atomically(folder / ABOUT, json_bytes(about))
        elif (before := read_json(folder / ABOUT, way_out="choose another name for the study")) != about:
            changed = ", ".join(sessions.describe_differences(before, about))
            raise EcgkitError(f"the study {folder} was created differently ({changed}): choose another name for it")
        alive: dict[str, Any] = {
            "heartbeat_interval": HEARTBEAT,
            "grace_period": GRACE,
            "heartbeat_stale_trial_callback": RetryHeartbeatStaleTrialCallback(),
        }
        url, connect = f"sqlite:///{folder / DATABASE}", {"connect_args": {"timeout": 60}}
        storage = RDBStorage(url, engine_kwargs=connect, **(alive if shared else {}))
        return optuna.create_study(
            storage=storage,
            study_name=folder.name,
            direction="maximize",
            load_if_exists=True,
            pruner=pruner,
        )


def table_of(study: optuna.Study) -> pd.DataFrame:
    """Return one row per trial, best fold 9 first.

    Returns
    -------
    DataFrame
        ``trial``, ``state`` (done, pruned, failed, running), ``fold_9_macro_auc`` and, of a sweep, its 95 % interval
        ``fold_9_low`` and ``fold_9_high``; ``best_epoch`` (from 1) and ``epochs_run`` where epochs are reported;
        ``seconds``, a column per name that varies, ``session`` and ``error``.
    """
    rows = []
    for trial in study.trials:
        if trial.state.name == "WAITING":
            continue
        epochs = {epoch: auc for epoch, auc in trial.intermediate_values.items() if not math.isnan(auc)}
        best = max(epochs, key=lambda epoch: (epochs[epoch], -epoch), default=None)
        rows.append(
            {
                "trial": trial.number,
                "state": STATES[trial.state.name],
                "fold_9_macro_auc": max(epochs.values(), default=math.nan) if trial.value is None else trial.value,
                "fold_9_low": trial.user_attrs.get("low"),
                "fold_9_high": trial.user_attrs.get("high"),
                "best_epoch": best,
                "epochs_run": len(trial.intermediate_values) or None,
                "seconds": trial.user_attrs.get("seconds", trial.duration and trial.duration.total_seconds()),
                **trial.params,
                "session": trial.user_attrs.get("session"),
                "error": trial.user_attrs.get("error", ""),
            }
        )
    if not rows:
        return pd.DataFrame(columns=["trial", "state"])
    table = pd.DataFrame(rows).astype({"best_epoch": "Int64", "epochs_run": "Int64"}).round({"seconds": 1})
    order = {state: number for number, state in enumerate(STATES.values())}
    table = table.sort_values(["fold_9_macro_auc", "trial"], ascending=[False, True])
    table = table.sort_values("state", key=lambda states: states.map(order), kind="stable", ignore_index=True)
    some = ("fold_9_low", "fold_9_high", "best_epoch", "epochs_run", "session")
    return table.drop(columns=[name for name in some if table[name].isna().all()])


def over_seeds(table: pd.DataFrame, varying: Sequence[str]) -> pd.DataFrame:
    """Average the trials that differ in nothing but their seed.

    Parameters
    ----------
    table : DataFrame
        As from `table_of`.
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
    scores = {"seeds": "count", "mean": "mean", "lowest": "min", "highest": "max"}
    return groups["fold_9_macro_auc"].agg(**scores).reset_index()


def write_table(folder: Path, study: optuna.Study) -> pd.DataFrame:
    """Write ``trials.csv`` and return the table."""
    table = table_of(study)
    write_atomically(folder / TABLE, csv_bytes(table))
    return table


def draw(folder: Path, study: optuna.Study) -> None:
    """Draw Optuna's figures of a study: its history, the importance of each parameter, and their values."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    import optuna
    from optuna.visualization import matplotlib as figures

    from ecgkit.plots.style import STYLE

    done = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    varied = [name for name in (done[0].params if done else {}) if len({str(t.params.get(name)) for t in done}) > 1]
    if len(done) < MIN_TRIALS or not varied or len({trial.value for trial in done}) == 1:
        return
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    with mpl.rc_context(STYLE):
        for name, axes in (
            ("history", figures.plot_optimization_history(study)),
            ("importances", figures.plot_param_importances(study, evaluator=evaluator, params=varied)),
            ("slices", figures.plot_slice(study, params=varied)),
        ):
            figure = np.ravel(np.asarray(axes, dtype=object))[0].figure
            figure.axes[0].set_title("")
            sessions.save_picture(figure, folder / f"{name}.png")
            plt.close(figure)


# A search: values are suggested by Optuna, and folds 1-9 are all that is opened.


@dataclass(frozen=True)
class Search:
    """A search for hyperparameters.

    Attributes
    ----------
    folder : Path
        The study's folder, ``ROOT/searches/NAME``.
    root : Path
        The folder of data sets and sessions.
    config : TrainingConfig
        The recipe that the space surrounds.
    space : dict
        Optuna's distributions, by name.
    """

    folder: Path
    root: Path
    config: TrainingConfig
    space: dict[str, Any]

    @property
    def about(self) -> dict[str, Any]:
        """What makes two processes work on the same study; precision and device are each machine's own."""
        from optuna.distributions import distribution_to_json

        values = recorded(self.config, self.root)
        config = {name: value for name, value in values.items() if name not in ("precision", "device")}
        return {"config": config, "space": {n: json.loads(distribution_to_json(d)) for n, d in self.space.items()}}


def plan_search(root: Path, *, study: str | None = None, space: str | Path | None = None, **settings: Any) -> Search:
    """Check a search, without writing anything and without opening fold 10.

    Parameters
    ----------
    root : Path
        The folder of data sets and sessions.
    study : str, optional
        Name of the study; by default model, dataset and label set.
    space : str or Path, optional
        A TOML file, see `ecgkit.workflow.space.read_space`; by default the space that ships.
    **settings
        Fields of `TrainingConfig`, which all trials share unless the space varies them.

    Returns
    -------
    Search

    Raises
    ------
    EcgkitError
        If a name is unknown or a value is refused.
    """
    root = paths.resolve_root(root)
    config = STEPS["train"].resolve(root, settings | {"test": False, "save_every_epoch": False})
    name = study or f"{Path(config.model).name}_{config.dataset}_{config.label_set or config.target}".replace(":", "_")
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise EcgkitError(f"study is {name!r}: give a name of letters, digits, dots, hyphens and underscores")
    return Search(root / SEARCHES / name, root, config, read_space(config, space))


def run_search(search: Search, *, trials: int, timeout: float | None = None) -> pd.DataFrame:
    """Run a study until it has this many trials in total; several processes may do so at the same time.

    Parameters
    ----------
    search : Search
        The search.
    trials : int
        Trials that the study has in the end, those of earlier calls and of other processes included.
    timeout : float, optional
        Seconds after which no further trial begins.

    Returns
    -------
    DataFrame
        As `table_of`.

    Raises
    ------
    EcgkitError
        If a number is not positive, or the study was created with another configuration, dataset or space.

    Notes
    -----
    Values are chosen by the tree-structured Parzen estimator (Bergstra et al., 2011; multivariate, Falkner et al.,
    2018). A trial is pruned when its best macro AUC so far is below the median of the others at the same epoch.
    """
    for name, value in {"trials": trials, "timeout": timeout}.items():
        if value is not None and not value > 0:
            raise EcgkitError(f"{name} is {value}: give a positive number")
    with quiet_optuna():
        import optuna
        from optuna.study import MaxTrialsCallback

        # The learning rate rises first: the first third of the epochs does not predict the last one.
        pruner = optuna.pruners.MedianPruner(n_startup_trials=START_UP, n_warmup_steps=search.config.epochs // 3 + 1)
        study = open_study(search.folder, search.about, shared=True, pruner=pruner)
        # Another seed for each call: a resumed search would suggest its first values again.
        seed = np.random.SeedSequence([search.config.seed, len(study.trials)]).generate_state(1)[0]
        study.sampler = optuna.samplers.TPESampler(seed=int(seed), multivariate=True, constant_liar=True)
        recipe = position_of(search.config, search.space)
        if recipe is not None and not study.trials:
            study.enqueue_trial(recipe)  # the first trial, so that a search shows its gain over the recipe
        ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.FAIL)
        if sum(trial.state in ended for trial in study.trials) < trials:
            study.optimize(
                lambda trial: objective(search, trial),
                timeout=timeout,
                catch=(Exception,),
                callbacks=[lambda study, trial: publish(search, study, trial), MaxTrialsCallback(trials, states=ended)],
            )
        draw(search.folder, study)
        return write_table(search.folder, study)


def objective(search: Search, trial: optuna.Trial) -> float:
    """Train once in the trial's own folder and return the best macro AUC on fold 9."""
    import optuna

    from ecgkit.training import fit, training_data

    aucs: list[float] = []

    def on_epoch(epoch: int, auc: float) -> None:
        aucs.append(auc)
        trial.report(auc, epoch)
        if epoch < config.epochs and trial.should_prune():
            raise optuna.TrialPruned

    folder = trial_folder(search.folder, trial.number)
    try:
        config = apply(search.config, suggest(trial, search.space))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        fit(Session(folder), config, training_data(config, search.root), on_epoch=on_epoch)
    except optuna.TrialPruned:
        raise
    except KeyboardInterrupt:
        trial.study.enqueue_trial(trial.params)
        raise
    except Exception as error:
        trial.set_user_attr("error", one_line(error))
        raise
    return max(auc for auc in aucs if not math.isnan(auc))


def trial_folder(folder: Path, number: int) -> Path:
    """Return the folder of a trial's files."""
    return folder / "trials" / f"trial_{number}"


def publish(search: Search, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """After a trial, print its result, write the table and the best recipe, and delete the weights of all others."""
    table = write_table(search.folder, study).set_index("trial")
    row = table.loc[trial.number]
    auc = f"fold 9 macro AUC {row['fold_9_macro_auc']:.4f}"
    values = " ".join(f"{name}={short(value)}" for name, value in trial.params.items())
    report(f"trial {trial.number}  {row['state']}  {values}  {trial.user_attrs.get('error') or auc}")
    best = table.index[0] if table["state"].iloc[0] == "done" else None
    if best is not None:
        write_atomically(search.folder / RECIPE, recipe_text(search, study.trials[best]).encode())
        (trial_folder(search.folder, best) / "weights" / "last.ckpt").unlink(missing_ok=True)
    for number in table.index[table["state"] != "running"]:
        if number != best:
            shutil.rmtree(trial_folder(search.folder, number) / "weights", ignore_errors=True)


def recipe_text(search: Search, trial: optuna.trial.FrozenTrial) -> str:
    """Write a trial's configuration as a recipe, without what each machine and each training decides."""
    left_out = {*NOT_VARIED} - {"label_set", "target", "min_records", "seed"}
    config = asdict(apply(search.config, trial.params))
    kept = {name: value for name, value in config.items() if name not in left_out}
    lines = [f"# trial {trial.number} of the study {search.folder.name}: macro AUC {trial.value:.4f} on fold 9"]
    lines += [f"{name} = {toml_value(value)}" for name, value in kept.items() if name not in TABLES]
    for name in TABLES:
        if options := kept[name]:
            lines += ["", f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in options.items())]
    return "\n".join(lines) + "\n"


def short(value: Any) -> str:
    """Write a value in few letters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# A sweep: values are listed in a file, and each training is a session.


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
            settings.setdefault(table, {})[key] = value
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
        As `table_of`. A failure does not stop the other runs.

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
    found = main_metric(session, "fold_9")
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
