"""Data sets: download, export-npz."""

from __future__ import annotations

import argparse
from pathlib import Path

from ecgkit import paths
from ecgkit.cli.common import AddCommand, on_terminal, say, says_yes
from ecgkit.errors import check_choice

RATES = {"100": (100,), "500": (500,), "both": (100, 500)}


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    added = command("download", download, "Download a data set, or resume an interrupted download.")
    added.add_argument("source", metavar="ptbxl", help="PTB-XL, into raw_datasets/ptbxl")
    added.add_argument("--rate", choices=tuple(RATES), default="100", metavar="100|500|both", help="Hz (default: 100)")
    added.add_argument("--limit", type=int, metavar="N", help="only the first N records of the table")
    text = "another folder with PhysioNet's layout: https://, http:// or file://"
    added.add_argument("--mirror", metavar="URL", help=text)
    added.add_argument("--zip", metavar="FILE", help="the zip file that PhysioNet publishes, instead of an address")
    added = command("export-npz", export_npz, "Write a processed dataset as one .npz file without pickles.")
    added.add_argument("name", metavar="DATASET", help="name of a processed dataset")
    added.add_argument("--label-set", metavar="SET", default="superclass", help="default: superclass")


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
    """Ask, on a terminal only, whether to download PTB-XL if it is missing."""
    from ecgkit.sources.ptbxl.source import TABLES

    folder = root / paths.RAW / "ptbxl"
    is_needed = arguments.dataset == "ptbxl" and arguments.raw is None
    if not is_needed or (folder / TABLES[0]).is_file() or not on_terminal():
        return
    from ecgkit.sources.ptbxl.download import download as download_ptbxl

    if says_yes(f"There is no PTB-XL in {folder}. Download it from PhysioNet now (550 MB at 100 Hz)?"):
        say(str(download_ptbxl(folder)))


def export_npz(arguments: argparse.Namespace, root: Path) -> None:
    """Write a dataset as one file and print its path."""
    from ecgkit import datasets

    dataset = datasets.open_dataset(root / paths.PROCESSED / arguments.name, label_set=arguments.label_set)
    say(datasets.export_npz(dataset, dataset.path / f"{dataset.name}_{arguments.label_set}.npz"))
