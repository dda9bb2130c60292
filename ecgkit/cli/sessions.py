"""Sessions: list, show, diff, delete, and export-model."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

from ecgkit import paths, sessions
from ecgkit.cli.common import AddCommand, Function, add_root, confirm, echo, echo_columns, echo_json, on_terminal
from ecgkit.cli.tables import HEADING, damage, echo_table, training_rows
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.files import main_metric
from ecgkit.io import file_name, read_json
from ecgkit.sessions import Session
from ecgkit.stats.labels import format_interval

KINDS = {
    "pretraining": paths.PRETRAINING,
    "training": paths.TRAINING,
    "probe": paths.PROBES,
    "explanation": paths.EXPLANATIONS,
    "diagnosis": paths.DIAGNOSES,
    "comparison": paths.COMPARISONS,
}
FOLDS = ("fold_9", "fold_10")
NAME = "session_3, 3, latest, probe_training_sessions/session_3, or its folder"


def add_commands(command: AddCommand) -> None:
    """Add the command ``sessions`` with its subcommands, and ``export-model``."""
    parser = command("sessions", list_sessions, "List sessions, look at them, or delete some.")
    add_options(parser, default=None)
    subcommands = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND")

    def subcommand(name: str, function: Function, text: str) -> argparse.ArgumentParser:
        added = subcommands.add_parser(name, help=text, description=text)
        added.set_defaults(function=function)
        # An option that is absent after the subcommand must not undo the same option before it.
        add_root(added, default=argparse.SUPPRESS)
        add_options(added, default=argparse.SUPPRESS)
        return added

    subcommand("list", list_sessions, "List all sessions (the default).")
    added = subcommand("show", show, "Describe a session: configuration, environment, results, and its dependents.")
    added.add_argument("session", metavar="SESSION", help=NAME)
    added = subcommand("diff", diff, "Show how two sessions differ: configuration, dataset, versions and hardware.")
    added.add_argument("first", metavar="A", help=NAME)
    added.add_argument("second", metavar="B")
    added = subcommand("delete", delete, "Delete sessions with all their files; asks first.")
    added.add_argument("sessions", metavar="SESSION", nargs="+", help=NAME)
    added.add_argument("--yes", action="store_true", help="do not ask")
    text = "Write a model as a folder of its own, or as an ONNX graph from millivolts to calibrated probabilities."
    added = command("export-model", export_model, text)
    text = "a training session (session_3, 3, latest, or its folder), or a model that ships"
    added.add_argument("session", metavar="SESSION|NAME", help=text)
    added.add_argument("--format", choices=("folder", "onnx"), default="folder", help="default: folder")
    added.add_argument("--to", metavar="DIR", help="the folder to make (default: MODEL_SESSION, here)")
    text = "with onnx: the graph resamples from this rate (default: it takes the model's)"
    added.add_argument("--sampling-rate", type=int, metavar="HZ", help=text)
    added.add_argument("--force", action="store_true", help="replace an existing model")


def add_options(parser: argparse.ArgumentParser, default: Any) -> None:
    """Add what all subcommands take."""
    parser.add_argument("--kind", choices=tuple(KINDS), default=default, metavar="|".join(KINDS), help="only this kind")
    text = "print JSON and nothing else"
    parser.add_argument("--json", action="store_true", default=default, help=text)


def list_sessions(arguments: argparse.Namespace, root: Path) -> None:
    """List all sessions, as a table of trainings and lines of the others, or as JSON."""
    kinds = [KINDS[arguments.kind]] if arguments.kind else list(KINDS.values())
    found = {kind: sessions.list_sessions(kind, root) for kind in kinds}
    if arguments.json:
        echo_json([describe(session) for kind in kinds for session in found[kind]])
        return
    if not any(found.values()):
        echo(f'no sessions in {root}: make some with "ecgkit run"')
        return
    trainings = found.pop(paths.TRAINING, [])
    if trainings:
        echo(f"{paths.TRAINING}: {HEADING}")
        echo_table(training_rows(trainings))
    for kind, others in found.items():
        rows = [[one.name, state_of(one), damage(one) or subject_of(one), str(one.path)] for one in others]
        if rows:
            echo(kind)
            echo_columns(rows)


def state_of(session: Session) -> str:
    """Return done, running, unfinished or damaged."""
    if damage(session):
        return "damaged"
    return "done" if session.is_done else "running" if session.is_running else "unfinished"


def subject_of(session: Session) -> str:
    """Return the training session that a session analyses, or those that it compares."""
    config = sessions.read_config(session)
    return str(config.get("training_session") or " ".join(config.get("members", ())) or "-")


def describe(session: Session) -> dict[str, Any]:
    """Describe a session as JSON data; of a damaged one, what is wrong with it."""
    problem, config = damage(session), sessions.read_config(session)
    found = {} if problem else {fold: main_metric(session, fold) for fold in FOLDS}
    keys = ("model", "dataset", "label_set", "target", "seed", "training_session")
    return {
        "kind": session.kind,
        "name": session.name,
        "path": str(session.path),
        "done": session.is_done,
        "state": state_of(session),
        "problem": problem or None,
        **{key: config.get(key) for key in keys},
        "reproduces": sessions.original_of(session),
        **{f"{fold}_{name}": None for fold in FOLDS for name in ("macro_auc", "r2")},
        **{f"{fold}_{name}": entry["value"] for fold, (name, entry) in found.items() if name},
    }


def find(name: str, arguments: argparse.Namespace, root: Path) -> Session:
    """Open a session as a command names it."""
    return sessions.find(name, root, KINDS[arguments.kind] if arguments.kind else None)


def show(arguments: argparse.Namespace, root: Path) -> None:
    """Print everything about a session but its metrics and files, which its folder holds, and the folder last."""
    session = find(arguments.session, arguments, root)
    facts = describe(session) | details(session, root)
    if arguments.json:
        echo_json(facts)
        return
    shown = {key: value for key, value in facts.items() if key not in ("path", "notes", "metrics", "files")}
    if not damage(session):
        found = {fold: main_metric(session, fold) for fold in FOLDS}
        shown |= {f"{fold}_{name}": format_interval(entry, digits=4) for fold, (name, entry) in found.items() if name}
    echo_columns([[key, as_text(value)] for key, value in sessions.flatten(shown).items() if value not in (None, [])])
    echo(session.path)


def details(session: Session, root: Path) -> dict[str, Any]:
    """Return a session's files as JSON data, and which other sessions were made from it."""
    files = sorted(path for path in session.path.rglob("[!.]*") if path.is_file())
    notes, results = session.path / "notes.txt", {}
    for path in files:
        if path.name == "metrics.json":
            with contextlib.suppress(EcgkitError):  # a damaged one is the session's problem
                results["" if path.parent == session.path else path.parent.name] = read_json(path)
    is_training = session.kind == paths.TRAINING
    return {
        "config": sessions.read_config(session),
        "environment": sessions.read_environment(session),
        "notes": notes.read_text(encoding="utf-8", errors="replace") if notes.is_file() else None,
        "metrics": results.get("", results),
        "files": [path.relative_to(session.path).as_posix() for path in files],
        "size_mb": round(sum(path.stat().st_size for path in files) / 1e6, 3),
        "probes": [probe.label for probe in sessions.probes_of(session, root)] if is_training else [],
        "reproductions": [again.label for again in sessions.reproductions_of(session, root)],
    }


