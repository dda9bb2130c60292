"""Many trainings: reproduce, sweep, search, soft-labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ecgkit.cli.common import INCOMPLETE, AddCommand, OneLineParser, echo, echo_columns, fail
from ecgkit.cli.options import OF_RECIPE, add_cell_timeout, add_fields, settings_of
from ecgkit.workflow import STEPS

if TYPE_CHECKING:
    import pandas as pd

    from ecgkit.workflow.reproduce import Reproduction

SHOWN = 10
"""The number of trials that a search prints."""


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    text = "Run a finished training again from its own notebook, and report whether the numbers are the same."
    added = command("reproduce", reproduce, text)
    added.add_argument("session", metavar="SESSION", help="a finished training session: session_3, 3, or its folder")
    text = "even if dataset or version differ from what is recorded"
    added.add_argument("--anyway", action="store_true", help=text)
    text = (
        "largest difference of a probability that passes (default: 0 with the same processor, threads and packages; "
        "otherwise the macro AUC has to be inside the recorded interval)"
    )
    added.add_argument("--tolerance", type=float, metavar="X", help=text)
    add_cell_timeout(added)
    text = "Train with each of the values in a TOML file, each time in a new session; finished ones are skipped."
    added = command("sweep", sweep, text)
    text = "TOML: fields of the training, [grid] with lists of values, [[run]] entries"
    added.add_argument("file", metavar="FILE", help=text)
    added.add_argument("--test", action="store_true", help="also evaluate fold 10, which is closed otherwise")
    added.add_argument("--jobs", type=int, metavar="N", help="trainings at the same time (default: 1)")
    added.add_argument("--scheduler", metavar="URL", help="train on a Dask cluster, such as tcp://host:8786")
    add_cell_timeout(added)
    text = "Search for hyperparameters on fold 9; the same command resumes, and several processes share the work."
    command("search", search, text, fill=fill_search)
    text = "Predict folds 1-8 by trainings that held out the record's fold, as soft labels for train --distill."
    added = command("soft-labels", soft_labels, text)
    text = "trainings with --hold-out-folds, which together hold out folds 1-8"
    added.add_argument("sessions", metavar="SESSION", nargs="+", help=text)
    added.add_argument("--to", metavar="FILE", default="soft_labels.parquet", help="default: soft_labels.parquet")


def fill_search(parser: OneLineParser) -> None:
    """Add the arguments of ``search``."""
    parser.add_argument("model", metavar="MODEL", help="name of an architecture")
    text = "trials in total, those of earlier calls included"
    parser.add_argument("--trials", type=int, required=True, metavar="N", help=text)
    parser.add_argument("--dataset", default="ptbxl", metavar="NAME", help="a processed dataset (default: ptbxl)")
    parser.add_argument("--space", metavar="FILE", help="TOML: what is varied, instead of the space that ships")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="begin no further trial after this time")
    parser.add_argument("--study", metavar="NAME", help="name of the study (default: MODEL_DATASET_SET)")
    add_fields(parser, STEPS["train"], without=("dataset", "model", "test", "save_every_epoch"), default=OF_RECIPE)


def reproduce(arguments: argparse.Namespace, root: Path) -> int:
    """Reproduce a session, print the numbers of both sessions, and the new session's folder last."""
    from ecgkit.workflow.reproduce import reproduce as reproduce_session

    options = {name: getattr(arguments, name) for name in ("anyway", "tolerance", "cell_timeout")}
    result = reproduce_session(root, arguments.session, **options)
    echo_comparison(result)
    echo(result.session.path)
    if result.succeeded:
        return 0
    against = "; ".join(result.facts["against"])
    return fail(f"{result.session.name} does not reproduce {result.original.name}: {against}", code=INCOMPLETE)


