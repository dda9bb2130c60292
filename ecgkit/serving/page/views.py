"""The answer as a person reads it: findings, labels, measurements, the course over time, many ECGs at once."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from ecgkit.diagnosis.pages import draw_answer, pdf, picture
from ecgkit.inference.answers import WINDOW, Answer, csv_row
from ecgkit.io import file_name
from ecgkit.serving.page.markup import Markup, bar, markdown, table
from ecgkit.serving.page.texts import MEANINGS, with_fields
from ecgkit.signals.measurements import GLOBAL_MEASUREMENTS, PRINTED
from ecgkit.stats.labels import spelled_out

MANY_LABELS = 12
"""With more labels than this, those that do not reach their threshold are folded away."""


def show_head(answer: Answer) -> None:
    """Write whose ECG it is, as far as the page needs to know."""
    ecg = answer.ecg
    st.header(markdown(answer.record), anchor=False)
    if ecg is not None:
        age = "age unknown" if ecg.age is None else f"{ecg.age:g} years"
        facts = [age, ecg.sex or "sex unknown", f"{ecg.duration:.4g} s", f"{ecg.sampling_rate:g} Hz"]
        facts.append(str(ecg.metadata.get("format", "made by the demo")))
        st.caption(markdown(" · ".join(facts)))


def show_findings(answer: Answer) -> None:
    """Write what may be wrong with the recording."""
    st.subheader("Findings", anchor=False)
    if answer.refusal:
        st.error(markdown(f"No answer: {with_fields(answer.refusal)}"))
    show = {"refused": st.error, "warning": st.warning, "note": st.info}
    for finding in answer.findings:
        if finding.text not in (answer.refusal or ""):
            show[finding.level](markdown(finding.text))
    if not answer.findings and not answer.refusal:
        st.success("The checks of the recording found nothing.")


def show_labels(answers: Sequence[Answer]) -> None:
    """Write each label for itself, of one model or of several next to each other."""
    known = [answer for answer in answers if answer.prediction is not None]
    if not known:
        return
    st.subheader("Labels", anchor=False)
    st.caption("The labels are independent: several may apply, or none. The mark in a bar is its threshold.")
    for answer in known:
        if answer.quantity_name:
            st.metric(markdown(answer.quantity_name.replace("_", " ")), f"{answer.prediction.quantity:.1f}")  # type: ignore[union-attr]
    known = [answer for answer in known if not answer.quantity_name]
    names = list(dict.fromkeys(name for answer in known for name in answer.predictor.classes))
    if not names:
        return
    several = len(known) > 1
    header = ["label", *(answer.predictor.name if several else "probability" for answer in known)]
    sets = {name: answer.predictor.label_set for answer in known for name in answer.predictor.classes}
    rows = {name: [_label(name, sets[name]), *(_verdict(answer, name) for answer in known)] for name in names}
    shown = names if len(names) <= MANY_LABELS else _reached(known)
    if shown:
        caption = f"Calibrated probabilities by {', '.join(a.predictor.name for a in known)}"
        st.html(table(header, [rows[name] for name in shown], caption))
    else:
        st.write("No label reaches its threshold.")
    if rest := [name for name in names if name not in shown]:
        with st.expander(f"The {len(rest)} labels that do not reach their threshold"):
            st.html(table(header, [rows[name] for name in rest], "Calibrated probabilities below the thresholds"))
    if several:
        _show_disagreement(known)


def _reached(answers: Sequence[Answer]) -> list[str]:
    """Return the labels that reach the threshold of at least one model, the most probable first."""
    entries = [entry for answer in answers for entry in answer.to_dict()["classes"] if entry["decision"]]
    return list(dict.fromkeys(e["name"] for e in sorted(entries, key=lambda entry: -entry["probability"])))


def _label(name: str, label_set: str) -> Markup:
    """Return a label spelled out, a superclass also with what it means to a layman."""
    explained = f"<small>{escape(MEANINGS[name])}</small>" if name in MEANINGS else ""
    return Markup(f"{escape(spelled_out(name, label_set))}{explained}")


def _verdict(answer: Answer, name: str) -> Markup:
    """Return probability, threshold and decision of one label."""
    entry = next((entry for entry in answer.to_dict()["classes"] if entry["name"] == name), None)
    if entry is None:
        return Markup("not a class of this model")
    doubt = answer.predictor.unreliable.get(name)
    decision = '<span class="ecg-yes">yes</span>' if entry["decision"] else "no"
    decision += f", unreliable: {escape(doubt)}" if entry["decision"] and doubt else ""
    extent = f" ({entry['lowest']:.2f} to {entry['highest']:.2f} among its models)" if "lowest" in entry else ""
    numbers = f"{entry['probability']:.3f}{extent}, threshold {entry['threshold']:.3f}: {decision}"
    return Markup(f"{numbers}{bar(entry['probability'], entry['threshold'])}")


def _show_disagreement(answers: Sequence[Answer]) -> None:
    """Say in which labels models disagree."""
    first, second = ({e["name"]: e["decision"] for e in answer.to_dict()["classes"]} for answer in answers[:2])
    other = [name for name in first if name in second and first[name] != second[name]]
    st.write(markdown(f"The models disagree on {', '.join(other)}.") if other else "The models decide alike.")


def show_measurements(answer: Answer) -> None:
    """Write the measurements of the mean beat."""
    if not answer.measurements:
        return
    st.subheader("Measurements", anchor=False)
    rows = []
    for key, (name, unit, decimals) in PRINTED.items():
        value = answer.measurements.get(key, math.nan)
        text = f"{value:.{decimals}f} {unit}" if math.isfinite(value) else "not measurable"
        rows.append([Markup(f"{escape(name)}<small>{escape(GLOBAL_MEASUREMENTS[key][1])}</small>"), text])
    st.html(table(["measurement", "value"], rows))


def show_course(answer: Answer) -> None:
    """Draw the probabilities of a long recording over time."""
    import altair as alt

    windows = answer.prediction.windows if answer.prediction else None
    if windows is None:
        return
    st.subheader("Over time", anchor=False)
    middles = [start + WINDOW / 2 for start in windows.starts]
    classes, limits = answer.predictor.classes, answer.predictor.thresholds
    is_short = len(classes) <= MANY_LABELS
    drawn = range(len(classes)) if is_short else np.flatnonzero((windows.probabilities >= limits).any(axis=0))
    which = "each label" if is_short else "each label that reaches its threshold"
    st.caption(f"The probability of {which} in {len(windows.starts)} windows of {WINDOW:g} s; dashed: the threshold.")
    for number in drawn:
        label = classes[number]
        course = pd.DataFrame({"seconds": middles, "probability": windows.probabilities[:, number]})
        x = alt.X("seconds", title="middle of the window (s)")
        line = alt.Chart(course).mark_line(point=True).encode(x, alt.Y("probability", scale=alt.Scale(domain=[0, 1])))
        limit = alt.Chart(pd.DataFrame({"threshold": [answer.thresholds[label]]}))
        rule = limit.mark_rule(strokeDash=[5, 4], color="gray").encode(alt.Y("threshold", title="probability"))
        st.altair_chart(
            alt.layer(line, rule).properties(height=150, title=spelled_out(label, answer.predictor.label_set))
        )
    with st.expander("The probabilities over time as a table"):
        body = [[f"{start:g} s", *(f"{value:.3f}" for value in row)]
                for start, row in zip(windows.starts, windows.probabilities.tolist(), strict=True)]  # fmt: skip
        st.html(table(["from", *answer.predictor.classes], body))


def show_overview(answers: Sequence[Answer]) -> None:
    """List many answers, with the table to download."""
    st.header(f"{len(answers)} ECGs", anchor=False)
    failed = sum(bool(answer.refusal) for answer in answers)
    if failed:
        st.warning(f"{failed} of {len(answers)} have no answer: the column error says why.")
    rows = [csv_row(answer.to_row()) for answer in answers]
    frame = pd.DataFrame(rows)
    said = [name for name in rows[0] if name.startswith(("probability_", "decision_", "predicted_"))]
    frame = frame[["record", *(["error"] if failed else []), *said, "heart_rate", "findings"]]
    if failed:
        frame["error"] = frame["error"].map(with_fields)
    st.dataframe(frame, hide_index=True)
    left, right = st.columns(2)
    left.download_button("All as CSV", csv_table(answers), "ecgs.csv", "text/csv", on_click="ignore")
    right.download_button("All as JSON", json_list(answers), "ecgs.json", "application/json", on_click="ignore")


def show_downloads(answer: Answer) -> None:
    """Offer the answer as files; page and picture are drawn when they are asked for."""
    st.subheader("Download", anchor=False)
    name = file_name(answer.record).replace(".", "-")
    kinds: dict[str, tuple[Any, str, str]] = {
        "JSON": (json.dumps(answer.to_dict(), indent=2, allow_nan=False), "json", "application/json"),
        "CSV": (csv_table([answer]), "csv", "text/csv"),
    }
    if answer.ecg is not None:
        kinds = {
            "PDF": (lambda: pdf(draw_answer(answer)), "pdf", "application/pdf"),
            "PNG": (lambda: picture(draw_answer(answer)[0]), "png", "image/png"),
        } | kinds
    for column, (kind, (data, suffix, mime)) in zip(st.columns(len(kinds)), kinds.items(), strict=True):
        column.download_button(kind, data, f"{name}.{suffix}", mime, on_click="ignore", width="stretch")


def csv_table(answers: Sequence[Answer]) -> str:
    """Return answers as the table that ``ecgkit predict --format csv`` writes."""
    rows = [csv_row(answer.to_row()) for answer in answers]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def json_list(answers: Sequence[Answer]) -> str:
    """Return answers as one JSON list."""
    return json.dumps([answer.to_dict() for answer in answers], indent=2, allow_nan=False)
