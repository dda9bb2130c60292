"""For whom and when a model goes wrong: groups of patients, abstention, classes put together, single mistakes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.plots.ecg import (
    FINE_LINES,
    MM_PER_INCH,
    MM_PER_MILLIVOLT,
    MM_PER_SECOND,
    PAPER,
    SHOWN_SECONDS,
    THICK_LINES,
)
from ecgkit.plots.style import COLORS, GREY, WIDTH, new_figure
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.stats.labels import metric_name

STRIP_LEADS = ("II", "V1", "V5")
"""Leads that together show rhythm, bundle branch block, hypertrophy and the ST segment; see `ecg_strips`."""

ANNOTATED_CLASSES = 12
"""Up to so many classes the heat maps stand side by side with a percentage in each cell."""

STRIP_LEFT, STRIP_RIGHT = 18.0, 4.0  # mm before and behind the traces
STRIP_DISTANCE = (15.0, 40.0)  # mm between the baselines of neighbouring leads, at least and at most
TITLE_HEIGHT = 13.0  # mm above each paper, for two lines


def subgroup_forest(report: Mapping[str, Any], *, of: str = "macro", metric: str = "auc") -> Figure:
    """Draw one metric in every group of patients or recordings, with intervals and the numbers behind them.

    Parameters
    ----------
    report : mapping
        What ``subgroups.json`` holds.
    of : str, default "macro"
        ``"macro"``, ``"micro"``, ``"samples"`` or a class.
    metric : str, default "auc"
        The metric.

    Returns
    -------
    Figure
        One row a group; the dashed line is the whole fold. Small groups are grey, and with a class those with fewer
        than ten positives or negatives of it. A macro mean is over the classes that the group has; those that it lacks
        are named at the right, since such a mean is not comparable with the others.

    Raises
    ------
    EcgkitError
        If there is no such class or metric.
    """
    whole = report["all"]["metrics"]
    check_choice("metric", metric, whole[check_choice("class", of, whole)])
    rows = _forest_rows(report)
    figure = new_figure(WIDTH, 1.5 + 0.27 * len(rows))
    axes = figure.add_subplot()
    for y, (_, group) in enumerate(rows):
        if group is not None:
            _draw_group(axes, y, group, of=of, metric=metric)
    value = whole[of][metric]["value"]
    if value is not None:
        axes.axvline(value, color="black", linewidth=0.9, linestyle="--", zorder=0.5)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    for tick, (_, group) in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if group is None else "normal")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    word = metric_name(metric)
    word = {"samples": word, "macro": f"macro {word}", "micro": f"micro {word}"}.get(of, f"{word} of {of}")
    axes.set(xlabel=word, title=f"{report['fold'].replace('_', ' ').capitalize()}: {word}, with 95% intervals")
    axes.grid(visible=True, axis="x")
    for color, label in ((COLORS[0], "group"), (GREY, "small group: read with care")):
        axes.plot([], [], "o-", color=color, markersize=6, label=label)
    axes.plot([], [], color="black", linewidth=0.9, linestyle="--", label="all records of the fold")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _forest_rows(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any] | None]]:
    """Lay out the rows: a heading without a group for each division, and its groups."""
    rows: list[tuple[str, Mapping[str, Any] | None]] = [("all records", report["all"])]
    for division in report["divisions"].values():
        unknown = f" ({division['unknown']:,} unknown)" if division["unknown"] else ""
        rows.append((f"{division['title']}{unknown}", None))
        rows += [(_group_name(name, group), group) for name, group in division["groups"].items()]
    return rows


def _group_name(name: str, group: Mapping[str, Any]) -> str:
    return f"{name} ({group['n_devices']} devices)" if group.get("n_devices", 0) > 1 else name


def _draw_group(axes: Axes, y: float, group: Mapping[str, Any], *, of: str, metric: str) -> None:
    """Draw the value, the interval and the numbers of one group."""
    entry = group["metrics"][of][metric]
    n_positive = group["n_positive"].get(of)
    is_small = group["is_small"] or (n_positive is not None and of not in group["comparable_classes"])
    color = GREY if is_small else COLORS[0]
    count = f"{group['n_patients']:,} patients" if n_positive is None else f"{n_positive:,} with {of}"
    note = f"{group['n_records']:,} records, {count}"
    if entry["value"] is None:
        note += "; not defined"
    else:
        if entry["low"] is not None:
            axes.plot([entry["low"], entry["high"]], [y, y], color=color, linewidth=1.6, gid="interval")
        axes.plot(entry["value"], y, "o", color=color, markersize=6, gid="small" if is_small else "group")
        missing = group["classes_without_auc"]
        if of == "macro" and metric == "auc" and missing:
            note += f"; without {', '.join(missing)}" if len(missing) <= 3 else f"; without {len(missing)} classes"
    place: dict[str, Any] = dict(xycoords=("axes fraction", "data"), textcoords="offset points", va="center")
    axes.annotate(note, (1.0, y), (8, 0), fontsize=9, color="#5F5F5F" if is_small else "black", **place)


def risk_coverage(report: Mapping[str, Any]) -> Figure:
    """Draw what is gained by deciding only the records that the model is most sure of.

    Parameters
    ----------
    report : mapping
        What ``selective.json`` holds.

    Returns
    -------
    Figure
        The share of wrong decisions, and the macro AUC, of the records that are decided, over their share of all; with
        95 % intervals, and a diamond where the confidence chosen on fold 9 puts the model. The AUC ends where a class
        lacks positives or negatives among the records that are left: the mean of the others is another number.
    """
    figure = new_figure(WIDTH, 4.6)
    panels = figure.subplots(1, 2)
    coverage = 100 * np.array([point["coverage"] for point in report["curve"]])
    is_whole = np.array(
        [point["classes_without_auc"] == report["curve"][0]["classes_without_auc"] for point in report["curve"]]
    )
    chosen = 100 * report["coverage"][report["fold"]]["value"]
    for axes, metric, scale in ((panels[0], "hamming_loss", 100.0), (panels[1], "macro_auc", 1.0)):
        points = scale * pd.DataFrame([point[metric] for point in report["curve"]]).astype(float)
        if metric == "macro_auc":
            points[~is_whole] = np.nan
        axes.fill_between(coverage, points["low"], points["high"], color=COLORS[0], alpha=0.2, linewidth=0)
        line: dict[str, Any] = dict(color=COLORS[0], marker=".", label="the most confident records")
        axes.plot(coverage, points["value"], gid="curve", **line)
        before, after = (report["metrics"][metric][key]["value"] for key in ("before", "after"))
        if before is not None:
            axes.axhline(scale * before, color=GREY, linewidth=1.0, linestyle=":", label="all records")
        if after is not None:
            label = f"abstaining on the least sure {report['abstain']:.0%} (confidence chosen on fold 9)"
            marker: dict[str, Any] = dict(color=COLORS[1], markeredgecolor="white", markersize=9, label=label)
            axes.plot(chosen, scale * after, "D", gid="chosen", **marker)
        axes.set(xlabel="coverage (% of the records that are decided)", xlim=(0, 102))
        axes.grid(visible=True)
    panels[0].set(ylabel="wrong decisions: Hamming loss (%)")
    panels[0].set_ylim(bottom=0)
    panels[1].set(ylabel="macro AUC of the records decided")
    panels[0].set_title(f"{chosen:.1f}% of {report['fold'].replace('_', ' ')} decided: {_change(report)}", fontsize=10)
    area, at_random = report["aurc"]["value"], report["aurc_random"]["value"]
    panels[1].set_title(f"Area under the curve at the left: {area:.3f}; at random {at_random:.3f}", fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _change(report: Mapping[str, Any]) -> str:
    """Say what abstaining does to the Hamming loss."""
    before, after = (report["metrics"]["hamming_loss"][key]["value"] for key in ("before", "after"))
    return "none decided" if after is None else f"{before:.1%} wrong become {after:.1%}"


def cooccurrence_compared(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw which classes come together in truth, which in the decisions, and the difference.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        ``truth``, ``predicted`` and ``difference`` as `ecgkit.evaluation.cooccurrence_tables` gives them.

    Returns
    -------
    Figure
        Three heat maps, side by side for up to twelve classes and one below the other for more. In the difference,
        orange is what the model puts together too often, purple what it puts together too seldom. A class that no
        record has leaves its row blank.
    """
    classes = list(tables["truth"].columns)
    side_by_side = len(classes) <= ANNOTATED_CLASSES
    if side_by_side:
        figure = new_figure(WIDTH, 4.3, layout="compressed")
        panels = figure.subplots(1, 3)
    else:
        figure = new_figure(8.6, 3 * 7.6, layout="compressed")
        panels = figure.subplots(3, 1)
    widest = float(np.nan_to_num(tables["difference"].abs().to_numpy()).max(initial=0.0))
    # The difference fills its colours: two models are told apart by their numbers, and small differences still show.
    limit = max(10.0, 10 * np.ceil(10 * widest))
    maps = (
        ("truth", "In truth", "Blues", (0.0, 100.0), "of the records of the row (%)"),
        ("predicted", "As predicted", "Blues", (0.0, 100.0), "of the records of the row (%)"),
        ("difference", "Predicted minus truth", "PuOr_r", (-limit, limit), "percentage points"),
    )
    for axes, (key, title, colors, limits, label) in zip(panels, maps, strict=True):
        share = 100 * tables[key].to_numpy(dtype=np.float64)
        image = axes.imshow(share, cmap=colors, vmin=limits[0], vmax=limits[1])
        place: dict[str, Any] = dict(location="bottom") if side_by_side else {}
        figure.colorbar(image, ax=axes, shrink=0.8, label=label, **place)
        _name_cells(axes, classes)
        axes.set(title=title, xlabel="... also carry")
        if side_by_side:
            _write_cells(axes, share, limits, signed=key == "difference")
    panels[0].set_ylabel("records with ...")
    return figure


