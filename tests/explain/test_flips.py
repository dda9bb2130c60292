from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from ecgkit import ECG, EcgkitError
from ecgkit.explain.flips import FOLLOWERS, change_segment, draw_change, segment_shapes, smallest_changes
from ecgkit.plots.counterfactuals import changed_ecg
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.measurements import measure_ecg
from ecgkit.signals.segments import SEGMENTS, wave_segments
from ecgkit.sources.demo.source import make_ecg


class ReadsOneSegment:
    """A model of the mean voltage of one segment in one lead."""

    name, classes, thresholds = "reader", ("NORM", "MI"), np.array([0.5, 0.5], np.float32)

    def __init__(self, ecg: ECG, lead: str, segment: str, at: float, *, slope: float = 20.0) -> None:
        inside = wave_segments(ecg.signal, sampling_rate=ecg.sampling_rate) == SEGMENTS.index(segment)
        self.row, self.at, self.slope, self.inside = LEADS.index(lead), at, slope, inside
        self.ecg = ecg

    def predict_proba(self, ecgs, **_):
        change = np.array([(ecg.signal - self.ecg.signal)[self.row, self.inside].mean() for ecg in ecgs])
        probability = expit(self.slope * (change - self.at))
        return np.stack([1 - probability, probability], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def ecg() -> ECG:
    return make_ecg(["MI"], sampling_rate=100, noise=0.3, seed=3)


@pytest.mark.parametrize("at", [0.23, -0.37])
def test_the_smallest_change_of_a_known_model_is_found(ecg: ECG, at: float) -> None:
    model = ReadsOneSegment(ecg, "V3", "ST", at)
    table = smallest_changes(model, ecg, "MI")
    best = table.iloc[0]
    inside = segment_shapes(ecg)["V3", "ST"][LEADS.index("V3"), model.inside].mean()  # its edges are rounded
    assert (best["lead"], best["segment"], best["kind"]) == ("V3", "ST", "level")
    assert best["change"] * inside == pytest.approx(at, abs=0.1 / 16 + 0.001)
    assert table["change"].notna().sum() == 1
    assert (best["before"] >= 0.5) != (best["probability"] >= 0.5)


def test_limb_leads_change_together(ecg: ECG) -> None:
    table = smallest_changes(ReadsOneSegment(ecg, "aVF", "T", 0.1), ecg, "MI")
    reached = table[table["change"].notna()]
    assert set(reached["lead"]) == {"I", "II"}
    assert reached.iloc[0]["lead"] == "II"  # all of it reaches aVF, and half of a change of I, the other way
    for lead in FOLLOWERS:
        for segment in ("ST", "QRS"):
            signal = change_segment(ecg, lead, segment, 0.4).signal
            names = dict(zip(LEADS, signal, strict=True))
            assert names["I"] + names["III"] == pytest.approx(names["II"], abs=0.003)
            assert names["aVR"] == pytest.approx(-(names["I"] + names["II"]) / 2, abs=0.003)
            assert names["aVL"] == pytest.approx((names["I"] - names["III"]) / 2, abs=0.003)
            assert names["aVF"] == pytest.approx((names["II"] + names["III"]) / 2, abs=0.003)
            changed = np.abs(signal - ecg.signal).max(axis=1) > 0.01
            assert changed[6:].sum() == (lead.startswith("V"))


def test_changes_are_what_a_measurement_says(ecg: ECG) -> None:
    before = measure_ecg(ecg)
    lifted = measure_ecg(change_segment(ecg, "V3", "ST", 0.2))
    assert lifted["st_V3"] - before["st_V3"] == pytest.approx(0.2, abs=0.05)
    larger = measure_ecg(change_segment(ecg, "V5", "QRS", 0.5))
    assert larger["r_V5"] + larger["s_V5"] > before["r_V5"] + before["s_V5"] + 0.3
    inverted = change_segment(ecg, "V5", "T", -2 * abs(before["t_V5"]))
    assert np.sign(measure_ecg(inverted)["t_V5"]) == -np.sign(before["t_V5"])


def test_a_real_decision_flips_when_the_changed_ecg_is_predicted(demo_model) -> None:
    model = demo_model()
    ecg = make_ecg(["HYP"], sampling_rate=100, seconds=5, seed=1)
    table = smallest_changes(model, ecg, "HYP", largest=0.6)
    best = table.iloc[0]
    assert np.isfinite(best["change"])
    changed = change_segment(ecg, best["lead"], best["segment"], best["change"])
    nearly = change_segment(ecg, best["lead"], best["segment"], 0.85 * best["change"])
    before, after, less = model.predict([ecg, changed, nearly])[:, model.classes.index("HYP")]
    assert after != before
    assert less == before
    assert model.predict_proba([changed])[0, model.classes.index("HYP")] == pytest.approx(best["probability"], abs=1e-4)


def test_that_nothing_flips_it_is_an_answer(ecg: ECG) -> None:
    table = smallest_changes(ReadsOneSegment(ecg, "V3", "ST", 5.0, slope=1.0), ecg, "MI")
    assert table["change"].isna().all()
    assert len(table) == len(FOLLOWERS) * len(SEGMENTS)
    assert table.iloc[0][["lead", "segment"]].tolist() == ["V3", "ST"]  # which comes nearest
    page = draw_change(ecg, table, "MI")
    assert "1 mV" in page.texts[0].get_text()
    assert not any(np.isfinite(line.get_ydata()).any() for line in page.axes[0].lines if "changed" in line.get_gid())


def test_bad_input_is_named(demo_model, ecg: ECG) -> None:
    flat = replace(ecg, signal=np.zeros_like(ecg.signal))
    with pytest.raises(EcgkitError, match="no wave"):
        smallest_changes(demo_model(), flat, "MI")
    with pytest.raises(EcgkitError, match="MIX"):
        smallest_changes(demo_model(), ecg, "MIX")
    with pytest.raises(EcgkitError, match="aVF"):
        change_segment(ecg, "aVF", "ST", 0.1)
    with pytest.raises(EcgkitError, match="U"):
        change_segment(ecg, "V1", "U", 0.1)
    with pytest.raises(EcgkitError, match="V1"):
        change_segment(flat, "V1", "ST", 0.1)


def test_the_figures_show_the_change(ecg: ECG) -> None:
    changed = change_segment(ecg, "II", "ST", 0.3)
    figure = changed_ecg(ecg.signal, changed.signal, sampling_rate=100, title="changed")
    shown = {line.get_gid(): np.isfinite(line.get_ydata()).any() for line in figure.axes[0].lines}
    assert shown["changed II"]
    assert shown["changed aVF"]
    assert not shown["changed I"]
    assert not shown["changed V2"]
    with pytest.raises(EcgkitError, match="999"):
        changed_ecg(ecg.signal, ecg.signal[:, :999], sampling_rate=100)
    table = smallest_changes(ReadsOneSegment(ecg, "V3", "ST", 0.23), ecg, "MI")
    page = draw_change(ecg, table, "MI")
    assert f"{table.iloc[0]['change']:+.2f} mV" in page.texts[0].get_text()
