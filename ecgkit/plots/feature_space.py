"""What a model has learned: maps of embeddings, clusters beside classes, probes beside their baselines."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from ecgkit.errors import EcgkitError
from ecgkit.plots.style import COLORS, GREY, WIDTH, legend_beside, new_figure

LIGHT_GREY = "#D5D5D5"
"""The colour of a point of which something is not known, or does not hold."""

UNITS = {"age": "years", "height": "cm", "weight": "kg"}
SEX_COLORS = {"female": COLORS[1], "male": COLORS[0]}

MAP_CLASSES = 12
"""Up to so many classes `map_grid` draws; of more, the commonest."""

NAMED_CATEGORIES = 7
"""Up to so many categories `map_by` names; of more, the commonest but one and "other"."""

DENSE = 800
"""From so many points on `probe_regression` shows their density."""

DENSITY = ListedColormap(mpl.colormaps["Blues"](np.linspace(0.2, 1.0, 256)))
"""Blues without the palest, in which a single record could not be seen."""

METRIC_NAMES = {"r2": "R²", "auc": "AUC", "accuracy": "accuracy", "f1": "macro F1"}
ENCODER_COLORS = {"probe": COLORS[0], "untrained": COLORS[4], "baseline": GREY}
ENCODER_NAMES = {
    "probe": "probe on the trained encoder",
    "untrained": "probe on an untrained encoder",
    "baseline": "mean or commonest class",
}


def _map_axes(axes: Axes, axis_labels: Sequence[str]) -> None:
    """Make the axes of a map: the same scale in both directions, where numbers say little."""
    axes.set(xticks=[], yticks=[], xlabel=axis_labels[0], ylabel=axis_labels[1])
    axes.set_aspect("equal", adjustable="datalim")


def _shuffled(number: int, seed: int = 0) -> NDArray[np.int64]:
    """Give an order in which no group lies on top of another."""
    return np.random.default_rng(seed).permutation(number)


def _point_size(number: int) -> float:
    """Give the area of a point, in points squared, that suits so many of them."""
    return float(np.clip(16000 / max(number, 1), 1.5, 24.0))


def _check_rows(coordinates: NDArray[np.floating], number: int) -> None:
    """Refuse a table that does not go with the points."""
    if coordinates.ndim != 2 or coordinates.shape[1] < 2 or len(coordinates) != number:
        raise EcgkitError(
            f"coordinates of shape {coordinates.shape} for {number} rows: give two columns, and the rows of the points"
        )


def map_grid(
    coordinates: NDArray[np.floating],
    labels: pd.DataFrame,
    *,
    axis_labels: Sequence[str] = ("UMAP 1", "UMAP 2"),
    title: str = "",
) -> Figure:
    """Draw one map for each class, with the records that carry it in colour.

    Parameters
    ----------
    coordinates : ndarray, shape (records, 2)
        One point a record.
    labels : DataFrame of bool
        One row a point, one column a class. Of more than 12 classes, the 12 commonest are drawn.
    axis_labels : sequence of str, default UMAP 1 and UMAP 2
        What the axes are.
    title : str, default ""
        A line above all.

    Returns
    -------
    Figure
        Points are drawn in a random order, so that none of two groups covers the other.

    Raises
    ------
    EcgkitError
        If the rows do not fit.
    """
    _check_rows(coordinates, len(labels))
    truth = labels.to_numpy(dtype=bool)
    chosen = np.arange(truth.shape[1])
    if len(chosen) > MAP_CLASSES:
        chosen = np.sort(np.argsort(-truth.sum(axis=0), kind="stable")[:MAP_CLASSES])
        title = f"{title} (the {MAP_CLASSES} commonest of {truth.shape[1]} classes)".strip()
    columns = min(3 if len(chosen) <= 6 else 4, max(len(chosen), 1))
    rows = -(-len(chosen) // columns)
    figure = new_figure(WIDTH, 0.4 + rows * 0.95 * WIDTH / columns)
    order = _shuffled(len(coordinates))
    points = coordinates[order]
    for panel, i in enumerate(chosen.tolist()):
        axes = figure.add_subplot(rows, columns, panel + 1)
        carries = truth[order, i]
        colors = np.where(carries, COLORS[0], LIGHT_GREY)
        axes.scatter(points[:, 0], points[:, 1], s=_point_size(len(points)), c=colors, linewidths=0, rasterized=True)
        axes.set_title(f"{labels.columns[i]}: {carries.sum():,} of {len(points):,} ({carries.mean():.0%})", fontsize=10)
        _map_axes(axes, _short(axis_labels))
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _short(axis_labels: Sequence[str]) -> list[str]:
    """Leave out of a small panel's axis labels what stands in brackets."""
    return [label.split(" (")[0] for label in axis_labels]


