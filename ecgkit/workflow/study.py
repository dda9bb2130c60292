"""Many trainings in one Optuna study on disk, and a search for better hyperparameters on fold 9."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ecgkit import paths, sessions
from ecgkit.errors import EcgkitError, one_line, require
from ecgkit.io import csv_bytes, json_bytes, locked, read_json, toml_value, write_atomically
from ecgkit.sessions import Session
from ecgkit.training.config import OPTION_TABLES
from ecgkit.workflow.run import report
from ecgkit.workflow.space import (
    NOT_VARIED,
    apply,
    ends,
    position_of,
    read_space,
    suggest,
)
from ecgkit.workflow.steps import STEPS, recorded

if TYPE_CHECKING:
    import optuna

    from ecgkit.training import TrainingConfig

SEARCHES = "searches"
"""The folder of searches under the root."""

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
    search = Search(root / SEARCHES / name, root, config, read_space(config, space))
    from ecgkit.training.checks import check_training  # loads torch, which a wrong name need not wait for

    networks = {json.dumps([end.model_options, end.crop_seconds]): end for end in ends(config, search.space)}
    first, *others = networks.values()
    check_training(first, root, *others)
    return search


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
    lines += [f"{name} = {toml_value(value)}" for name, value in kept.items() if name not in OPTION_TABLES]
    for name in OPTION_TABLES:
        if options := kept[name]:
            lines += ["", f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in options.items())]
    return "\n".join(lines) + "\n"


def short(value: Any) -> str:
    """Write a value in few letters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
