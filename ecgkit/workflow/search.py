"""A search for hyperparameters: many short trainings on folds 1-8, judged by fold 9 alone, in one study on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ecgkit import paths, sessions
from ecgkit.datasets.store import Dataset, open_dataset, read_manifest
from ecgkit.errors import EcgkitError
from ecgkit.io import json_bytes, toml_value, write_atomically
from ecgkit.sessions import Session
from ecgkit.stats.folds import TRAIN_FOLDS, VALIDATION_FOLD
from ecgkit.training import TrainingConfig, configure, fit
from ecgkit.training.model import new_model
from ecgkit.workflow.space import Range, Space, apply, read_space
from ecgkit.workflow.sweep import RunLines
from ecgkit.workflow.workers import Worker, enrolled

if TYPE_CHECKING:
    import optuna

FOLDER = "searches"
"""Where under the root the studies lie."""

FOLDS = (*TRAIN_FOLDS, VALIDATION_FOLD)
"""The folds that a search opens."""

VERSION = 1
"""The version of the layout of a study's folder."""

JOURNAL, ABOUT, TABLE, RECIPE, LOG = "journal.log", "search.json", "trials.csv", "best.toml", "search_log.txt"

STATES = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
INTERRUPTED = "interrupted"
"""The state of a trial whose process ended; it does not count, and its values are tried again."""

COUNTED = ("done", "pruned", "failed")

MIN_TRIALS = 4
"""Finished trials from which importances are drawn."""

N_SLICES = 6
"""Names, the most important ones, whose values are drawn against the AUC."""

GRACE = 10
"""Seconds after which the lock of a process that was killed while it wrote is taken from it; to write takes none."""

START_UP = 5
"""Trials that none is pruned before, so that there is a median to compare with."""

Values = dict[str, Any]


@dataclass(frozen=True)
class SearchPlan:
    """What is going to be searched.

    Attributes
    ----------
    folder : Path
        The study's folder, ``ROOT/searches/NAME``.
    config : TrainingConfig
        The recipe that the space lies around.
    dataset : Dataset
        Opened with folds 1 to 9 only.
    space : Space
        What is varied.
    """

    folder: Path
    config: TrainingConfig
    dataset: Dataset
    space: Space

    @property
    def recorded(self) -> dict[str, Any]:
        """What makes two processes work on the same study; the precision is each machine's own."""
        config = {name: value for name, value in asdict(self.config).items() if name != "precision"}
        facts = {"version": VERSION, "config": config, "dataset_fingerprint": self.dataset.fingerprint}
        return facts | {"space": self.space.recorded}

    @property
    def words(self) -> str:
        """The model, the dataset and the label set in words."""
        return f"{self.config.model} on {self.config.dataset}, {self.config.label_set}"


@dataclass(frozen=True)
class SearchResult:
    """What a study holds.

    Attributes
    ----------
    folder : Path
        Its folder.
    trials : DataFrame
        One row a trial, the best first, as in ``trials.csv``: ``trial`` (its number), ``state`` (done, pruned, failed,
        interrupted, running), ``fold_9_macro_auc`` and ``best_epoch`` (from 1) of its best epoch,
        ``epochs_run``, ``seconds``, a column for every name of the space, and ``error`` (one line).
    """

    folder: Path
    trials: pd.DataFrame

    def count(self, *states: str) -> int:
        """Count the trials in these states."""
        return int(self.trials["state"].isin(states).sum())

    @property
    def recipe(self) -> Path | None:
        """The recipe of the best trial, if any is done."""
        return self.folder / RECIPE if self.count("done") else None


