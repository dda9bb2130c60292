"""The contents of a dataset: classes and their co-occurrence, patients, and folds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ecgkit.plots.style import (
    COLORS,
    GREY,
    SEX_COLORS,
    count_ticks,
    heat_map,
    histograms,
    legend_above,
    new_axes,
    new_figure,
    percentage,
    row_figure,
)
from ecgkit.stats.validation import known_true

ANNOTATED_CLASSES = 12
"""The largest number of classes with percentages and counts in the cells; up to twice as many have percentages."""


def class_counts(labels: pd.DataFrame) -> Figure:
    """Draw how many records carry each class.

    Parameters
    ----------
    labels : DataFrame of bool
        One row per record, one column per class; missing where unknown.

    Returns
    -------
    Figure
        One bar per class in the order of the columns, with its percentage of the records for which it is known; the
        percentages may sum to more than 100.
    """
    counts, n_known = labels.sum(axis=0).to_numpy(dtype=np.int64), labels.notna().sum(axis=0).to_numpy()
    n_records = len(labels)
    height = max(0.22, 0.4 - 0.004 * len(counts))
    figure, axes = row_figure(list(labels.columns), label="records", room=1.2, row=height)
    positions = np.arange(len(counts))
    axes.barh(positions, counts, color=COLORS[0], height=0.7)
    for position, count, known in zip(positions, counts, n_known, strict=True):
        text = f"{count:,}  ({percentage(count / max(known, 1))})"
        axes.annotate(text, (count, position), (4, 0), textcoords="offset points", va="center")
    axes.set_xlim(0, max(counts.max(initial=1), 1) * 1.16)
    count_ticks(axes.xaxis)
    each = counts.sum() / max(n_records, 1)
    of_known = "; percentages of the records for which a class is known" * bool((n_known < n_records).any())
    axes.set_title(f"{n_records:,} records, {each:.2f} classes per record{of_known}")
    return figure


def cooccurrence(labels: pd.DataFrame) -> Figure:
    """Draw the co-occurrence of classes: the share of the records with the row's class that also carry the column's.

    Parameters
    ----------
    labels : DataFrame of bool
        One row per record, one column per class; a pair is counted where both labels are known.

    Returns
    -------
    Figure
        Percentages, and the number of records with both; a class without records has a blank row.
    """
    truth, known = known_true(labels).astype(np.int64), labels.notna().to_numpy()
    both, own = truth.T @ truth, truth.T @ known
    share = np.divide(both, own, out=np.full(both.shape, np.nan), where=own > 0)
    number = len(both)
    size = float(np.clip(1.2 + 0.75 * number, 4.5, 8.8))
    figure, axes = new_axes(size + 1.6, size)
    has_counts = number <= ANNOTATED_CLASSES

    def write(row: int, column: int) -> str:
        value = share[row, column]
        return f"{value:.0%}\n{both[row, column]:,}" if has_counts else f"{100 * value:.0f}"

    is_annotated = number <= 2 * ANNOTATED_CLASSES
    names = list(labels.columns)
    font = 9 if has_counts else 7
    image = heat_map(axes, 100 * share, names, names, write if is_annotated else None, font=font)
    figure.colorbar(image, ax=axes, shrink=0.8, fraction=0.04, pad=0.02, label="of the records of the row (%)")
    axes.tick_params(labelsize=10 if number <= 24 else 6.5)
    axes.set(xlabel="... also carry", ylabel="records with ...")
    return figure


def metadata_by_sex(records: pd.DataFrame) -> Figure:
    """Draw the distributions of age, height and weight of women and men.

    Parameters
    ----------
    records : DataFrame
        Columns ``sex``, ``age`` (years), ``height`` (cm) and ``weight`` (kg); missing values are unknown.

    Returns
    -------
    Figure
        Three histograms. Above each: the number of records with an unknown value or sex, and of extreme values beyond
        the axis.
    """
    figure = new_figure(height=3.8)
    panels = figure.subplots(1, 3)
    for axes, name, unit in zip(panels, ("age", "height", "weight"), ("years", "cm", "kg"), strict=True):
        values = pd.to_numeric(records[name]).astype(float)
        known = values.notna() & records["sex"].notna()
        notes = [f"{int((~known).sum()):,} of {len(records):,} unknown"]
        if known.any():
            beyond = _draw_by_sex(axes, values[known], records.loc[known, "sex"], cut=0.0 if name == "age" else 0.001)
            notes += [f"{beyond:,} beyond the axis"] if beyond else []
        else:
            axes.set(xticks=[], yticks=[])  # an axis from 0 to 1 would be read as one of values
        if name == "age" and records.get("age_over_89", pd.Series(dtype=bool)).any():
            notes.append("over 89 drawn at 90")
        axes.set_title("\n".join([name.capitalize(), *notes]), fontsize=10)
        axes.set(xlabel=f"{name} ({unit})", ylabel="records")
        if known.any():
            count_ticks(axes.yaxis)
        axes.grid(visible=True, axis="y")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    return figure


def _draw_by_sex(axes: Axes, values: pd.Series, sex: pd.Series, *, cut: float) -> int:
    """Draw two histograms over the range without a share ``cut`` at either end; return the number of values beyond."""
    step = 5.0
    low, high = values.quantile(cut), values.quantile(1 - cut)
    edges = np.arange(np.floor(low / step), np.floor(high / step) + 2) * step
    groups = {name: (values[(sex == name).to_numpy(dtype=bool)], color) for name, color in SEX_COLORS.items()}
    histograms(axes, groups, edges)
    return int(((values < edges[0]) | (values > edges[-1])).sum())


def fold_sizes(records: pd.DataFrame) -> Figure:
    """Draw the number of records of each fold, and its split: folds 1-8 train, 9 validates, 10 tests.

    Parameters
    ----------
    records : DataFrame
        Columns ``fold`` and ``patient_id``.

    Returns
    -------
    Figure
        Above each bar the number of records and, in parentheses, of patients.
    """
    figure, axes = new_axes(height=3.0)
    by_fold = records.groupby("fold")["patient_id"].agg(["size", "nunique"])
    splits = {"training": (1, 8, GREY), "validation": (9, 9, COLORS[4]), "test": (10, 10, COLORS[0])}
    for split, (first, last, color) in splits.items():
        rows = by_fold.loc[first:last]
        axes.bar(rows.index, rows["size"], color=color, width=0.7, label=f"{split} ({rows['size'].sum():,})")
    for fold, row in by_fold.iterrows():
        text = f"{row['size']:,}\n({row['nunique']:,})"
        axes.annotate(text, (fold, row["size"]), ha="center", va="bottom", fontsize=9)
    axes.set(xlabel="fold", ylabel="records", title="Records (and patients) of each fold", xticks=by_fold.index)
    axes.set_ylim(0, max(by_fold["size"].max(), 1) * 1.25)
    count_ticks(axes.yaxis)
    legend_above(axes)
    return figure
