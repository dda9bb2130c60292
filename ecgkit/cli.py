"""The command ``ecgkit``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any, NoReturn

from ecgkit import __version__, paths, sessions
from ecgkit.errors import EcgkitError, check_choice

RATES = {"100": (100,), "500": (500,), "both": (100, 500)}
DEFAULT_MODELS = "resnet1d,xlstm,hybrid"


def say(line: str | Path) -> None:
    """Print one line of a command's result."""
    print(line, flush=True)  # noqa: T201 - a command line prints


class OneLineParser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with the code of bad input."""
        sys.exit(fail(f"{message}: see {self.prog} --help"))


def make_parser() -> argparse.ArgumentParser:
    """Describe every command and its arguments."""
    parser = OneLineParser(
        prog="ecgkit", description="From 12-lead ECGs to a multilabel model and what it has learned."
    )
    parser.add_argument("--version", action="version", version=f"ecgkit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, function: Callable[[argparse.Namespace, Path], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(function=function)
        added.add_argument(
            "--root", metavar="DIR", help="folder of data sets and sessions (default: the project's folder)"
        )
        return added

    add_download(command("download", download, "Download a data set, or go on with a download that was cut off."))
    add_run(command("run", run, "Run the whole chain: preprocess, train each model, probe each training."))
    add_preprocess(command("preprocess", preprocess, "Make a processed dataset from a source of ECGs."))
    add_train(command("train", train, "Train one model on a processed dataset."))
    added = command(
        "probe", probe, "Look into a trained model: clusters, maps, and probes for age, sex, height and weight."
    )
    added.add_argument("session", metavar="SESSION", help="a training session: session_3, 3, or its folder")
    added.add_argument("--seed", type=int, metavar="N")
    added = command("export-npz", export_npz, "Write a processed dataset as one .npz file without pickles.")
    added.add_argument("name", metavar="NAME", help="a processed dataset")
    added.add_argument("--label-set", metavar="SET", default="superclass", help="default: superclass")
    added = command("sessions", list_sessions, "List training and probe sessions.")
    added.add_argument("--json", action="store_true", help="nothing but JSON on standard output")
    return parser


def add_download(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``download``."""
    parser.add_argument("source", metavar="ptbxl", help="PTB-XL, into raw_datasets/ptbxl")
    parser.add_argument("--rate", choices=tuple(RATES), default="100", metavar="100|500|both", help="Hz (default: 100)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N records of the table")
    parser.add_argument(
        "--mirror", metavar="URL", help="another folder laid out as PhysioNet's: https://, http:// or file://"
    )
    parser.add_argument("--zip", metavar="FILE", help="the zip that PhysioNet publishes, instead of an address")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``run``."""
    parser.add_argument(
        "--dataset", default="demo", metavar="NAME", help="demo, ptbxl, or a processed dataset (default: demo)"
    )
    parser.add_argument("--raw", metavar="DIR", help="folder of the raw data (default: raw_datasets/SOURCE)")
    parser.add_argument("--models", default=DEFAULT_MODELS, metavar="A,B", help=f"default: {DEFAULT_MODELS}")
    parser.add_argument("--label-set", metavar="SET", help="default: superclass")
    parser.add_argument("--epochs", type=int, metavar="N", help="default: as each model's recipe says")
    parser.add_argument("--seed", type=int, metavar="N", help="default: 0")
    parser.add_argument("--force", action="store_true", help="run every step though nothing changed")
    parser.add_argument("--jobs", type=int, metavar="N", help="notebooks at once (default: 1)")


def add_preprocess(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``preprocess``."""
    parser.add_argument("source", metavar="SOURCE", help="demo or ptbxl")
    parser.add_argument("--raw", metavar="DIR", help="folder of the raw data (default: raw_datasets/SOURCE)")
    parser.add_argument(
        "--name", metavar="NAME", help="name of the processed dataset (default: after source, rate and filters)"
    )
    parser.add_argument("--rate", type=int, choices=(100, 500), metavar="100|500", help="Hz (default: 100)")
    parser.add_argument("--bandpass", type=float, nargs=2, metavar=("LOW", "HIGH"), help="band-pass edges in Hz")
    parser.add_argument("--notch", type=float, metavar="HZ", help="mains frequency to take out, 50 or 60")
    parser.add_argument("--records", type=int, metavar="N", help="size of the demo (default: 1000)")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the demo (default: 0)")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--force", action="store_true", help="make it again though nothing changed")


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``train``."""
    parser.add_argument("name", metavar="NAME", help="a processed dataset")
    parser.add_argument("--model", required=True, metavar="MODEL")
    parser.add_argument("--label-set", metavar="SET", help="default: superclass")
    parser.add_argument("--epochs", type=int, metavar="N")
    parser.add_argument("--batch-size", type=int, metavar="N")
    parser.add_argument("--learning-rate", type=float, metavar="X")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--force", action="store_true", help="train again though nothing changed")
    parser.add_argument("--resume", action="store_true", help="insist on going on with a session that was cut off")


def download(arguments: argparse.Namespace, root: Path) -> None:
    """Download PTB-XL and print its folder."""
    from ecgkit.download import download_ptbxl

    check_choice("data set to download", arguments.source, ("ptbxl",))
    downloaded = download_ptbxl(
        root / paths.RAW / arguments.source,
        rates=RATES[arguments.rate],
        limit=arguments.limit,
        mirror=arguments.mirror,
        zip_file=arguments.zip,
    )
    say(str(downloaded))
    say(downloaded.folder)


def on_terminal() -> bool:
    """Tell whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def offer_download(arguments: argparse.Namespace, root: Path) -> None:
    """Ask, on a terminal and there only, whether to download a PTB-XL that is not there."""
    folder = root / paths.RAW / "ptbxl"
    is_missing = not folder.is_dir() or not any(folder.iterdir())
    if arguments.dataset != "ptbxl" or arguments.raw is not None or not is_missing or not on_terminal():
        return
    from ecgkit.download import download_ptbxl

    answer = input(f"There is no PTB-XL in {folder}. Download it from PhysioNet now (550 MB at 100 Hz)? [y/N] ")
    if answer.strip().lower() in ("y", "yes"):
        say(str(download_ptbxl(folder)))


