"""Maps of embeddings: records as points, coloured by class, prediction, error, or patient and recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PathCollection
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.plots.style import (
    COLORS,
    GREY,
    LIGHT_GREY,
    SEX_COLORS,
    WIDTH,
    dot,
    grid_of_axes,
    legend_beside,
    new_figure,
    point_size,
)
from ecgkit.stats.labels import target_name
from ecgkit.stats.validation import known_true

UNITS = {"age": "years", "height": "cm", "weight": "kg", "bmi": "kg/m²", "heart_rate": "beats/min"}

MAP_CLASSES = 12
"""Largest number of panels of classes; of more classes, the most frequent are drawn."""

NAMED_CATEGORIES = 7
"""Largest number of categories that are named; of more, the most frequent and "other"."""

MANY = 5000
"""With more points they are half transparent, so that dense regions of a map stand out."""

PROBABILITY = mpl.colormaps["viridis_r"]
"""From yellow to dark, so that high probabilities stand out on white."""

OUTCOME_COLORS = {
    "true negative": LIGHT_GREY,
    "true positive": COLORS[0],
    "false negative": COLORS[1],
    "false positive": COLORS[3],
}
"""Outcomes of a decision, in drawing order."""

UMAP_AXES = ("UMAP 1", "UMAP 2")


def map_grid(
    coordinates: NDArray[np.floating], labels: pd.DataFrame, *, axis_labels: Sequence[str] = UMAP_AXES, title: str = ""
) -> Figure:
    """Draw one map for each class, with the records that carry it in colour.

    Parameters
    ----------
    coordinates : ndarray, shape (records, 2)
        One point per record.
    labels : DataFrame of bool
        One row per point, one column per class. Of more than 12 classes, the 12 most frequent are drawn.
    axis_labels : sequence of str, default UMAP 1 and UMAP 2
        Labels of the axes.
    title : str, default ""
        One or more lines above all, such as with the quality of the map from
        `ecgkit.feature_space.maps.quality_notes`.

    Returns
    -------
    Figure
        Points are drawn in a random order, so that none of two groups covers the other.

    Raises
    ------
    EcgkitError
        If the rows do not fit.
    """
    _check_rows(coordinates, labels)
    truth = known_true(labels)
    figure, panels, chosen = _class_panels(truth, title, axis_labels)
    order = _shuffled(len(coordinates))
    for axes, i in zip(panels, chosen, strict=True):
        carries = truth[order, i]
        _scatter(axes, coordinates[order], c=np.where(carries, COLORS[0], LIGHT_GREY))
        n_known = int(labels.iloc[:, i].count())
        share = carries.sum() / max(n_known, 1)
        axes.set_title(f"{labels.columns[i]}\n{carries.sum():,} of {n_known:,} ({share:.0%})", fontsize=10)
    return figure


def map_probabilities(
    coordinates: NDArray[np.floating],
    probabilities: pd.DataFrame,
    *,
    axis_labels: Sequence[str] = UMAP_AXES,
    title: str = "",
) -> Figure:
    """Draw one map for each class, coloured by its predicted probability.

    Parameters
    ----------
    coordinates, axis_labels, title
        As of `map_grid`.
    probabilities : DataFrame of float
        One row per point, one column per class, from 0 to 1; NaN if not predicted. Of more than 12 classes,
        the 12 with the highest mean are drawn.

    Returns
    -------
    Figure
        Points in a random order, one colour bar for all panels.

    Raises
    ------
    EcgkitError
        If the rows do not fit, or a probability is not between 0 and 1.
    """
    _check_rows(coordinates, probabilities)
    values = probabilities.to_numpy(dtype=np.float64, na_value=np.nan)
    if (values < 0).any() or (values > 1).any():
        raise EcgkitError(f"probabilities from {np.nanmin(values):g} to {np.nanmax(values):g}: give 0 to 1, not logits")
    figure, panels, chosen = _class_panels(np.nan_to_num(values), title, axis_labels, word="most probable")
    order = _shuffled(len(coordinates))
    for axes, i in zip(panels, chosen, strict=True):
        drawn = _scatter_values(axes, coordinates[order], values[order, i], cmap=PROBABILITY, vmin=0, vmax=1)
        axes.set_title(str(probabilities.columns[i]), fontsize=10)
    _colorbar(figure, drawn, ax=panels, label="predicted probability", shrink=0.6, aspect=30)
    _legend_below(figure, _unknown(np.isnan(values[:, chosen]).any(axis=1)))
    return figure


def map_errors(
    coordinates: NDArray[np.floating],
    labels: pd.DataFrame,
    probabilities: pd.DataFrame,
    thresholds: Mapping[str, float],
    *,
    axis_labels: Sequence[str] = UMAP_AXES,
    title: str = "",
) -> Figure:
    """Draw one map for each class, coloured by what the decision was, and one of how many classes were wrong.

    Parameters
    ----------
    coordinates, axis_labels, title
        As of `map_grid`.
    labels : DataFrame of bool
        One row per point, one column per class: the true classes.
    probabilities : DataFrame of float
        The same rows and columns, predicted; NaN for a record without a prediction.
    thresholds : mapping of str to float
        For each class the probability from which it is predicted.

    Returns
    -------
    Figure
        Errors are drawn on top. Of more than 11 classes, the 11 most frequent have a panel; all are counted.

    Raises
    ------
    EcgkitError
        If the rows do not fit, or a class has no probability or threshold.
    """
    _check_rows(coordinates, labels, probabilities)
    for name in labels:
        if name not in probabilities or name not in thresholds:
            raise EcgkitError(f"class {name!r} has no probability or no threshold: give both for every class")
    truth, is_known = known_true(labels), labels.notna().to_numpy()
    prob = probabilities[list(labels)].to_numpy(dtype=np.float64, na_value=np.nan)
    decided = prob >= np.array([thresholds[str(name)] for name in labels])
    known = ~np.isnan(prob).any(axis=1)
    figure, panels, chosen = _class_panels(truth, title, axis_labels, extra=1)
    for axes, i in zip(panels, chosen, strict=False):
        rows = known & is_known[:, i]
        _draw_outcomes(axes, coordinates[rows], truth[rows, i], decided[rows, i], str(labels.columns[i]))
    _draw_wrong(figure, panels[-1], coordinates[known], ((truth != decided) & is_known)[known].sum(axis=1))
    handles = [dot(color, name) for name, color in OUTCOME_COLORS.items()]
    if not known.all():
        handles.append(dot("none", f"{(~known).sum():,} of {len(known):,} left out, without a prediction"))
    _legend_below(figure, handles)
    return figure


def _draw_outcomes(
    axes: Axes, points: NDArray[np.floating], truth: NDArray[np.bool_], decided: NDArray[np.bool_], name: str
) -> None:
    """Draw the decisions on one class, the errors last, in a random order."""
    outcome = np.select([truth & decided, truth & ~decided, ~truth & decided], [1, 2, 3], default=0)
    order = _shuffled(len(points))
    order = order[np.argsort(np.minimum(outcome[order], 2), kind="stable")]
    _scatter(axes, points[order], c=np.array(list(OUTCOME_COLORS.values()))[outcome[order]])
    _, found, missed, false = np.bincount(outcome, minlength=4)
    counts = f"{found:,} of {found + missed:,} found\n{false:,} false positives"
    axes.set_title(f"{name}\n{counts}", fontsize=10)


def _draw_wrong(figure: Figure, axes: Axes, points: NDArray[np.floating], wrong: NDArray[np.integer]) -> None:
    """Draw how many classes are wrong, the most last."""
    top = max(int(wrong.max(initial=1)), 1)
    colors = ListedColormap([LIGHT_GREY, *mpl.colormaps["inferno_r"](np.linspace(0.3, 0.95, top))])
    order = np.argsort(wrong, kind="stable")
    norm = BoundaryNorm(np.arange(-0.5, top + 1), top + 1)
    drawn = _scatter(axes, points[order], c=wrong[order], cmap=colors, norm=norm)
    _colorbar(figure, drawn, ax=axes, label="wrong classes", shrink=0.8, ticks=np.arange(0, top + 1, 1 + top // 10))
    axes.set_title(f"All classes: {(wrong > 0).sum():,} of {len(wrong):,}\nwith one wrong or more", fontsize=10)


def map_columns(
    coordinates: NDArray[np.floating],
    records: pd.DataFrame,
    columns: Sequence[str],
    *,
    axis_labels: Sequence[str] = UMAP_AXES,
    title: str = "",
) -> Figure:
    """Draw one map for each of several columns of the records.

    Parameters
    ----------
    coordinates, axis_labels, title
        As of `map_grid`.
    records : DataFrame
        One row per point.
    columns : sequence of str
        A numeric column has a colour bar, from the 2nd to the 98th percentile; one of categories a legend, with "other"
        for the rarest of more than seven.

    Returns
    -------
    Figure
        Two panels in a row, each with its colour bar or legend. A record whose value is unknown is light grey, and
        counted. Points are drawn in a random order.

    Raises
    ------
    EcgkitError
        If the rows do not fit, or there is no such column.
    """
    _check_rows(coordinates, records)
    for name in columns:
        check_choice("column", name, list(records.columns))
    rows = max(-(-len(columns) // 2), 1)
    figure = new_figure(WIDTH, 0.5 + 3.3 * rows) if len(columns) > 1 else new_figure(0.8 * WIDTH, 0.62 * WIDTH)
    # Each panel has its own layout, or the widest legend would narrow all of them.
    cells = figure.subfigures(rows, min(2, max(len(columns), 1)), squeeze=False).flat
    order = _shuffled(len(records))
    for cell, name in zip(cells, columns, strict=False):
        axes, column = cell.add_subplot(), records[name].iloc[order].reset_index(drop=True)
        known = int(column.notna().sum())
        axes.set_title(f"{target_name(name)}, known of {known:,} of {len(records):,}", fontsize=10)
        _map_axes(axes, axis_labels)
        drawn, handles = _draw_values(axes, coordinates[order, :2], column)
        if drawn is not None:
            _column_bar(cell, drawn, column, ax=axes, shrink=0.8)
            if handles:
                axes.legend(handles=handles, fontsize=8.5, loc="upper right", bbox_to_anchor=(1.0, -0.06))
        elif handles:
            legend_beside(axes, handles=handles, title=target_name(name), fontsize=8.5)
    _headline(figure, title)
    return figure


def map_panels(
    maps: Mapping[str, NDArray[np.floating]],
    column: pd.Series,
    *,
    notes: Mapping[str, str] | None = None,
    title: str = "",
) -> Figure:
    """Draw several maps of the same records side by side, such as methods or seeds, all coloured by one column.

    Parameters
    ----------
    maps : mapping of str to ndarray of shape (records, 2)
        By the name of the panel, one point per record.
    column : Series
        One value per point: a number or a category.
    notes : mapping of str to str, optional
        By the name of the panel a note below its title, such as
        from `ecgkit.feature_space.maps.quality_notes`.
    title : str, default ""
        One or more lines above all.

    Returns
    -------
    Figure
        Three panels in a row. Axes have no ticks, since these maps have no unit. The legend or colour bar is below all
        panels.

    Raises
    ------
    EcgkitError
        If there is no map, or the rows do not fit.
    """
    if not maps:
        raise EcgkitError("no map to draw: give one or more")
    columns = min(3, len(maps))
    rows = -(-len(maps) // columns)
    figure = new_figure(WIDTH, 0.8 + rows * (0.5 + 0.95 * WIDTH / 3))
    panels = grid_of_axes(figure, len(maps), columns=columns)
    order = _shuffled(len(column))
    values = column.iloc[order].reset_index(drop=True)
    for axes, (name, coordinates) in zip(panels, maps.items(), strict=True):
        _check_rows(coordinates, column)
        drawn, handles = _draw_values(axes, coordinates[order, :2], values)
        axes.set_title(f"{name}\n{(notes or {}).get(name, '')}".strip(), fontsize=8.5)
        _map_axes(axes, ("", ""))
    if drawn is not None:
        _column_bar(figure, drawn, column, ax=panels, location="bottom", shrink=0.5, aspect=40)
    _legend_below(figure, handles, None if drawn is not None else target_name(column.name))
    _headline(figure, title)
    return figure


def _draw_values(
    axes: Axes, points: NDArray[np.floating], values: pd.Series
) -> tuple[PathCollection | None, list[Line2D]]:
    """Colour points by a number or a category; return what a colour bar shows, and the entries of a legend."""
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return None, _draw_categories(axes, points, values)
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.isfinite(numbers)
    if not known.any():
        _scatter(axes, points, c=LIGHT_GREY)
        return None, _unknown(~known)
    low, high = np.percentile(numbers[known], [2, 98])
    return _scatter_values(axes, points, numbers, cmap="viridis", vmin=low, vmax=high), _unknown(~known)


def _draw_categories(axes: Axes, points: NDArray[np.floating], values: pd.Series) -> list[Line2D]:
    """Colour points by a category; return the entries of a legend."""
    counts = by_frequency(values)
    if isinstance(values.dtype, pd.CategoricalDtype):
        counts = counts.reindex([str(name) for name in values.cat.categories if str(name) in counts.index])
    colors = category_colors(list(counts.index))
    names = values.astype("string").fillna("")
    _scatter(axes, points, c=[colors.get(name, GREY) if name else LIGHT_GREY for name in names])
    handles = [dot(color, f"{name} ({counts[name]:,})") for name, color in colors.items()]
    if len(colors) < len(counts):
        rest = counts.iloc[len(colors) :]
        handles.append(dot(GREY, f"other, {len(rest)} kinds ({rest.sum():,})"))
    if values.isna().any():
        handles.append(dot(LIGHT_GREY, f"unknown ({values.isna().sum():,})"))
    return handles


def _scatter(axes: Axes, points: NDArray[np.floating], *, number: int | None = None, **keywords: Any) -> PathCollection:
    """Draw points of a size that suits their number, or ``number`` if they are a part of so many."""
    number = len(points) if number is None else number
    look: dict[str, Any] = {"s": point_size(number), "alpha": 1.0 if number <= MANY else 0.5}
    return axes.scatter(points[:, 0], points[:, 1], linewidths=0, rasterized=True, **look, **keywords)


def _scatter_values(
    axes: Axes, points: NDArray[np.floating], values: NDArray[np.floating], **keywords: Any
) -> PathCollection:
    """Draw points coloured by a number, and below them in grey those whose number is not known."""
    known = np.isfinite(values)
    _scatter(axes, points[~known], number=len(points), c=LIGHT_GREY)
    return _scatter(axes, points[known], number=len(points), c=values[known], **keywords)


def _colorbar(figure: Any, drawn: PathCollection, **keywords: Any) -> None:
    """Draw a colour bar, opaque also where the points are not."""
    figure.colorbar(ScalarMappable(norm=drawn.norm, cmap=drawn.cmap), **keywords)


def _column_bar(figure: Any, drawn: PathCollection, column: pd.Series, **keywords: Any) -> None:
    """Draw the colour bar of a column, whose ends stand for all values beyond them."""
    label = target_name(column.name, UNITS.get(str(column.name), ""))
    _colorbar(figure, drawn, extend="both", label=label, **keywords)


def explained_variance(shares: NDArray[np.floating]) -> Figure:
    """Draw the share of the variance that each principal component explains, and their sum.

    Parameters
    ----------
    shares : ndarray, shape (components,)
        As from `ecgkit.feature_space.maps.explained_variance`.

    Returns
    -------
    Figure
    """
    number = np.arange(1, len(shares) + 1)
    total = 100 * np.cumsum(shares)
    figure = new_figure(WIDTH, 3.4)
    left, right = figure.subplots(1, 2)
    left.bar(number, 100 * shares, color=COLORS[0], width=0.8)
    left.set(title="Each component", ylabel="explained variance (%)")
    right.plot(number, total, color=COLORS[0], marker="o", markersize=3)
    right.set(title="All up to it", ylabel="explained variance, summed (%)", ylim=(0, 103))
    for level in (50, 90):
        if total[-1] >= level:
            at = int(np.argmax(total >= level)) + 1
            right.hlines(level, 1, at, color=GREY, linestyle=":", linewidth=1)
            right.annotate(f"{level} % with {at}", (at, level), (6, -12), textcoords="offset points", fontsize=9)
    for axes in (left, right):
        axes.set_xlabel("principal component")
        axes.grid(visible=True, axis="y")
    return figure


def _check_rows(coordinates: NDArray[np.floating], *tables: pd.DataFrame | pd.Series) -> None:
    """Refuse tables that do not go with the points."""
    for table in tables:
        if coordinates.ndim != 2 or coordinates.shape[1] < 2 or len(coordinates) != len(table):
            shape = f"coordinates of shape {coordinates.shape} for {len(table)} rows"
            raise EcgkitError(f"{shape}: give two columns, and the rows of the points")


def _map_axes(axes: Axes, axis_labels: Sequence[str]) -> None:
    """Make the axes of a map: the same scale in both directions, labels without the part in parentheses."""
    x, y = (label.split(" (")[0] for label in axis_labels)
    axes.set(xticks=[], yticks=[], xlabel=x, ylabel=y)
    axes.set_aspect("equal", adjustable="datalim")


def _shuffled(number: int) -> NDArray[np.int64]:
    """Return a random drawing order, so that no group covers another."""
    return np.random.default_rng(0).permutation(number)


def _class_panels(
    values: NDArray[Any], title: str, axis_labels: Sequence[str], *, extra: int = 0, word: str = "most frequent"
) -> tuple[Figure, list[Axes], list[int]]:
    """Make a figure with a panel per class, of many for those with the largest sums, and ``extra`` panels."""
    n_classes = values.shape[1]
    chosen = np.sort(np.argsort(-values.sum(axis=0), kind="stable")[: MAP_CLASSES - extra]).tolist()
    if len(chosen) < n_classes:
        title = f"{title} (the {len(chosen)} {word} of {n_classes} classes)".strip()
    number = len(chosen) + extra
    columns = min(3 if number <= 6 else 4, max(number, 1))
    figure = new_figure(WIDTH, 0.4 - (-number // columns) * 0.95 * WIDTH / columns)
    _headline(figure, title)
    panels = grid_of_axes(figure, number, columns=columns)
    for axes in panels:
        _map_axes(axes, axis_labels)
    return figure, panels, chosen


def _headline(figure: Figure, title: str) -> None:
    """Write a title above all panels."""
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)


def _legend_below(figure: Figure, handles: Sequence[Line2D], title: str | None = None) -> None:
    """Put a legend below all panels, where it covers none."""
    if handles:
        columns = -(-len(handles) // -(-len(handles) // 5))
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=title)


def category_colors(names: Sequence[str]) -> dict[str, str]:
    """Choose the colours of the categories that are named: the first of all names."""
    named = names if len(names) <= NAMED_CATEGORIES else names[: NAMED_CATEGORIES - 1]
    return {name: SEX_COLORS.get(name, COLORS[i % len(COLORS)]) for i, name in enumerate(named)}


def by_frequency(values: pd.Series) -> pd.Series:
    """Count the categories of a column, the most frequent first, ties in alphabetical order."""
    return values.astype("string").value_counts().sort_index().sort_values(ascending=False, kind="stable")


def _unknown(missing: NDArray[np.bool_]) -> list[Line2D]:
    """Make the entry of a legend for points of which nothing is known, if there are any."""
    return [dot(LIGHT_GREY, f"unknown ({missing.sum():,} of {len(missing):,})")] if missing.any() else []
