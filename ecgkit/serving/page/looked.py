"""Where the model looked: the relevance of the samples for one label, as colour behind the ECG and as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, not_installed
from ecgkit.inference.answers import Answer
from ecgkit.serving.page.markup import markdown
from ecgkit.signals.ecg import LEADS
from ecgkit.stats.labels import spelled_out

NOTHING = "nothing"
PART = 0.04
"""Seconds that get one colour."""

FULL_COLOR = 99.5
"""Percentile of the strengths at which the colour is full."""


def choose(answer: Answer) -> dict[str, Any] | None:
    """Let the user choose a label, and return the colours behind the ECG; None for no colour."""
    if answer.prediction is None or answer.quantity_name:
        return None
    label_set = answer.predictor.label_set
    label = st.selectbox(
        "Colour where the model looked, for the label",
        [NOTHING, *answer.predictor.classes],
        format_func=lambda name: name if name == NOTHING else spelled_out(name, label_set),
        help="Integrated gradients: what each part of the ECG adds to the answer, compared with a flat line.",
    )
    if label == NOTHING:
        return None
    try:
        relevance, rate = explained(answer, label)
    except (EcgkitError, ModuleNotFoundError) as error:
        st.error(markdown(str(error) if isinstance(error, EcgkitError) else not_installed(error)))
        return None
    shares = np.abs(relevance).sum(axis=1)
    most = np.argsort(-shares)[:3]
    told = ", ".join(f"{LEADS[lead]} ({100 * shares[lead] / max(shares.sum(), 1e-12):.0f} %)" for lead in most)
    st.caption(
        f"Orange speaks for {markdown(spelled_out(label, label_set))}, blue against it. Most relevance: {told}. "
        "This is what the model used, not what a cardiologist would look at."
    )
    return {"seconds": PART, "values": strengths(relevance, rate).round(3).tolist()}


def explained(answer: Answer, label: str) -> tuple[NDArray[np.float32], float]:
    """Explain one label of an answer, once as long as it is shown; return the relevance and its sampling rate in Hz."""
    from ecgkit.explain.attributions import explain_ecg

    memory = st.session_state.setdefault("explained", {})
    kept = memory.get(label)
    if kept is None or kept[0] is not answer:
        assert answer.ecg is not None  # noqa: S101
        with st.spinner("Looking where the model looked"):
            found = explain_ecg(answer.predictor, answer.ecg, classes=[label], anyway=True, allow_missing_leads=True)
        for other in [name for name, (of, _, _) in memory.items() if of is not answer]:
            del memory[other]
        kept = memory[label] = (answer, found.relevance[0], found.sampling_rate)
    return kept[1], kept[2]


def strengths(relevance: NDArray[np.floating], sampling_rate: float) -> NDArray[np.floating]:
    """Add up the relevance in parts of `PART` seconds, from -1 to 1, shape (12, parts)."""
    length = max(1, round(PART * sampling_rate))
    parts = relevance[:, : relevance.shape[1] // length * length].reshape(len(relevance), -1, length).sum(axis=2)
    return np.clip(parts / max(float(np.percentile(np.abs(parts), FULL_COLOR)), 1e-12), -1, 1)