def echo_comparison(result: Reproduction) -> None:
    """Print the AUC of both sessions, and the largest differences."""
    old, new, facts = result.original.name, result.session.name, result.facts
    folds = list(facts["auc"])
    rows = [["AUC", *(f"{fold.replace('_', ' ')}: {name}" for fold in folds for name in (old, new))]]
    for name in facts["auc"][folds[0]]:
        pairs = [facts["auc"][fold].get(name, {"old": None, "new": None}) for fold in folds]
        rows.append([name, *("-" if v is None else f"{v:.6f}" for pair in pairs for v in (pair["old"], pair["new"]))])
    echo_columns(rows)
    if facts["largest_difference"] is not None:
        echo(f"largest difference of a probability: {facts['largest_difference']:.3g} ({facts['records']:,} records)")
    echo(f"largest difference of a metric: {facts['largest_metric_difference']:.3g}")
    for line in facts["elsewhere"]:
        echo(f"differs from the record: {line}")
    echo(f"{new} {'reproduces' if result.succeeded else 'does not reproduce'} {old}; the rule: {facts['rule']}")


def soft_labels(arguments: argparse.Namespace, root: Path) -> None:
    """Write soft labels, and print how good they are, and the file."""
    from ecgkit.training.distillation import write_soft_labels

    file = Path(arguments.to)
    table = write_soft_labels(arguments.sessions, root, file)
    echo(f"{len(table):,} records of folds 1-8, macro AUC {table.attrs['macro_auc']:.4f} by models without them")
    echo(file)


def echo_trials(table: pd.DataFrame) -> None:
    """Print a table of trials, with a dash where a value is missing, and the interval of an AUC next to it."""
    if "fold_9_low" in table:
        interval = [f" ({low:.4f} to {high:.4f})" for low, high in table[["fold_9_low", "fold_9_high"]].to_numpy(float)]
        known = table["fold_9_low"].notna()
        shown = table["fold_9_macro_auc"].map("{:.4f}".format) + interval
        table = table.assign(fold_9_macro_auc=shown.where(known, table["fold_9_macro_auc"]))
        table = table.drop(columns=["fold_9_low", "fold_9_high"])
    texts = table.map(lambda value: f"{value:.4g}" if isinstance(value, float) else str(value))
    echo_columns([list(table.columns), *texts.where(table.notna(), "-").to_numpy().tolist()])


def sweep(arguments: argparse.Namespace, root: Path) -> int:
    """Run a sweep, and print its table, best fold 9 first, means over seeds, and the table's file last."""
    from ecgkit.workflow.study import TABLE
    from ecgkit.workflow.sweep import over_seeds, read_sweep, run_sweep

    asked = read_sweep(arguments.file)
    options = {name: getattr(arguments, name) for name in ("jobs", "scheduler", "test", "cell_timeout")}
    table = run_sweep(root, asked, **options)
    echo_trials(table)
    if len(means := over_seeds(table, asked.varying)):
        echo("fold 9 macro AUC over the seeds")
        echo_trials(means)
    echo(asked.folder(root) / TABLE)
    done = table["session"].dropna().nunique() if "session" in table else 0
    if done == len(asked.runs):
        return 0
    text = f"{len(asked.runs) - done} of {len(asked.runs)} runs failed: the same command repeats them"
    return fail(text, code=INCOMPLETE)


def search(arguments: argparse.Namespace, root: Path) -> int:
    """Search, and print the best trials and the best recipe, and the study's folder last."""
    from ecgkit.workflow import study

    settings = settings_of(arguments, STEPS["train"])
    plan = study.plan_search(root, study=arguments.study, space=arguments.space, **settings)
    table = study.run_search(plan, trials=arguments.trials, timeout=arguments.timeout)
    if len(table):
        echo_trials(table.head(SHOWN))
    if (recipe := plan.folder / study.RECIPE).is_file():
        echo(recipe)
    echo(plan.folder)
    if set(table["state"]) & {"done", "running"}:
        return 0
    return fail(f"no trial of {plan.folder.name} is done: read the errors in its {study.TABLE}", code=INCOMPLETE)
