"""Explanations as files: figures, an interactive page, arrays."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import printable
from ecgkit.explain.attributions import Explanation
from ecgkit.io import html_environment, script_json
from ecgkit.signals.beats import RATE, beat_times
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.mean_beat import AFTER, BEFORE, aligned_mean_beat, beats
from ecgkit.signals.rhythm import r_peaks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


ClassBeats = tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.float32]]


def mean_beat(explanation: Explanation) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Average the beats of an ECG and their relevance, aligned at the R peak.

    Returns
    -------
    beat : ndarray of float32, shape (12, beat samples)
        In mV, at `ecgkit.signals.beats.beat_times`; NaN without a beat.
    relevance : ndarray of float32, shape (classes, 12, beat samples)
        At the same times.
    """
    rate = explanation.sampling_rate
    peaks = r_peaks(explanation.signal, sampling_rate=rate)
    beat = aligned_mean_beat(beats(explanation.signal, peaks, sampling_rate=rate), sampling_rate=rate, rate=RATE)
    n_before, n_after = round(BEFORE * rate), round(AFTER * rate)
    inside = peaks[(peaks >= n_before) & (peaks + n_after <= explanation.signal.shape[1])]
    if not len(inside):
        return beat, np.full((len(explanation.classes), *beat.shape), np.nan, np.float32)
    cut = [explanation.relevance[:, :, peak - n_before : peak + n_after] for peak in inside.tolist()]
    coarse = np.mean(cut, axis=0)
    times = (np.arange(coarse.shape[2]) - n_before) / rate * 1000
    fine = [np.interp(beat_times(rate), times, row) for row in coarse.reshape(-1, coarse.shape[2])]
    return beat, np.reshape(fine, (*coarse.shape[:2], -1)).astype(np.float32)


def class_beats(explanations: Iterable[Explanation]) -> ClassBeats:
    """Average the mean beats of records, and their relevance, for each class that was explained.

    Parameters
    ----------
    explanations : iterable of Explanation
        At one sampling rate; each of some classes.

    Returns
    -------
    classes : tuple of str
        In the order in which they first occur.
    beats, relevance : ndarray of float32, shape (classes, 12, beat samples)
        Means over the records that have a beat, as `mean_beat` returns them.
    """
    found: dict[str, list[tuple[NDArray[np.float32], NDArray[np.float32]]]] = {}
    for explanation in explanations:
        beat, relevance = mean_beat(explanation)
        for name, values in zip(explanation.classes, relevance, strict=True):
            found.setdefault(name, []).append((beat, values))
    means = [np.nanmean(np.array(pairs), axis=0) for pairs in found.values()]
    return tuple(found), np.stack([mean[0] for mean in means]), np.stack([mean[1] for mean in means])


def draw(explanation: Explanation, title: str) -> dict[str, Figure]:
    """Draw one explanation.

    Returns
    -------
    dict of str to Figure
        ``"ecg-CLASS"`` for each class, ``"leads"``, ``"beats"`` (if the ECG has a beat).
    """
    from ecgkit.plots import explanations as plots

    title, how = printable(title), _how(explanation)
    figures = {f"ecg-{name}": draw_class(explanation, name, title) for name in explanation.classes}
    figures["leads"] = plots.lead_segments(
        explanation.by_segment(), explanation.classes, title=f"{title} ({how})", unit=explanation.unit
    )
    beat, relevance = mean_beat(explanation)
    if np.isfinite(beat).any():
        times = beat_times(explanation.sampling_rate)
        text = f"{title}: mean beat ({how})"
        figures["beats"] = plots.beat_relevance(
            times, beat, relevance, explanation.classes, title=text, unit=explanation.unit
        )
    return figures


def draw_class(explanation: Explanation, name: str, title: str) -> Figure:
    """Draw the ECG with the relevance for one class under the trace; see `ecgkit.plots.explanations.explained_ecg`."""
    from ecgkit.plots.explanations import explained_ecg

    value = explanation.values[explanation.classes.index(name)]
    return explained_ecg(
        explanation.signal,
        explanation.of(name),
        sampling_rate=explanation.sampling_rate,
        title=f"{printable(title)}: {name} {value:.2f} ({_how(explanation)})",
        unit=explanation.unit,
    )


def _how(explanation: Explanation) -> str:
    return f"{explanation.model}, {explanation.method.replace('_', ' ')}"


def to_dict(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON takes it, numbers with five digits; None where there is no change."""
    known = np.isfinite(explanation.change)
    return {
        "model": explanation.model,
        "record": explanation.record_id,
        "method": explanation.method,
        "unit": explanation.unit,
        "sampling_rate": float(explanation.sampling_rate),
        "leads": list(LEADS),
        "signal": _rounded(explanation.signal),
        "classes": [
            {
                "name": name,
                "value": float(f"{explanation.values[row]:.5g}"),
                "change": float(f"{explanation.change[row]:.5g}") if known[row] else None,
                "relevance": _rounded(explanation.relevance[row]),
            }
            for row, name in enumerate(explanation.classes)
        ],
    }


def _rounded(values: NDArray[np.floating]) -> list[list[float]]:
    return [[float(f"{value:.5g}") for value in row] for row in values.tolist()]


def arrays(explanation: Explanation) -> bytes:
    """Return the contents of an ``.npz`` file with the fields of an explanation, without pickles."""
    buffer = io.BytesIO()
    fields: dict[str, Any] = {name: np.array(value) for name, value in vars(explanation).items()}
    np.savez_compressed(buffer, leads=np.array(LEADS), **fields)
    return buffer.getvalue()


def html(explanation: Explanation, title: str) -> str:
    """Return one page that works without a network: choose a class, move along the trace, read the relevance."""
    largest = np.abs(explanation.relevance).max(axis=(1, 2))
    scale = np.where(largest > 0, largest, 1.0)
    data: dict[str, Any] = {
        "classes": explanation.classes,
        "values": [round(value, 4) for value in explanation.values.tolist()],
        "leads": LEADS,
        "rate": explanation.sampling_rate,
        "unit": explanation.unit,
        "scale": scale.tolist(),
        "signal": _packed(explanation.signal * 1000),
        "relevance": [_packed(values) for values in explanation.relevance / scale[:, None, None] * 32767],
    }
    template = html_environment("ecgkit.explain").get_template("explanation.html")
    return template.render(title=printable(title), how=_how(explanation), data=script_json(data))


def _packed(values: NDArray[np.floating]) -> str:
    """Pack numbers as integers of 16 bits."""
    return base64.b64encode(np.rint(values).clip(-32767, 32767).astype("<i2").tobytes()).decode()