def _name_cells(axes: Axes, classes: Sequence[str]) -> None:
    """Write the classes along both axes."""
    font = 9.0 if len(classes) <= 24 else 5.5
    rotation = 0 if len(classes) <= 5 else 90
    axes.set_xticks(np.arange(len(classes)), classes, rotation=rotation, fontsize=font)
    axes.set_yticks(np.arange(len(classes)), classes, fontsize=font)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _write_cells(axes: Axes, share: NDArray[np.float64], limits: tuple[float, float], *, signed: bool) -> None:
    """Write percentages into the cells; the diagonal of a difference is 0 always, and says nothing."""
    font = 9 if len(share) <= 6 else 6.5
    for (row, column), value in np.ndenumerate(share):
        if np.isnan(value) or (signed and row == column):
            continue
        rounded = round(value) + 0.0
        text = f"{rounded:+.0f}" if signed and rounded else f"{rounded:.0f}"
        is_dark = abs(value) > 0.6 * limits[1]
        axes.text(column, row, text, ha="center", va="center", fontsize=font, color="white" if is_dark else "black")


def mistakes(
    signals: NDArray[np.floating] | Sequence[NDArray[np.floating]],
    table: pd.DataFrame,
    *,
    sampling_rate: float,
    leads: Sequence[str] = STRIP_LEADS,
) -> Figure:
    """Draw the ECGs that a model was wrong about, with the truth and what it predicted above each.

    Parameters
    ----------
    signals : sequence of ndarray, each of shape (12, samples)
        Millivolts, one ECG for each row of the table, in its order.
    table : DataFrame
        What `ecgkit.evaluation.confident_mistakes` gave.
    sampling_rate : float
        Hz.
    leads : sequence of str, default ("II", "V1", "V5")
        The leads to draw.

    Returns
    -------
    Figure
        As `ecg_strips`; without a mistake, a line that says so.

    Raises
    ------
    EcgkitError
        If there is not one signal for each row, or as `ecg_strips`.
    """
    if len(signals) != len(table):
        raise EcgkitError(f"{len(signals)} signals for {len(table)} mistakes: give the signal of each row of the table")
    if not len(table):
        figure = new_figure(WIDTH, 0.6)
        figure.text(0.01, 0.5, "There is no such mistake.", va="center")
        return figure
    name = "record_id" if "record_id" in table else "position"
    word = "Record" if name == "record_id" else "Record at position"
    titles = [
        f"{word} {row[name]}: {row['class']} {row['kind']}, held {row['calibrated']:.1%} probable\n"
        f"truth: {row['true_labels']}; predicted: {row['predicted_labels']}"
        for row in table.to_dict("records")
    ]
    return ecg_strips(signals, titles, sampling_rate=sampling_rate, leads=leads)


