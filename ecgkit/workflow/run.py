"""Run a step, or start it from its notebook."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ecgkit import paths, sessions
from ecgkit.errors import EcgkitError, printable
from ecgkit.evaluation.files import read_metrics
from ecgkit.io import locked
from ecgkit.progress import outlives_reader
from ecgkit.sessions import NEW, SESSION_VARIABLE, Session
from ecgkit.sessions.folder import before_close
from ecgkit.workflow import launcher
from ecgkit.workflow.recording import record
from ecgkit.workflow.runner import run_notebook
from ecgkit.workflow.steps import STEPS, Step, recorded

LISTED = 10
"""The number of quarantined records that are named."""


@dataclass(frozen=True)
class Run:
    """A step that has been started from its notebook.

    Attributes
    ----------
    session : Session
        The folder of its outputs.
    config : object
        Every parameter, as resolved.
    root : Path
        The folder of data sets and sessions.
    """

    session: Session
    config: Any
    root: Path


@dataclass(frozen=True)
class Outcome:
    """The result of `run_step`.

    Attributes
    ----------
    path : Path
        The folder of the dataset or session.
    skipped : bool
        Whether it existed already, made from the same inputs with the same parameters.
    """

    path: Path
    skipped: bool


def start(step: str, *, root: str | Path | None = None, session: str = NEW, **settings: Any) -> Run:
    """Start a step from its notebook: resolve the configuration, and create its session or resume one.

    Parameters
    ----------
    step : str
        Name of the step, such as ``"train"``.
    root : str or Path, optional
        The folder of data sets and sessions; by default the project's.
    session : str, default "new"
        ``"new"``, or the name of an interrupted session of this configuration.
    **settings
        Fields of the step's configuration; None leaves a field unset.

    Returns
    -------
    Run

    Raises
    ------
    EcgkitError
        If a setting is unknown or refused, or the session has another configuration.
    """
    chosen, folder = STEPS[step], paths.resolve_root(root)
    config = chosen.resolve(folder, settings)
    by_hand = SESSION_VARIABLE not in os.environ
    if chosen.kind == paths.PROCESSED:
        made = Session(config.folder(folder))
        if by_hand:
            before_close[made.path] = record(chosen.path)
        return Run(made, config, folder)
    values = recorded(config, folder)
    if by_hand and session == NEW:
        name_equal_sessions(chosen.kind, folder, values)
    begun = sessions.start(
        chosen.kind,
        folder,
        values,
        notebook=chosen.path,
        session=session,
        kernel_backend=kernel_backend() if chosen.kind in paths.WITH_NETWORK else None,
    )
    if by_hand:
        before_close[begun.path] = record(chosen.path)
    return Run(begun, config, folder)


def name_equal_sessions(kind: str, root: Path, values: dict[str, Any]) -> None:
    """Print which sessions of the same configuration exist, and how they are opened or resumed."""
    equal = sessions.matching(kind, root, values)
    finished = [one for one in equal if one.is_done]
    unfinished = [one for one in equal if not one.is_done and (sessions.is_held_here(one) or not one.is_running)]
    further = "this is a further session"
    if finished:
        path = finished[-1].path
        report(f"{finished[-1].label} has this configuration and is finished: look at {path}; {further}")
    if unfinished:
        label, name = unfinished[-1].label, unfinished[-1].name
        way_out = f'set session = "{name}" to resume it'
        report(f"{label} has this configuration and is not finished: {way_out}; {further}")


def kernel_backend() -> str:
    """Return the backend of the recurrent cells."""
    from ecgkit.models.kernels import backend  # loads torch

    return backend()


def report(line: str) -> None:
    """Print one line of progress at once."""
    with outlives_reader(sys.stdout):
        print(printable(line), flush=True)  # noqa: T201 - the runner's progress belongs on standard output


def run_step(
    step: str,
    root: str | Path | None = None,
    *,
    force: bool = False,
    resume: bool | None = None,
    verbose: bool = True,
    quiet: bool = False,
    cell_timeout: int | None = None,
    **settings: Any,
) -> Outcome:
    """Run a step's notebook, unless its output exists already with the same configuration.

    Parameters
    ----------
    step : str
        Name of the step, such as ``"train"``.
    root : str or Path, optional
        The folder of data sets and sessions; by default the project's.
    force : bool, default False
        Run it again although nothing changed.
    resume : bool, optional
        None resumes an interrupted session of this configuration if there is one; True insists on one.
    verbose : bool, default True
        Whether what the notebook prints is passed on.
    quiet : bool, default False
        Whether not even the folder of the output is printed.
    cell_timeout : int, optional
        Seconds after which a cell that has not ended is stopped; the session can be resumed. By default never.
    **settings
        Fields of the step's configuration; None leaves a field unset.

    Returns
    -------
    Outcome

    Raises
    ------
    EcgkitError
        If a setting is unknown or refused, or the notebook fails.
    """
    if cell_timeout is not None and cell_timeout < 1:
        raise EcgkitError(f"cell_timeout is {cell_timeout}: give 1 or more seconds")
    chosen, folder = STEPS[step], paths.resolve_root(root)
    config = chosen.resolve(folder, settings)
    claim = claim_dataset if chosen.kind == paths.PROCESSED else claim_session
    with claim(chosen, folder, config, force=force, resume=resume) as (session, to_run):
        what = "unchanged, skipped" if to_run is None else f"running {chosen.notebook}"
        if not quiet:
            report(f"{session.path}: {what}")
        if step == "train":
            launcher.announce(session.path if to_run is not None else None)
        if to_run is not None:
            values = asdict(to_run) | {"root": str(folder)}
            skipped = getattr(to_run, "skipped_tags", ())
            run_notebook(chosen.path, values, session, verbose=verbose, skipped_tags=skipped, cell_timeout=cell_timeout)
    return Outcome(session.path, skipped=to_run is None)


@contextmanager
def claim_session(
    step: Step, root: Path, config: Any, *, force: bool, resume: bool | None
) -> Iterator[tuple[Session, Any]]:
    """Lock a new or an interrupted session; or yield a finished one with None for the configuration."""
    values = recorded(config, root)
    finished = None if force or resume else sessions.find_finished(step.kind, root, values)
    if values.get("test") and not (finished or force or resume):
        finished = open_test_fold(step, root, values)
    if finished:
        yield finished, None
        return
    with sessions.claim(step.kind, root, values, resume=False if force else resume) as session:
        yield session, config


def open_test_fold(step: Step, root: Path, values: dict[str, Any]) -> Session | None:
    """Return a finished training that differs only in that fold 10 was closed, evaluated on it now if it was not."""
    closed = sessions.find_finished(step.kind, root, values | {"test": False})
    if closed and "fold_10" not in read_metrics(closed):
        from ecgkit import evaluation

        evaluation.evaluate_test_fold(closed, root)
    return closed


@contextmanager
def claim_dataset(
    step: Step, root: Path, config: Any, *, force: bool, resume: bool | None
) -> Iterator[tuple[Session, Any]]:
    """Lock a dataset's folder; or yield a current dataset with None for the configuration."""
    del step, resume  # an interrupted dataset is always resumed
    from ecgkit import datasets

    source = config.open_source(root)
    folder = Session(config.folder(root))
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    # One at a time: a second run of the same chain waits here, and then finds the dataset.
    message = f"waiting for another process that is preprocessing {folder.name}"
    with locked(folder.path.with_name(f".{folder.name}.lock"), message, timeout=1, wait=report):
        current = datasets.is_current(
            folder.path, source, config.filters, anyway=config.anyway, overwrite=force or config.overwrite
        )
        if current and folder.is_done and not force:
            yield folder, None
            return
        # A dataset under its default name follows its source; one that the user named is replaced only on request.
        replace = folder.path.exists() and (force or (not current and config.name is None))
        yield folder, dataclasses.replace(config, overwrite=config.overwrite or replace)
        name_quarantined(folder)


def name_quarantined(folder: Session) -> None:
    """Print which records of a new dataset are quarantined, and why."""
    from ecgkit import datasets

    quarantined = datasets.read_manifest(folder.path)["quarantined"]
    if not quarantined["count"]:
        return
    listed = [f"{entry['record_id']}: {entry['reason']}" for entry in quarantined["records"][:LISTED]]
    more = f"; the others are in {folder.path / 'dataset.json'}" if quarantined["count"] > LISTED else ""
    report(f"{quarantined['count']:,} records quarantined: {'; '.join(listed)}{more}")
