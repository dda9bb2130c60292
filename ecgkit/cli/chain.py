"""From data to models, step by step or at once: download, run, preprocess, train, probe, export-npz."""

from __future__ import annotations

import argparse
from pathlib import Path

from ecgkit import paths
from ecgkit.cli.common import AddCommand, on_terminal, say, says_yes
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.workflow import run_step

RATES = {"100": (100,), "500": (500,), "both": (100, 500)}
DEFAULT_MODELS = "resnet1d,xlstm,hybrid"


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    add_download(command("download", download, "Download a data set, or go on with a download that was cut off."))
    add_run(command("run", run, "Run the whole chain: preprocess, train each model, probe each training."))
    add_preprocess(command("preprocess", preprocess, "Make a processed dataset from a source of ECGs."))
    add_train(command("train", train, "Train one model on a processed dataset."))
    added = command(
        "probe", probe, "Look into a trained model: clusters, maps, and probes for age, sex, height and weight."
    )
    added.add_argument("session", metavar="SESSION", help="a training session: session_3, 3, or its folder")
    added.add_argument("--seed", type=int, metavar="N")
    text = "look into these vectors instead; a table of record_id lies beside, as .parquet or .csv"
    added.add_argument("--vectors", metavar="FILE.npy", help=text)
    added = command("export-npz", export_npz, "Write a processed dataset as one .npz file without pickles.")
    added.add_argument("name", metavar="NAME", help="a processed dataset")
    added.add_argument("--label-set", metavar="SET", default="superclass", help="default: superclass")


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
    parser.add_argument("--no-probes", action="store_true", help="stop after the trainings")


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
    parser.add_argument("--n-records", type=int, metavar="N", help="size of the demo (default: 1000)")
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
    parser.add_argument("--recipe", metavar="FILE", help="another recipe than the model's own")
    parser.add_argument("--metadata", action="store_true", help="also give the model age and sex")
    parser.add_argument("--force", action="store_true", help="train again though nothing changed")
    parser.add_argument("--resume", action="store_true", help="insist on going on with a session that was cut off")


def download(arguments: argparse.Namespace, root: Path) -> None:
    """Download PTB-XL and print its folder."""
    from ecgkit.sources.ptbxl.download import download as download_ptbxl

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


def offer_download(arguments: argparse.Namespace, root: Path) -> None:
    """Ask, on a terminal and there only, whether to download a PTB-XL that is not there."""
    from ecgkit.sources.ptbxl.source import TABLES

    folder = root / paths.RAW / "ptbxl"
    is_asked_for = arguments.dataset == "ptbxl" and arguments.raw is None
    if not is_asked_for or (folder / TABLES[0]).is_file() or not on_terminal():
        return
    from ecgkit.sources.ptbxl.download import download as download_ptbxl

    if says_yes(f"There is no PTB-XL in {folder}. Download it from PhysioNet now (550 MB at 100 Hz)?"):
        say(str(download_ptbxl(folder)))


def run(arguments: argparse.Namespace, root: Path) -> None:
    """Run the chain and print where everything is, the last session last."""
    from ecgkit.workflow import chain as pipeline

    models = [name.strip() for name in arguments.models.split(",") if name.strip()]
    pipeline.check_models(models, jobs=arguments.jobs)
    offer_download(arguments, root)
    chain = pipeline.run(
        root,
        dataset=arguments.dataset,
        models=models,
        raw=arguments.raw,
        label_set=arguments.label_set,
        epochs=arguments.epochs,
        seed=arguments.seed,
        force=arguments.force,
        jobs=arguments.jobs,
        probes=not arguments.no_probes,
    )
    for path in (chain.dataset, *chain.training, *chain.probes):
        say(path)


def preprocess(arguments: argparse.Namespace, root: Path) -> None:
    """Make a dataset and print its folder."""
    outcome = run_step(
        "preprocess",
        root,
        force=arguments.force,
        source=arguments.source,
        raw=arguments.raw,
        name=arguments.name,
        rate=arguments.rate,
        bandpass=arguments.bandpass,
        notch=arguments.notch,
        n_records=arguments.n_records,
        seed=arguments.seed,
        jobs=arguments.jobs,
    )
    say(outcome.path)


def train(arguments: argparse.Namespace, root: Path) -> None:
    """Train a model and print its session's folder."""
    if arguments.force and arguments.resume:
        raise EcgkitError("--force starts anew and --resume goes on: give one of them")
    outcome = run_step(
        "train",
        root,
        force=arguments.force,
        resume=arguments.resume or None,
        dataset=arguments.name,
        model=arguments.model,
        label_set=arguments.label_set,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        recipe=arguments.recipe,
        metadata=arguments.metadata or None,
    )
    say(outcome.path)


def probe(arguments: argparse.Namespace, root: Path) -> None:
    """Probe a training session and print the probe session's folder."""
    settings = {"training_session": arguments.session, "seed": arguments.seed, "vectors": arguments.vectors}
    say(run_step("probe", root, **settings).path)


def export_npz(arguments: argparse.Namespace, root: Path) -> None:
    """Write the one-file form of a dataset and print its path."""
    from ecgkit import datasets

    dataset = datasets.open_dataset(root / paths.PROCESSED / arguments.name, label_set=arguments.label_set)
    say(datasets.export_npz(dataset, dataset.path / f"{dataset.name}_{arguments.label_set}.npz"))
