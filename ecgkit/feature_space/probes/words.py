"""What the numbers of a probe say, and what they do not, in sentences."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ecgkit.feature_space.probes.controls import (
    BASELINE,
    CONTROL_TASK,
    DEMOGRAPHICS,
    MEASURES,
    PERMUTATION,
    PROBE,
    UNTRAINED,
)
from ecgkit.feature_space.probes.fit import ProbeResult
from ecgkit.feature_space.probes.judge import BEATS, FALLS_SHORT, NO_EVIDENCE, Judgement
from ecgkit.stats.folds import TEST_FOLD
from ecgkit.stats.labels import metric_name, target_name

IN_UNIT = ("mae", "mae_uncapped", "bias", "limit_low", "limit_high", "calibration_intercept")

SIGNIFICANT = 0.05

SO = {
    UNTRAINED: "it does not show that training has taught it",
    DEMOGRAPHICS: "what it finds may be no more than is told by {}",
    MEASURES: "a few measures of the ECG may tell as much",
}
"""What follows where a control is not beaten."""


def number(entry: Mapping[str, float], digits: int = 2) -> str:
    """Write a number with its interval.

    Parameters
    ----------
    entry : mapping of str to float
        ``value``, ``low`` and ``high``; NaN where not defined.
    digits : int, default 2
        After the point.

    Returns
    -------
    str
        Such as ``"0.55 (0.52 to 0.58)"``; ``"-"`` for what is not defined.
    """
    value, low, high = (round(float(entry[key]), digits) + 0.0 for key in ("value", "low", "high"))
    if np.isnan(value):
        return "-"
    return f"{value:.{digits}f}" + ("" if np.isnan(low) else f" ({low:.{digits}f} to {high:.{digits}f})")


def metric_in_words(metric: str, entry: Mapping[str, float], unit: str) -> str:
    """Write a metric with its name, interval and unit."""
    if metric in IN_UNIT:
        return f"{metric_name(metric)} {number(entry)} {unit}"
    return f"{metric_name(metric)} {number(entry, 3)}"


def sentences(result: ProbeResult) -> tuple[str, ...]:
    """Say what the probes of one target show.

    Parameters
    ----------
    result : ProbeResult
        The probes of one target.

    Returns
    -------
    tuple of str
        What the probe reaches, which controls it beats and which not, what follows, and the same of the classes. A
        difference is evidence where its 95 % interval over resamples of the patients leaves out 0.
    """
    if result.skipped:
        return (f"No probe: {result.skipped}.",)
    return (_reached(result), *_against_controls(result), _conclusion(result), *_of_classes(result))


def _reached(result: ProbeResult) -> str:
    """Say what the probe reaches."""
    main, entries = result.target.main_metric, result.judgement.metrics[PROBE]
    words = [metric_in_words(main, entries[main], result.target.unit)]
    if "mae" in entries:
        words.append(metric_in_words("mae", entries["mae"], result.target.unit))
    people = f"{result.counts['test']:,} records of {result.counts['test_patients']:,} patients"
    return f"The probe reaches {', '.join(words)} on {people} of fold {TEST_FOLD}."


def _against_controls(result: ProbeResult) -> list[str]:
    """Say which controls the probe beats, which beat it, and where there is no evidence."""
    judgement, main = result.judgement, result.target.main_metric
    said: dict[str, list[str]] = {BEATS: [], FALLS_SHORT: [], NO_EVIDENCE: []}
    for control in judgement.metrics:
        row = judgement.difference(control, main)
        if row is not None and np.isfinite(row["difference"]):
            joint = ": " if row["verdict"] == NO_EVIDENCE else " by "
            said[row["verdict"]].append(_control_words(result, control) + joint + number(_entry(row), 3))
    lines = []
    if said[BEATS]:
        lines.append(f"In {metric_name(main)} it beats {_joined(said[BEATS])}.")
    if said[FALLS_SHORT]:
        lines.append(f"It falls short of {_joined(said[FALLS_SHORT])}.")
    if said[NO_EVIDENCE]:
        lines.append(f"There is no evidence of a difference from {_joined(said[NO_EVIDENCE])}.")
    return lines


def _control_words(result: ProbeResult, control: str) -> str:
    """Say what a control is; of the baseline only what concerns the main metric."""
    if control == UNTRAINED and has_several_encoders(result):
        return f"the best of {result.names[control]}"
    if control != BASELINE:
        return result.names[control]
    return "the mean of folds 1-8" if result.target.kind == "regression" else "saying the same of everybody"


def has_several_encoders(result: ProbeResult) -> bool:
    """Say whether more than one untrained encoder stands beside the probe."""
    return "encoders" in result.names.get(UNTRAINED, "")


def _chance(judgement: Judgement) -> str:
    """Write the p value, and what it was corrected for."""
    exchanges = f"{judgement.resamples:,} exchanges of the true values between patients"
    if judgement.targets < 2:
        return f"p = {judgement.p_value:.3f} among {exchanges}"
    corrected = f"corrected for {judgement.targets} targets by Benjamini and Hochberg"
    return f"p = {judgement.p_adjusted:.3f}, {corrected}, among {exchanges}"


def _conclusion(result: ProbeResult) -> str:
    """Say what follows."""
    judgement, main, name = result.judgement, result.target.main_metric, target_name(result.target.name)
    verdicts = {
        control: row["verdict"]
        for control in judgement.metrics
        if (row := judgement.difference(control, main)) is not None
    }
    chance = _chance(judgement)
    above = [verdicts.get(control, BEATS) == BEATS for control in (BASELINE, CONTROL_TASK)]
    if not judgement.p_adjusted <= SIGNIFICANT:
        return f"So there is no evidence that {name} can be read off the embedding ({chance})."
    if not all(above):
        how = {FALLS_SHORT: "it falls short of", NO_EVIDENCE: "there is no clear difference from"}
        of = {verdict: [c for c in (BASELINE, CONTROL_TASK) if verdicts.get(c) == verdict] for verdict in how}
        said = [f"{how[v]} {_joined([_control_words(result, c) for c in found])}" for v, found in of.items() if found]
        return f"So it is not shown that {name} can be read off the embedding: {chance}, but {_joined(said)}."
    doubts = [
        said.format(result.names.get(control, ""))
        for control, said in SO.items()
        if verdicts.get(control, BEATS) != BEATS
    ]
    found = f"So {name} can be read off the embedding to this degree ({chance})"
    is_measure = MEASURES in verdicts and "without" in result.names[MEASURES]
    itself = f" {name.capitalize()} is itself a measure of the ECG, and those that tell it were kept from the control."
    if doubts or is_measure:
        but = f", but {_joined(doubts)}" if doubts else ""
        return f"{found}{but}." + (itself if is_measure else "")
    beside = [control for control in SO if control in verdicts]
    return f"{found}, and beyond what these controls tell." if beside else f"{found}."


def _of_classes(result: ProbeResult) -> list[str]:
    """Say how accurate the decisions are beside always saying the same."""
    row, metrics = result.judgement.difference(BASELINE, "accuracy"), result.judgement.metrics
    if row is None:
        return []
    always = result.names[BASELINE].partition("always ")[2]
    where = "In bins the" if result.target.kind == "regression" else "The"
    verdict = {
        BEATS: "better by",
        FALLS_SHORT: "worse by",
        NO_EVIDENCE: "no evidence that it is better, the difference is",
    }[row["verdict"]]
    reached, common = number(metrics[PROBE]["accuracy"]), metrics[BASELINE]["accuracy"]["value"]
    beside = f"{common:.2f} of always saying {always}"
    return [f"{where} accuracy is {reached} beside {beside}: {verdict} {number(_entry(row))}."]


def notes_on_intervals(result: ProbeResult) -> list[str]:
    """Say what the brackets hold."""
    resamples = f"{result.judgement.resamples:,} bootstrap resamples of the patients"
    lines = [f"In brackets: 2.5 and 97.5 percentiles over {resamples}."]
    if has_several_encoders(result):
        range_of = "the mean, and in brackets the lowest and the highest of them"
        lines.append(f"Of the untrained encoders: {range_of}; differences are from the best.")
    named = [f"{control}: {result.names[control]}" for control in result.judgement.metrics if control in result.names]
    exchanged = "the probe, read against true values exchanged between patients; in brackets percentiles over these"
    return [*lines, *named, f"{PERMUTATION}: {exchanged}"]


def _entry(row: pd.Series) -> dict[str, float]:
    """Give a difference with its interval; by how much, where the probe falls short."""
    if row["verdict"] == FALLS_SHORT:
        return {"value": -row["difference"], "low": -row["high"], "high": -row["low"]}
    return {"value": row["difference"], "low": row["low"], "high": row["high"]}


def _joined(parts: list[str]) -> str:
    """Join with commas and "and"."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