def plan(
    root: Path,
    *,
    model: str,
    dataset: str = "ptbxl",
    study: str | None = None,
    space: str | Path | None = None,
    **settings: Any,
) -> SearchPlan:
    """Check a search, without writing anything and without opening fold 10.

    Parameters
    ----------
    root : Path
        The folder that holds data sets and searches.
    model : str
        Name of an architecture.
    dataset : str
        Name of a processed dataset.
    study : str, optional
        Name of the study's folder; by default made of model, dataset and label set.
    space : str or Path, optional
        A TOML file, see `ecgkit.workflow.space.read_space`; by default the space that ships.
    **settings
        Fields of `TrainingConfig`, or ``recipe``; None leaves the recipe's value.

    Returns
    -------
    SearchPlan

    Raises
    ------
    EcgkitError
        If a name is unknown, a value does not fit, the dataset lacks a fold, or several processes train together.
    """
    if "WORLD_SIZE" in os.environ:
        raise EcgkitError("a trial trains in one process: start `ecgkit search` several times instead of by torchrun")
    folder = root / paths.PROCESSED / dataset
    source = read_manifest(folder)["source"]["name"]
    config = configure(dataset=dataset, model=model, source=source, **settings)
    config = dataclasses.replace(config, save_every_epoch=False)
    opened = open_dataset(folder, label_set=config.label_set, min_records=config.min_records, folds=FOLDS)
    opened.check_splits()
    name = study or f"{model}_{dataset}_{config.label_set}"
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise EcgkitError(f"study is {name!r}: give a name of letters, digits, dots, hyphens and underscores")
    read = read_space(config, space)
    check_models(read, config, opened)
    return SearchPlan(root / FOLDER / name, config, opened, read)


def check_models(space: Space, config: TrainingConfig, dataset: Dataset) -> None:
    """Make sure that the architecture can be built at every end of the space.

    Raises
    ------
    EcgkitError
        If it cannot.
    """
    shapes = {json.dumps([one.crop_seconds, one.metadata, one.model_options]): one for one in space.corners(config)}
    for shape, one in shapes.items():
        try:
            new_model(one, dataset)
        except EcgkitError:
            raise
        except Exception as error:  # of whatever kind: it is the architecture's way to refuse its options
            raise EcgkitError(f"{config.model} cannot be built with {shape}: {one_line(error)}") from error


def run(plan: SearchPlan, *, trials: int, timeout: float | None = None) -> SearchResult:
    """Go on with a study until it has this many trials in all; several processes may do so at once.

    Parameters
    ----------
    plan : SearchPlan
        What is searched.
    trials : int
        Trials that the study has in the end, earlier calls and other processes included. Those that failed or were
        pruned count; those that were interrupted do not.
    timeout : float, optional
        Seconds after which no further trial begins.

    Returns
    -------
    SearchResult
        Fewer trials than asked for are finished where another process has still some to do, or the time was up.

    Raises
    ------
    EcgkitError
        If a number is not positive, or the study was begun with another configuration, dataset or space.

    Notes
    -----
    Values are chosen by the tree-structured Parzen estimator (Bergstra et al., 2011; multivariate, Falkner et al.,
    2018), from a seed made of that of the configuration and the trial's number. A trial ends early when its best macro
    AUC so far is below the median of the others at the same epoch.
    """
    if trials < 1:
        raise EcgkitError(f"trials is {trials}: give a positive number")
    if timeout is not None and not timeout > 0:
        raise EcgkitError(f"timeout is {timeout}: give a positive number of seconds")
    until = time.monotonic() + (math.inf if timeout is None else timeout)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with quiet_optuna(), enrolled(plan.folder / "workers") as worker:
        study = open_study(plan)
        log(plan, f"{plan.words}: {describe(plan, study)}")
        while time.monotonic() < until and (trial := next_trial(plan, study, worker, trials)) is not None:
            run_trial(plan, study, trial)
        result = publish(plan, study)
        draw(plan, study, result.trials)
    return result


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna's own lines and its notes on what is new in it off the screen; warnings of trouble stay."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a study against the other processes for a moment: by a file that only one can make, on NFS as well."""
    from optuna.storages.journal import JournalFileOpenLock

    lock = JournalFileOpenLock(str(folder / "study"), grace_period=GRACE)
    lock.acquire()
    try:
        yield
    finally:
        with contextlib.suppress(RuntimeError):  # this process was stopped for so long that another took the lock
            lock.release()


