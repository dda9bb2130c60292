"""Trainings again and again: reproduce, sweep, search."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ecgkit.cli.common import NOT_AS_HOPED, AddCommand, fail, say, say_columns

if TYPE_CHECKING:
    from ecgkit.workflow.reproduce import Reproduction


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    text = "Run a finished training again from its own notebook, and say whether the same numbers come out."
    added = command("reproduce", reproduce, text)
    added.add_argument("session", metavar="SESSION", help="a finished training session: session_3, 3, or its folder")
    added.add_argument("--anyway", action="store_true", help="though dataset or version differ from what is recorded")
    added.add_argument(
        "--tolerance",
        type=float,
        metavar="X",
        help="largest difference of a probability that passes (default: 0 with the same processor, threads and "
        "packages; elsewhere the macro AUC has to lie in the recorded interval)",
    )
    text = "Train many times, as a TOML file says, each in a session of its own; what is finished is skipped."
    added = command("sweep", sweep, text)
    added.add_argument("file", metavar="FILE", help="TOML: parameters, [grid] with lists, [[run]] entries")
    added.add_argument("--jobs", type=int, metavar="N", help="notebooks at once (default: 1)")
    added.add_argument("--scheduler", metavar="URL", help="run on a Dask cluster, such as tcp://host:8786")
    text = "Search for hyperparameters on fold 9; the same command goes on, and several at once share the work."
    add_search(command("search", search, text))


def add_search(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``search``."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "--trials", type=int, required=True, metavar="N", help="trials in all, those of earlier calls included"
    )
    parser.add_argument("--dataset", default="ptbxl", metavar="NAME", help="a processed dataset (default: ptbxl)")
    parser.add_argument("--label-set", metavar="SET", help="default: superclass")
    parser.add_argument("--epochs", type=int, metavar="N", help="of each trial (default: as the recipe says)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the trials and of the search (default: 0)")
    parser.add_argument("--space", metavar="FILE", help="TOML: what is varied, instead of the space that ships")
    parser.add_argument("--recipe", metavar="FILE", help="what is not varied, instead of the model's recipe")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="begin no further trial after this time")
    parser.add_argument("--study", metavar="NAME", help="the study's folder (default: MODEL_DATASET_SET)")


def reproduce(arguments: argparse.Namespace, root: Path) -> int:
    """Reproduce a session and print the numbers beside each other, the new session's folder last."""
    from ecgkit.workflow import reproduce as reproduction

    result = reproduction.reproduce(root, arguments.session, anyway=arguments.anyway, tolerance=arguments.tolerance)
    say_comparison(result)
    say(result.session.path)
    if result.succeeded:
        return 0
    against = "; ".join(result.facts["against"])
    return fail(f"{result.session.name} does not reproduce {result.original.name}: {against}", code=NOT_AS_HOPED)


def say_comparison(result: Reproduction) -> None:
    """Print the AUC of both sessions, and how far their probabilities lie apart."""
    from ecgkit.workflow.reproduce import FOLDS

    old, new, facts = result.original.name, result.session.name, result.facts
    of_folds = [facts["auc"][fold] for fold in FOLDS]
    rows = [["AUC", *(f"{fold.replace('_', ' ')}: {name}" for fold in FOLDS for name in (old, new))]]
    for name in of_folds[0]:
        pairs = [of_fold.get(name, {"old": None, "new": None}) for of_fold in of_folds]
        rows.append([name, *("-" if v is None else f"{v:.6f}" for pair in pairs for v in (pair["old"], pair["new"]))])
    say_columns(rows)
    if facts["largest_difference"] is not None:
        say(f"largest difference of a probability: {facts['largest_difference']:.3g} ({facts['records']:,} records)")
    say(f"largest difference of a metric: {facts['largest_metric_difference']:.3g}")
    for line in facts["elsewhere"]:
        say(f"not as it was: {line}")
    say(f"{new} {'reproduces' if result.succeeded else 'does not reproduce'} {old}; the rule: {facts['rule']}")


def sweep(arguments: argparse.Namespace, root: Path) -> int:
    """Run a sweep and print its table, the best on fold 9 first, and the table's file last."""
    from ecgkit.workflow import sweep as sweeps

    asked = sweeps.read_sweep(arguments.file)
    outcomes = sweeps.run(root, asked, jobs=arguments.jobs, scheduler=arguments.scheduler)
    table = sweeps.table(asked, outcomes)
    table["fold_9_macro_auc"] = ["" if auc is None else f"{auc:.4f}" for auc in table["fold_9_macro_auc"]]
    rows = [["" if value is None else str(value) for value in row] for row in table.itertuples(index=False)]
    say_columns([list(table.columns), *rows])
    say(sweeps.table_path(root, asked))
    failed = [one for one in outcomes if one.state == sweeps.FAILED]
    if not failed:
        return 0
    text = f"{len(failed)} of {len(outcomes)} runs failed: the same command tries them again and skips the others"
    return fail(text, code=NOT_AS_HOPED)


def search(arguments: argparse.Namespace, root: Path) -> int:
    """Search, print the ten best trials and the best recipe, and the study's folder last."""
    from ecgkit.workflow import search as searches

    asked = searches.plan(
        root,
        model=arguments.model,
        dataset=arguments.dataset,
        study=arguments.study,
        space=arguments.space,
        label_set=arguments.label_set,
        epochs=arguments.epochs,
        seed=arguments.seed,
        recipe=arguments.recipe,
    )
    result = searches.run(asked, trials=arguments.trials, timeout=arguments.timeout)
    rows = searches.best_rows(result.trials)
    say_columns(rows)
    if result.recipe is not None:
        say(result.recipe)
    say(result.folder)
    if result.recipe is not None or result.count("running"):
        return 0
    return fail(f"no trial of {result.folder.name} is done: read the errors in its trials.csv", code=NOT_AS_HOPED)