def map_by(
    coordinates: NDArray[np.floating],
    records: pd.DataFrame,
    column: str,
    *,
    unit: str | None = None,
    axis_labels: Sequence[str] = ("UMAP 1", "UMAP 2"),
    title: str = "",
) -> Figure:
    """Draw a map coloured by a column of the records.

    Parameters
    ----------
    coordinates : ndarray, shape (records, 2)
        One point a record.
    records : DataFrame
        One row a point.
    column : str
        A column of numbers gets a colour bar, from the 2nd to the 98th percentile; one of words a legend beside the
        map, where of more than seven words the rarest become "other".
    unit : str, optional
        The unit of a number; known for age, height and weight.
    axis_labels : sequence of str, default UMAP 1 and UMAP 2
        What the axes are.
    title : str, default ""
        What the map shows.

    Returns
    -------
    Figure
        A record whose value is unknown is light grey, and counted. Points are drawn in a random order.

    Raises
    ------
    EcgkitError
        If the rows do not fit, or there is no such column.
    """
    _check_rows(coordinates, len(records))
    if column not in records:
        raise EcgkitError(f"the records have no column {column!r}: choose one of {', '.join(records.columns)}")
    figure = new_figure(0.8 * WIDTH, 0.62 * WIDTH)
    axes = figure.add_subplot()
    draw_map(axes, coordinates, records[column], unit=unit)
    _map_axes(axes, axis_labels)
    if title:
        axes.set_title(title)
    return figure


def draw_map(axes: Axes, coordinates: NDArray[np.floating], column: pd.Series, *, unit: str | None = None) -> None:
    """Draw the points of `map_by` into axes, with their colour bar or legend."""
    order = _shuffled(len(column))
    points, values = coordinates[order, :2], column.iloc[order].reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        unit = UNITS.get(str(column.name), "") if unit is None else unit
        _draw_numbers(
            axes, points, values.to_numpy(dtype=np.float64, na_value=np.nan), _with_unit(str(column.name), unit)
        )
    else:
        _draw_words(axes, points, values)


def _with_unit(name: str, unit: str) -> str:
    """Write a quantity with its unit, if it has one."""
    return f"{name} ({unit})" if unit else name


def _draw_numbers(axes: Axes, points: NDArray[np.floating], values: NDArray[np.float64], label: str) -> None:
    """Colour points by a number."""
    known = np.isfinite(values)
    size = _point_size(len(points))
    axes.scatter(points[~known, 0], points[~known, 1], s=size, c=LIGHT_GREY, linewidths=0, rasterized=True)
    if known.any():
        low, high = np.percentile(values[known], [2, 98])
        drawn = axes.scatter(
            points[known, 0],
            points[known, 1],
            s=size,
            c=values[known],
            cmap="viridis",
            vmin=low,
            vmax=high,
            linewidths=0,
            rasterized=True,
        )
        beyond = {(True, True): "both", (True, False): "min", (False, True): "max", (False, False): "neither"}
        extend = beyond[bool(values[known].min() < low), bool(values[known].max() > high)]
        axes.figure.colorbar(drawn, ax=axes, label=label, shrink=0.8, extend=extend)
    if not known.all():
        handles = [_dot(LIGHT_GREY, f"unknown ({(~known).sum():,} of {len(known):,})")]
        axes.legend(handles=handles, loc="upper right", bbox_to_anchor=(1.0, -0.06), borderaxespad=0.0)


def _draw_words(axes: Axes, points: NDArray[np.floating], values: pd.Series) -> None:
    """Colour points by a word."""
    counts = values.astype("string").value_counts()
    named = list(counts.index if len(counts) <= NAMED_CATEGORIES else counts.index[: NAMED_CATEGORIES - 1])
    colors = {word: SEX_COLORS.get(word, COLORS[i % len(COLORS)]) for i, word in enumerate(named)}
    names = {word: f"{word} ({counts[word]:,})" for word in named}
    words = values.astype("string").fillna("")
    of_point = [colors.get(word, GREY) if word else LIGHT_GREY for word in words]
    axes.scatter(points[:, 0], points[:, 1], s=_point_size(len(points)), c=of_point, linewidths=0, rasterized=True)
    handles = [_dot(colors[word], names[word]) for word in named]
    if len(named) < len(counts):
        rest = counts.iloc[len(named) :]
        handles.append(_dot(GREY, f"other, {len(rest)} kinds ({rest.sum():,})"))
    if values.isna().any():
        handles.append(_dot(LIGHT_GREY, f"unknown ({values.isna().sum():,})"))
    legend_beside(axes, handles=handles, title=values.name)