@dataclass(frozen=True)
class _Strip:
    """One ECG on its paper: traces in mm, where their baselines lie, and how high the paper is."""

    traces: tuple[NDArray[np.float64], ...]
    baselines: tuple[float, ...]
    height: float


def threshold_examples(
    signals: NDArray[np.floating] | Sequence[NDArray[np.floating]],
    table: pd.DataFrame,
    *,
    sampling_rate: float,
    leads: Sequence[str] = STRIP_LEADS,
) -> Figure:
    """Draw ECGs below, at and above the threshold of a class.

    Parameters
    ----------
    signals : sequence of ndarray, each of shape (12, samples)
        Millivolts, one ECG for each row of the table, in its order.
    table : DataFrame
        Rows of what `ecgkit.evaluation.threshold_examples` gave.
    sampling_rate : float
        Hz.
    leads : sequence of str, default ("II", "V1", "V5")
        The leads to draw.

    Returns
    -------
    Figure
        As `ecg_strips`.

    Raises
    ------
    EcgkitError
        If there is not one signal for each row, or as `ecg_strips`.
    """
    if len(signals) != len(table):
        raise EcgkitError(f"{len(signals)} signals for {len(table)} examples: give the signal of each row of the table")
    name = "record_id" if "record_id" in table else "position"
    titles = [
        f"Record {row[name]}, {row['place']} the threshold of {row['class']}: {row['calibrated']:.3f} against "
        f"{row['threshold']:.3f}\ntruth: {row['true_labels']}; predicted: {row['predicted_labels']}"
        for row in table.to_dict("records")
    ]
    return ecg_strips(signals, titles, sampling_rate=sampling_rate, leads=leads)


