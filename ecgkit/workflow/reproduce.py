"""Run a finished training again from its session, and report whether the numbers are the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ecgkit import __version__, paths, sessions
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.files import read_metrics, stored_predictions
from ecgkit.processes import THREADS, n_cores
from ecgkit.sessions import REPRODUCTION, Session
from ecgkit.stats.labels import format_interval
from ecgkit.workflow.run import report
from ecgkit.workflow.runner import environment_variables, run_notebook
from ecgkit.workflow.steps import STEPS, recorded

if TYPE_CHECKING:
    from ecgkit.training import TrainingConfig

VERSION = 1
"""The version of the layout of ``reproduction.json``."""

FOLDS = ("fold_9", "fold_10")

SURROUNDINGS = ("packages", "processor", "cpu_capability", "threads", "gpus", "kernel_backend")
"""The keys of ``environment.json`` that the last digit depends on."""

IGNORED = ("packages.ecgkit", "packages.umap-learn")
"""Keys among these without influence: the version of ecgkit is compared separately, and a training uses no UMAP."""


@dataclass(frozen=True)
class Reproduction:
    """The result of a reproduction.

    Attributes
    ----------
    original : Session
        The session that was reproduced.
    session : Session
        The new session.
    facts : dict
        The contents of its ``reproduction.json``: ``reproduces``; ``elsewhere``, one line per difference of dataset,
        version or machine; ``records``, the number in both; ``largest_difference`` of a probability;
        ``largest_metric_difference``; ``auc``, ``{FOLD: {CLASS | "macro": {"old", "new"}}}``; ``rule``, the criterion;
        and ``against``, the reasons why it is not met.
    """

    original: Session
    session: Session
    facts: dict[str, Any]

    @property
    def succeeded(self) -> bool:
        """Whether the numbers are the same, by the rule."""
        return not self.facts["against"]


def reproduce(
    root: Path,
    session: str | Path,
    *,
    anyway: bool = False,
    tolerance: float | None = None,
    cell_timeout: int | None = None,
) -> Reproduction:
    """Run the notebook of a training session again, with the recorded parameters, in a new session.

    With the same processor, threads and packages, every probability has to be the same. Elsewhere sums are rounded
    differently, and training amplifies that: with ``resnet1d`` on the demo, two threads instead of one change a
    probability by up to 0.007 after one epoch and 0.7 after eight, but the macro AUC of fold 10 by 0.003. Then the
    macro AUC of folds 9 and 10 has to be inside the recorded interval.

    Parameters
    ----------
    root : Path
        The folder of data sets and sessions.
    session : str or Path
        A finished training session, or ``"latest"``.
    anyway : bool, default False
        Continue although the dataset or the version of ecgkit differs from the record.
    tolerance : float, optional
        Largest difference of a probability that passes, instead of the rules above.
    cell_timeout : int, optional
        Seconds after which a cell that has not ended is stopped; by default never.

    Returns
    -------
    Reproduction
        An unfinished reproduction of an earlier call is resumed.

    Raises
    ------
    EcgkitError
        If the session, its dataset or its notebook is missing, dataset or version differ, or the notebook fails.
    """
    if tolerance is not None and not tolerance >= 0:
        raise EcgkitError(f"tolerance is {tolerance}: give zero or a positive number")
    root = paths.resolve_root(root)
    original = sessions.open_finished(session, paths.TRAINING, root)
    config = recorded_training(original)
    values = recorded(config, root)
    changed = what_changed(original, values)
    if changed and not anyway:
        raise EcgkitError(f"{original.label} cannot be reproduced: {'; '.join(changed)}: undo that, or add --anyway")
    for line in changed:
        report(f"{original.label}: {line}; running it anyway")
    new = not_compared(original, values, root) or run_again(original, config, values, root, cell_timeout)
    facts = {"version": VERSION, "reproduces": original.name} | compare(original, new, changed, tolerance)
    new.write_json(REPRODUCTION, facts)
    return Reproduction(original, new, facts)


def recorded_training(original: Session) -> TrainingConfig:
    """Read a session's recorded configuration.

    Raises
    ------
    EcgkitError
        If it is an ensemble, or of another version of ecgkit.
    """
    from ecgkit.training.config import recorded_config  # loads torch

    if original.config.get("model") == "ensemble":
        members = ", ".join(original.config.get("members", ()))
        raise EcgkitError(f"{original.name} is an ensemble and trains nothing: reproduce a member ({members})")
    return recorded_config(original)


def what_changed(original: Session, values: dict[str, Any]) -> list[str]:
    """Return one line each if the dataset or the version of ecgkit is not the recorded one."""
    now, before = values["dataset_fingerprint"], original.config.get("dataset_fingerprint")
    version = sessions.read_environment(original).get("packages", {}).get("ecgkit")
    changed = []
    if now != before:
        changed.append(
            f"the dataset {values['dataset']} has the fingerprint {now[:12]}, recorded is {str(before)[:12]}"
        )
    if version != __version__:
        changed.append(f"ecgkit is {__version__}, recorded is {version}")
    return changed


def not_compared(original: Session, values: dict[str, Any], root: Path) -> Session | None:
    """Return a finished reproduction whose comparison was interrupted; None without one."""
    made = sessions.matching(paths.TRAINING, root, values, original=original.name)
    waiting = [s for s in made if s.is_done and "against" not in s.read_json(REPRODUCTION)]
    return waiting[-1] if waiting else None


def run_again(
    original: Session, config: TrainingConfig, values: dict[str, Any], root: Path, cell_timeout: int | None
) -> Session:
    """Run the session's notebook into a new session, or into an interrupted one."""
    notebook = original.path / STEPS["train"].notebook
    if not notebook.is_file():
        raise EcgkitError(f"no {notebook.name} in {original.path}: a session cannot be reproduced without its notebook")
    with sessions.claim(paths.TRAINING, root, values, original=original.name) as session:
        report(f"{session.path}: running the notebook of {original.name}")
        with environment_variables(threads_of(original)):
            values = asdict(config) | {"root": str(root), "session": sessions.NEW}
            skipped = getattr(config, "skipped_tags", ())
            run_notebook(notebook, values, session, skipped_tags=skipped, cell_timeout=cell_timeout)
    return session


