"""An interactive map: one HTML file without external resources, with the ECG of the record under the pointer."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError, printable
from ecgkit.feature_space.maps.projections import Projection, shown_records
from ecgkit.io import script_json, write_atomically
from ecgkit.plots.maps import OUTCOME_COLORS, PROBABILITY, UNITS, by_frequency, category_colors
from ecgkit.plots.style import COLORS, GREY, LIGHT_GREY
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.filters import resample
from ecgkit.stats.labels import target_name
from ecgkit.stats.validation import known_true

MAX_BYTES = 20 * 10**6
"""Limit of the file's size, so that browsers open it at once and it can be mailed."""

SIGNAL_RATE = 100
"""Sampling rate of the ECGs in the file, in Hz."""

LEAD = "II"

COLUMNS = ("age", "sex", "height", "weight", "bmi", "heart_rate", "device", "site")
"""The columns of the records that are shown, where present."""


def write_interactive_map(
    path: Path,
    projections: Sequence[Projection],
    records: pd.DataFrame,
    labels: pd.DataFrame,
    signals: NDArray[np.floating],
    *,
    sampling_rate: float,
    probabilities: pd.DataFrame,
    thresholds: Mapping[str, float],
    notes: Mapping[str, str] | None = None,
    columns: Sequence[str] = COLUMNS,
    title: str = "Map of the feature space",
) -> Path:
    """Write a page with maps of the same records, to zoom and explore.

    The page has menus for the map and the colours, and a search. The record under the pointer is shown with its ECG,
    labels, predictions and metadata; a click selects it. An address that ends in ``#record=ID`` opens with that record.

    Parameters
    ----------
    path : Path
        The file, such as ``map.html``.
    projections : sequence of Projection
        The maps, all of the same records.
    records : DataFrame
        All records that were embedded, in the order of the projection; column ``record_id``.
    labels : DataFrame of bool
        One column per class, one row per row of ``records``.
    signals : ndarray, shape (points, samples)
        Lead II of each record on the maps, in mV, from `lead_signals`; resampled to 100 Hz and rounded to microvolts.
    sampling_rate : float
        Of ``signals``, in Hz.
    probabilities : DataFrame of float
        The rows of ``records`` and the columns of ``labels``; NaN for records without a prediction.
    thresholds : mapping of str to float
        For each class, the probability from which on it is predicted; for the colours by error.
    notes : mapping of str to str, optional
        By the name of a map, the text below it, such as from `quality_notes`.
    columns : sequence of str
        Columns of ``records`` to show and colour by, where present.
    title : str
        The page's title.

    Returns
    -------
    Path
        The file: HTML of at most 20 MB (2,158 records of 10 s take 6 MB).

    Raises
    ------
    EcgkitError
        If there is no map, the maps show different records, the rows do not match, a class has no probability or
        threshold, or the file would be larger than 20 MB.
    """
    positions = _check(projections, signals, {"records": records, "labels": labels, "probabilities": probabilities})
    for what, given in (("probability", probabilities), ("threshold", thresholds)):
        if missing := [name for name in labels if name not in given]:
            raise EcgkitError(f"class {missing[0]!r} has no {what}: give one for every class")
    predicted = probabilities[list(labels)].iloc[positions].to_numpy(dtype=np.float32, na_value=np.nan)
    shown = records.iloc[positions].reset_index(drop=True)
    data = {
        "ids": shown["record_id"].astype(str).tolist(),
        "maps": [_map(projection, (notes or {}).get(projection.name, "")) for projection in projections],
        "classes": list(map(str, labels)),
        "labels": _base64(known_true(labels.iloc[positions]), "u1"),
        "probabilities": _base64(predicted, "<f4"),
        "thresholds": [float(thresholds[str(name)]) for name in labels],
        "columns": [_column(shown[name]) for name in columns if name in shown],
        "over89": shown["age_over_89"].fillna(value=False).astype(bool).tolist() if "age_over_89" in shown else None,
        "signal": _signal(signals, sampling_rate),
        "colors": _colors(),
    }
    template = resources.files("ecgkit.feature_space.maps").joinpath("templates/map.html").read_text(encoding="utf-8")
    named = template.replace("{{ title }}", html.escape(printable(title)))
    page = named.replace("{{ data }}", script_json(data)).encode()
    if len(page) > MAX_BYTES:
        fitting = int(0.9 * len(positions) * MAX_BYTES / len(page))
        raise EcgkitError(
            f"the map of {len(positions):,} records has {len(page) / 1e6:.1f} MB, above {MAX_BYTES / 1e6:g}: "
            f"project with max_records={fitting}"
        )
    return write_atomically(Path(path), page)


