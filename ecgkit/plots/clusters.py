"""Clusters of embeddings: how many, their classes, and what they agree with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.plots.style import COLORS, GREY, LIGHT_GREY, dot, heat_map, new_axes, new_figure, row_figure

MARKERS = ("o", "s", "D", "^", "v")
"""The markers of the methods."""

MAX_ROWS = 20
"""Largest number of clusters, classes or partitions of a group in a figure; of more, the largest are drawn."""

SIGNIFICANT = 0.05


def cluster_heatmap(composition: pd.DataFrame) -> Figure:
    """Draw the share of each class in each cluster, compared with that in all records.

    Parameters
    ----------
    composition : DataFrame
        As from `ecgkit.feature_space.clusters.cluster_composition`.

    Returns
    -------
    Figure
        A record with several classes counts for each, so that a row may sum to more than 100 %. Of more than 20
        clusters the largest are drawn, of more than 20 classes the most frequent.
    """
    composition, title = _largest(composition)
    records = composition["records"].to_numpy(dtype=np.float64)
    counts = composition.drop(columns="records")
    numbers = counts.to_numpy(dtype=np.int64)
    share = np.divide(numbers, records[:, None], out=np.full(counts.shape, np.nan), where=records[:, None] > 0)
    n_rows, n_classes = share.shape
    annotated = n_classes <= 12
    figure, axes = new_axes(height=1.3 + (0.5 if annotated else 0.3) * n_rows + (0.0 if annotated else 0.5))

    def write(row: int, column: int) -> str:
        return f"{share[row, column]:.0%}  ({numbers[row, column]:,})"

    names = [*composition.index[:-1], "all records"]
    named = [f"{name}, n = {int(n):,}" for name, n in zip(names, records, strict=True)]
    written = write if annotated else None
    image = heat_map(axes, 100 * share, list(counts.columns), named, written, aspect="auto")
    figure.colorbar(image, ax=axes, label="of the cluster's records (%)")
    axes.axhline(n_rows - 1.5, color="black", linewidth=1.5)
    axes.set(xlabel="class", title=title)
    return figure


def _largest(composition: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Keep the largest clusters and the most frequent classes, in their order; return what was left out."""
    everything = composition.iloc[-1].drop("records").to_numpy(dtype=np.int64)
    rows = _of_largest(composition["records"].to_numpy(dtype=np.int64)[:-1])
    classes = _of_largest(everything)
    left_out = [
        f"the {len(kept)} {word} of {number} {name}"
        for kept, word, number, name in (
            (rows, "largest", len(composition) - 1, "clusters"),
            (classes, "most frequent", len(everything), "classes"),
        )
        if len(kept) < number
    ]
    shown = composition.iloc[[*rows, -1], [0, *(1 + classes)]]
    return shown, ", ".join(left_out).capitalize()


def _of_largest(sizes: NDArray[Any]) -> NDArray[np.int64]:
    """Return the positions of the largest, in their order."""
    return np.sort(np.argsort(-sizes, kind="stable")[:MAX_ROWS])


