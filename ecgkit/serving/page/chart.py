"""The interactive ECG: what its component draws, and the same as text."""

from __future__ import annotations

import base64
import math
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import streamlit as st

from ecgkit.inference.answers import Answer
from ecgkit.serving.page import looked
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.measurements import wave_bounds

LONGEST = 60.0
"""Seconds that are drawn at once."""

NO_VALUE = -32768


@lru_cache(maxsize=1)
def _assets() -> dict[str, Any]:
    """Return the files of the component."""
    folder = files(__package__) / "static"
    return {kind: (folder / f"chart.{kind}").read_text("utf-8") for kind in ("html", "css", "js")}


def show_chart(answer: Answer) -> None:
    """Draw the ECG of an answer, and write its text alternative below."""
    ecg = answer.ecg
    if ecg is None:
        return
    start = 0.0
    if ecg.duration > LONGEST:
        start = st.slider("Part of the recording, from (s)", 0.0, ecg.duration - LONGEST, 0.0, 10.0)
    areas = looked.choose(answer)
    draw = st.components.v2.component("ecgkit_chart", **_assets())
    draw(key="chart", data=chart_data(answer, start) | {"areas": _part(areas, start)})
    with st.expander("Text alternative of the chart"):
        st.write(describe(answer, start))
        st.html(_amplitudes(answer))


def _part(areas: dict[str, Any] | None, start: float) -> dict[str, Any] | None:
    """Return the colours of the part of a recording that is drawn."""
    if areas is None:
        return None
    first, last = round(start / areas["seconds"]), round((start + LONGEST) / areas["seconds"])
    return areas | {"values": [row[first:last] for row in areas["values"]]}


def chart_data(answer: Answer, start: float = 0.0) -> dict[str, Any]:
    """Return what the component draws: voltages in microvolts without the offset of each lead, and times in s."""
    ecg = answer.ecg
    assert ecg is not None  # noqa: S101
    first = round(start * ecg.sampling_rate)
    part = ecg.signal[:, first : first + round(LONGEST * ecg.sampling_rate)].astype(np.float64)
    has_values = np.isfinite(part).any(axis=1)
    part[has_values] -= np.nanmedian(part[has_values], axis=1, keepdims=True)
    microvolts = np.clip(np.rint(1000 * np.nan_to_num(part)), NO_VALUE + 1, -NO_VALUE - 1).astype("<i2")
    microvolts[~np.isfinite(part)] = NO_VALUE
    found = wave_bounds(ecg, answer.peaks)
    ends = {name: None if math.isnan(value) else round(value, 4) for name, value in found.items()}
    bounds = [("P", "p_onset", "p_end"), ("QRS", "qrs_onset", "qrs_end"), ("T", None, "t_end")]
    waves = [(wave, ends.get(onset or ""), ends[end]) for wave, onset, end in bounds if ends[end] is not None]
    return {
        "id": f"{answer.record} {start:g} {ecg.n_samples} {hash(microvolts.tobytes())}",
        "signal": base64.b64encode(microvolts.tobytes()).decode(),
        "leads": list(LEADS),
        "missing": list(ecg.missing_leads),
        "rate": ecg.sampling_rate,
        "peaks": [round(float(peak), 4) for peak in _peak_times(answer, ecg, start)],
        "bounds": waves,
        "description": describe(answer, start),
    }


def describe(answer: Answer, start: float = 0.0) -> str:
    """Return what the chart shows as a text."""
    ecg = answer.ecg
    assert ecg is not None  # noqa: S101
    rate = answer.measurements.get("heart_rate", math.nan)
    beats = ", ".join(f"{time:.2f}" for time in _peak_times(answer, ecg, start)[:40])
    shown = min(ecg.duration - start, LONGEST)
    return (
        f"ECG of {ecg.duration:.4g} s at {ecg.sampling_rate:g} Hz, of which {shown:.4g} s from {start:g} s are drawn, "
        f"{12 - len(ecg.missing_leads)} leads. "
        + (f"Heart rate {rate:.0f} per minute. " if math.isfinite(rate) else "The heart rate is not measurable. ")
        + (f"R peaks at {beats} s." if beats else "No R peaks.")
    )


def _peak_times(answer: Answer, ecg: ECG, start: float) -> np.ndarray:
    """Return the R peaks in the part that is drawn, in s after its beginning."""
    times = answer.peaks / ecg.sampling_rate - start
    return times[(times >= 0) & (times <= LONGEST)]


def _amplitudes(answer: Answer) -> str:
    """Return the amplitudes of the waves in each lead as a table."""
    waves = ("q", "r", "s", "st", "t")
    head = "".join(f'<th scope="col">{wave.upper()}</th>' for wave in waves)
    rows = ""
    for lead in LEADS:
        values = [answer.measurements.get(f"{wave}_{lead}", math.nan) for wave in waves]
        cells = "".join(f"<td>{value:.2f}</td>" if math.isfinite(value) else "<td>-</td>" for value in values)
        rows += f'<tr><th scope="row">{lead}</th>{cells}</tr>'
    caption = "<caption>Waves of the mean beat in mV</caption>"
    return f'<table class="ecg-table">{caption}<tr><th scope="col">lead</th>{head}</tr>{rows}</table>'