def open_study(plan: SearchPlan) -> optuna.Study:
    """Open a study, or begin it with the recipe itself as the first trial.

    Raises
    ------
    EcgkitError
        If it was begun with another configuration, dataset or space.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    journal = plan.folder / JOURNAL
    lock = JournalFileOpenLock(str(journal), grace_period=GRACE)
    with exclusive(plan.folder):
        check_same(plan)
        mend(journal, lock)
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(journal), lock_obj=lock)),
            study_name=plan.folder.name,
            direction="maximize",
            # Learning rates rise and fall: the first third of the epochs says little of the last one.
            pruner=optuna.pruners.MedianPruner(n_startup_trials=START_UP, n_warmup_steps=plan.config.epochs // 3 + 1),
            load_if_exists=True,
        )
        if not study.trials:
            begin(plan, study)
    return study


def begin(plan: SearchPlan, study: optuna.Study) -> None:
    """Let the recipe itself be the first trial, so that a search says whether it is any better."""
    recipe = plan.space.position_of(plan.config)
    if recipe is None:
        log(plan, "the recipe itself lies outside the space and is not among the trials")
    else:
        study.enqueue_trial(recipe)


def check_same(plan: SearchPlan) -> None:
    """Write down what a new study is about, or compare it with what an old one was begun with."""
    path = plan.folder / ABOUT
    recorded = json.loads(json.dumps(plan.recorded))
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        write_atomically(path, json_bytes(recorded))
        return
    except (OSError, ValueError) as error:
        raise EcgkitError(f"cannot read {path}: {error}; give another --study") from error
    if before != recorded:
        changed = ", ".join(sessions.describe_differences(before, recorded))
        raise EcgkitError(f"the study {plan.folder} was begun otherwise ({changed}): give another --study")


def mend(journal: Path, lock: optuna.storages.journal.JournalFileOpenLock) -> None:
    """Cut off a last line that a full disk left unfinished; what came after it could not be read."""
    if not journal.is_file():
        return
    lock.acquire()
    try:
        data = journal.read_bytes()
        if not data.endswith(b"\n"):
            os.truncate(journal, data.rfind(b"\n") + 1)
    finally:
        lock.release()


def next_trial(plan: SearchPlan, study: optuna.Study, worker: Worker, trials: int) -> optuna.Trial | None:
    """Begin the next trial, unless the study has as many as it should."""
    import optuna

    with exclusive(plan.folder):
        for stale in (t for t in study.trials if state_of(t) == "running"):
            if not worker.sees(stale.user_attrs.get("worker", "")):
                give_up(study, stale)
                log(plan, f"trial {stale.number}  {INTERRUPTED}: its process has ended; its values are tried again")
        states = [state_of(trial) for trial in study.trials]
        if sum(state in (*COUNTED, "running") for state in states) >= trials:
            return None
        # Not one seed for the process: a search that goes on would draw its first values again.
        seed = np.random.SeedSequence([plan.config.seed, len(states)]).generate_state(1)[0]
        study.sampler = optuna.samplers.TPESampler(seed=int(seed), multivariate=True, constant_liar=True)
        trial = study.ask()
        trial.set_user_attr("worker", worker.name)
    return trial


def state_of(trial: optuna.trial.FrozenTrial) -> str:
    """Say in one word how a trial stands; one that failed by itself says why, one that was cut off cannot."""
    if trial.state.name == "FAIL" and "error" not in trial.user_attrs:
        return INTERRUPTED
    return STATES[trial.state.name]


def give_up(study: optuna.Study, trial: optuna.trial.FrozenTrial | optuna.Trial) -> None:
    """Close a trial whose process has ended, and let its values be tried again."""
    import optuna

    study.tell(trial.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)
    if trial.params and "error" not in trial.user_attrs:
        study.enqueue_trial(trial.params)


def run_trial(plan: SearchPlan, study: optuna.Study, trial: optuna.Trial) -> None:
    """Train once, and tell the study what came of it; a failure is one trial's and does not end the search."""
    import optuna

    states = optuna.trial.TrialState
    aucs: list[float] = []

    def on_epoch(epoch: int, auc: float) -> None:
        aucs.append(auc)
        trial.report(auc, epoch)
        if epoch < config.epochs and trial.should_prune():
            raise optuna.TrialPruned

    try:
        config = apply(plan.config, plan.space.suggest(trial))
        train(plan, config, trial.number, on_epoch)
        study.tell(trial, max(auc for auc in aucs if not math.isnan(auc)), skip_if_finished=True)
    except optuna.TrialPruned:
        study.tell(trial, state=states.PRUNED, skip_if_finished=True)
    except KeyboardInterrupt:
        with exclusive(plan.folder):
            give_up(study, trial)
        raise
    except Exception as error:  # of whatever kind: the others go on
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # taken for dead by another process
            trial.set_user_attr("error", one_line(error))
        study.tell(trial, state=states.FAIL, skip_if_finished=True)
    finally:
        log(plan, describe_trial(plan, publish(plan, study), trial.number))