def as_text(value: Any) -> str:
    """Return a string as it is, and any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def diff(arguments: argparse.Namespace, root: Path) -> None:
    """Print how two sessions differ."""
    first, second = (find(name, arguments, root) for name in (arguments.first, arguments.second))
    found = {
        "config": sessions.differences(sessions.read_config(first), sessions.read_config(second)),
        "environment": sessions.differences(sessions.read_environment(first), sessions.read_environment(second)),
    }
    if arguments.json:
        pairs = {title: {key: {"a": a, "b": b} for key, (a, b) in part.items()} for title, part in found.items()}
        echo_json({"a": first.label, "b": second.label} | pairs)
        return
    echo(f"{first.label} -> {second.label}")
    for title, part in found.items():
        echo(title if part else f"{title}: no difference")
        for key, (a, b) in part.items():
            echo(f"  {key}: {sessions.describe_value(a)} -> {sessions.describe_value(b)}")


def delete(arguments: argparse.Namespace, root: Path) -> None:
    """Delete sessions after all of them have been checked, and a question on a terminal was answered."""
    chosen = list(dict.fromkeys(find(name, arguments, root) for name in arguments.sessions))
    for session in chosen:
        if session.is_running:
            raise EcgkitError(f"{session.path} is being run by another process: wait for it, then delete it")
    lines = [f"{session.label}{dependents(session, chosen, root)}" for session in chosen]
    if not arguments.yes:
        if not on_terminal():
            raise EcgkitError(f"no terminal to ask on: add --yes to delete {', '.join(lines)}")
        for line in lines:
            echo(line)
        if not confirm("Delete this for good?" if len(lines) == 1 else f"Delete these {len(lines)} for good?"):
            echo("nothing deleted")
            return
    for session, line in zip(chosen, lines, strict=True):
        sessions.delete(session)
        echo(f"deleted {line}")


def dependents(session: Session, chosen: list[Session], root: Path) -> str:
    """Return the sessions that were made from one and that stay when it is deleted, as text."""
    made = sessions.reproductions_of(session, root)
    if session.kind == paths.TRAINING:
        made = sessions.probes_of(session, root) + made
    left = [one.label for one in made if one not in chosen]
    return f" (made from it and kept: {', '.join(left)})" if left else ""


def export_model(arguments: argparse.Namespace, root: Path) -> None:
    """Write a model as a folder of its own, and print it."""
    from ecgkit.inference import export
    from ecgkit.inference.model_folder import SHIPPED, shipped

    if arguments.session in shipped():
        source, name = SHIPPED / arguments.session, f"my_{arguments.session}"
    else:
        session = sessions.open_finished(arguments.session, paths.TRAINING, root)
        model = Path(str(sessions.read_config(session).get("model", "model"))).name  # a user's own has a folder
        source, name = session.path, f"{model}_{session.name}"
    options = {"format": arguments.format, "sampling_rate": arguments.sampling_rate, "force": arguments.force}
    echo(export.export_model(source, Path(arguments.to or file_name(name)), **options))