def _dot(color: str, label: str) -> Line2D:
    """Make an entry of a legend."""
    return Line2D([], [], linestyle="", marker="o", markersize=6, color=color, label=label)


def cluster_heatmap(composition: pd.DataFrame) -> Figure:
    """Draw which classes each cluster holds, beside the prevalence in all records.

    Parameters
    ----------
    composition : DataFrame
        As `ecgkit.feature_space.cluster_composition` gives it: one row a cluster and a last one for all, the column
        ``records``, then one a class with the number of records that carry it.

    Returns
    -------
    Figure
        Of the records of each cluster the share that carries each class; a record with several classes counts for
        each, so a row may sum to more than 100 %.
    """
    records = composition["records"].to_numpy(dtype=np.float64)
    counts = composition.drop(columns="records")
    numbers = counts.to_numpy(dtype=np.int64)
    share = np.divide(numbers, records[:, None], out=np.full(counts.shape, np.nan), where=records[:, None] > 0)
    n_rows, n_classes = share.shape
    annotated = n_classes <= 12
    figure = new_figure(WIDTH, 1.3 + (0.5 if annotated else 0.3) * n_rows + (0.0 if annotated else 0.5))
    axes = figure.add_subplot()
    image = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    figure.colorbar(image, ax=axes, label="of the cluster's records (%)")
    if annotated:
        for (row, column), value in np.ndenumerate(share):
            if not np.isnan(value):
                text, color = f"{value:.0%}  ({numbers[row, column]:,})", "white" if value > 0.6 else "black"
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
    axes.axhline(n_rows - 1.5, color="black", linewidth=1.5)
    names = [f"cluster {name}" for name in composition.index[:-1]] + ["all records"]
    axes.set_yticks(np.arange(n_rows), [f"{name}, n = {int(n):,}" for name, n in zip(names, records, strict=True)])
    axes.set_xticks(np.arange(n_classes), list(counts.columns), rotation=0 if annotated else 90)
    axes.set(xlabel="class")
    axes.spines[:].set_visible(False)
    return figure


def k_selection(table: pd.DataFrame, *, chosen: int | None = None) -> Figure:
    """Draw inertia and silhouette against the number of clusters.

    Parameters
    ----------
    table : DataFrame
        As `ecgkit.feature_space.k_selection` gives it: ``k``, ``inertia``, ``silhouette``.
    chosen : int, optional
        The number of clusters that was taken; a vertical line.

    Returns
    -------
    Figure
    """
    figure = new_figure(WIDTH, 3.4)
    left, right = figure.subplots(1, 2)
    left.plot(table["k"], table["inertia"], marker="o", color=COLORS[0])
    left.set(title="Inertia: falls with every cluster", ylabel="inertia (standard deviations²)")
    left.set_ylim(0, 1.08 * table["inertia"].max())
    left.yaxis.set_major_formatter("{x:,.0f}")
    right.plot(table["k"], table["silhouette"], marker="o", color=COLORS[0])
    right.set(title="Silhouette: 1 apart, 0 overlapping", ylabel="silhouette")
    right.set_ylim(min(0.0, 1.1 * table["silhouette"].min()), max(0.25, 1.15 * table["silhouette"].max()))
    for axes in (left, right):
        axes.set_xlabel("number of clusters k")
        axes.set_xticks(table["k"])
        axes.grid(visible=True, axis="y")
        if chosen is not None:
            axes.axvline(chosen, color=GREY, linestyle="--", linewidth=1, zorder=0.5)
            axes.annotate(
                f"k = {chosen}", (chosen, 0.03), (4, 0), xycoords=("data", "axes fraction"), textcoords="offset points"
            )
    return figure