def train(plan: SearchPlan, config: TrainingConfig, number: int, on_epoch: Callable[[int, float], None]) -> None:
    """Train in a folder of the trial's own, which is no session: nothing in it was evaluated."""
    folder = trial_folder(plan, number)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with contextlib.redirect_stdout(RunLines(sys.stdout, f"trial {number}  ")):
        fit(Session(folder), config, plan.dataset, on_epoch=on_epoch)


def trial_folder(plan: SearchPlan, number: int) -> Path:
    """Say where the files of a trial lie."""
    return plan.folder / "trials" / f"trial_{number}"


def publish(plan: SearchPlan, study: optuna.Study) -> SearchResult:
    """Write the table and the best recipe of all trials so far, and delete the weights of all others."""
    with exclusive(plan.folder):
        result = SearchResult(plan.folder, tabulate(plan, study))
        write_atomically(plan.folder / TABLE, result.trials.to_csv(index=False).encode())
        best = result.trials.loc[result.trials["state"] == "done", "trial"].head(1).tolist()
        for number in best:
            write_atomically(plan.folder / RECIPE, recipe_text(plan, study, number).encode())
            (trial_folder(plan, number) / "weights" / "last.ckpt").unlink(missing_ok=True)
        for number in result.trials.loc[result.trials["state"] != "running", "trial"]:
            if number not in best:
                shutil.rmtree(trial_folder(plan, number) / "weights", ignore_errors=True)
    return result


def tabulate(plan: SearchPlan, study: optuna.Study) -> pd.DataFrame:
    """Lay out a study's trials as `SearchResult` has them."""
    order = (*STATES.values(), INTERRUPTED)
    rows = [row_of(plan, trial) for trial in study.trials if state_of(trial) != "waiting"]

    def rank(row: Values) -> tuple[int, float, int]:
        auc = row["fold_9_macro_auc"]
        return order.index(row["state"]), math.inf if math.isnan(auc) else -auc, row["trial"]

    rows.sort(key=rank)
    names = [
        "trial",
        "state",
        "fold_9_macro_auc",
        "best_epoch",
        "epochs_run",
        "seconds",
        *plan.space.dimensions,
        "error",
    ]
    return pd.DataFrame(rows, columns=names).astype({"best_epoch": "Int64", "epochs_run": "Int64"})


def row_of(plan: SearchPlan, trial: optuna.trial.FrozenTrial) -> Values:
    """Make a trial's row of the table."""
    known = {epoch: auc for epoch, auc in trial.intermediate_values.items() if not math.isnan(auc)}
    best = max(known, key=lambda epoch: (known[epoch], -epoch), default=None)
    values = {name: trial.params.get(name) for name in plan.space.dimensions}
    return {
        "trial": trial.number,
        "state": state_of(trial),
        "fold_9_macro_auc": math.nan if best is None else known[best],
        "best_epoch": best,
        "epochs_run": len(trial.intermediate_values),
        "seconds": trial.duration and round(trial.duration.total_seconds(), 1),
        **values,
        "error": trial.user_attrs.get("error", ""),
    }