def ecg_strips(
    signals: NDArray[np.floating] | Sequence[NDArray[np.floating]],
    titles: Sequence[str],
    *,
    sampling_rate: float,
    leads: Sequence[str] = STRIP_LEADS,
) -> Figure:
    """Draw several ECGs one below the other, a few leads of each, on millimetre paper.

    Each is to scale at the figure's own size, 25 mm/s and 10 mm/mV. The whole of a diagnosis takes all twelve leads:
    `ecgkit.plots.plot_ecg` draws them.

    Parameters
    ----------
    signals : sequence of ndarray, each of shape (12, samples)
        Millivolts, leads in the order of `ecgkit.signals.ecg.LEADS`; NaN leaves a gap.
    titles : sequence of str
        What stands above each, up to two lines.
    sampling_rate : float
        Hz, of all.
    leads : sequence of str, default ("II", "V1", "V5")
        The leads to draw.

    Returns
    -------
    Figure
        The first 10 s of each. A trace that reaches past the baseline of a neighbouring lead, at most 40 mm away, is
        cut off there, and the lead is named below the paper.

    Raises
    ------
    EcgkitError
        If there is no signal, or not one title for each, a lead is unknown, a signal is not ``(12, samples)``, or the
        sampling rate is not positive.
    """
    if len(signals) != len(titles) or not len(signals) or not leads:
        raise EcgkitError(
            f"{len(signals)} signals, {len(titles)} titles and {len(leads)} leads: give at least one of each"
        )
    chosen = [LEADS.index(check_choice("lead", lead, LEADS)) for lead in leads]
    ecgs = [ECG(np.asarray(signal, dtype=np.float32), sampling_rate) for signal in signals]
    n_shown = min(max(ecg.n_samples for ecg in ecgs), round(SHOWN_SECONDS * sampling_rate))
    strips = [_strip(ecg.signal[chosen, :n_shown]) for ecg in ecgs]
    width = _up_to_5(STRIP_LEFT + n_shown / sampling_rate * MM_PER_SECOND + STRIP_RIGHT)
    total = sum(strip.height + TITLE_HEIGHT for strip in strips) + 7.0
    figure = new_figure(width / MM_PER_INCH, total / MM_PER_INCH, layout=None)
    bottom = total
    for strip, title in zip(strips, titles, strict=True):
        bottom -= TITLE_HEIGHT + strip.height
        axes = figure.add_axes((0.0, bottom / total, 1.0, strip.height / total))
        lines = [textwrap.shorten(line, 130, placeholder=" ...") for line in title.splitlines()]
        place: dict[str, Any] = dict(fontsize=10, va="bottom", linespacing=1.15)
        figure.text(2 / width, (bottom + strip.height + 1.0) / total, "\n".join(lines), **place)
        _draw_strip(axes, strip, leads, width, sampling_rate)
    notes = [f"{MM_PER_SECOND:g} mm/s", f"{MM_PER_MILLIVOLT:g} mm/mV", f"{sampling_rate:g} Hz", "pulse: 1 mV, 0.2 s"]
    longest = max(ecg.duration for ecg in ecgs)
    if longest > SHOWN_SECONDS:
        notes.append(f"the first {SHOWN_SECONDS:g} s of {longest:g} s")
    cut = [
        lead for lead, is_cut in zip(leads, np.any([_is_cut(strip) for strip in strips], axis=0), strict=True) if is_cut
    ]
    if cut:
        notes.append(f"cut at the next row: {', '.join(cut)}")
    figure.text(2 / width, 1.2 / total, "    ".join(notes), fontsize=9, va="bottom")
    return figure


