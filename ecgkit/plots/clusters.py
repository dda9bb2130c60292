"""Clusters of embeddings: how many, what they hold, what they follow, and a card for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.plots.ecg import LAYOUT
from ecgkit.plots.style import COLORS, GREY, LIGHT_GREY, WIDTH, new_figure
from ecgkit.signals.beats import MeanBeats
from ecgkit.signals.ecg import LEADS

MEASURES = {"ami": "adjusted mutual information", "ari": "adjusted Rand index"}
"""What `cluster_agreement` can draw."""

MARKERS = ("o", "s", "D", "^", "v")
"""The markers of the methods."""

MAX_ROWS = 20
"""So many clusters, classes or partitions of a group a figure shows; of more, the largest."""

CARD_CLASSES = 12
"""So many classes a card shows; of more, the commonest in the cluster."""


class Card(Protocol):
    """What a card says of a cluster, as `ecgkit.feature_space.clusters.ClusterCard` holds it."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def records(self) -> int: ...  # noqa: D102
    @property
    def share(self) -> float: ...  # noqa: D102
    @property
    def patients(self) -> int: ...  # noqa: D102
    @property
    def classes(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def devices(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def age(self) -> tuple[float, float, float]: ...  # noqa: D102
    @property
    def female(self) -> float: ...  # noqa: D102
    @property
    def height(self) -> tuple[float, int]: ...  # noqa: D102
    @property
    def weight(self) -> tuple[float, int]: ...  # noqa: D102
    @property
    def remarked(self) -> float: ...  # noqa: D102
    @property
    def overall(self) -> dict[str, float]: ...  # noqa: D102
    @property
    def nearest(self) -> pd.DataFrame: ...  # noqa: D102


def cluster_heatmap(composition: pd.DataFrame) -> Figure:
    """Draw which classes each cluster holds, beside the prevalence in all records.

    Parameters
    ----------
    composition : DataFrame
        As `ecgkit.feature_space.clusters.cluster_composition` gives it: one row a cluster and a last one for all, the
        column ``records``, then one a class with the number of records that carry it.

    Returns
    -------
    Figure
        Of the records of each cluster the share that carries each class; a record with several classes counts for
        each, so a row may sum to more than 100 %. Of more than 20 clusters the largest are drawn, of more than 20
        classes the commonest.
    """
    composition, title = _largest(composition)
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
    names = [name if isinstance(name, str) else f"cluster {name}" for name in composition.index[:-1]]
    names.append("all records")
    axes.set_yticks(np.arange(n_rows), [f"{name}, n = {int(n):,}" for name, n in zip(names, records, strict=True)])
    axes.set_xticks(np.arange(n_classes), list(counts.columns), rotation=0 if annotated else 90)
    axes.set(xlabel="class", title=title)
    axes.spines[:].set_visible(False)
    return figure


def _largest(composition: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Keep the largest clusters and the commonest classes, in their order, and say what was left out."""
    everything = composition.iloc[-1].drop("records").to_numpy(dtype=np.int64)
    rows = _of_largest(composition["records"].to_numpy(dtype=np.int64)[:-1])
    classes = _of_largest(everything)
    left_out = [
        f"the {len(kept)} {word} of {number} {name}"
        for kept, word, number, name in (
            (rows, "largest", len(composition) - 1, "clusters"),
            (classes, "commonest", len(everything), "classes"),
        )
        if len(kept) < number
    ]
    shown = composition.iloc[[*rows, -1], [0, *(1 + classes)]]
    return shown, ", ".join(left_out).capitalize()


def _of_largest(sizes: NDArray[Any], limit: int = MAX_ROWS) -> NDArray[np.int64]:
    """Give the places of the largest, in their order."""
    return np.sort(np.argsort(-sizes, kind="stable")[:limit])


def k_selection(table: pd.DataFrame, *, chosen: int | None = None) -> Figure:
    """Draw inertia, silhouette and stability against the number of clusters.

    Parameters
    ----------
    table : DataFrame
        As `ecgkit.feature_space.clusters.k_selection` gives it.
    chosen : int, optional
        The number of clusters that was taken; a vertical line.

    Returns
    -------
    Figure
        The bands of the third panel reach from the 2.5th to the 97.5th percentile of the pairs of solutions. Grey is
        the normal distribution with the same covariance, which has no clusters.
    """
    figure = new_figure(WIDTH, 3.9)
    inertia, silhouette, stability = figure.subplots(1, 3)
    inertia.plot(table["k"], table["inertia"], marker="o", markersize=4, color=COLORS[0])
    inertia.set(title="Inertia: falls with every cluster", ylabel="inertia (standard deviations²)")
    inertia.set_ylim(0, 1.08 * table["inertia"].max())
    inertia.yaxis.set_major_formatter("{x:,.0f}")
    silhouette.plot(table["k"], table["silhouette"], marker="o", markersize=4, color=COLORS[0])
    silhouette.set(title="Silhouette: 1 apart, 0 overlapping", ylabel="silhouette")
    silhouette.set_ylim(min(0.0, 1.1 * table["silhouette"].min()), max(0.25, 1.15 * table["silhouette"].max()))
    for color, (name, label) in zip(COLORS, STABILITIES.items(), strict=False):
        stability.plot(table["k"], table[name], marker="o", markersize=4, color=color, label=label)
        stability.fill_between(table["k"], table[f"{name}_low"], table[f"{name}_high"], color=color, alpha=0.2, lw=0)
    dashed = {"color": GREY, "linestyle": "--", "marker": "o", "markersize": 3}
    silhouette.plot(table["k"], table["silhouette_reference"], **dashed)
    stability.plot(table["k"], table["stability_reference"], **dashed, label="normal distribution, no clusters")
    stability.set(title="Stability: 1 the same again", ylabel="adjusted Rand index of pairs")
    lowest = float(np.nan_to_num(table[[f"{name}_low" for name in STABILITIES]].to_numpy(dtype=np.float64)).min())
    stability.set_ylim(min(0.0, 1.1 * lowest), 1.05)
    figure.legend(*stability.get_legend_handles_labels(), loc="outside lower right", ncols=3)
    for axes in (inertia, silhouette, stability):
        axes.set_xlabel("number of clusters k")
        axes.set_xticks(table["k"])
        axes.grid(visible=True, axis="y")
        if chosen is not None:
            axes.axvline(chosen, color="black", linestyle=":", linewidth=1, zorder=0.5)
    if chosen is not None:
        inertia.annotate(
            f"k = {chosen}", (chosen, 0.03), (4, 0), xycoords=("data", "axes fraction"), textcoords="offset points"
        )
    return figure


STABILITIES = {"stability_seeds": "other seeds", "stability_bootstraps": "other patients (bootstrap)"}
"""The two lines of the third panel of `k_selection`."""


def cluster_agreement(table: pd.DataFrame, *, measure: str = "ami") -> Figure:
    """Draw how far clusters agree with everything that is known of the records, beside what chance gives.

    Parameters
    ----------
    table : DataFrame
        As `ecgkit.feature_space.clusters.agreement_table` gives it.
    measure : str, default "ami"
        ``"ami"`` or ``"ari"``.

    Returns
    -------
    Figure
        One row a partition, one marker a method, hollow where the p value, adjusted for the number of partitions, is
        above 0.05. The grey bar reaches from the mean to the 97.5th percentile of the permutations, the highest of the
        methods. Partitions of one kind are left out, and of more than 20 in a group those that agree the least.

    Raises
    ------
    EcgkitError
        If the measure is unknown, or nothing can be drawn.
    """
    check_choice("measure", measure, MEASURES)
    table = table.dropna(subset=[measure])
    if table.empty:
        raise EcgkitError("no partition with two kinds in the table: give more records")
    methods = list(dict.fromkeys(table.index.get_level_values("method")))
    rows, left_out = _grouped_rows(table[measure].groupby(level=["group", "partition"], sort=False).mean())
    figure = new_figure(WIDTH, 1.3 + 0.27 * len(rows))
    axes = figure.add_subplot()
    for y, (group, name) in enumerate(rows):
        here = table[(table.index.get_level_values("group") == group) & _is(table, "partition", name)]
        if name is not None:
            _draw_agreement(axes, y, here, methods=methods, measure=measure)
    labels = [_row_label(table, group, name) + left_out.get(group, "") * (name is None) for group, name in rows]
    _name_rows(axes, labels, [name is None for _, name in rows])
    axes.axvline(0, color="black", linewidth=0.8, zorder=0.5)
    axes.set(xlabel=f"{MEASURES[measure]} (0: chance, 1: the same partition)")
    handles: list[Any] = [
        Line2D([], [], linestyle="", marker=MARKERS[i % len(MARKERS)], color=COLORS[i % len(COLORS)], label=method)
        for i, method in enumerate(methods)
    ]
    handles.append(
        Line2D([], [], linestyle="", marker="o", color="black", markerfacecolor="white", label="adjusted p > 0.05")
    )
    handles.append(Patch(color=GREY, label="chance: mean to 97.5th percentile"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _is(table: pd.DataFrame, level: str, name: str | None) -> NDArray[np.bool_]:
    """Mark the rows of one name."""
    return np.asarray(table.index.get_level_values(level) == name)


def _grouped_rows(agreement: pd.Series) -> tuple[list[tuple[str, str | None]], dict[str, str]]:
    """Lay out a heading, without a partition, for each group, and its partitions; and say which groups were cut."""
    groups: dict[str, list[str]] = {}
    for group, name in agreement.index:
        groups.setdefault(group, []).append(name)
    rows: list[tuple[str, str | None]] = []
    left_out = {}
    for group, names in groups.items():
        kept = _of_largest(agreement[group][names].to_numpy(dtype=np.float64))
        rows += [(group, None), *((group, names[i]) for i in kept.tolist())]
        if len(kept) < len(names):
            left_out[group] = f" (the {len(kept)} highest of {len(names)})"
    return rows, left_out


def _row_label(table: pd.DataFrame, group: str, name: str | None) -> str:
    """Name a row, with the number of records where it is a partition."""
    if name is None:
        return group
    here = table[_is(table, "group", group) & _is(table, "partition", name)]
    return f"{name}, n = {int(here['records'].iloc[0]):,}"


def _name_rows(axes: Axes, names: Sequence[str], bold: Sequence[bool]) -> None:
    """Give each row its name, the headings in bold, and put the first at the top."""
    axes.set_yticks(range(len(names)), names)
    for tick, heading in zip(axes.get_yticklabels(), bold, strict=True):
        tick.set_fontweight("bold" if heading else "normal")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=True, axis="x")


def _draw_agreement(axes: Axes, y: float, here: pd.DataFrame, *, methods: Sequence[str], measure: str) -> None:
    """Draw one row: chance as a bar, a marker a method."""
    low, high = here[f"{measure}_permuted"].min(), here[f"{measure}_high"].max()
    if np.isfinite(high):
        axes.barh(y, high - low, left=low, height=0.7, color=GREY, zorder=1)
    of_row = here.index.get_level_values("method")
    for method, (_, row) in zip(of_row, here.iterrows(), strict=True):
        i = methods.index(method)
        color = COLORS[i % len(COLORS)]
        face = "white" if row[f"{measure}_p_adjusted"] > 0.05 else color
        shift = 0.7 * ((i + 0.5) / len(methods) - 0.5)
        axes.plot(
            row[measure],
            y + shift,
            marker=MARKERS[i % len(MARKERS)],
            markersize=5,
            color=color,
            markerfacecolor=face,
            zorder=2,
        )


def cluster_confounding(table: pd.DataFrame, *, diagnoses: Sequence[str] | None = None) -> Figure:
    """Draw what clusters tell of the diagnosis and of other factors, alone and with the other known.

    Parameters
    ----------
    table : DataFrame
        As `ecgkit.feature_space.clusters.confounding_table` gives it.
    diagnoses : sequence of str, optional
        Those to draw; all of the table without it.

    Returns
    -------
    Figure
        One row a factor under each diagnosis, in bits beyond chance, so that the two can be compared; blue is the
        diagnosis and orange the factor, circles alone, squares with the other known, hollow where the adjusted p value
        is above 0.05. What the table's note says stands above.

    Raises
    ------
    EcgkitError
        If a diagnosis is not in the table.
    """
    known = list(dict.fromkeys(table.index.get_level_values("diagnosis")))
    chosen = [check_choice("diagnosis", name, known) for name in (known if diagnoses is None else diagnoses)]
    rows: list[tuple[str, str | None]] = []
    for name in chosen:
        factors = dict.fromkeys(table[_is(table, "diagnosis", name)].index.get_level_values("factor"))
        rows += [(name, None), *((name, factor) for factor in factors)]
    figure = new_figure(WIDTH, 1.5 + 0.27 * len(rows))
    axes = figure.add_subplot()
    names = []
    for y, (diagnosis, factor) in enumerate(rows):
        if factor is None:
            names.append(diagnosis)
            continue
        here = table[_is(table, "diagnosis", diagnosis) & _is(table, "factor", factor)]
        names.append(f"{factor}, n = {int(here['records'].iloc[0]):,}")
        _draw_confounding(axes, y, here.droplevel(("diagnosis", "factor")))
    _name_rows(axes, names, [factor is None for _, factor in rows])
    axes.axvline(0, color="black", linewidth=0.8, zorder=0.5)
    axes.set(xlabel="told by the cluster (bits, beyond chance)", title=table.attrs.get("note", "").capitalize())
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=color, markerfacecolor=face, label=label)
        for marker, color, face, label in (
            ("o", COLORS[0], COLORS[0], "of the diagnosis"),
            ("s", COLORS[0], COLORS[0], "of the diagnosis, factor known"),
            ("o", COLORS[1], COLORS[1], "of the factor"),
            ("s", COLORS[1], COLORS[1], "of the factor, diagnosis known"),
            ("o", "black", "white", "adjusted p > 0.05"),
        )
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _draw_confounding(axes: Axes, y: float, here: pd.DataFrame) -> None:
    """Draw one row: two pairs of markers."""
    for color, shift, question in ((COLORS[0], -0.15, "diagnosis"), (COLORS[1], 0.15, "factor")):
        given = "factor" if question == "diagnosis" else "diagnosis"
        pair = here.loc[[question, f"{question} given {given}"]]
        axes.plot(pair["beyond"], (y + shift, y + shift), color=color, linewidth=1.2, zorder=1)
        for marker, value, p in zip("os", pair["beyond"], pair["p_adjusted"], strict=True):
            face = color if p <= 0.05 else "white"
            axes.plot(value, y + shift, marker, color=color, markerfacecolor=face, markersize=5, zorder=2)


def cluster_card(
    card: Card,
    *,
    beats: MeanBeats | None = None,
    strips: Sequence[NDArray[np.floating]] = (),
    sampling_rate: float | None = None,
) -> Figure:
    """Draw what is known of one cluster on a card.

    Parameters
    ----------
    card : ClusterCard
        As `ecgkit.feature_space.clusters.cluster_cards` gives it.
    beats : MeanBeats, optional
        The mean beats of all clusters, as `ecgkit.feature_space.beats.group_beats` makes them of
        `ecgkit.feature_space.clusters.cluster_positions`.
    strips : sequence of ndarray, each of shape (12, samples), default none
        The signals of ``card.nearest`` in millivolts, in the same order; lead II is drawn.
    sampling_rate : float, optional
        Hz, of the strips.

    Returns
    -------
    Figure
        Facts and classes at the left, the mean beat in 12 leads at the right, the records nearest the centre below;
        where beats or strips are missing, so is their part. The strips share one scale, and the leads of the beat one.

    Raises
    ------
    EcgkitError
        If the cluster has no mean beat, there is not one strip for each of ``card.nearest``, or the sampling rate is
        missing or not positive.
    """
    if len(strips) and (len(strips) != len(card.nearest) or not (sampling_rate or 0) > 0):
        raise EcgkitError(
            f"{len(strips)} strips at {sampling_rate} Hz for {len(card.nearest)} records: give one for each, and their "
            "sampling rate"
        )
    classes = card.classes.iloc[_of_largest(card.classes["records"].to_numpy(dtype=np.int64), CARD_CLASSES)]
    upper = max(4.4, 2.9 + 0.3 * len(classes))
    lower = 0.4 + 1.05 * len(strips)
    figure = new_figure(WIDTH, upper + (lower if len(strips) else 0.0))
    parts: Any = figure.subfigures(2, 1, height_ratios=(upper, lower)) if len(strips) else [figure.subfigures(1, 1)]
    if beats is None:
        _draw_facts(parts[0], card, classes)
    else:
        left, right = parts[0].subfigures(1, 2, width_ratios=(1.0, 1.65))
        _draw_facts(left, card, classes)
        _draw_beat(right, beats, beats.groups.index(check_choice("group", card.name, beats.groups)))
    if len(strips) and sampling_rate:
        _draw_strips(parts[1], card.nearest, strips, sampling_rate)
    return figure


def _draw_facts(figure: SubFigure, card: Card, classes: pd.DataFrame) -> None:
    """Write the facts, and draw the classes below them."""
    text, bars = figure.subplots(2, 1, height_ratios=(1.9, 0.5 + 0.3 * len(classes)))
    text.set_axis_off()
    text.set_title(card.name.capitalize(), fontsize=13, fontweight="bold")
    text.text(0.0, 1.0, "\n".join(_facts(card)), transform=text.transAxes, va="top", fontsize=9, linespacing=1.35)
    y = np.arange(len(classes))
    bars.barh(y, 100 * classes["share"], color=COLORS[0], height=0.55, label="this cluster (lift)")
    bars.plot(100 * classes["overall"], y, "|", color="black", markersize=13, markeredgewidth=2, label="all records")
    for i, (share, lift) in enumerate(zip(classes["share"], classes["lift"], strict=True)):
        edge = 100 * max(share, classes["overall"].iloc[i])
        words = f"{share:.0%}" + (f" ({lift:.1f})" if np.isfinite(lift) else "")
        bars.annotate(words, (edge, i), (6, 0), textcoords="offset points", va="center", fontsize=8.5)
    bars.set_yticks(y, [str(name) for name in classes.index])
    cut = f", the {len(classes)} commonest of {len(card.classes)}" if len(classes) < len(card.classes) else ""
    bars.set(xlabel=f"records with the class (%){cut}", xlim=(0, 128), xticks=(0, 25, 50, 75, 100))
    bars.set_ylim(len(y) - 0.5, -0.5)
    bars.spines["bottom"].set_bounds(0, 100)
    figure.legend(*bars.get_legend_handles_labels(), loc="outside lower left", ncols=2, fontsize=8.5)


def _facts(card: Card) -> list[str]:
    """Put the facts of a card into lines; what is unknown for all is not told."""
    overall = card.overall
    lines = [f"{card.records:,} records ({card.share:.0%}) of {card.patients:,} patients"]
    if np.isfinite(card.age[0]):
        lines.append(
            f"age {card.age[0]:.0f} years (quartiles {card.age[1]:.0f} to {card.age[2]:.0f}; all {overall['age']:.0f})"
        )
    if np.isfinite(card.female):
        lines.append(f"female {card.female:.0%} (all {overall['female']:.0%})")
    for name, unit, (median, known) in (("height", "cm", card.height), ("weight", "kg", card.weight)):
        if known:
            lines.append(f"{name} {median:.0f} {unit} (known of {known:,}; all {overall[name]:.0f})")
    lines += [f"device {name}: {row['share']:.0%} (all {row['overall']:.0%})" for name, row in card.devices.iterrows()]
    if np.isfinite(card.remarked):
        lines.append(f"remark on quality {card.remarked:.0%} (all {overall['remarked']:.0%})")
    return lines


def _draw_beat(figure: SubFigure, beats: MeanBeats, group: int) -> None:
    """Draw the mean beat with its spread in 12 leads, all to one scale."""
    axes_of = figure.subplots(len(LAYOUT), len(LAYOUT[0]), sharex=True, sharey=True)
    for row, leads in enumerate(LAYOUT):
        for column, lead in enumerate(leads):
            axes, i = axes_of[row, column], LEADS.index(lead)
            axes.axhline(0, color=LIGHT_GREY, linewidth=0.8, zorder=0.5)
            axes.fill_between(
                beats.times, beats.low[group, i], beats.high[group, i], color=COLORS[0], alpha=0.25, linewidth=0
            )
            axes.plot(beats.times, beats.mean[group, i], color=COLORS[0], linewidth=1.2)
            axes.set_title(lead, fontsize=9, fontweight="bold", pad=2)
            axes.margins(x=0)
            axes.tick_params(labelsize=8)
    title = f"Mean beat of {beats.n_records[group]:,} records; band: 10 to 90 % of them"
    figure.suptitle(title, x=0.02, ha="left", fontsize=10)
    figure.supxlabel("time after the R peak (ms)", fontsize=9)
    figure.supylabel("amplitude (mV)", fontsize=9)


def _draw_strips(
    figure: SubFigure, nearest: pd.DataFrame, strips: Sequence[NDArray[np.floating]], sampling_rate: float
) -> None:
    """Draw lead II of the records nearest the centre, all to one scale."""
    axes_of = np.atleast_1d(figure.subplots(len(strips), 1, sharex=True, sharey=True))
    lead = LEADS.index("II")
    for axes, signal, (_, row) in zip(axes_of, strips, nearest.iterrows(), strict=True):
        axes.plot(np.arange(signal.shape[1]) / sampling_rate, signal[lead], color="black", linewidth=0.8)
        axes.set_title(
            f"lead II of record {int(row['record_id'])}, fold {int(row['fold'])}, "
            f"{row['distance']:.1f} standard deviations from the centre",
            fontsize=9,
            pad=2,
        )
        axes.margins(x=0)
        axes.grid(visible=True)
        axes.tick_params(labelsize=8)
    axes_of[-1].set_xlabel("time (s)", fontsize=9)
    figure.supylabel("amplitude (mV)", fontsize=9)
