"""The page about the quality of many ECGs."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ecgkit.datasets.survey import Read, duplicates, lead_values
from ecgkit.io import html_environment
from ecgkit.signals.ecg import LEADS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ecgkit.signals.findings import Finding

EXAMPLES = 3
"""ECGs drawn per finding."""

LISTED = 50
"""Duplicates and unreadable files that are named."""

DPI = 90


def survey_page(title: str, table: pd.DataFrame, read: Read) -> str:
    """Return one self-contained HTML page.

    Parameters
    ----------
    title : str
        What was examined.
    table : DataFrame
        As from `ecgkit.datasets.survey.survey`.
    read : callable
        Returns the ECG of a name, for the examples.

    Returns
    -------
    str
        Numbers, distributions per lead, findings with examples, duplicates, and files that cannot be read.
    """
    readable = table[table["error"] == ""]
    unreadable = table[table["error"] != ""]
    same, amplitudes = duplicates(table), [f"amplitude_{lead}" for lead in LEADS]
    with_finding = readable["findings"].map(len) > 0
    refused = readable["findings"].map(lambda found: any(finding.level == "refused" for finding in found))
    return (
        html_environment("ecgkit.datasets")
        .get_template("survey.html")
        .render(
            title=title,
            facts={
                "ECGs": f"{len(table):,}",
                "cannot be read": f"{len(unreadable):,}",
                "with a finding": _share(int(with_finding.sum()), len(readable)),
                "refused by a check": _share(int(refused.sum()), len(readable)),
                "without one of the twelve leads": _share(
                    int(readable[amplitudes].isna().any(axis=1).sum()), len(readable)
                ),
                "copies of another ECG": f"{sum(len(names) - 1 for names in same):,}",
                "length (s)": _range(readable["seconds"]),
                "heart rate (beats/min)": _range(readable["heart_rate"]),
                "heart rate not measurable": f"{int(readable['heart_rate'].isna().sum()):,}",
            },
            rates=[(f"{rate:g}", f"{n:,}") for rate, n in readable["sampling_rate"].value_counts().items()],
            leads=LEADS,
            figures=[_image(figure) for figure in _figures(readable)] if len(readable) else [],
            findings=list(_findings(readable, read)),
            n_readable=len(readable),
            duplicates=same[:LISTED],
            n_duplicates=len(same),
            unreadable=unreadable[["record", "error"]].head(LISTED).to_numpy().tolist(),
            n_unreadable=len(unreadable),
        )
    )


def _figures(readable: pd.DataFrame) -> Iterator[Figure]:
    """Draw the distributions."""
    from ecgkit.plots.survey import lengths_and_rates, per_lead

    yield lengths_and_rates(readable["seconds"], readable["heart_rate"])
    yield per_lead(lead_values(readable))


def _findings(readable: pd.DataFrame, read: Read) -> Iterator[dict[str, Any]]:
    """Yield each kind of finding, the most frequent first, with its leads and examples."""
    by_name: dict[str, list[tuple[str, Finding]]] = {}
    for record, found in zip(readable["record"], readable["findings"], strict=True):
        for finding in found:
            by_name.setdefault(finding.name, []).append((record, finding))
    for name, found in sorted(by_name.items(), key=lambda item: -len(item[1])):
        n_refused = sum(finding.level == "refused" for _, finding in found)
        yield {
            "name": name,
            "share": _share(len(found), len(readable)),
            "refused": f"{n_refused:,}" if n_refused else "",
            "leads": [sum(lead in finding.leads for _, finding in found) or "" for lead in LEADS],
            "examples": [
                _example(record, finding, read) for record, finding in found[:: max(1, len(found) // EXAMPLES)]
            ][:EXAMPLES],
        }


def _example(record: str, finding: Finding, read: Read) -> dict[str, str]:
    """Draw one ECG with a finding."""
    from ecgkit.plots.survey import example

    return {"record": record, "text": finding.text, "image": _image(example(read(record), finding.leads))}


def _image(figure: Figure) -> str:
    """Return a figure as PNG in base64."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return base64.b64encode(buffer.getvalue()).decode()


def _share(number: int, total: int) -> str:
    """Return a number with its share of the total."""
    return f"{number:,} ({number / total:.1%})" if total else f"{number:,}"


def _range(values: pd.Series[Any]) -> str:
    """Return the median with the 1st and 99th percentile."""
    known = values.to_numpy(float)
    known = known[np.isfinite(known)]
    if not len(known):
        return "unknown"
    low, middle, high = np.percentile(known, [1, 50, 99])
    return f"{middle:.3g}" if low == high else f"{middle:.3g} (98 % from {low:.3g} to {high:.3g})"