def lead_signals(dataset: Dataset, positions: NDArray[np.integer]) -> NDArray[np.float32]:
    """Read lead II of some records.

    Parameters
    ----------
    dataset : Dataset
        An opened dataset.
    positions : ndarray of int
        The records, as positions in the dataset.

    Returns
    -------
    ndarray of float32, shape (positions, samples)
        In mV, at the dataset's sampling rate.
    """
    microvolts = dataset.signals[dataset.rows[positions], LEADS.index(LEAD)]
    return microvolts.astype(np.float32) / np.float32(1000)


def _check(
    projections: Sequence[Projection], signals: NDArray[np.floating], tables: Mapping[str, pd.DataFrame]
) -> NDArray[np.int64]:
    """Check that maps, tables and signals are of the same records; return the records' positions."""
    positions = shown_records(projections)
    lengths = {name: len(table) for name, table in tables.items()}
    if len(set(lengths.values())) > 1 or positions.max(initial=0) >= min(lengths.values()):
        raise EcgkitError(f"the tables have {lengths} rows: give one row per record that was projected")
    if signals.ndim != 2 or len(signals) != len(positions):
        raise EcgkitError(f"signals has shape {signals.shape} for {len(positions)} points: give one lead per point")
    return positions


def _map(projection: Projection, note: str) -> dict[str, Any]:
    """Return the data of one map."""
    xy = _base64(projection.coordinates[:, :2], "<f4")
    axes = list(projection.axis_labels[:2])
    return {"name": projection.name, "axes": axes, "note": note.replace("\n", "; "), "xy": xy}


def _column(values: pd.Series) -> dict[str, Any]:
    """Return the data of a column: numbers, or categories by frequency, of which the rare ones share a colour."""
    name = str(values.name)
    common = {"name": name, "title": target_name(name), "unit": UNITS.get(name, "")}
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        numbers = values.to_numpy(dtype=np.float32, na_value=np.nan)
        return common | {"kind": "number", "values": _base64(np.where(np.isinf(numbers), np.nan, numbers), "<f4")}
    text = values.astype("string")
    categories = list(by_frequency(text).index)
    codes = pd.Categorical(text, categories=categories).codes
    colors = list(category_colors(categories).values())
    return common | {"kind": "category", "categories": categories, "colors": colors, "values": _base64(codes, "<i2")}


def _signal(signals: NDArray[np.floating], sampling_rate: float) -> dict[str, Any]:
    """Return the ECGs in microvolts at 100 Hz."""
    values = resample(signals, sampling_rate=sampling_rate, target_rate=SIGNAL_RATE)
    microvolts = np.clip(np.rint(1000 * values), -32768, 32767)
    return {"rate": SIGNAL_RATE, "samples": values.shape[1], "lead": LEAD, "values": _base64(microvolts, "<i2")}


def _colors() -> dict[str, Any]:
    """Return the colours of the page, which are those of the figures."""
    places = np.linspace(0, 1, 33)
    return {
        "class": COLORS[0],
        "unknown": LIGHT_GREY,
        "other": GREY,
        "outcomes": [{"text": text, "color": color} for text, color in OUTCOME_COLORS.items()],
        "number": [to_hex(color) for color in mpl.colormaps["viridis"](places)],
        "probability": [to_hex(color) for color in PROBABILITY(places)],
        "wrong": [to_hex(color) for color in mpl.colormaps["inferno_r"](np.linspace(0.3, 0.95, 33))],
    }


def _base64(values: Any, dtype: str) -> str:
    """Encode numbers as base64, row by row, little-endian."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode()
