"""The errors of a model by group of patients, by confidence, and by pair of classes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ecgkit.errors import check_choice
from ecgkit.plots.style import COLORS, GREY, LONGEST_NAME, WIDTH, heat_map, new_figure, row_figure, shortened
from ecgkit.stats.labels import metric_name

ANNOTATED_CLASSES = 12
"""The largest number of classes with heat maps side by side and a percentage in each cell."""


def subgroup_forest(report: Mapping[str, Any], *, of: str = "macro", metric: str = "auc") -> Figure:
    """Draw one metric in every group of patients or recordings, with intervals and the numbers behind them.

    Parameters
    ----------
    report : mapping
        The contents of ``subgroups.json``.
    of : str, default "macro"
        ``"macro"``, ``"micro"``, ``"samples"`` or a class.
    metric : str, default "auc"
        The metric.

    Returns
    -------
    Figure
        One row per group; the dashed line is the whole fold. Small groups are grey, and for a class also those with
        fewer than ten positives or negatives of it. A macro mean without some of the classes, which are named at the
        right, is hollow: it is not comparable with the line.

    Raises
    ------
    EcgkitError
        If there is no such class or metric.
    """
    whole = report["all"]["metrics"]
    check_choice("metric", metric, whole[check_choice("class", of, whole)])
    word = metric_name(metric)
    word = {"samples": word, "macro": f"macro {word}", "micro": f"micro {word}"}.get(of, f"{word} of {of}")
    rows = _forest_rows(report)
    headings = [y for y, (_, group) in enumerate(rows) if group is None]
    figure, axes = row_figure([name for name, _ in rows], label=word, bold=headings)
    for y, (_, group) in enumerate(rows):
        if group is not None:
            _draw_group(axes, y, group, of=of, metric=metric, whole=report["all"])
    value = whole[of][metric]["value"]
    if value is not None:
        axes.axvline(value, color="black", linewidth=0.9, linestyle="--", zorder=0.5)
    axes.set_title(f"{report['fold'].replace('_', ' ').capitalize()}: {word}, with 95 % intervals")
    for color, label in ((COLORS[0], "group"), (GREY, "small group")):
        axes.plot([], [], "o-", color=color, markersize=6, label=label)
    if any(line.get_markerfacecolor() == "white" for line in axes.lines):
        axes.plot([], [], "o-", color=COLORS[0], markerfacecolor="white", markersize=6, label="mean of fewer classes")
    axes.plot([], [], color="black", linewidth=0.9, linestyle="--", label="all records of the fold")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _forest_rows(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any] | None]]:
    """Return the rows: a heading without a group for each division, and its groups."""
    rows: list[tuple[str, Mapping[str, Any] | None]] = [("all records", report["all"])]
    for division in report["divisions"].values():
        unknown = f" ({division['unknown']:,} unknown)" if division["unknown"] else ""
        rows.append((f"{division['title']}{unknown}", None))
        rows += [(_group_name(name, group), group) for name, group in division["groups"].items()]
    return rows


def _group_name(name: str, group: Mapping[str, Any]) -> str:
    """Return the name of a group, with its number of devices."""
    return f"{name} ({group['n_devices']} devices)" if group.get("n_devices", 0) > 1 else name


def _draw_group(
    axes: Axes, y: float, group: Mapping[str, Any], *, of: str, metric: str, whole: Mapping[str, Any]
) -> None:
    """Draw the value and interval of one group, and write its numbers."""
    entry = group["metrics"][of][metric]
    n_positive = group["n_positive"].get(of)
    is_small = group["is_small"] or (n_positive is not None and of not in group["comparable_classes"])
    color = GREY if is_small else COLORS[0]
    count = (
        f"{group['n_patients']:,} patients"
        if n_positive is None
        else f"{n_positive:,} with {shortened(of, LONGEST_NAME)}"
    )
    note = f"{group['n_records']:,} records, {count}"
    if entry["value"] is None:
        note += "; not defined"
    else:
        if entry["low"] is not None:
            axes.plot([entry["low"], entry["high"]], [y, y], color=color, linewidth=1.6, gid="interval")
        missing = group["classes_without_auc"] if of == "macro" and metric == "auc" else ()
        is_partial = set(missing) > set(whole["classes_without_auc"])
        style: dict[str, Any] = dict(color=color, markersize=6, markerfacecolor="white" if is_partial else color)
        axes.plot(entry["value"], y, "o", **style, gid="small" if is_small else "group")
        if missing:
            listed = ", ".join(missing)
            is_short = len(missing) <= 3 and len(listed) <= LONGEST_NAME
            note += f"; without {listed if is_short else f'{len(missing)} of the classes'}"
    place: dict[str, Any] = dict(xycoords=("axes fraction", "data"), textcoords="offset points", va="center")
    axes.annotate(note, (1.0, y), (8, 0), fontsize=9, color="#5F5F5F" if is_small else "black", **place)


def risk_coverage(report: Mapping[str, Any]) -> Figure:
    """Draw the metrics of the most confident records over their share of all records.

    Parameters
    ----------
    report : mapping
        The contents of ``selective.json``.

    Returns
    -------
    Figure
        The share of wrong decisions and the macro AUC over the coverage, with 95 % intervals and a diamond at the
        confidence chosen on fold 9. The AUC ends where a class lacks positives or negatives among the records that are
        left, and the figure says where.
    """
    figure = new_figure(WIDTH, 4.6)
    panels = figure.subplots(1, 2)
    coverage = 100 * np.array([point["coverage"] for point in report["curve"]])
    missing = [point["classes_without_auc"] for point in report["curve"]]
    chosen = 100 * report["coverage"][report["fold"]]["value"]
    for axes, metric, scale in zip(panels, ("hamming_loss", "macro_auc"), (100.0, 1.0), strict=True):
        points = scale * pd.DataFrame([point[metric] for point in report["curve"]]).astype(float)
        if metric == "macro_auc":
            points[[names != missing[0] for names in missing]] = np.nan
        axes.fill_between(coverage, points["low"], points["high"], color=COLORS[0], alpha=0.2, linewidth=0)
        line: dict[str, Any] = dict(color=COLORS[0], marker=".", label="the most confident records")
        axes.plot(coverage, points["value"], gid="curve", **line)
        before, after = (report["metrics"][metric][key]["value"] for key in ("before", "after"))
        if before is not None:
            axes.axhline(scale * before, color=GREY, linewidth=1.0, linestyle=":", label="all records")
        if after is not None:
            label = f"abstaining on the least confident {report['abstain']:.0%}"
            marker: dict[str, Any] = dict(color=COLORS[1], markeredgecolor="white", markersize=9, label=label)
            axes.plot(chosen, scale * after, "D", gid="chosen", **marker)
        axes.set(xlabel="coverage (% of the records that are decided)", xlim=(0, 102))
        axes.grid(visible=True)
    panels[0].set(ylabel="wrong decisions: Hamming loss (%)")
    panels[0].set_ylim(bottom=0)
    panels[1].set(ylabel="macro AUC of the records decided")
    fold = report["fold"].replace("_", " ").capitalize()
    area, at_random = report["aurc"]["value"], report["aurc_random"]["value"]
    areas = f"area under the curve {area:.3f}, in random order {at_random:.3f}"
    panels[0].set_title(f"{fold}, {chosen:.1f}% decided: {_change(report)}\n{areas}", fontsize=10)
    if any(names != missing[0] for names in missing):
        end = min(x for x, names in zip(coverage, missing, strict=True) if names == missing[0])
        note = f"below {end:.0f}%, a class is missing\namong the records decided"
        panels[1].set_title(note, fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _change(report: Mapping[str, Any]) -> str:
    """Describe the change of the Hamming loss by abstaining."""
    before, after = (report["metrics"]["hamming_loss"][key]["value"] for key in ("before", "after"))
    return "none decided" if after is None else f"{before:.1%} wrong, {after:.1%} after abstaining"


def cooccurrence_compared(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the co-occurrence of classes in truth and in the decisions, and the difference.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As returned by `ecgkit.evaluation.cooccurrence_tables`.

    Returns
    -------
    Figure
        Three heat maps, side by side for up to twelve classes and one below the other for more. In the difference,
        orange pairs are predicted together too often, purple ones too rarely. A class without records has a blank
        row.
    """
    classes = list(tables["truth"].columns)
    side_by_side = len(classes) <= ANNOTATED_CLASSES
    if side_by_side:
        figure = new_figure(WIDTH, 4.3, layout="compressed")
        panels = figure.subplots(1, 3, sharey=True)
    else:
        figure = new_figure(8.6, 3 * 7.6, layout="compressed")
        panels = figure.subplots(3, 1, sharex=True)
    widest = float(np.nan_to_num(tables["difference"].abs().to_numpy()).max(initial=0.0))
    # The colours span the differences of this model, so that small ones are visible.
    limit = max(10.0, 10 * np.ceil(10 * widest))
    maps = (
        ("truth", "In truth", "Blues", (0.0, 100.0), "of the records of the row (%)"),
        ("predicted", "As predicted", "Blues", (0.0, 100.0), "of the records of the row (%)"),
        ("difference", "Predicted minus truth", "PuOr_r", (-limit, limit), "percentage points"),
    )
    for axes, (key, title, colors, limits, label) in zip(panels, maps, strict=True):
        share = 100 * tables[key].to_numpy(dtype=np.float64)
        write = partial(_percentage, share, signed=key == "difference") if side_by_side else None
        look: dict[str, Any] = dict(limits=limits, colors=colors, font=9 if len(classes) <= 6 else 6.5)
        image = heat_map(axes, share, classes, classes, write, **look)
        place: dict[str, Any] = dict(location="bottom") if side_by_side else {}
        figure.colorbar(image, ax=axes, shrink=0.8, label=label, **place)
        axes.tick_params(length=0, labelsize=9.0 if len(classes) <= 24 else 5.5)
        axes.set(title=title, xlabel="... also carry")
    panels[0].set_ylabel("records with ...")
    return figure


def _percentage(share: NDArray[np.float64], row: int, column: int, *, signed: bool) -> str:
    """Write the percentage of a cell; of a difference with its sign, and not on the diagonal, which is always 0."""
    rounded = round(share[row, column]) + 0.0
    if not signed:
        return f"{rounded:.0f}"
    return "" if row == column else f"{rounded:+.0f}" if rounded else "0"
