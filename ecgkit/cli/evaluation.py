"""Evaluating and comparing: evaluate, compare."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecgkit import paths, sessions
from ecgkit.cli.common import AddCommand, OneLineParser, echo, echo_json, note
from ecgkit.cli.options import add_cell_timeout, add_fields, settings_of
from ecgkit.cli.tables import FEW, echo_table, shown_classes
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.files import all_records, is_table, main_metric, read_metrics
from ecgkit.stats.folds import TEST_FOLD
from ecgkit.stats.labels import format_interval
from ecgkit.workflow import STEPS, run_step

if TYPE_CHECKING:
    from ecgkit.evaluation import ExternalPredictions


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    text = (
        "Evaluate a table of predictions; a model on all records of another data set; "
        "or fold 10 of a session that was trained with --no-test, once."
    )
    added = command("evaluate", evaluate, text)
    text = (
        "a training session, with --dataset also a model, or a .parquet or .csv file (or .csv.gz) "
        "with true_CLASS and prob_CLASS of each class"
    )
    added.add_argument("subject", metavar="SESSION|MODEL|FILE", help=text)
    text = "a processed dataset that the model was not trained on, into comparison_sessions"
    added.add_argument("--dataset", metavar="NAME", help=text)
    added.add_argument("--label-set", metavar="SET", help="of that dataset (default: the model's)")
    added.add_argument("--force", action="store_true", help="with --dataset: evaluate again although nothing changed")
    added.add_argument("--json", action="store_true", help="print the contents of metrics.json and nothing else")
    text = "Compare finished trainings: leaderboard, paired intervals, ensembles."
    command("compare", compare, text, fill=fill_compare)


def fill_compare(parser: OneLineParser) -> None:
    """Add the arguments of ``compare``."""
    text = "training sessions, or files of predictions (default: all finished sessions)"
    parser.add_argument("sessions", nargs="*", metavar="SESSION", help=text)
    parser.add_argument("--no-ensembles", action="store_true", help="make no ensembles")
    parser.add_argument("--force", action="store_true", help="compare again although nothing changed")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    add_cell_timeout(parser)
    add_fields(parser, STEPS["compare"], without=("sessions",))


def evaluate(arguments: argparse.Namespace, root: Path) -> None:
    """Evaluate a file, or fold 10 of a session, and print the metrics with their intervals."""
    if arguments.dataset is not None:
        evaluate_elsewhere(arguments, root)
        return
    if arguments.label_set or arguments.force:
        raise EcgkitError("--label-set and --force go with --dataset: name a processed dataset")
    path = Path(arguments.subject).expanduser()
    if is_table(path.name) or path.is_file():
        if not path.is_file():
            raise EcgkitError(f"no file {path}: pass a table of predictions, or the name of a session")
        from ecgkit.evaluation import read_predictions

        read = read_predictions(path)
        for missing in read.notes:
            note(missing)
        results = read.metrics()
        everything = "--json prints all"
    else:
        session = sessions.open_finished(arguments.subject, paths.TRAINING, root)
        from ecgkit.evaluation import evaluate_test_fold

        results = evaluate_test_fold(session, root)
        everything = f"{session.path / 'metrics.json'} has all"
    if arguments.json:
        echo_json(results)
        return
    from ecgkit.evaluation import interval_table

    for fold in (key for key in results if key.startswith("fold_")):
        table = interval_table(results, fold, ["auc", "average_precision", "f1", "brier", "ece"])
        few = table.loc[[name for name in shown_classes(results[fold]) if name in table.index]]
        echo_table([{fold.replace("_", " "): str(name)} | dict(row) for name, row in few.iterrows()])
        echo(left_out(len(table), len(few), everything))
    if (over_all := all_records(results))["auc"] is not None:
        echo(
            f"fold 10, all {over_all['records']:,} records, those without a label as negative: "
            + entry(over_all, "auc", "low", "high")
        )
    echo("in parentheses: 95 % confidence interval, 1,000 bootstrap resamples of patients")


def evaluate_elsewhere(arguments: argparse.Namespace, root: Path) -> None:
    """Evaluate a model on another data set, and print what it loses and what repairs its calibration."""
    from ecgkit.evaluation.outside import RESULTS, evaluate_outside

    with contextlib.redirect_stdout(sys.stderr):
        session = evaluate_outside(
            arguments.subject, arguments.dataset, root, label_set=arguments.label_set, force=arguments.force
        )
    results = session.read_json(RESULTS)
    if arguments.json:
        echo_json(results)
        return
    if not results["overlap_checked"]:
        note("the training data of this model are unknown: whether it has seen these records was not checked")
    own, drop, repairs = results["own"], results["drop"], results["repair"]["results"]
    dash = {"value": None, "low": None, "high": None}
    names = shown_classes(results["outside"])
    echo_table(
        [
            {
                "class": name,
                "AUC here": format_interval(results["outside"][name]["auc"]),
                "own fold 10": format_interval(own.get(name, {}).get("auc", dash)),
                "drop": format_interval(drop.get(name, dash)),
                "ECE": format_interval(results["outside"][name]["ece"]),
            }
            for name in names
        ]
    )
    echo(left_out(len(results["outside"]), len(names), f"{session.path / RESULTS} has all"))
    echo_table(
        [
            {
                f"macro, {results['repair']['n_evaluated']:,} records": repair,
                "ECE": format_interval(found["macro"]["ece"]),
            }
            for repair, found in repairs.items()
        ]
    )
    if results["left_out"]:
        echo(f"left out: {results['left_out']:,} records of patients that the training data hold")
    echo(session.path)


def left_out(n_rows: int, n_shown: int, everything: str) -> str:
    """Return a line about the rows that a table leaves out; empty if there are none."""
    return f"the {FEW} classes with the lowest AUC, of {n_rows - n_shown + FEW}: {everything}\n" * (n_shown < n_rows)


def compare(arguments: argparse.Namespace, root: Path) -> None:
    """Run the comparison's notebook and print its leaderboard and folder; or compare tables of predictions."""
    if any(map(is_table, arguments.sessions)):
        compare_tables(arguments, root)
        return
    names = [sessions.open_finished(name, paths.TRAINING, root).name for name in arguments.sessions]
    settings = settings_of(arguments, STEPS["compare"]) | ({"ensembles": ""} if arguments.no_ensembles else {})
    settings |= {"sessions": ",".join(names), "cell_timeout": arguments.cell_timeout}
    with contextlib.redirect_stdout(sys.stderr):
        step = run_step("compare", root, force=arguments.force, **settings)
    from ecgkit.evaluation.comparison_session import LEADERBOARD

    board = sessions.Session(step.path).read_json(LEADERBOARD)
    if arguments.json:
        echo_json(board)
        return
    counted = [row for row in board["sessions"] if row.get("fold_10_all_records")]
    of_all = {"all records of fold 10": ("fold_10_all_auc", "fold_10_all_low", "fold_10_all_high")} if counted else {}
    echo_table(
        [
            {
                "session": row["session"],
                "what": f"{row['configuration']}, seed {row['seed']}",
                "fold 9": entry(row, "fold_9_auc"),
                "fold 10": entry(row, "fold_10_auc", "fold_10_low", "fold_10_high"),
                **{title: entry(row, *names) for title, names in of_all.items()},
                "difference to the best on fold 9": entry(row, "difference", "difference_low", "difference_high"),
                "ECE": entry(row, "ece"),
            }
            for row in board["sessions"]
        ]
    )
    for row in counted[:1]:
        echo(
            f"fold 10: {row['fold_10_records']:,} records with a label; all: {row['fold_10_all_records']:,}, those "
            "without a label count as negative for each class"
        )
    for sentence in (board["standing"], *board["left_out"]):
        echo(sentence)
    echo(step.path)