def run(arguments: argparse.Namespace, root: Path) -> None:
    """Run the chain and print where everything is, the last probe session last."""
    from ecgkit import pipeline

    offer_download(arguments, root)
    chain = pipeline.run(
        root,
        dataset=arguments.dataset,
        models=[name.strip() for name in arguments.models.split(",") if name.strip()],
        raw=arguments.raw,
        label_set=arguments.label_set,
        epochs=arguments.epochs,
        seed=arguments.seed,
        force=arguments.force,
        jobs=arguments.jobs,
    )
    for path in (chain.dataset, *chain.training, *chain.probes):
        say(path)


def preprocess(arguments: argparse.Namespace, root: Path) -> None:
    """Make a dataset and print its folder."""
    from ecgkit import pipeline

    low, high = arguments.bandpass or (None, None)
    parameters = pipeline.given(
        raw=arguments.raw,
        name=arguments.name,
        rate=arguments.rate,
        bandpass_low=low,
        bandpass_high=high,
        notch=arguments.notch,
        n_records=arguments.records,
        seed=arguments.seed,
        jobs=arguments.jobs,
    )
    say(pipeline.preprocess(root, force=arguments.force, source=arguments.source, **parameters).path)


def train(arguments: argparse.Namespace, root: Path) -> None:
    """Train a model and print its session's folder."""
    from ecgkit import pipeline

    if arguments.force and arguments.resume:
        raise EcgkitError("--force starts anew and --resume goes on: give one of them")
    parameters = pipeline.given(
        label_set=arguments.label_set,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
    )
    step = pipeline.train(
        root,
        dataset=arguments.name,
        model=arguments.model,
        force=arguments.force,
        resume=arguments.resume or None,
        **parameters,
    )
    say(step.path)


def probe(arguments: argparse.Namespace, root: Path) -> None:
    """Probe a training session and print the probe session's folder."""
    from ecgkit import pipeline

    session = sessions.open_finished(arguments.session, paths.TRAINING, root)
    say(pipeline.probe(root, training_session=session.name, **pipeline.given(seed=arguments.seed)).path)


def export_npz(arguments: argparse.Namespace, root: Path) -> None:
    """Write the one-file form of a dataset and print its path."""
    from ecgkit import store

    dataset = store.open_dataset(root / paths.PROCESSED / arguments.name, label_set=arguments.label_set)
    say(store.export_npz(dataset, dataset.path / f"{dataset.name}_{arguments.label_set}.npz"))


def list_sessions(arguments: argparse.Namespace, root: Path) -> None:
    """List all sessions, as lines or as JSON."""
    rows = [
        describe(session, kind)
        for kind in (paths.TRAINING, paths.PROBES)
        for session in sessions.list_sessions(kind, root)
    ]
    if arguments.json:
        say(json.dumps(rows, indent=2))
        return
    if not rows:
        say(f'no sessions in {root}: make some by "ecgkit run"')
    for row in rows:
        state = "done" if row["done"] else "unfinished"
        auc = row["fold_10_macro_auc"]
        score = f"fold 10 macro AUC {auc:.4f}" if auc is not None else ""
        what = " ".join(
            str(row[key]) for key in ("model", "dataset", "label_set", "training_session") if row[key] is not None
        )
        say(f"{row['kind']}/{row['name']}  {state}  {what}  {score}".rstrip())


def describe(session: sessions.Session, kind: str) -> dict[str, Any]:
    """Say what a session is, as JSON data."""
    config = sessions.read_config(session)
    metrics = session.path / "metrics.json"
    macro = (
        session.read_json("metrics.json")["fold_10"]["macro"]["auc"]["value"]
        if kind == paths.TRAINING and metrics.is_file()
        else None
    )
    keys = ("model", "dataset", "label_set", "seed", "training_session")
    return {
        "kind": kind,
        "name": session.name,
        "path": str(session.path),
        "done": session.is_done,
        **{key: config.get(key) for key in keys},
        "fold_10_macro_auc": macro,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words behind ``ecgkit``; those of the command line if None.

    Returns
    -------
    int
        0, or 2 for bad input and a full disk, or 130 for an interruption.
    """
    parsed = make_parser().parse_args(arguments)
    try:
        parsed.function(parsed, paths.resolve_root(parsed.root))
    except EcgkitError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        without = ", without --force," if getattr(parsed, "force", False) else ""
        fail(f"interrupted: the same command{without} goes on where it stopped")
        return 130
    except OSError as error:
        where = error.filename or "while writing"
        return fail(f"{error.strerror or error}: {where}; make room or choose another --root, then run it again")
    except BrokenExecutor:
        return fail("a worker process ended before its time: free memory or lower --jobs, then run it again")
    return 0


def fail(message: str) -> int:
    """Print one line on standard error and give the exit code of bad input."""
    print(f"ecgkit: {' '.join(message.split())}", file=sys.stderr, flush=True)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(main())