def threads_of(original: Session) -> dict[str, str]:
    """Return the variables that let a kernel use as many threads as the original: they decide how sums are rounded."""
    threads = sessions.read_environment(original).get("threads")
    names = (THREADS, "MKL_NUM_THREADS") if threads and threads <= n_cores() else ()
    return dict.fromkeys(names, str(threads))


def compare(original: Session, new: Session, changed: list[str], tolerance: float | None) -> dict[str, Any]:
    """Compare two finished sessions by their files.

    Parameters
    ----------
    original, new : Session
        Both have ``predictions.parquet``, ``metrics.json`` and ``environment.json``.
    changed : list of str
        The differences of dataset and version.
    tolerance : float or None
        As of `reproduce`.

    Returns
    -------
    dict
        As `Reproduction.facts` has it, without ``version`` and ``reproduces``.

    Raises
    ------
    EcgkitError
        If a file is missing or damaged.
    """
    before, after = read_metrics(original), read_metrics(new)
    tables = stored_predictions(original), stored_predictions(new)
    difference, n_records = largest_difference(*tables)
    elsewhere = changed + surroundings(original, new)
    facts = {
        "elsewhere": elsewhere,
        "records": n_records,
        "largest_difference": difference,
        "largest_metric_difference": largest_metric_difference(before, after),
        "auc": {fold: auc_by_class(before[fold], after[fold]) for fold in folds_of(before, after)},
    }
    if tolerance is None and elsewhere:
        rule = "the macro AUC of folds 9 and 10 is inside the recorded interval"
        return facts | {"rule": rule, "against": outside_interval(before, after)}
    largest = tolerance or 0.0
    against = []
    if n_records != max(map(len, tables)):
        against.append(f"only {n_records} of {max(map(len, tables))} records are in both")
    if difference is not None and difference > largest:
        against.append(f"a probability differs by {difference:.3g}, which is more than {largest:g}")
    return facts | {"rule": f"no probability differs by more than {largest:g}", "against": against}


def folds_of(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the folds that both sessions have evaluated; fold 10 may be closed."""
    return [fold for fold in FOLDS if fold in before and fold in after]


def largest_difference(before: pd.DataFrame, after: pd.DataFrame) -> tuple[float | None, int]:
    """Return the largest difference of any probability, uncalibrated or calibrated.

    Parameters
    ----------
    before, after : DataFrame
        Tables of predictions.

    Returns
    -------
    difference : float or None
        Over the records and classes that are in both tables; None if there are none.
    n_records : int
        The number of these records.
    """
    keys = ["fold", "record_id"]
    columns = [name for name in before if name in after and str(name).startswith(("prob_", "calibrated_"))]
    tables = [table.set_index(keys)[columns].astype(np.float64) for table in (before, after)]
    old, new = tables[0].align(tables[1], join="inner", axis=0)
    return (float(np.abs(old.to_numpy() - new.to_numpy()).max()) if old.size else None), len(old)


def largest_metric_difference(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Return the largest difference of any metric that is in both, intervals aside."""
    old, new = (sessions.flatten({fold: table[fold] for fold in folds_of(before, after)}) for table in (before, after))
    both = [key for key in old if key.endswith(".value") and old[key] is not None and new.get(key) is not None]
    return max((abs(old[key] - new[key]) for key in both), default=0.0)


def auc_by_class(before: dict[str, Any], after: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return both AUCs of each class and both macro AUCs; None where it is not defined."""
    nothing = {"auc": {"value": None}}
    return {
        name: {"old": before[name]["auc"]["value"], "new": after.get(name, nothing)["auc"]["value"]}
        for name in before
        if "auc" in before[name]
    }


def outside_interval(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return one line per fold whose new macro AUC is outside the recorded interval."""
    against = []
    for fold in folds_of(before, after):
        old, new = before[fold]["macro"]["auc"], after[fold]["macro"]["auc"]["value"]
        low, high = old["low"], old["high"]
        if not (new == old["value"] if None in (new, low, high) else low <= new <= high):
            recorded = format_interval(old, digits=4)
            against.append(f"the macro AUC of {fold.replace('_', ' ')} is {new}, outside the recorded {recorded}")
    return against


def surroundings(original: Session, new: Session) -> list[str]:
    """Return one line per difference of processor, threads, packages and GPU, and one if a GPU was used."""
    before, after = sessions.read_environment(original), sessions.read_environment(new)
    # Values that are not recorded are not compared, except for the threads, without which nothing can be promised.
    keys = [key for key in SURROUNDINGS if key in before or key == "threads"]
    old, now = ({key: data.get(key) for key in keys} for data in (before, after))
    lines = [line for line in sessions.describe_differences(old, now) if not line.startswith(IGNORED)]
    lines += [
        f"{key} was {value} before the original was interrupted"
        for key, value in before.get("begun_with", {}).items()
        if key.partition(".")[0] in SURROUNDINGS and key not in IGNORED
    ]
    if before.get("gpus") and not lines:
        lines.append("trained on a GPU, where not every operation is deterministic")
    return lines