def _up_to_5(value: float) -> float:
    """Round up to whole thick lines of the paper, so that baselines lie on them."""
    return float(5 * np.ceil(value / 5))


def _strip(signal: NDArray[np.floating]) -> _Strip:
    """Lay out the leads of one ECG, in mV, one below the other."""
    traces = tuple(signal.astype(np.float64) * MM_PER_MILLIVOLT)
    values = [np.nan_to_num(trace) for trace in traces]
    up = [max(trace.max(initial=0.0), MM_PER_MILLIVOLT) + 1.0 for trace in values]
    down = [max(-trace.min(initial=0.0), 3.0) + 1.0 for trace in values]
    distances = [
        float(np.clip(_up_to_5(below + above), *STRIP_DISTANCE)) for below, above in zip(down[:-1], up[1:], strict=True)
    ]
    bottom, top = (min(_up_to_5(room), STRIP_DISTANCE[1]) for room in (down[-1], up[0]))
    baselines = bottom + np.append(np.cumsum(distances[::-1])[::-1], 0.0)
    return _Strip(traces, tuple(baselines.tolist()), float(baselines[0] + top))


def _edges(strip: _Strip) -> list[tuple[float, float]]:
    """Give for each lead how low and how high its trace may reach: to the neighbours, or the edge of the paper."""
    lines = [strip.height, *strip.baselines, 0.0]
    return list(zip(lines[2:], lines[:-2], strict=True))


def _is_cut(strip: _Strip) -> list[bool]:
    """Tell which leads reach further than that."""
    reach = zip(strip.baselines, strip.traces, _edges(strip), strict=True)
    return [
        bool(np.any((baseline + trace < low) | (baseline + trace > high))) for baseline, trace, (low, high) in reach
    ]


def _draw_strip(axes: Axes, strip: _Strip, leads: Sequence[str], width: float, sampling_rate: float) -> None:
    """Draw the paper, the calibration pulses, the names and the traces of one ECG."""
    axes.set(xlim=(0, width), ylim=(0, strip.height), xticks=[], yticks=[], facecolor=PAPER)
    axes.spines[:].set_visible(False)
    for step, color, line_width in ((1.0, FINE_LINES, 0.4), (5.0, THICK_LINES, 0.7)):
        lines: dict[str, Any] = dict(colors=color, linewidths=line_width, zorder=0.5)
        axes.vlines(np.arange(0, width + step / 2, step), 0, strip.height, **lines)
        axes.hlines(np.arange(0, strip.height + step / 2, step), 0, width, **lines)
    for lead, trace, baseline, (low, high) in zip(leads, strip.traces, strip.baselines, _edges(strip), strict=True):
        pulse_x = STRIP_LEFT - 6 + np.array([-4.0, -2.0, -2.0, 3.0, 3.0, 5.0])
        pulse_y = baseline + MM_PER_MILLIVOLT * np.array([0, 0, 1, 1, 0, 0])
        axes.plot(pulse_x, pulse_y, color="black", linewidth=0.8, solid_joinstyle="miter", gid="pulse")
        axes.text(1.5, baseline + 1.0, lead, fontsize=9, fontweight="bold", va="bottom")
        x = STRIP_LEFT + np.arange(len(trace)) / sampling_rate * MM_PER_SECOND
        (line,) = axes.plot(x, baseline + trace, color="black", linewidth=0.8, solid_joinstyle="round", gid=lead)
        line.set_clip_path(Rectangle((0, low), width, high - low, transform=axes.transData))