def explained_variance(shares: NDArray[np.floating]) -> Figure:
    """Draw the share of the variance that each principal component explains, and their sum.

    Parameters
    ----------
    shares : ndarray, shape (components,)
        As `ecgkit.feature_space.explained_variance` gives them.

    Returns
    -------
    Figure
    """
    number = np.arange(1, len(shares) + 1)
    total = 100 * np.cumsum(shares)
    figure = new_figure(WIDTH, 3.4)
    left, right = figure.subplots(1, 2)
    left.bar(number, 100 * shares, color=COLORS[0], width=0.8)
    left.set(title="Each component", xlabel="principal component", ylabel="explained variance (%)")
    right.plot(number, total, color=COLORS[0], marker="o", markersize=3)
    right.set(
        title="All up to it", xlabel="principal component", ylabel="explained variance, summed (%)", ylim=(0, 103)
    )
    for level in (50, 90):
        if total[-1] >= level:
            at = int(np.argmax(total >= level)) + 1
            right.hlines(level, 1, at, color=GREY, linestyle=":", linewidth=1)
            right.annotate(f"{level} % with {at}", (at, level), (6, -12), textcoords="offset points", fontsize=9)
    for axes in (left, right):
        axes.grid(visible=True, axis="y")
    return figure


def probe_regression(true: NDArray[np.floating], predicted: NDArray[np.floating], *, name: str, unit: str) -> Figure:
    """Draw what a probe predicts against what is true.

    Parameters
    ----------
    true, predicted : ndarray, shape (records,)
        In ``unit``.
    name : str
        What it is, such as ``"age"``.
    unit : str
        Its unit.

    Returns
    -------
    Figure
        Points, or from 800 on their density, with the identity line; beside it the error against the true value, with
        its mean in up to ten groups of about equal size. A falling line is the pull towards the mean of every probe
        that explains only a part of the variance.
    """
    figure = new_figure(WIDTH, 4.6)
    left, right = figure.subplots(1, 2)
    low, high = float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))
    margin = 0.04 * (high - low or 1.0)
    limits = (low - margin, high + margin)
    _cloud(figure, left, true, predicted, (*limits, *limits))
    left.plot(limits, limits, color="black", linewidth=1, linestyle="--")
    left.set(xlim=limits, ylim=limits, xlabel=f"true {name} ({unit})", ylabel=f"predicted {name} ({unit})")
    left.set_aspect("equal")
    residual = predicted - true
    span = 1.05 * float(np.abs(residual).max()) or 1.0
    mae = np.abs(residual).mean()
    left.set_title(f"{name.capitalize()} of {len(true):,} records; dashed: predicted = true")
    _cloud(figure, right, true, residual, (*limits, -span, span), colorbar=True)
    right.axhline(0, color="black", linewidth=1, linestyle="--")
    centres, means = _grouped_means(true, residual, groups=min(10, len(true) // 8))
    right.plot(centres, means, color=COLORS[1], marker="o", markersize=4)
    right.set(xlim=limits, ylim=(-span, span), xlabel=f"true {name} ({unit})", ylabel=f"predicted - true ({unit})")
    right.set_title(f"Mean absolute error {mae:.1f} {unit}; orange: mean error")
    return figure


def _cloud(
    figure: Figure,
    axes: Axes,
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    extent: tuple[float, float, float, float],
    *,
    colorbar: bool = False,
) -> None:
    """Draw points, or their density where they are many."""
    if len(x) < DENSE:
        axes.scatter(x, y, s=max(14.0, _point_size(len(x))), color=COLORS[0], alpha=0.5, linewidths=0, rasterized=True)
        return
    drawn = axes.hexbin(x, y, gridsize=45, extent=extent, mincnt=1, cmap=DENSITY, bins="log", linewidths=0.1)
    if colorbar:
        figure.colorbar(drawn, ax=axes, label="records", shrink=0.8, format="%d")


def _grouped_means(x: NDArray[np.floating], y: NDArray[np.floating], groups: int) -> tuple[list[float], list[float]]:
    """Cut the values of x into groups of about equal size, and average x and y in each."""
    parts = [part for part in np.array_split(np.argsort(x, kind="stable"), max(groups, 1)) if len(part)]
    return [float(x[part].mean()) for part in parts], [float(y[part].mean()) for part in parts]


def probe_probability(
    positive: NDArray[np.bool_], probability: NDArray[np.floating], *, words: tuple[str, str] = ("male", "female")
) -> Figure:
    """Draw the probabilities that a probe gives to the records of two classes.

    Parameters
    ----------
    positive : ndarray of bool, shape (records,)
        Whether the record is of the second class.
    probability : ndarray, shape (records,)
        The predicted probability of the second class.
    words : tuple of str, default ("male", "female")
        The names of the classes, the positive one last.

    Returns
    -------
    Figure
    """
    figure = new_figure(WIDTH, 3.4)
    axes = figure.add_subplot()
    edges = np.linspace(0, 1, 31).tolist()
    for i, chosen in enumerate((~positive, positive)):
        color = SEX_COLORS.get(words[i], COLORS[i])
        label = f"{words[i]} ({chosen.sum():,})"
        axes.hist(probability[chosen], bins=edges, color=color, alpha=0.25, histtype="stepfilled")
        axes.hist(probability[chosen], bins=edges, color=color, histtype="step", linewidth=1.5, label=label)
    axes.axvline(0.5, color="black", linewidth=1, linestyle="--")
    axes.set(xlabel=f"predicted probability of {words[1]!r}", ylabel="records", xlim=(0, 1))
    axes.grid(visible=True, axis="y")
    legend_beside(axes)
    return figure


def probe_classes(
    true: pd.Series, predicted: pd.Series, *, classes: Sequence[str], name: str, unit: str = ""
) -> Figure:
    """Draw which class a probe takes each class for.

    Parameters
    ----------
    true, predicted : Series of str
        The class of each record.
    classes : sequence of str
        All classes in order, such as the bins of age.
    name : str
        What it is, such as ``"age"``.
    unit : str, default ""
        Its unit.

    Returns
    -------
    Figure
        Of the records of each true class the share that is taken for each class, with the number of records.
    """
    counts = confusion_matrix(true.tolist(), predicted.tolist(), labels=list(classes))
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    side = 2.6 + 0.75 * len(classes)
    figure = new_figure(min(side + 1.6, WIDTH), min(side, 8.0))
    axes = figure.add_subplot()
    image = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    figure.colorbar(image, ax=axes, label="of the true class (%)", shrink=0.8)
    for (row, column), value in np.ndenumerate(share):
        if not np.isnan(value):
            text, color = f"{value:.0%}\n{counts[row, column]:,}", "white" if value > 0.6 else "black"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8.5)
    axes.set_xticks(np.arange(len(classes)), list(classes), rotation=35 if len(classes) > 2 else 0)
    names = [f"{word}, n = {number:,}" for word, number in zip(classes, total[:, 0], strict=True)]
    axes.set_yticks(np.arange(len(classes)), names)
    axes.set(xlabel=f"predicted {_with_unit(name, unit)}", ylabel=f"true {_with_unit(name, unit)}")
    axes.spines[:].set_visible(False)
    return figure


def probe_comparison(table: pd.DataFrame) -> Figure:
    """Draw what the probes reach, beside the untrained encoder and the baseline.

    Parameters
    ----------
    table : DataFrame
        As `ecgkit.feature_space.probe_table` gives it: index ``target`` and ``encoder``, columns ``r2``, ``auc``,
        ``accuracy``, ``f1``.

    Returns
    -------
    Figure
        One panel a metric, one group of bars a target; R2 below zero is drawn below zero.
    """
    figure = new_figure(WIDTH, 6.0)
    axes_of = figure.subplots(2, 2)
    encoders = [name for name in ENCODER_NAMES if name in table.index.get_level_values("encoder")]
    for axes, metric in zip(axes_of.flat, METRIC_NAMES, strict=True):
        _draw_bars(axes, table[metric].dropna(), encoders, metric)
    handles = [_dot(ENCODER_COLORS[name], ENCODER_NAMES[name]) for name in encoders]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _draw_bars(axes: Axes, values: pd.Series, encoders: Sequence[str], metric: str) -> None:
    """Draw the bars of one metric."""
    targets = list(dict.fromkeys(values.index.get_level_values("target")))
    width = 0.8 / max(len(encoders), 1)
    for i, encoder in enumerate(encoders):
        for group, target in enumerate(targets):
            if (target, encoder) not in values.index:
                continue
            value, x = float(values[target, encoder]), group + (i - (len(encoders) - 1) / 2) * width
            axes.bar(x, value, width=0.92 * width, color=ENCODER_COLORS[encoder])
            axes.annotate(
                f"{round(value, 2) + 0.0:.2f}",
                (x, max(value, 0.0)),
                (0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=8.5,
            )
    axes.set_xticks(np.arange(len(targets)), targets)
    axes.set(ylabel=METRIC_NAMES[metric], ylim=(min(0.0, 1.15 * values.min() if len(values) else 0.0), 1.05))
    where = {"r2": "Numbers", "auc": "Sex", "accuracy": "In bins, and sex", "f1": "In bins, and sex"}
    axes.set_title(f"{where[metric]}: {METRIC_NAMES[metric]}")
    axes.axhline(0, color="black", linewidth=0.8)
    margin = 1.0 if len(targets) < 2 else 0.6
    axes.set_xlim(-margin, max(len(targets), 1) - 1 + margin)
    axes.grid(visible=True, axis="y")