def recipe_text(plan: SearchPlan, study: optuna.Study, number: int) -> str:
    """Write a trial's whole configuration as a recipe, but for what each machine decides by itself."""
    trial = study.trials[number]
    config = asdict(apply(plan.config, plan.space.decoded(trial.params)))
    left_out = ("dataset", "model", "precision", "save_every_epoch")
    kept = {name: value for name, value in config.items() if name not in left_out}
    tables = {name: value for name, value in kept.items() if isinstance(value, dict)}
    lines = [f"# {plan.words}: trial {number} of the study {plan.folder.name}, macro AUC {trial.value:.4f} on fold 9."]
    lines += [f"{name} = {toml_value(value)}" for name, value in kept.items() if name not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in table.items())] if table else []
    return "\n".join(lines) + "\n"


def draw(plan: SearchPlan, study: optuna.Study, trials: pd.DataFrame) -> None:
    """Draw what came of the trials and, once there are enough of them, which parameters mattered."""
    import matplotlib as mpl
    import optuna

    from ecgkit.plots import search as plots
    from ecgkit.plots.style import STYLE

    done = trials[trials["state"] == "done"]
    varied = [name for name in plan.space.dimensions if len(set(done[name])) > 1]
    if len(done) < MIN_TRIALS or not varied or len(set(done["fold_9_macro_auc"])) == 1:
        log(plan, f"no figures yet: they need {MIN_TRIALS} trials that were not pruned and that differ")
        return
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=plan.config.seed)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)
    log_names = [name for name, one in plan.space.dimensions.items() if isinstance(one, Range) and one.log]
    session = Session(plan.folder)
    with mpl.rc_context(STYLE):
        session.save_figure(plots.importances(shares, n_trials=len(done)), "importances", folder=".")
        session.save_figure(plots.trials(trials), "trials", folder=".")
        session.save_figure(plots.slices(trials, list(shares)[:N_SLICES], log=log_names), "slices", folder=".")


def log(plan: SearchPlan, line: str) -> None:
    """Print a line and append it to ``search_log.txt``, which all processes of the study share."""
    print(line, flush=True)  # noqa: T201 - a terminal and the file show the same lines
    with (plan.folder / LOG).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def describe(plan: SearchPlan, study: optuna.Study) -> str:
    """Say in one line what a study holds already."""
    states = [state_of(trial) for trial in study.trials]
    counts = [f"{states.count(state)} {state}" for state in (*STATES.values(), INTERRUPTED) if state in states]
    there = ", ".join(one for one in counts if "waiting" not in one) or "none yet"
    return f"trials {there}; {len(plan.dataset):,} records of folds 1 to 9"


def describe_trial(plan: SearchPlan, result: SearchResult, number: int) -> str:
    """Say in one line what came of a trial."""
    row = result.trials.set_index("trial").loc[number].to_dict()
    values = " ".join(f"{name}={short(row[name])}" for name in plan.space.dimensions if not pd.isna(row[name]))
    auc = row["fold_9_macro_auc"]
    found = f"fold 9 macro AUC {auc:.4f} at epoch {row['best_epoch']}" if math.isfinite(auc) else ""
    parts = (f"trial {number}", str(row["state"]), values, str(row["error"]) or found)
    return "  ".join(part for part in parts if part)


def best_rows(trials: pd.DataFrame, number: int = 10) -> list[list[str]]:
    """Give a header and the first rows of a table of trials as texts."""
    table = trials.head(number)
    auc = ["" if math.isnan(value) else f"{value:.4f}" for value in table["fold_9_macro_auc"]]
    columns = {name: [short(value) for value in table[name]] for name in table} | {"fold_9_macro_auc": auc}
    return [list(columns), *(list(row) for row in zip(*columns.values(), strict=True))]


def short(value: Any) -> str:
    """Write a value in few letters; nothing where there is none."""
    if pd.isna(value):
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def one_line(error: Exception) -> str:
    """Put an error into one line."""
    text = str(error) if isinstance(error, EcgkitError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
