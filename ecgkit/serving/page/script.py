"""What Streamlit runs for each session: choose an ECG, answer it, show the answer."""

from __future__ import annotations

from typing import Any

import streamlit as st

from ecgkit.errors import EcgkitError
from ecgkit.inference.answers import Answer, answer_ecgs
from ecgkit.inference.loading import list_models, load_model
from ecgkit.inference.predictor import Predictor
from ecgkit.readers.files import record_key
from ecgkit.readers.opening import File, missing_arguments
from ecgkit.serving.page import language_model, settings, sources, texts, views
from ecgkit.serving.page.chart import show_chart
from ecgkit.serving.page.markup import STYLE, markdown
from ecgkit.signals.ecg import ECG, OLDEST, SEXES

NOTHING = "none"


def main() -> None:
    """Show the page."""
    st.set_page_config(page_title="ECG reading with ecgkit", layout="wide", menu_items={})
    st.html(STYLE)
    st.title("ECG reading with ecgkit", anchor=False)
    st.write(texts.INTRODUCTION)
    st.warning(texts.DISCLAIMER)
    for column, title, text in zip(
        st.columns(2), ("How to use this page", "What it cannot do"), texts.HELP, strict=True
    ):
        column.expander(title).markdown(text)
    items = sources.choose()
    chosen, patient = options()
    if not items:
        st.info("Choose an ECG above.")
        return
    try:
        answers = [answers_of(items, model, patient) for model in chosen]
    except EcgkitError as error:
        st.error(markdown(str(error)))
        return
    shown = 0
    if len(items) > 1:
        views.show_overview(answers[0])
        shown = st.selectbox("Show", range(len(items)), format_func=lambda i: f"{i + 1}. {items[i].name}")
    show(items, shown, [of_model[shown] for of_model in answers])


def options() -> tuple[list[str], dict[str, Any]]:
    """Let the user choose one or two models, and say what is known of the patient."""
    default = settings.model()
    names = list(dict.fromkeys([default, *list_models(settings.root())]))
    first, second, third, fourth = st.columns(4)
    chosen = first.selectbox("Model", names, help="Those that ship with ecgkit, then your sessions.")
    others = [NOTHING, *(name for name in names if name != chosen)]
    other = second.selectbox("Compare with", others)
    age = third.number_input(
        "Age in years", 0, OLDEST, None, placeholder="unknown", help="Where the file does not say it; may stay unknown."
    )
    sex = fourth.selectbox("Sex", ["unknown", *SEXES], help="As the age.")
    models = [chosen] if other == NOTHING else [chosen, other]
    patient = {"age": age, "sex": sex if sex in SEXES else None}
    if not any(loaded(model).takes_metadata for model in models):
        st.caption("Age and sex are written on the page; the chosen model does not use them.")
    return models, patient


@st.cache_resource(show_spinner="Loading the model", max_entries=8)
def loaded(model: str) -> Predictor:
    """Load a model, once for all sessions."""
    return load_model(model, root=settings.root())


def answers_of(items: list[sources.Item], model: str, patient: dict[str, Any]) -> list[Answer]:
    """Answer ECGs; what this session has answered already, and still shows, is kept in its memory."""
    memory: dict[str, dict[Any, Answer]] = st.session_state.setdefault("answers", {})
    said, predictor, before = st.session_state.setdefault("said", {}), loaded(model), memory.get(model, {})
    keys = [(item.key, tuple((patient | said.get(item.key, {})).items())) for item in items]
    new = {key: item for key, item in zip(keys, items, strict=True) if key not in before}
    bar = st.progress(0.0) if len(new) > 1 else None
    found = dict(before)
    for given in dict.fromkeys(options for _, options in new):
        alike = {key: item for key, item in new.items() if key[1] == given}
        named = [(item.name, item.source) for item in alike.values()]
        for key, answer in zip(alike, answer_ecgs(named, predictor, **dict(given)), strict=True):
            found[key] = answer
            if bar is not None:
                bar.progress((len(found) - len(before)) / len(new), markdown(f"Answered {answer.record}"))
    if bar is not None:
        bar.empty()
    memory[model] = {key: found[key] for key in keys}
    return [found[key] for key in keys]


def show(items: list[sources.Item], number: int, answers: list[Answer]) -> None:
    """Show the answers of one or two models to one ECG, findings first."""
    answer = answers[0]
    views.show_head(answer)
    views.show_findings(answer)
    ask(items, number, answer)
    if answer.ecg is None:
        return
    views.show_labels(answers)
    st.subheader("The ECG", anchor=False)
    show_chart(answer)
    views.show_measurements(answer)
    views.show_course(answer)
    language_model.show(answer)
    views.show_downloads(answer)


def ask(items: list[sources.Item], number: int, answer: Answer) -> None:
    """Ask for what the file does not say, and offer to answer in spite of a refusal."""
    item, message = items[number], answer.refusal or ""
    said = st.session_state["said"]
    given: dict[str, Any] = said.get(item.key, {})
    for name in ("anyway", "allow_missing_leads"):
        if name in given or name in texts.skips(message):
            is_on = st.toggle(texts.skip_label(name), given.get(name, False), key=f"{name} {item.key}")
            if is_on != given.get(name, False):
                said[item.key] = given | {name: is_on}
                st.rerun()
    fields = fields_for(item.source, message, given)
    if not fields:
        return
    with st.form(f"fields {item.key}"):
        found = {name: field(name, given.get(name), item.key) for name in fields}
        alike = len(items) > 1 and st.checkbox("The same for all files")
        if st.form_submit_button("Open the ECG"):
            known = {name: value for name, value in found.items() if value not in (None, "")}
            for each in items if alike else [item]:
                kept = {name: value for name, value in said.get(each.key, {}).items() if name not in fields}
                said[each.key] = kept | known
            st.rerun()


def fields_for(source: File | ECG, message: str, given: dict[str, Any]) -> list[str]:
    """Return what is asked for: what a refusal names, with all else that the file does not say, and what was given."""
    asked = set(texts.asked_for(message))
    if asked and not isinstance(source, ECG):
        asked |= set(missing_arguments(source, record=given.get("record")))
    return [name for name in texts.FIELDS if name in asked or name in given]


def field(name: str, value: Any, key: str) -> Any:
    """Show the field for what a file does not say, and return its value."""
    label, key = texts.FIELDS[name].capitalize(), f"{name} {key}"
    if name in ("sampling_rate", "start", "duration"):
        unit = "Hz" if name == "sampling_rate" else "s"
        return st.number_input(f"{label} in {unit}", 0.0, None, value, key=key, placeholder="unknown")
    hints = {
        "unit": "such as mV, uV or 4.88uV",
        "leads": "such as I,II,V1: one per signal",
        "record": "position from 0, or identifier",
    }
    text = st.text_input(f"{label} ({hints[name]})", "" if value is None else str(value), key=key).strip()
    return record_key(text) if name == "record" else text


if __name__ == "__main__":
    main()
