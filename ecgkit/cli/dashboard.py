"""ECGs for people to look at: dashboard."""

from __future__ import annotations

import argparse
import base64
import io
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecgkit.cli.common import INCOMPLETE, AddCommand, echo, free_name, note, with_flags
from ecgkit.cli.convert import add_hints, hints
from ecgkit.errors import EcgkitError
from ecgkit.io import file_name, write_atomically
from ecgkit.signals.ecg import ECG

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ecgkit.inference.batches import Skip
    from ecgkit.inference.predictor import Predictor

FORMATS = ("png", "pdf", "html")
WINDOW = 10.0
"""Seconds of the windows of a longer recording whose probabilities are drawn over time."""

THUMBNAIL_DPI = 45


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    text = "Draw one page per ECG: the trace to scale, probabilities, measurements and findings."
    added = command("dashboard", dashboard, text)
    added.add_argument("files", metavar="FILE", nargs="+", help="files, folders, or patterns such as '*.xml'")
    added.add_argument("--to", required=True, metavar="DIR", help="the folder to write into")
    added.add_argument("--format", choices=FORMATS, default="png", help="of several files, html adds an overview")
    text = "a model that ships, 'ensemble' of them, a training session or a model folder (default: resnet1d)"
    added.add_argument("--model", default="resnet1d", metavar="NAME", help=text)
    added.add_argument("--anyway", action="store_true", help="predict what the checks refuse, too")
    text = "draw and predict ECGs that lack leads, which are zero for the model"
    added.add_argument("--allow-missing-leads", action="store_true", help=text)
    add_hints(added)


def dashboard(arguments: argparse.Namespace, root: Path) -> int | None:
    """Write the pages and print their paths; a file without an answer does not end the others."""
    from ecgkit.inference.batches import Skip
    from ecgkit.inference.files import find_ecg_files
    from ecgkit.inference.loading import load_model

    files = find_ecg_files(arguments.files)
    predictor = load_model(arguments.model, root=root)
    skip = Skip(anyway=arguments.anyway, allow_missing_leads=arguments.allow_missing_leads)
    has_overview = arguments.format == "html" and len(files) > 1
    folder, written, pages, failed = Path(arguments.to), set[str](), [], 0
    for file in files:
        try:
            page = make_page(file, predictor, hints(arguments), skip)
        except EcgkitError as error:
            message = with_flags(str(error))
            if len(files) == 1:
                raise
            note(message)
            pages.append(Page(str(file), error=message))
            failed += 1
            continue
        name = free_name(file_name(file.name).replace(".", "-"), written)
        path = folder / f"{name}.{arguments.format}"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_page(page, path, predictor)
        pages.append(replace(page, figures=(), path=path, thumbnail=thumbnail(page) if has_overview else ""))
        echo(path)
    if has_overview:
        write_atomically(folder / "index.html", render("ECGs", predictor, pages, figures=[summary(pages)]).encode())
        echo(folder / "index.html")
    return INCOMPLETE if failed else None


@dataclass(frozen=True, eq=False)
class Page:
    """One ECG with its answer; ``figures`` are the page, and for a long recording the probabilities over time."""

    record: str
    probabilities: tuple[float, ...] = ()
    heart_rate: float = math.nan
    amplitude: float = math.nan
    findings: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    thumbnail: str = ""
    path: Path | None = None
    error: str = ""


def make_page(file: Path, predictor: Predictor, given: dict[str, Any], skip: Skip) -> Page:
    """Open, measure, predict and draw one file."""
    from ecgkit import open_ecg
    from ecgkit.plots.dashboard import dashboard as draw
    from ecgkit.plots.dashboard import probabilities_over_time
    from ecgkit.signals.findings import check_quality, refuse
    from ecgkit.signals.measurements import measure_ecg

    ecg = open_ecg(file, **given)
    found = check_quality(ecg)
    if not skip.get("anyway"):
        refuse(ecg, found)
    findings = (*ecg.findings, *(finding.text for finding in found))
    probabilities = predictor.predict_proba([ecg], **skip)[0].tolist()
    measured = measure_ecg(ecg)
    by_class = dict(zip(predictor.classes, probabilities, strict=True))
    thresholds = dict(zip(predictor.classes, predictor.thresholds.tolist(), strict=True))
    model = f"{predictor.name}, label set {predictor.label_set}"
    facts: dict[str, Any] = {"measurements": measured, "findings": findings, "title": file.name, "model": model}
    figures = [draw(ecg, probabilities=by_class, thresholds=thresholds, **facts)]
    windows, starts = cut_windows(ecg) if ecg.duration >= 2 * WINDOW else ([], [])
    if windows:
        over_time = predictor.predict_proba(windows, anyway=True)
        title = f"{file.name}: {len(windows)} windows of {WINDOW:g} s"
        figures.append(
            probabilities_over_time(
                starts, over_time, predictor.classes, predictor.thresholds, seconds=WINDOW, title=title
            )
        )
    measurable = ecg.signal[np.isfinite(ecg.signal).any(axis=1)]
    amplitude = float(np.median(np.nanmax(measurable, axis=1) - np.nanmin(measurable, axis=1)))
    return Page(str(file), tuple(probabilities), measured["heart_rate"], amplitude, findings, tuple(figures))


