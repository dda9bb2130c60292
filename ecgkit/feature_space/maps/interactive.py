"""A map to look around in: one HTML file that needs no other and no network, with the ECG of the record pointed at."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.feature_space.maps.projections import Projection
from ecgkit.io import write_atomically
from ecgkit.plots.maps import (
    NAMED_CATEGORIES,
    OUTCOME_COLORS,
    PROBABILITY,
    UNITS,
    by_frequency,
    written,
)
from ecgkit.plots.style import COLORS, GREY, LIGHT_GREY, SEX_COLORS
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.filters import resample

MAX_BYTES = 20 * 10**6
"""No larger file is made: a browser opens it at once, and it can be sent by mail."""

SIGNAL_RATE = 100
"""The sampling rate of the ECGs in the file, in Hz."""

COLUMNS = ("age", "sex", "height", "weight", "bmi", "heart_rate", "device", "site")
"""The columns of the records that are shown where they are there."""


def write_interactive_map(path: Path, *args: Any, **keywords: Any) -> Path:
    """Write what `interactive_map` gives to a file.

    Parameters
    ----------
    path : Path
        Of the file, such as ``map.html``.
    *args, **keywords
        As for `interactive_map`.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    EcgkitError
        As `interactive_map`.
    """
    return write_atomically(Path(path), interactive_map(*args, **keywords).encode())


def interactive_map(
    projections: Sequence[Projection],
    records: pd.DataFrame,
    labels: pd.DataFrame,
    signals: NDArray[np.floating],
    *,
    sampling_rate: float,
    lead: str = "II",
    probabilities: pd.DataFrame | None = None,
    thresholds: Mapping[str, float] | None = None,
    notes: Mapping[str, str] | None = None,
    columns: Sequence[str] = COLUMNS,
    title: str = "Map of the feature space",
) -> str:
    """Make a page with maps of the same records to zoom and look around in.

    The page has menus for the map and for the colours; a record that is pointed at, or reached by the arrow keys, is
    shown with its ECG, its classes, what the model gives them and who the patient is, and a click keeps it. It opens
    with a record kept where the address ends in ``#record=ID``.

    Parameters
    ----------
    projections : sequence of Projection
        The maps, all of the same records.
    records : DataFrame
        All records that were embedded, as they were projected; column ``record_id``.
    labels : DataFrame of bool
        The same rows, one column a class.
    signals : ndarray, shape (points, samples)
        One lead of each record that is shown, in the order of ``positions`` of the maps, in mV; as `lead_signals`
        gives it. It is resampled to 100 Hz and rounded to microvolts.
    sampling_rate : float
        Of ``signals``, in Hz.
    lead : str, default "II"
        Which lead it is.
    probabilities : DataFrame of float, optional
        The rows of ``records`` and the columns of ``labels``: what the model gives; NaN where it was not asked. As
        `predicted_probabilities` gives it.
    thresholds : mapping of str to float, optional
        For each class the probability from which on it counts as predicted; for the colours by error.
    notes : mapping of str to str, optional
        By the name of a map what is said beneath it, such as `quality_notes` gives it.
    columns : sequence of str
        Columns of ``records`` to show and colour by; those that are not there are left out.
    title : str
        The page's title.

    Returns
    -------
    str
        HTML of at most 20 MB: 2,158 records of 10 s take 6 MB.

    Raises
    ------
    EcgkitError
        If there is no map, the maps show different records, the rows do not fit, a class has no probability or no
        threshold, or the page would be larger than 20 MB.
    """
    positions = _shared_positions(projections)
    _check_rows(positions, records, labels, signals, probabilities)
    shown = records.iloc[positions].reset_index(drop=True)
    data = {
        "ids": shown["record_id"].astype(str).tolist(),
        "maps": [_map(projection, (notes or {}).get(projection.name, "")) for projection in projections],
        "classes": list(map(str, labels)),
        "truth": _base64(labels.iloc[positions].to_numpy(dtype=bool), "u1"),
        **_predictions(labels, probabilities, thresholds, positions),
        "columns": [_column(shown[name]) for name in columns if name in shown],
        "over89": shown["age_over_89"].fillna(value=False).astype(bool).tolist() if "age_over_89" in shown else None,
        "signal": _signal(signals, sampling_rate, lead),
        "colors": _colors(),
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ecgkit.feature_space.maps", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    html = environment.get_template("map.html").render(title=title, data=_script_json(data))
    _check_size(len(html.encode()), len(positions))
    return html


def _check_size(size: int, number: int) -> None:
    """Refuse a page that is too large, and say how many records would fit."""
    if size > MAX_BYTES:
        fitting = int(0.9 * number * MAX_BYTES / size)
        raise EcgkitError(
            f"a page of {number:,} records has {size / 1e6:.1f} MB, above {MAX_BYTES / 1e6:g}: project with "
            f"max_records={fitting}"
        )


def lead_signals(dataset: Dataset, positions: NDArray[np.integer], *, lead: str = "II") -> NDArray[np.float32]:
    """Read one lead of some records.

    Parameters
    ----------
    dataset : Dataset
        An opened dataset.
    positions : ndarray of int
        Which of its records.
    lead : str, default "II"
        One of the twelve.

    Returns
    -------
    ndarray of float32, shape (positions, samples)
        In mV, at the dataset's sampling rate.

    Raises
    ------
    EcgkitError
        If there is no such lead.
    """
    if lead not in LEADS:
        raise EcgkitError(f"unknown lead {lead!r}: choose one of {', '.join(LEADS)}")
    microvolts = dataset.signals[dataset.rows[positions], LEADS.index(lead)]
    return microvolts.astype(np.float32) / np.float32(1000)


def predicted_probabilities(
    predictions: pd.DataFrame, records: pd.DataFrame, classes: Sequence[str], *, of: str = "prob"
) -> pd.DataFrame:
    """Bring a session's predictions into the order of a table of records.

    Parameters
    ----------
    predictions : DataFrame
        ``predictions.parquet`` of a training session: ``record_id`` and ``prob_CLASS``.
    records : DataFrame
        Column ``record_id``.
    classes : sequence of str
        The classes.
    of : str, default "prob"
        ``"prob"``, as the network gives them, or ``"calibrated"``.

    Returns
    -------
    DataFrame of float
        The rows of ``records``, one column a class; NaN for records that nothing was predicted for, as those of folds
        1-8.

    Raises
    ------
    EcgkitError
        If a class has no such column.
    """
    names = [f"{of}_{name}" for name in classes]
    for name in names:
        if name not in predictions:
            raise EcgkitError(f"the predictions have no column {name!r}: take those of a session with this label set")
    found = predictions.set_index("record_id")[names].reindex(records["record_id"])
    return found.set_axis(list(classes), axis=1).reset_index(drop=True)


def _shared_positions(projections: Sequence[Projection]) -> NDArray[np.int64]:
    """Give which records all maps show."""
    if not projections:
        raise EcgkitError("no map to look around in: give one or more")
    first = projections[0]
    for other in projections[1:]:
        if not np.array_equal(first.positions, other.positions):
            raise EcgkitError(f"{first.name} and {other.name} show different records: give all maps the same ones")
    return first.positions


def _check_rows(
    positions: NDArray[np.int64],
    records: pd.DataFrame,
    labels: pd.DataFrame,
    signals: NDArray[np.floating],
    probabilities: pd.DataFrame | None,
) -> None:
    """Refuse tables that do not go together."""
    if "record_id" not in records:
        raise EcgkitError(f"the records have no column 'record_id' but {', '.join(map(str, records))}: add it")
    for name, table in (("labels", labels), ("probabilities", probabilities)):
        if table is not None and len(table) != len(records):
            raise EcgkitError(f"{len(table)} rows of {name} for {len(records)} records: give one row a record")
    if positions.max(initial=0) >= len(records):
        raise EcgkitError(f"the maps show record {positions.max()} of {len(records)}: give all that were embedded")
    if signals.ndim != 2 or len(signals) != len(positions):
        raise EcgkitError(f"signals of shape {signals.shape} for {len(positions)} points: give one lead a point")


def _map(projection: Projection, note: str) -> dict[str, Any]:
    """Describe one map."""
    labels = projection.axis_labels[:2]
    return {
        "name": projection.name,
        "axes": list(labels),
        "note": note.replace("\n", "; "),
        "xy": _base64(projection.coordinates[:, :2], "<f4"),
    }


def _predictions(
    labels: pd.DataFrame,
    probabilities: pd.DataFrame | None,
    thresholds: Mapping[str, float] | None,
    positions: NDArray[np.int64],
) -> dict[str, Any]:
    """Give the probabilities of the records shown, and the thresholds."""
    if probabilities is None:
        return {"probabilities": None, "thresholds": None}
    for name in labels:
        if name not in probabilities:
            raise EcgkitError(f"class {name!r} has no column of probabilities: give one for every class")
        if thresholds is not None and name not in thresholds:
            raise EcgkitError(f"class {name!r} has no threshold: give one for every class, or none at all")
    values = probabilities[list(labels)].iloc[positions].to_numpy(dtype=np.float32, na_value=np.nan)
    return {
        "probabilities": _base64(values, "<f4"),
        "thresholds": None if thresholds is None else [float(thresholds[str(name)]) for name in labels],
    }


def _column(values: pd.Series) -> dict[str, Any]:
    """Describe a column: numbers, or words by their frequency, of which the rare ones share a colour."""
    name = str(values.name)
    common = {"name": name, "title": written(name), "unit": UNITS.get(name, "")}
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        numbers = values.to_numpy(dtype=np.float32, na_value=np.nan)
        return common | {"kind": "number", "values": _base64(np.where(np.isinf(numbers), np.nan, numbers), "<f4")}
    words = values.astype("string")
    found = list(by_frequency(words).index)
    codes = pd.Categorical(words, categories=found).codes
    named = len(found) if len(found) <= NAMED_CATEGORIES else NAMED_CATEGORIES - 1
    colors = [SEX_COLORS.get(word, COLORS[i % len(COLORS)]) for i, word in enumerate(found[:named])]
    return common | {"kind": "word", "words": found, "colors": colors, "values": _base64(codes, "<i2")}


def _signal(signals: NDArray[np.floating], sampling_rate: float, lead: str) -> dict[str, Any]:
    """Describe the ECGs: microvolts at 100 Hz."""
    values = resample(signals, sampling_rate=sampling_rate, target_rate=SIGNAL_RATE)
    limits = np.iinfo(np.int16)
    microvolts = np.clip(np.rint(1000 * values), limits.min, limits.max)
    return {"rate": SIGNAL_RATE, "samples": values.shape[1], "lead": lead, "values": _base64(microvolts, "<i2")}


def _colors() -> dict[str, Any]:
    """Give the colours of the page, those of the figures."""
    places = np.linspace(0, 1, 33)
    return {
        "class": COLORS[0],
        "unknown": LIGHT_GREY,
        "other": GREY,
        "outcomes": [{"word": word, "color": color} for word, color in OUTCOME_COLORS.items()],
        "number": [to_hex(color) for color in mpl.colormaps["viridis"](places)],
        "probability": [to_hex(color) for color in PROBABILITY(places)],
        "wrong": [to_hex(color) for color in mpl.colormaps["inferno_r"](np.linspace(0.3, 0.95, 33))],
    }


def _base64(values: Any, dtype: str) -> str:
    """Write numbers as base64, row by row, the least significant byte first."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode()


def _script_json(data: object) -> str:
    """Write JSON that no text in it can end: HTML reads the first ``</script`` as the end, wherever it stands."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
