"""A prediction without some leads says what that was measured to cost."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ecgkit import EcgkitError, load_model
from ecgkit.inference.answers import answer_ecg
from ecgkit.inference.export import export_model
from ecgkit.inference.missing_leads import LEAD_LOSSES, missing_leads_finding
from ecgkit.inference.model_folder import SHIPPED, shipped
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.sources.demo import Demo

LOSSES = {
    "records": 10,
    "auc": 0.9,
    "lead_sets": [
        {"leads": [lead for lead in LEADS if lead != "V1"], "auc": 0.88, "low": -0.03, "high": -0.01},
        {"leads": [lead for lead in LEADS if lead != "V2"], "auc": 0.89, "low": -0.02, "high": 0.0},
        {"leads": list(LEADS[:6]), "auc": 0.7, "low": -0.25, "high": -0.15},
        {"leads": ["I"], "auc": 0.55, "low": -0.4, "high": -0.3},
    ],
}


def without(*leads: str) -> ECG:
    ecg = Demo(n_records=20, sampling_rate=100).read("1")
    is_missing = np.isin(LEADS, leads)
    return replace(ecg, signal=np.where(is_missing[:, None], np.nan, ecg.signal).astype(np.float32))


@pytest.mark.parametrize(
    ("missing", "auc", "lost"),
    [
        (["V2"], 0.89, 0.01),
        (["V1", "V2"], 0.88, 0.02),  # as near as without V2, and the larger loss
        (["V1", "V2", "V3", "V4", "V5"], 0.7, 0.2),
        (list(LEADS[1:]), 0.55, 0.35),
    ],
)
def test_the_nearest_lead_set_that_was_measured_is_told(missing: list[str], auc: float, lost: float) -> None:
    finding = missing_leads_finding(missing, LOSSES, "resnet1d")  # type: ignore[arg-type]
    assert (finding.name, finding.level, finding.leads) == ("missing_leads", "warning", tuple(missing))
    assert finding.evidence["auc"] == auc
    assert finding.evidence["auc_lost"] == pytest.approx(lost)
    assert finding.evidence["low"] <= finding.evidence["auc_lost"] <= finding.evidence["high"]


@pytest.mark.parametrize("name", sorted(shipped()))
def test_a_model_that_ships_was_measured_with_each_lead_set(name: str) -> None:
    losses = load_model(name).lead_losses
    assert losses is not None
    sets = {tuple(some["leads"]): some["auc"] for some in losses["lead_sets"]}
    assert {(lead,) for lead in LEADS} < set(sets)
    assert sets[LEADS[:6]] < sets[LEADS[6:]] < losses["auc"]  # the chest leads say more than the limb leads
    assert max(sets.values()) < losses["auc"] + 0.01


def test_the_answer_tells_it_and_only_then() -> None:
    model = load_model("resnet1d")
    answer = answer_ecg(without("V1"), model, allow_missing_leads=True)
    (finding,) = [finding for finding in answer.findings if finding.name == "missing_leads"]
    assert 0.005 < finding.evidence["auc_lost"] < 0.04
    assert answer.prediction is not None
    whole = answer_ecg(without(), model, allow_missing_leads=True)
    assert "missing_leads" not in [finding.name for finding in whole.findings]
    model.lead_losses = None
    answer = answer_ecg(without("V1"), model, allow_missing_leads=True)
    (finding,) = [finding for finding in answer.findings if finding.name == "missing_leads"]
    assert "not measured" in finding.text
    assert not finding.evidence


def test_an_export_keeps_it_and_a_damaged_file_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = export_model(SHIPPED / "hybrid", tmp_path_factory.mktemp("export") / "hybrid")
    assert load_model(folder).lead_losses == load_model("hybrid").lead_losses
    contents = json.loads((folder / LEAD_LOSSES).read_text())
    (folder / LEAD_LOSSES).write_text(json.dumps(contents | {"auc": "high"}))
    with pytest.raises(EcgkitError, match=LEAD_LOSSES):
        load_model(folder)
