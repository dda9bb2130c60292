"""The page of an answer, as figures, a picture, a PDF or HTML, and the overview of many."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecgkit.errors import printable
from ecgkit.inference.answers import WINDOW, Answer
from ecgkit.io import html_environment
from ecgkit.signals.ecg import ECG
from ecgkit.signals.measurements import wave_bounds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf", "html")
DPI, THUMBNAIL_DPI = 150, 45
MANY_CLASSES = 12
"""With more classes than this, the table has those that reach their threshold in one of its records."""


def draw_answer(answer: Answer) -> tuple[Figure, ...]:
    """Draw the page of one ECG, its mean beats, and for a recording of 20 s or more the probabilities over time.

    Parameters
    ----------
    answer : Answer
        With an ECG; one that is refused is drawn with the reason in place of the probabilities.

    Returns
    -------
    tuple of Figure
        Two or three, of 297 mm by 210 mm; see `ecgkit.plots.dashboard`.
    """
    from ecgkit.plots.dashboard import dashboard, mean_beats, probabilities_over_time

    assert answer.ecg is not None, "an ECG that cannot be opened cannot be drawn"  # noqa: S101
    name = printable(Path(answer.record).name)
    page = dashboard(
        answer.ecg,
        probabilities=answer.probabilities,
        thresholds=answer.thresholds,
        unreliable=answer.predictor.unreliable,
        measurements=answer.measurements,
        findings=[finding.text for finding in answer.findings],
        prediction=f"none: {answer.refusal}" if answer.refusal else _quantity(answer),
        peaks=answer.peaks,
        title=name,
        model=describe_model(answer),
        label_set=answer.predictor.label_set,
    )
    bounds = wave_bounds(answer.ecg, answer.peaks)
    beats = mean_beats(answer.ecg, peaks=answer.peaks, bounds=bounds, title=name)
    windows = answer.prediction.windows if answer.prediction else None
    if windows is None:
        return page, beats
    title = f"{name}: {len(windows.starts)} windows of {WINDOW:g} s"
    over_time = probabilities_over_time(
        windows.starts,
        windows.probabilities,
        answer.predictor.classes,
        answer.predictor.thresholds,
        seconds=WINDOW,
        title=title,
    )
    return page, beats, over_time


def _quantity(answer: Answer) -> str:
    """Return what a model for a quantity says; empty for a model with classes."""
    value = answer.prediction.quantity if answer.prediction else None
    return "" if value is None else f"{answer.quantity_name}: {value:.1f}"


def describe_model(answer: Answer) -> str:
    """Return the model of an answer in a few words."""
    return f"{answer.predictor.name}, label set {answer.predictor.label_set}"


def picture(figure: Figure, dpi: int = DPI) -> bytes:
    """Return a figure as PNG."""
    return _saved(figure, "png", dpi=dpi)


def pdf(figures: Sequence[Figure]) -> bytes:
    """Return figures as the pages of a PDF."""
    from matplotlib.backends.backend_pdf import PdfPages

    buffer = io.BytesIO()
    with PdfPages(buffer) as document:
        for figure in figures:
            document.savefig(figure)
    return buffer.getvalue()


def html(answer: Answer, figures: Sequence[Figure]) -> str:
    """Return the page of one answer as HTML.

    Parameters
    ----------
    answer : Answer
        With an ECG.
    figures : sequence of Figure
        As from `draw_answer`.
    """
    name = printable(Path(answer.record).name)
    return _render(answer, name, rows=[_row(answer, name)], figures=figures)


@dataclass(frozen=True, eq=False)
class Entry:
    """One ECG of an overview: its answer without the recording, and the name and a small picture of its page."""

    answer: Answer
    amplitude: float = math.nan
    page: str = ""
    thumbnail: str = ""


def html_overview(entries: Sequence[Entry]) -> str:
    """Return the overview of many answers as HTML: distributions, a table, and a small picture of each page.

    Parameters
    ----------
    entries : sequence of Entry
        At least one.
    """
    from ecgkit.plots.survey import overview

    drawn = [entry for entry in entries if entry.page]
    rates = [entry.answer.measurements["heart_rate"] for entry in drawn]
    figure = overview(rates, [entry.amplitude for entry in drawn])
    names = _without_common_folder([Path(entry.answer.record) for entry in entries])
    rows = [_row(entry.answer, printable(name), entry.page) for name, entry in zip(names, entries, strict=True)]
    return _render(entries[0].answer, "ECGs", rows=rows, figures=[figure], entries=drawn)


def _without_common_folder(records: Sequence[Path]) -> list[str]:
    """Return the paths of the records without the folder that all of them are in."""
    if len({path.is_absolute() for path in records}) > 1:
        return [str(path) for path in records]
    common = os.path.commonpath([path.parent for path in records])
    return [str(path.relative_to(common)) for path in records]


def thumbnail(figure: Figure) -> str:
    """Return a small picture of a page for the overview, as base64."""
    return base64.b64encode(picture(figure, THUMBNAIL_DPI)).decode()


def amplitude(ecg: ECG) -> float:
    """Return the median of the leads' amplitudes, peak to peak in mV."""
    known = ecg.signal[np.isfinite(ecg.signal).any(axis=1)]
    return float(np.median(np.nanmax(known, axis=1) - np.nanmin(known, axis=1)))


def _saved(figure: Figure, style: str, **keywords: Any) -> bytes:
    """Return a figure as the bytes of a file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=style, metadata={"Date": None} if style == "svg" else None, **keywords)
    return buffer.getvalue()


def _row(answer: Answer, name: str, page: str = "") -> dict[str, Any]:
    """Return a row of the table."""
    rate = answer.measurements.get("heart_rate", math.nan)
    said = answer.prediction
    cells = list(zip(said.probabilities.tolist(), said.decisions.tolist(), strict=True)) if said else []
    if said and said.quantity is not None:
        cells = [(said.quantity, False)]
    return {
        "record": name,
        "link": page,
        "error": answer.refusal,
        "cells": cells,
        "heart_rate": f"{rate:.0f}" if math.isfinite(rate) else "not measurable",
        "findings": [finding.text for finding in answer.findings],
    }


def _render(
    answer: Answer,
    title: str,
    *,
    rows: Sequence[dict[str, Any]],
    figures: Sequence[Figure],
    entries: Sequence[Entry] = (),
) -> str:
    """Fill the template for one page or for the overview."""
    from ecgkit.stats.labels import meaning

    classes, label_set = answer.predictor.classes, answer.predictor.label_set
    cells = [row["cells"] for row in rows if row["cells"]]
    shown = [i for i in range(len(classes)) if len(classes) <= MANY_CLASSES or any(of_row[i][1] for of_row in cells)]
    rows = [row | {"cells": [row["cells"][i] for i in shown] if row["cells"] else []} for row in rows]
    n_hidden, classes = len(classes) - len(shown), tuple(classes[i] for i in shown)
    return (
        html_environment("ecgkit.diagnosis")
        .get_template("dashboard.html")
        .render(
            title=title,
            model=describe_model(answer),
            classes=classes,
            n_hidden=n_hidden,
            unreliable=answer.predictor.unreliable,
            names={name: meaning(name, label_set) or name for name in classes},
            rows=rows,
            figures=[_svg(figure) for figure in figures],
            thumbnails=[(entry.page, Path(entry.page).stem, entry.thumbnail) for entry in entries],
        )
    )


def _svg(figure: Figure) -> str:
    """Return a figure as an element of a page."""
    text = _saved(figure, "svg").decode()
    return text[text.index("<svg") :]
