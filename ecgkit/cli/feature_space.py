"""Commands on the feature space of a trained model: embed, similar, probe-epochs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ecgkit import paths, sessions
from ecgkit.cli.common import AddCommand, echo, echo_columns
from ecgkit.errors import EcgkitError, check_seed, split_names
from ecgkit.io import file_name

if TYPE_CHECKING:
    from ecgkit.training import TrainedSession

MOST_SIMILAR = 20
"""The largest number of ECGs in one picture."""

SESSION = "a training session: session_3, 3, latest, or its folder"


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    added = command("embed", embed, "Write the embeddings of a session's records, of one or several layers.")
    added.add_argument("session", metavar="SESSION", help=SESSION)
    text = 'a layer\'s name, several with commas, or "all" (default: embedding, the input of the head)'
    added.add_argument("--layer", metavar="NAME", default="embedding", help=text)
    added.add_argument("--folds", metavar="9,10", help="default: all ten")
    text = "trained (the default), untrained_0 (fresh weights of a seed), epoch_3; several with commas"
    added.add_argument("--encoder", metavar="NAME", default="trained", help=text)
    added.add_argument("--list", action="store_true", help="only list the session's layers")

    added = command("similar", similar, "Find and draw the records with the most similar embeddings.")
    added.add_argument("record", metavar="RECORD", help="its record_id")
    added.add_argument("--session", metavar="SESSION", default=sessions.LATEST, help=f"{SESSION} (default: latest)")
    added.add_argument("-n", type=int, default=5, metavar="N", help="how many to find (default: 5)")
    added.add_argument("--same-patient", action="store_true", help="include other records of the same patient")
    added.add_argument("--to", metavar="FILE", help="the picture (default: cache/similar_RECORD.png in the session)")

    added = command("probe-epochs", probe_epochs, "Probe the weights of each epoch that a session kept.")
    added.add_argument("session", metavar="SESSION", help=SESSION)
    added.add_argument("--seed", type=int, default=0, metavar="N", help="of the splits of the probes (default: 0)")


def open_source(name: str, root: Path) -> TrainedSession:
    """Open a finished training session with its model and its dataset."""
    session = sessions.open_finished(name, paths.TRAINING, root)  # before the imports that take seconds
    from ecgkit.training import open_trained

    return open_trained(session, root)


def read_folds(text: str | None) -> tuple[int, ...] | None:
    """Read folds such as ``9,10``; None for all."""
    if text is None:
        return None
    try:
        return tuple(int(name) for name in split_names(text))
    except ValueError as error:
        raise EcgkitError(f"--folds is {text!r}: give numbers such as 9,10") from error


def embed(arguments: argparse.Namespace, root: Path) -> None:
    """Write the embeddings that do not exist yet, and print their files."""
    layers, folds, encoders = split_names(arguments.layer), read_folds(arguments.folds), split_names(arguments.encoder)
    if not layers or not encoders:
        raise EcgkitError("no layer or no encoder is named: give --layer embedding --encoder trained")
    source = open_source(arguments.session, root)
    import numpy as np

    from ecgkit.feature_space.embeddings import session_embeddings
    from ecgkit.feature_space.layers import layer_names

    if arguments.list:
        for name in layer_names(source.trained.model):
            echo(name)
        return
    for encoder in encoders:
        for name, found in session_embeddings(source, layers, encoder=encoder, folds=folds, progress=True).items():
            asked, features = found.vectors.shape
            stored = len(np.load(found.path, mmap_mode="r"))
            of_folds = f", {asked:,} of them of fold {arguments.folds}" if asked < stored else ""
            echo(f"{found.path}  {name}, {features} features, {stored:,} records{of_folds}")


def similar(arguments: argparse.Namespace, root: Path) -> None:
    """Find similar records, draw them, and print their descriptions and the picture's path."""
    if not 1 <= arguments.n <= MOST_SIMILAR:
        raise EcgkitError(f"-n is {arguments.n}: give a number of similar records from 1 to {MOST_SIMILAR}")
    given = None if arguments.to is None else picture_path(arguments.to)
    source = open_source(arguments.session, root)
    path = given or source.session.path / "cache" / f"similar_{file_name(arguments.record)}.png"
    dataset = source.dataset
    from ecgkit import plots
    from ecgkit.feature_space.embeddings import session_embeddings
    from ecgkit.feature_space.layers import EMBEDDING
    from ecgkit.feature_space.similar import SimilarRecords, describe_nearest, find_record

    position = find_record(dataset.records, arguments.record)  # before the embedding, which may take minutes
    values = session_embeddings(source, progress=True)[EMBEDDING].vectors
    index = SimilarRecords(values, dataset.records)
    table = index.nearest(position, arguments.n, same_patient=arguments.same_patient)
    positions = [position, *table["position"]]
    titles = describe_nearest(position, table, dataset.records, dataset.labels)
    figure = plots.plot_ecgs([dataset.signal(i) for i in positions], titles, sampling_rate=dataset.sampling_rate)
    sessions.save_picture(figure, path)
    echo_columns([title.partition("\n")[::2] for title in titles])
    echo(path)


def picture_path(given: str) -> Path:
    """Return the path of a picture, checked."""
    path = Path(given).expanduser().absolute()
    if path.suffix.lower() != ".png":
        raise EcgkitError(f"--to is {given!r}: give a file that ends in .png")
    if not path.parent.is_dir():
        raise EcgkitError(f"no folder {path.parent}: make it first, or choose another --to")
    return path


def probe_epochs(arguments: argparse.Namespace, root: Path) -> None:
    """Probe each kept epoch and print the table and its file."""
    check_seed(arguments.seed, "--seed")
    source = open_source(arguments.session, root)
    import matplotlib as mpl
    import pandas as pd

    from ecgkit import plots
    from ecgkit.feature_space.epochs import NAME, probe_epochs
    from ecgkit.plots.style import STYLE

    table = probe_epochs(source, seed=arguments.seed, progress=True)
    for (target, metric), part in table.groupby(["target", "metric"], sort=False):
        found = part.dropna(subset="value").sort_values("epoch", na_position="first", kind="stable")
        of_epochs = ["untrained" if pd.isna(epoch) else f"epoch {epoch}" for epoch in found["epoch"]]
        values = [f"{value:.3f}" for value in found["value"]]
        echo(f"{target} {metric}: {', '.join(f'{a} {b}' for a, b in zip(of_epochs, values, strict=True)) or 'skipped'}")
    cache = source.session.path / "cache"
    with mpl.rc_context(STYLE):
        sessions.save_picture(plots.probe_by_epoch(table), cache / f"{NAME}.png")
    echo(cache / f"{NAME}.parquet")
    echo(cache / f"{NAME}.png")
