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
from ecgkit.cli.common import AddCommand, note, say, say_columns, say_json
from ecgkit.errors import EcgkitError
from ecgkit.workflow import run_step

if TYPE_CHECKING:
    import pandas as pd

    from ecgkit.evaluation import ExternalPredictions

FILES = (".parquet", ".csv")


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    added = command("evaluate", evaluate, "Evaluate a table of predictions, of this project or another.")
    added.add_argument("file", metavar="FILE", help=".parquet or .csv with true_CLASS and prob_CLASS of each class")
    added.add_argument("--json", action="store_true", help="nothing but what metrics.json holds on standard output")
    added = command("compare", compare, "Compare finished trainings: leaderboard, paired intervals, ensembles.")
    added.add_argument(
        "sessions", nargs="*", metavar="SESSION", help="training sessions, or files of predictions (default: all)"
    )
    added.add_argument("--dataset", metavar="NAME", help="which, if all are compared (default: that of the newest)")
    added.add_argument("--label-set", metavar="SET", help="which, if all are compared (default: that of the newest)")
    added.add_argument("--no-ensembles", action="store_true", help="do not put the trainings together")
    added.add_argument("--force", action="store_true", help="compare again though nothing changed")
    added.add_argument("--json", action="store_true", help="nothing but JSON on standard output")


def evaluate(arguments: argparse.Namespace, root: Path) -> None:
    """Evaluate a file and print its metrics with their intervals."""
    del root
    from ecgkit.evaluation import interval_table, read_predictions

    read = read_predictions(arguments.file)
    for lacking in read.notes:
        note(lacking)
    results = read.metrics()
    if arguments.json:
        say_json(results)
        return
    for fold in (key for key in results if key.startswith("fold_")):
        table = interval_table(results, fold, ["auc", "average_precision", "f1", "brier", "ece"])
        table = table.reset_index(names=fold.replace("_", " "))
        say_columns([[str(name) for name in table], *table.astype(str).to_numpy().tolist()])
        say("")
    say("in brackets: 95 % of 1,000 bootstrap resamples of patients")


def compare(arguments: argparse.Namespace, root: Path) -> None:
    """Run the comparison's notebook and print its leaderboard and folder; or compare tables of predictions."""
    if any(Path(name).suffix in FILES for name in arguments.sessions):
        compare_tables(arguments, root)
        return
    from ecgkit.evaluation.comparison_session import LEADERBOARD

    names = [sessions.open_finished(name, paths.TRAINING, root).name for name in arguments.sessions]
    with contextlib.redirect_stdout(sys.stderr):
        step = run_step(
            "compare",
            root,
            force=arguments.force,
            sessions=",".join(names),
            dataset=arguments.dataset,
            label_set=arguments.label_set,
            ensembles="" if arguments.no_ensembles else None,
        )
    board = sessions.Session(step.path).read_json(LEADERBOARD)
    if arguments.json:
        say_json(board)
        return
    say_columns(
        [["session", "what", "fold 9", "fold 10", "less the best by fold 9", "ECE"], *map(line, board["sessions"])]
    )
    for sentence in (board["standing"], *board["left_out"]):
        say(sentence)
    say(step.path)


def line(row: dict[str, object]) -> list[str]:
    """Write one session of a leaderboard."""

    def number(name: str, form: str = ".4f") -> str:
        return "-" if row[name] is None else format(row[name], form)

    interval = f"({number('fold_10_low', '.3f')} to {number('fold_10_high', '.3f')})"
    difference = "-"
    if row["difference"] is not None:
        low, high = number("difference_low", "+.4f"), number("difference_high", "+.4f")
        difference = f"{number('difference', '+.4f')} ({low} to {high})"
    return [
        str(row["session"]),
        f"{row['configuration']}, seed {row['seed']}",
        number("fold_9_auc"),
        f"{number('fold_10_auc')} {interval}",
        difference,
        number("ece"),
    ]


def known(table: pd.DataFrame) -> dict[str, Any]:
    """Give a table as JSON data, None where a number is not defined."""
    return json.loads(table.to_json(orient="index"))


def compare_tables(arguments: argparse.Namespace, root: Path) -> None:
    """Compare files of predictions and sessions, each with each, and print the verdicts."""
    from ecgkit.evaluation import compare_predictions, read_predictions
    from ecgkit.stats.multiple_testing import holm

    names = arguments.sessions
    if len(set(names)) < max(2, len(names)):
        raise EcgkitError(f"{names[0]} alone cannot be compared: give two or more, each once")
    if arguments.dataset or arguments.label_set or arguments.no_ensembles or arguments.force:
        raise EcgkitError("files of predictions are compared as they are: leave all options but --json away")
    tables: dict[str, ExternalPredictions] = {}
    for name in arguments.sessions:
        path = Path(name)
        if path.suffix not in FILES:
            path = sessions.open_finished(name, paths.TRAINING, root).path / "predictions.parquet"
        tables[name] = read_predictions(path)
        for lacking in tables[name].notes:
            note(f"{name}: {lacking}")
    pairs = [compare_predictions({name: tables[name] for name in pair}) for pair in itertools.combinations(tables, 2)]
    corrected = holm([pair.macro["p"]["auc"] for pair in pairs])
    if arguments.json:
        say_json(
            [
                {
                    "names": pair.names,
                    "p_holm": None if math.isnan(p) else p,
                    "verdict": pair.verdict,
                    "macro": known(pair.macro),
                }
                for pair, p in zip(pairs, corrected.tolist(), strict=True)
            ]
        )
        return
    for pair, p in zip(pairs, corrected, strict=True):
        say(pair.verdict + (f"; over {len(pairs)} comparisons p = {p:.3f} (Holm)" if len(pairs) > 1 else ""))
