"""An explanation in plain words by a language model: off unless endpoint and key are configured."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import urlsplit

import requests
import streamlit as st

from ecgkit.errors import EcgkitError
from ecgkit.inference.answers import Answer
from ecgkit.serving.page import settings
from ecgkit.serving.page.markup import markdown
from ecgkit.signals.measurements import GLOBAL_MEASUREMENTS
from ecgkit.stats.labels import meaning

TIMEOUT = 30.0
"""Seconds until an endpoint has to answer."""

LONGEST = 4000
"""Letters of a text that are shown."""

TASK = (
    "You explain the result of an ECG classifier to a student. You get JSON: labels with calibrated probability, "
    "threshold and decision, measurements with units, and findings about the recording. Explain in at most 200 words "
    "of plain English what the numbers say and what the findings mean for how far they can be trusted. Labels are "
    "independent. Invent nothing that is not in the JSON, give no diagnosis and no advice on treatment, and say that "
    "this is not a medical device."
)


@dataclass(frozen=True)
class Endpoint:
    """Where an OpenAI-compatible server answers, such as ``https://host/v1``, its key, and the name of the model."""

    address: str
    key: str
    name: str

    @property
    def host(self) -> str:
        """The host, for the user to know."""
        return urlsplit(self.address).hostname or ""


def configured() -> Endpoint | None:
    """Return the endpoint if address and key are configured, None otherwise."""
    address, key = (settings.secret(name, st.secrets) for name in (settings.ENDPOINT, settings.KEY))
    if not address or not key:
        return None
    return Endpoint(address, key, settings.secret(settings.NAME, st.secrets) or "default")


def show(answer: Answer) -> None:
    """Offer an explanation, if an endpoint is configured, and show it as what it is."""
    endpoint = configured()
    if endpoint is None or answer.prediction is None:
        return
    st.subheader("In plain words", anchor=False)
    st.caption(
        f"A language model at {endpoint.host} can put the numbers into words. It is sent probabilities, measurements "
        "and findings; not the ECG, no names, no age and no other metadata."
    )
    if not st.button("Ask the language model"):
        return
    try:
        with st.spinner("Waiting for the language model"):
            text = explain(answer, endpoint)
    except EcgkitError as error:
        st.error(markdown(str(error)))
        return
    st.caption(f"Written by a machine ({endpoint.name}), not by a person and not by ecgkit. It may be wrong.")
    st.html(f'<div class="ecg-machine" lang="en">{escape(text)}</div>')


def numbers(answer: Answer) -> dict[str, Any]:
    """Return what is sent: numbers, and findings of the checks, in which no text of the file can be.

    Notes of the reader are left out: they may cite the file.
    """
    label_set, entries = answer.predictor.label_set, answer.to_dict().get("classes", ())
    classes = [entry | {"meaning": meaning(entry["name"], label_set)} for entry in entries]
    measured = {
        f"{name} ({unit})": round(answer.measurements[name], 3)
        for name, (unit, _) in GLOBAL_MEASUREMENTS.items()
        if math.isfinite(answer.measurements.get(name, math.nan))
    }
    findings = [finding.text for finding in answer.findings if finding.name != "reader"]
    return {"labels": classes, "measurements": measured, "findings": findings}


def explain(answer: Answer, endpoint: Endpoint) -> str:
    """Ask the endpoint to put an answer into words.

    Raises
    ------
    EcgkitError
        If it does not answer in time, refuses, or answers with something else than a text.
    """
    parts = urlsplit(endpoint.address)
    if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise EcgkitError(f"the language model at {endpoint.host} is not encrypted: configure an https:// address")
    messages = [{"role": "system", "content": TASK}, {"role": "user", "content": json.dumps(numbers(answer))}]
    try:
        reply = requests.post(
            f"{endpoint.address.rstrip('/')}/chat/completions",
            json={"model": endpoint.name, "messages": messages, "max_tokens": 600},
            headers={"Authorization": f"Bearer {endpoint.key}"},
            timeout=TIMEOUT,
            allow_redirects=False,  # the key is for this host only
        )
    except requests.Timeout as error:
        raise EcgkitError(f"the language model did not answer in {TIMEOUT:g} s: try again later") from error
    except requests.RequestException as error:
        raise EcgkitError(f"the language model at {endpoint.host} cannot be reached: try again later") from error
    if reply.status_code != requests.codes.ok:
        raise EcgkitError(f"the language model answered with status {reply.status_code}: try again later")
    return _text(reply)


def _text(reply: requests.Response) -> str:
    """Return the text of a reply."""
    try:
        choice = reply.json()["choices"][0]
        message = choice["message"]
        text = message.get("content")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise EcgkitError("the language model did not answer with a text: check the endpoint") from error
    if (
        message.get("refusal")
        or choice.get("finish_reason") == "content_filter"
        or not isinstance(text, str)
        or not text
    ):
        raise EcgkitError("the language model declined to answer")
    return text[:LONGEST]
