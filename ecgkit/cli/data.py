"""Data sets: download, export-npz."""

from __future__ import annotations

import argparse
from pathlib import Path

from ecgkit import paths
from ecgkit.cli.common import AddCommand, echo
from ecgkit.io import file_name


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    added = command("download", download, "Download a data set, or resume an interrupted download.")
    added.add_argument("source", metavar="SOURCE", help="such as ptbxl, into raw_datasets/ptbxl")
    text = "sampling rate, or both (default: the first rate of the source, 100 of ptbxl)"
    added.add_argument("--rate", type=parse_rate, metavar="HZ|both", help=text)
    added.add_argument("--limit", type=int, metavar="N", help="only the first N records of the table")
    text = "another folder with PhysioNet's layout: https://, http:// or file://"
    added.add_argument("--mirror", metavar="URL", help=text)
    added.add_argument("--zip", metavar="FILE", help="the zip file that PhysioNet publishes, instead of an address")
    added = command("export-npz", export_npz, "Write a processed dataset as one .npz file without pickles.")
    added.add_argument("name", metavar="DATASET", help="name of a processed dataset")
    added.add_argument("--label-set", metavar="SET", help="default: the first one of the dataset")


def parse_rate(text: str) -> int:
    """Parse a sampling rate in Hz; "both" becomes 0."""
    if text != "both" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no sampling rate: give a whole number of Hz, or both")
    return 0 if text == "both" else int(text)


def download(arguments: argparse.Namespace, root: Path) -> None:
    """Download a data set and print its folder."""
    from ecgkit.sources import source_class

    source, folder = source_class(arguments.source), root / paths.RAW / arguments.source
    rates = {None: source.sampling_rates[:1], 0: source.sampling_rates}.get(arguments.rate, (arguments.rate,))
    echo(source.download(folder, rates=rates, limit=arguments.limit, mirror=arguments.mirror, zip_file=arguments.zip))
    echo(folder)


def export_npz(arguments: argparse.Namespace, root: Path) -> None:
    """Write a dataset as one file and print its path."""
    from ecgkit import datasets

    folder = root / paths.PROCESSED / arguments.name
    label_set = arguments.label_set or datasets.default_label_set(datasets.read_manifest(folder))
    dataset = datasets.open_dataset(folder, label_set=label_set)
    echo(datasets.export_npz(dataset, dataset.path / f"{dataset.name}_{file_name(label_set)}.npz"))