def k_selection(table: pd.DataFrame, *, chosen: int | None = None) -> Figure:
    """Draw inertia, silhouette and stability against the number of clusters.

    Parameters
    ----------
    table : DataFrame
        As from `ecgkit.feature_space.clusters.k_selection`.
    chosen : int, optional
        The chosen number of clusters, drawn as a vertical line.

    Returns
    -------
    Figure
        The band of the third panel is from the 2.5th to the 97.5th percentile of the pairs of solutions. Grey is the
        normal distribution with the same covariance, which has no clusters.
    """
    figure = new_figure(height=3.9)
    inertia, silhouette, stability = figure.subplots(1, 3)
    own: dict[str, Any] = {"color": COLORS[0], "marker": "o", "markersize": 4}
    dashed: dict[str, Any] = {"color": GREY, "linestyle": "--", "marker": "o", "markersize": 3}
    k = table["k"]
    inertia.plot(k, table["inertia"], **own)
    inertia.set(title="Inertia: falls with every cluster", ylabel="inertia (standard deviations²)")
    inertia.set_ylim(0, 1.08 * table["inertia"].max())
    inertia.yaxis.set_major_formatter("{x:,.0f}")
    silhouette.plot(k, table["silhouette"], **own)
    silhouette.plot(k, table["silhouette_reference"], **dashed)
    silhouette.set(title="Silhouette: 1 separated, 0 overlapping", ylabel="silhouette")
    silhouette.set_ylim(min(0.0, 1.1 * table["silhouette"].min()), max(0.25, 1.15 * table["silhouette"].max()))
    stability.plot(k, table["stability"], **own, label="bootstraps of the patients")
    stability.fill_between(k, table["stability_low"], table["stability_high"], color=COLORS[0], alpha=0.2, lw=0)
    stability.plot(k, table["stability_reference"], **dashed, label="normal distribution, no clusters")
    stability.set(title="Stability: 1 the same clusters", ylabel="adjusted Rand index of pairs")
    lowest = float(np.nan_to_num(table["stability_low"].to_numpy(dtype=np.float64)).min())
    stability.set_ylim(min(0.0, 1.1 * lowest), 1.05)
    figure.legend(*stability.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    for axes in (inertia, silhouette, stability):
        axes.set_xlabel("number of clusters k")
        axes.set_xticks(k)
        axes.grid(visible=True, axis="y")
        if chosen is not None:
            axes.axvline(chosen, color="black", linestyle=":", linewidth=1, zorder=0.5)
    return figure


def cluster_agreement(table: pd.DataFrame) -> Figure:
    """Draw the adjusted mutual information of clusters and partitions of the records, with that of chance.

    Parameters
    ----------
    table : DataFrame
        As from `ecgkit.feature_space.clusters.agreement_table`.

    Returns
    -------
    Figure
        One row per partition, one marker per method, hollow if the adjusted p value is above 0.05. The grey bar is from
        the mean to the 97.5th percentile of the permutations, the widest of the methods. Partitions of one kind are
        left out, and of more than 20 in a group those that agree the least.

    Raises
    ------
    EcgkitError
        If nothing can be drawn.
    """
    table = table.dropna(subset=["ami"])
    if table.empty:
        raise EcgkitError("no partition with two kinds in the table: pass more records")
    methods = list(dict.fromkeys(table.index.get_level_values("method")))
    by_row = table.groupby(level=["group", "partition"], sort=False)
    rows: list[tuple[str, pd.DataFrame | None]] = []
    for group, means in by_row["ami"].mean().groupby(level="group", sort=False):
        kept = means.index[_of_largest(means.to_numpy(dtype=np.float64))]
        cut = f" (the {len(kept)} highest of {len(means)})" if len(kept) < len(means) else ""
        rows.append((f"{group}{cut}", None))
        for key in kept:
            of_key = by_row.get_group(key)
            rows.append((f"{key[1]}, n = {int(of_key['records'].iloc[0]):,}", of_key))
    headings = [y for y, (_, of_row) in enumerate(rows) if of_row is None]
    x_label = "adjusted mutual information (0: chance, 1: the same partition)"
    figure, axes = row_figure([name for name, _ in rows], label=x_label, room=1.3, bold=headings)
    for y, (_, of_row) in enumerate(rows):
        if of_row is not None:
            _draw_agreement(axes, y, of_row, methods)
    looks = [(COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]) for i in range(len(methods))]
    handles = [dot(color, name, marker=marker) for name, (color, marker) in zip(methods, looks, strict=True)]
    chance = Patch(color=LIGHT_GREY, label="chance: mean to 97.5th percentile")
    _finish(figure, axes, [*handles, chance])
    return figure


def _finish(figure: Figure, axes: Axes, handles: list[Any]) -> None:
    """Draw the line at 0, and write the legend."""
    axes.axvline(0, color="black", linewidth=0.8, zorder=0.5)
    handles = [*handles, dot("black", "adjusted p > 0.05", face="white")]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))


def _draw_agreement(axes: Axes, y: float, here: pd.DataFrame, methods: Sequence[str]) -> None:
    """Draw one row: chance as a bar, one marker per method."""
    low, high = here["ami_permuted"].min(), here["ami_permuted_97.5"].max()
    if np.isfinite(high):
        axes.barh(y, high - low, left=low, height=0.7, color=LIGHT_GREY, zorder=1)
    for method, (_, row) in zip(here.index.get_level_values("method"), here.iterrows(), strict=True):
        i = methods.index(method)
        color, at = COLORS[i % len(COLORS)], y + 0.7 * ((i + 0.5) / len(methods) - 0.5)
        face = "white" if row["p_adjusted"] > SIGNIFICANT else color
        axes.plot(row["ami"], at, MARKERS[i % len(MARKERS)], markersize=5, color=color, markerfacecolor=face, zorder=2)


def cluster_information(table: pd.DataFrame) -> Figure:
    """Draw the information of clusters about the diagnosis and about other factors, alone and given the other.

    Parameters
    ----------
    table : DataFrame
        As from `ecgkit.feature_space.clusters.conditional_information_table`.

    Returns
    -------
    Figure
        One row per factor, in bits beyond chance: blue the diagnosis, orange the factor; circles alone, squares given
        the other; hollow if the adjusted p value is above 0.05.
    """
    factors = list(dict.fromkeys(table.index.get_level_values("factor")))
    names = [f"{factor}, n = {int(table.loc[factor]['records'].iloc[0]):,}" for factor in factors]
    x_label = "mutual information with the cluster (bits, beyond chance)"
    figure, axes = row_figure(names, label=x_label, room=1.6, row=0.4)
    for y, factor in enumerate(factors):
        here = table.loc[factor]
        for color, shift, sources in (
            (COLORS[0], -0.15, ("diagnosis", "diagnosis given factor")),
            (COLORS[1], 0.15, ("factor", "factor given diagnosis")),
        ):
            pair = here.loc[list(sources)]
            axes.plot(pair["beyond"], (y + shift, y + shift), color=color, linewidth=1.2, zorder=1)
            for marker, value, p in zip("os", pair["beyond"], pair["p_adjusted"], strict=True):
                face = color if p <= SIGNIFICANT else "white"
                axes.plot(value, y + shift, marker, color=color, markerfacecolor=face, markersize=5, zorder=2)
    handles = [
        dot(color, f"{name}{given}", marker=marker)
        for name, other, color in (("diagnosis", "factor", COLORS[0]), ("factor", "diagnosis", COLORS[1]))
        for marker, given in (("o", ""), ("s", f" given {other}"))
    ]
    _finish(figure, axes, handles)
    return figure
