"""The gap between the best and the worst of several groups, with an interval that allows for having chosen them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from ecgkit.errors import check_choice
from ecgkit.stats.resampling import PERCENTILES
from ecgkit.stats.validation import Floats, divide


def widest_gap(values: Mapping[str, float], drawn: Mapping[str, Floats]) -> tuple[str, str, dict[str, float | None]]:
    """Find the best and the worst of several groups, and the difference between them with its interval.

    The interval is simultaneous over all pairs of groups, since the two are chosen because they differ most: in every
    resample the largest deviation of a pair's difference, in standard errors, counts, and the interval is as many
    standard errors wide as 95 % of the resamples stay within. With two groups it is an ordinary interval.

    Parameters
    ----------
    values : mapping of str to float
        The metric in each of at least two groups.
    drawn : mapping of str to ndarray of float64, shape (resamples,)
        The metric of each group in the same resamples. A resample in which it is undefined in a group is left out.

    Returns
    -------
    best, worst : str
        The groups with the highest and the lowest value.
    difference : dict of str to float or None
        ``value``, ``low`` and ``high``.

    References
    ----------
    Westfall and Young, "Resampling-based multiple testing" (1993), on the distribution of the maximum; Efron and
    Tibshirani, "An introduction to the bootstrap" (1993), chapter 12, on intervals in units of the standard error.
    """
    names = list(values)
    best, worst = max(names, key=lambda name: values[name]), min(names, key=lambda name: values[name])
    table = np.stack([drawn[name] for name in names], axis=1)
    table = table[~np.isnan(table).any(axis=1)]
    difference = values[best] - values[worst]
    if len(table) < 2:
        return best, worst, {"value": difference, "low": None, "high": None}
    first, second = np.array(list(combinations(range(len(names)), 2))).T
    of_pairs = table[:, first] - table[:, second]
    errors = of_pairs.std(axis=0, ddof=1)
    moved = np.abs(
        of_pairs - np.array([values[names[i]] - values[names[j]] for i, j in zip(first, second, strict=True)])
    )
    furthest = np.nan_to_num(divide(moved, np.broadcast_to(errors, moved.shape))).max(axis=1)
    between = (table[:, names.index(best)] - table[:, names.index(worst)]).std(ddof=1)
    reach = float(np.percentile(furthest, PERCENTILES[1] - PERCENTILES[0]) * between)
    return best, worst, {"value": difference, "low": difference - reach, "high": difference + reach}


def describe_gap(report: Mapping[str, Any], division: str, *, of: str = "macro") -> str:
    """Describe in one sentence the gap between the groups of a division.

    Parameters
    ----------
    report : mapping
        As returned by `ecgkit.evaluation.subgroup_report`.
    division : str
        Such as ``"age_band"``.
    of : str, default "macro"
        The macro AUC, or the AUC of a class.

    Returns
    -------
    str
        Such as "Macro AUC by age band: best 0.950 (under 40), worst 0.900 (75 and over), a difference of 0.050 (0.030
        to 0.070)."; where the interval includes zero, that no difference is shown.

    Raises
    ------
    EcgkitError
        If there is no such division or class.
    """
    found = report["divisions"][check_choice("division", division, report["divisions"])]
    gap = found["gaps"][check_choice("class", of, found["gaps"])]
    head = "Macro AUC" if of == "macro" else f"AUC of {of}"
    if gap is None:
        return f"{head} by {found['title']}: there are not two groups large enough to be compared."
    ends = [f"{gap['groups'][gap[end]]['value']:.3f} ({gap[end]})" for end in ("best", "worst")]
    by = f"{head}{_of_classes(gap, report) if of == 'macro' else ''} by {found['title']}"
    value, low, high = (gap["difference"][key] for key in ("value", "low", "high"))
    if low is None:
        return f"{by}: best {ends[0]}, worst {ends[1]}, a difference of {value:.3f} without an interval."
    apart = f"{value:.3f} ({low:.3f} to {high:.3f})"
    if low <= 0:
        return f"{by}: no difference is shown between the best, {ends[0]}, and the worst, {ends[1]}: {apart}."
    return f"{by}: best {ends[0]}, worst {ends[1]}, a difference of {apart}."


def _of_classes(gap: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Name the classes that a macro AUC leaves out."""
    left_out = [name for name in report["classes"] if name not in gap["classes"]]
    if len(left_out) > 3:
        return f" of {len(gap['classes'])} of {len(report['classes'])} classes"
    return f" without {' and '.join(left_out)}" if left_out else ""


def describe_gaps(report: Mapping[str, Any]) -> list[str]:
    """Describe the macro gap of each division that can be compared; see `describe_gap`.

    Parameters
    ----------
    report : mapping
        As returned by `ecgkit.evaluation.subgroup_report`.

    Returns
    -------
    list of str
        One sentence per division, or a single one if no division has two groups that are large enough.
    """
    found = [describe_gap(report, name) for name, division in report["divisions"].items() if division["gaps"]["macro"]]
    return found or ["The fold has too few records: no division has two groups that are large enough to be compared."]
