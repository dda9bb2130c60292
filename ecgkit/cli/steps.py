"""The steps of the workflow, one by one or at once: run, preprocess, pretrain, train, probe, explain, diagnose."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ecgkit import paths
from ecgkit.cli.common import AddCommand, OneLineParser, echo
from ecgkit.cli.options import OF_RECIPE, add_cell_timeout, add_fields, settings_of
from ecgkit.cli.tables import echo_chain
from ecgkit.cluster import workers
from ecgkit.errors import EcgkitError, split_names
from ecgkit.paths import VERIFY_VARIABLE
from ecgkit.sources import SOURCES
from ecgkit.workflow import STEPS, launcher, run_step

VERIFY = "compare signals.npy with its checksum although its size and time stamps are unchanged"
DEFAULT_MODELS = "resnet1d,xlstm,hybrid"

SUBJECTS = {
    "preprocess": ("SOURCE", "demo, ptbxl, or a folder of ECG files with a table labels.csv"),
    "train": ("DATASET", "name of a processed dataset"),
    "pretrain": ("DATASET", "name of a processed dataset"),
    "probe": ("SESSION", "a finished training (session_3, 3, latest, a folder), or pretraining_sessions/session_1"),
    "explain": (
        "MODEL",
        "a finished training session (session_3, 3, latest), a model that ships, or a folder of one",
    ),
    "diagnose": ("FILES", "ECG files, folders or patterns, separated by commas; or examples"),
}
TEXTS = {
    "preprocess": "Make a processed dataset from a source of ECGs.",
    "train": "Train one model on a processed dataset.",
    "pretrain": "Pretrain an encoder on folds 1-8 of a processed dataset without labels.",
    "probe": "Analyse a model's embeddings: clusters, maps, and linear probes for age, sex, height and weight.",
    "diagnose": "Examine ECG files in a notebook: contents, probabilities, refusals, measurements, mean beats.",
}


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    text = "Run the whole chain: preprocess, train each model, probe each training, compare."
    command("run", run, text, fill=fill_run)
    for name, text in TEXTS.items():
        command(name, probe if name == "probe" else run_one, text, fill=partial(fill_step, name))


def fill_step(name: str, parser: OneLineParser, *, without: Sequence[str] = ()) -> None:
    """Add the arguments of a step; ``without`` names fields that the command adds by itself."""
    step = STEPS[name]
    metavar, text = SUBJECTS[name]
    parser.usage = f"ecgkit {name} {metavar} [options]"
    parser.add_argument(step.subject, metavar=metavar, help=text)
    of_step = {"default": OF_RECIPE} if name == "train" else {}
    add_fields(parser, step, without=(step.subject, *without), **of_step)
    parser.add_argument("--force", action="store_true", help="run it again although nothing changed")
    parser.add_argument("--verify", action="store_true", help=VERIFY)
    add_cell_timeout(parser)
    if name == "probe":
        text = "of a pretraining: the label set whose classes are probed (default: that of the pretraining)"
        parser.add_argument("--label-set", default="", metavar="NAME", help=text)
    if name in ("train", "pretrain"):
        parser.add_argument("--resume", action="store_true", help="insist on resuming an interrupted session")


def fill_run(parser: OneLineParser) -> None:
    """Add the arguments of ``run``."""
    text = f"{', '.join(SOURCES)}, a folder of raw data, or the name of a processed dataset (default: demo)"
    parser.add_argument("--dataset", default="demo", metavar="NAME", help=text)
    parser.add_argument("--raw", metavar="DIR", help="folder of the raw data (default: raw_datasets/SOURCE)")
    parser.add_argument("--models", default=DEFAULT_MODELS, metavar="A,B", help=f"default: {DEFAULT_MODELS}")
    parser.add_argument("--force", action="store_true", help="run every step although nothing changed")
    parser.add_argument("--verify", action="store_true", help=VERIFY)
    parser.add_argument("--jobs", type=int, metavar="N", help="notebooks at the same time (default: one per core)")
    parser.add_argument("--no-probes", action="store_true", help="leave the probes out")
    parser.add_argument("--verbose", action="store_true", help="show what the notebooks print")
    add_cell_timeout(parser)
    add_fields(parser, STEPS["train"], without=("dataset", "model"), default=OF_RECIPE)


def verify_signals(arguments: argparse.Namespace) -> None:
    """Let this process, and the notebooks that it starts, compare ``signals.npy`` with its checksum, if asked to."""
    if arguments.verify:
        os.environ[VERIFY_VARIABLE] = "1"


def run(arguments: argparse.Namespace, root: Path) -> None:
    """Run the chain, and print a table of the trainings and the files to open first."""
    from ecgkit.workflow import chain

    verify_signals(arguments)
    models = split_names(arguments.models)
    made = chain.run(
        root,
        dataset=arguments.dataset,
        models=models,
        raw=arguments.raw,
        force=arguments.force,
        jobs=arguments.jobs,
        probes=not arguments.no_probes,
        verbose=arguments.verbose,
        cell_timeout=arguments.cell_timeout,
        **{name: value for name, value in settings_of(arguments, STEPS["train"]).items() if name != "dataset"},
    )
    echo_chain(made)


def run_one(arguments: argparse.Namespace, root: Path) -> None:
    """Run one step and print the folder of its output."""
    step = STEPS[arguments.command]
    resume = getattr(arguments, "resume", False)
    if arguments.force and resume:
        raise EcgkitError("--force starts a new session and --resume does not: choose one of them")
    verify_signals(arguments)
    settings = settings_of(arguments, step)
    if launcher.rank():
        launcher.follow(step.resolve(root, settings), root)
        return
    with workers(settings.get("scheduler")):  # refused before a kernel starts
        pass
    timeout = arguments.cell_timeout
    made = run_step(step.name, root, force=arguments.force, resume=resume or None, cell_timeout=timeout, **settings)
    echo(made.path)


def probe(arguments: argparse.Namespace, root: Path) -> None:
    """Run the notebook on a training session; or probe a pretrained encoder here, and print the results on fold 10."""
    name = Path(arguments.training_session)
    if not paths.is_pretraining(name):
        if arguments.label_set:
            raise EcgkitError("--label-set is for a pretraining: a training session has its own label set")
        run_one(arguments, root)
        return
    from ecgkit import sessions

    verify_signals(arguments)
    session = sessions.open_finished(name, paths.PRETRAINING, root)
    settings = settings_of(arguments, STEPS["probe"])
    del settings["training_session"]
    if surplus := sorted(settings.keys() - {"seed", "resamples"}):
        raise EcgkitError(f"{surplus[0]} is for a training session: a pretraining does not have it")
    from ecgkit.feature_space.pretrained import make_probe_session, tables

    options = {"force": arguments.force, "label_set": arguments.label_set}
    made, probes = make_probe_session(session, root, **options, **settings)
    for table in tables(probes) if probes else ():
        echo(table.to_string())
    echo(made.path)
