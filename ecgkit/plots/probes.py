"""Linear probes: what they predict, beside what is true, and what they reach, beside their controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from ecgkit.plots.style import COLORS, GREY, SEX_COLORS, WIDTH, legend_beside, new_figure, point_size
from ecgkit.stats.labels import metric_name, target_name

DENSE = 800
"""From so many points on `probe_regression` shows their density."""

DENSITY = ListedColormap(mpl.colormaps["Blues"](np.linspace(0.2, 1.0, 256)))
"""Blues without the palest, in which a single record could not be seen."""

SOURCES = {
    "supervised": ("trained for it", COLORS[2]),
    "probe": ("probe", COLORS[0]),
    "untrained": ("untrained encoder", COLORS[4]),
    "measures": ("ECG measures", COLORS[3]),
    "demographics": ("demographics", COLORS[1]),
    "baseline": ("mean or commonest", GREY),
    "control_task": ("shuffled labels", GREY),
}
"""What stands beside a probe, from above, in words and colours."""

CHANCE = {"r2": 0.0, "auc": 0.5}


def metric_title(metric: str) -> str:
    """Write a metric for a figure, with the raised 2 that plain text goes without."""
    return metric_name(metric).replace("R2", "R²")


def _with_unit(name: str, unit: str) -> str:
    """Write a quantity with its unit, if it has one."""
    return f"{target_name(name)} ({unit})" if unit else target_name(name)


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
    left.set(
        xlim=limits, ylim=limits, xlabel=f"true {_with_unit(name, unit)}", ylabel=f"predicted {_with_unit(name, unit)}"
    )
    left.set_aspect("equal")
    residual = predicted - true
    span = 1.05 * float(np.abs(residual).max()) or 1.0
    mae = np.abs(residual).mean()
    left.set_title(f"{target_name(name).capitalize()} of {len(true):,} records; dashed: predicted = true")
    _cloud(figure, right, true, residual, (*limits, -span, span), colorbar=True)
    right.axhline(0, color="black", linewidth=1, linestyle="--")
    centres, means = _grouped_means(true, residual, groups=min(10, len(true) // 8))
    right.plot(centres, means, color=COLORS[1], marker="o", markersize=4)
    right.set(
        xlim=limits, ylim=(-span, span), xlabel=f"true {_with_unit(name, unit)}", ylabel=f"predicted - true ({unit})"
    )
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
        axes.scatter(x, y, s=max(14.0, point_size(len(x))), color=COLORS[0], alpha=0.5, linewidths=0, rasterized=True)
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


def probe_agreement(
    true: NDArray[np.floating],
    predicted: NDArray[np.floating],
    *,
    name: str,
    unit: str,
    agreement: Mapping[str, Mapping[str, float]],
) -> Figure:
    """Draw the differences between predicted and true values against their means (Bland and Altman).

    Parameters
    ----------
    true, predicted : ndarray, shape (records,)
        In ``unit``.
    name : str
        What it is, such as ``"age"``.
    unit : str
        Its unit.
    agreement : mapping of str to mapping of str to float
        ``bias``, ``limit_low`` and ``limit_high``, each with ``value``, ``low`` and ``high``, its interval.

    Returns
    -------
    Figure
        Points, or from 800 on their density; lines at the bias and at the limits of agreement, between which 95 % of
        normally distributed differences lie, each with its interval as a band.

    References
    ----------
    Bland and Altman, "Statistical methods for assessing agreement between two methods of clinical measurement", 1986,
    doi:10.1016/S0140-6736(86)90837-8.
    """
    figure = new_figure(0.85 * WIDTH, 4.4)
    axes = figure.add_subplot()
    mean, difference = (true + predicted) / 2, predicted - true
    margin = 0.04 * (float(np.ptp(mean)) or 1.0)
    span = 1.08 * max(float(np.abs(difference).max()), abs(agreement["limit_low"]["low"]), 1e-9)
    limits = (float(mean.min()) - margin, float(mean.max()) + margin)
    _cloud(figure, axes, mean, difference, (*limits, -span, span))
    for key, color in (("limit_high", COLORS[1]), ("bias", "black"), ("limit_low", COLORS[1])):
        entry = agreement[key]
        words = "bias" if key == "bias" else "95 % limit"
        axes.axhline(entry["value"], color=color, linewidth=1.2, linestyle="-" if key == "bias" else "--")
        if np.isfinite([entry["low"], entry["high"]]).all():
            axes.axhspan(entry["low"], entry["high"], color=color, alpha=0.15, linewidth=0)
        axes.annotate(
            f"{words} {entry['value']:+.1f} {unit}",
            (1.01, entry["value"]),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9.5,
            color=color,
        )
    axes.set(xlim=limits, ylim=(-span, span))
    axes.set(xlabel=f"mean of true and predicted {_with_unit(name, unit)}", ylabel=f"predicted - true ({unit})")
    shades = "; darker: more records" if len(true) >= DENSE else ""
    axes.set_title(f"{target_name(name).capitalize()} of {len(true):,} records; bands: 95 % intervals{shades}")
    return figure


def probe_comparison(table: pd.DataFrame, *, metrics: Sequence[str] = ("r2", "auc")) -> Figure:
    """Draw what the probes reach, beside their controls, with intervals.

    Parameters
    ----------
    table : DataFrame
        As `ecgkit.feature_space.probe_table` gives it: index ``target`` and ``encoder``, and for each metric its column
        and ``METRIC_low`` and ``METRIC_high``.
    metrics : sequence of str, default ("r2", "auc")
        Which of ``r2``, ``auc``, ``accuracy`` and ``f1`` to draw.

    Returns
    -------
    Figure
        One panel a target and metric that it has, one line a probe or control. A grey line marks what saying the same
        of everybody reaches, 0 of R2 and 0.5 of AUC, or the accuracy and F1 of the baseline. A line below names the
        ECG measures that a target was not held against since they tell it, if the table has the column ``left_out``.
    """
    targets = list(dict.fromkeys(table.index.get_level_values("target")))
    panels = [(target, metric) for target in targets for metric in metrics if table.loc[target][metric].notna().any()]
    drawn = [name for name in SOURCES if name in table.index.get_level_values("encoder")]
    columns = min(3, max(len(panels), 1))
    rows = max(-(-len(panels) // columns), 1)
    figure = new_figure(WIDTH, 0.4 + rows * (0.85 + 0.24 * len(drawn)))
    for i, (target, metric) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        _draw_sources(axes, table.loc[target], drawn, metric)
        axes.set_title(f"{target_name(target)}: {metric_title(metric)}", fontsize=10.5)
        axes.set_yticks(np.arange(len(drawn)), [SOURCES[name][0] for name in drawn] if i % columns == 0 else [])
    if notes := _left_out(table):
        figure.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=9)
    return figure


def _left_out(table: pd.DataFrame) -> list[str]:
    """Say which ECG measures stand beside which target no more."""
    if "left_out" not in table:
        return []
    names = table.loc[table["left_out"] != "", "left_out"].groupby(level="target").first()
    return [f"{target_name(str(target)).capitalize()}: ECG measures without {words}" for target, words in names.items()]


def _draw_sources(axes: Axes, table: pd.DataFrame, drawn: Sequence[str], metric: str) -> None:
    """Draw one target's values of one metric, from above to below."""
    numbers = table.reindex(list(drawn))[[metric, f"{metric}_low", f"{metric}_high"]].to_numpy(dtype=np.float64)
    base = CHANCE.get(metric, numbers[list(drawn).index("baseline"), 0] if "baseline" in drawn else np.nan)
    for y, (name, (value, low, high)) in enumerate(zip(drawn, numbers.tolist(), strict=True)):
        if not np.isfinite(value):
            continue
        color = SOURCES[name][1]
        if np.isfinite([low, high]).all():
            axes.plot([low, high], [y, y], color=color, linewidth=2.2, solid_capstyle="butt")
        axes.plot([value], [y], color=color, marker="o", markersize=5, linestyle="")
        axes.annotate(
            f"{round(value, 2) + 0.0:.2f}", (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=9
        )
    if np.isfinite(base):
        axes.axvline(base, color=GREY, linewidth=1, zorder=0.5)
    least = float(np.nanmin(numbers))
    axes.set(xlim=(min(0.4 if metric == "auc" else 0.0, least) - 0.03, 1.02), ylim=(len(drawn) - 0.5, -0.5))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
