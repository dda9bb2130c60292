"""What a model was measured to lose without some of the twelve leads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ecgkit.io import read_json
from ecgkit.signals.ecg import LEADS

if TYPE_CHECKING:
    from ecgkit.signals.findings import Finding

LEAD_LOSSES = "missing_leads.json"


class LeadSet(TypedDict):
    """The macro AUC with some leads only, and the interval of 95 % of its difference from all twelve."""

    leads: list[str]
    auc: float
    low: float
    high: float


class LeadLosses(TypedDict):
    """The contents of ``missing_leads.json``, on records of fold 9: the macro AUC with all leads, and with fewer."""

    records: int
    auc: float
    lead_sets: list[LeadSet]


def read_lead_losses(folder: Path, *, way_out: str) -> LeadLosses | None:
    """Read the file of a model folder; None if it was not measured."""
    path = folder / LEAD_LOSSES
    return read_json(path, LeadLosses, way_out=way_out) if path.is_file() else None


def missing_leads_finding(missing: Sequence[str], losses: LeadLosses | None, model: str) -> Finding:
    """Return the finding of an ECG that is predicted although it lacks leads.

    Parameters
    ----------
    missing : sequence of str
        Its missing leads, at least one.
    losses : LeadLosses or None
        What the model was measured to lose.
    model : str
        Its name.

    Returns
    -------
    Finding
        With the loss of macro AUC of the measured lead set that differs in the fewest leads; of several, the largest.
    """
    from ecgkit.signals.findings import Finding  # which loads pandas

    leads = tuple(missing)
    start = f"{', '.join(leads)} read as zero: outside of what {model} was validated on"
    measured = losses["lead_sets"] if losses else []
    if not losses or not measured:
        return Finding("missing_leads", "warning", f"{start}; the loss was not measured", leads)
    present = set(LEADS) - set(leads)
    nearest = min(measured, key=lambda some: (len(present ^ set(some["leads"])), some["auc"]))
    lost, low, high = losses["auc"] - nearest["auc"], -nearest["high"], -nearest["low"]
    text = f"{start}; with {_describe(nearest['leads'])} its macro AUC on fold 9 was lower by {lost:.3f} "
    text += f"({low:.3f} to {high:.3f})"
    evidence = {"auc_lost": lost, "low": low, "high": high, "auc": nearest["auc"]}
    return Finding("missing_leads", "warning", text, leads, evidence)


def _describe(leads: Sequence[str]) -> str:
    """Return a measured set of leads as text."""
    without = [lead for lead in LEADS if lead not in leads]
    return f"all but {without[0]}" if len(without) == 1 else f"{', '.join(leads)} only"