def entry(row: dict[str, Any], value: str, low: str = "", high: str = "") -> str:
    """Return a number of a leaderboard, with its interval if it has one."""
    return format_interval({"value": row.get(value), "low": row.get(low), "high": row.get(high)}, digits=4)


def compare_tables(arguments: argparse.Namespace, root: Path) -> None:
    """Compare files of predictions and sessions, each with each, and print the verdicts."""
    from ecgkit.evaluation.external import compare_predictions, read_predictions, read_session
    from ecgkit.stats.multiple_testing import holm

    names = arguments.sessions
    if len(set(names)) < max(2, len(names)):
        raise EcgkitError(f"{names[0]} cannot be compared alone: give two or more, each once")
    if len(settings_of(arguments, STEPS["compare"])) > 1 or arguments.no_ensembles or arguments.force:
        raise EcgkitError("files of predictions are compared as they are: leave out all options but --json")
    files = {name: read_predictions(name) for name in names if is_table(Path(name).name)}
    trained = {name: sessions.open_finished(name, paths.TRAINING, root) for name in names if name not in files}
    like = set().union(*(file.table["record_id"] for file in files.values()))
    tables = {name: files.get(name) or read_session(trained[name], like=like) for name in names}
    for name, table in tables.items():
        for lacking in table.notes:
            note(f"{name}: {lacking}")
    pairs = [compare_predictions({name: tables[name] for name in pair}) for pair in itertools.combinations(tables, 2)]
    corrected = holm([pair.macro["p"]["auc"] for pair in pairs])
    if arguments.json:
        echo_json(
            [
                {
                    "names": pair.names,
                    "p_holm": None if math.isnan(p) else p,
                    "verdict": pair.verdict,
                    "macro": json.loads(pair.macro.to_json(orient="index")),  # None where a number is not defined
                }
                for pair, p in zip(pairs, corrected.tolist(), strict=True)
            ]
        )
        return
    echo_table([both_counts(name, table, trained.get(name)) for name, table in tables.items()])
    for pair, p in zip(pairs, corrected, strict=True):
        is_corrected = len(pairs) > 1 and not math.isnan(p)
        echo(pair.verdict + (f"; over {len(pairs)} comparisons p = {p:.3f} (Holm)" if is_corrected else ""))


def both_counts(name: str, table: ExternalPredictions, session: sessions.Session | None) -> dict[str, str]:
    """Return the macro AUC on fold 10; of a session also that over all records, those without a label as negative."""
    n_records, every = int((table.table["fold"] == TEST_FOLD).sum()), all_records({})
    if session is None:
        auc = table.metrics()["fold_10"]["macro"]["auc"]
    else:
        auc, every = main_metric(session, "fold_10")[1], all_records(read_metrics(session))
        n_records = every["records"] - every["unlabelled"] if every["records"] else n_records
    return {
        "predictions": name,
        "records of fold 10": f"{n_records:,}",
        "macro AUC": format_interval(auc, digits=4),
        "with those without a label": f"{every['records']:,}" if every["records"] else "-",
        "their macro AUC": entry(every, "auc", "low", "high"),
    }