def cut_windows(ecg: ECG) -> tuple[list[ECG], list[float]]:
    """Cut a recording into windows one after the other; return them and their starts in s.

    A remainder is left out, and a window in which a lead has no value.
    """
    length = round(WINDOW * ecg.sampling_rate)
    firsts = range(0, ecg.n_samples - length + 1, length)
    parts = [(first, ecg.signal[:, first : first + length]) for first in firsts]
    kept = [(first, part) for first, part in parts if np.isfinite(part).any(axis=1).all()]
    return [replace(ecg, signal=part) for _, part in kept], [first / ecg.sampling_rate for first, _ in kept]


def thumbnail(page: Page) -> str:
    """Return the small picture of a page for the overview, as base64."""
    return base64.b64encode(drawn(page.figures[0], "png", dpi=THUMBNAIL_DPI)).decode()


def drawn(figure: Figure, style: str, **keywords: Any) -> bytes:
    """Return a figure as the bytes of a file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=style, metadata={"Date": None} if style == "svg" else None, **keywords)
    return buffer.getvalue()


def save_page(page: Page, path: Path, predictor: Predictor) -> None:
    """Write one page in the format of its suffix; PNG files of a long recording are two."""
    if path.suffix == ".html":
        write_atomically(path, render(Path(page.record).name, predictor, [page], figures=list(page.figures)).encode())
    elif path.suffix == ".pdf":
        from matplotlib.backends.backend_pdf import PdfPages

        buffer = io.BytesIO()
        with PdfPages(buffer) as document:
            for figure in page.figures:
                document.savefig(figure)
        write_atomically(path, buffer.getvalue())
    else:
        for figure, name in zip(page.figures, (path.name, f"{path.stem}-over-time.png"), strict=False):
            write_atomically(path.with_name(name), drawn(figure, "png", dpi=150))


def summary(pages: list[Page]) -> Figure:
    """Draw heart rates and amplitudes of all ECGs."""
    from ecgkit.plots.dashboard import overview

    read = [page for page in pages if not page.error]
    return overview([page.heart_rate for page in read], [page.amplitude for page in read])


def render(title: str, predictor: Predictor, pages: list[Page], *, figures: list[Figure]) -> str:
    """Fill the template for one page or for the overview."""
    from jinja2 import Environment, PackageLoader

    from ecgkit.stats.labels import SUPERCLASSES

    environment = Environment(loader=PackageLoader("ecgkit.cli"), autoescape=True)
    rows = [
        {
            "record": Path(page.record).name if len(pages) == 1 else page.record,
            "link": page.path.name if page.path else "",
            "error": page.error,
            "cells": list(zip(page.probabilities, page.probabilities >= predictor.thresholds, strict=True))
            if page.probabilities
            else [],
            "heart_rate": f"{page.heart_rate:.0f}" if math.isfinite(page.heart_rate) else "not measurable",
            "findings": page.findings,
        }
        for page in pages
    ]
    return environment.get_template("dashboard.html").render(
        title=title,
        model=f"{predictor.name}, label set {predictor.label_set}",
        classes=predictor.classes,
        names=SUPERCLASSES,
        rows=rows,
        figures=[svg(figure) for figure in figures],
        thumbnails=[(page.path.name, page.path.stem, page.thumbnail) for page in pages if page.path and len(pages) > 1],
    )


def svg(figure: Figure) -> str:
    """Return a figure as an element of a page."""
    text = drawn(figure, "svg").decode()
    return text[text.index("<svg") :]
