"""The colours behind the ECG are the relevance of the label, and its text names the leads."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from page_files import FILES, upload
from streamlit.testing.v1 import AppTest

from ecgkit import load_model
from ecgkit.explain.attributions import explain_ecg
from ecgkit.inference import DEFAULT_MODEL
from ecgkit.readers import open_ecg
from ecgkit.serving.page.looked import PART, strengths
from ecgkit.signals.ecg import LEADS


def choose(page: AppTest, label: str) -> AppTest:
    return next(box for box in page.selectbox if "looked" in box.label).set_value(label).run()


def test_the_strengths_add_up_parts_and_keep_their_sign() -> None:
    relevance = np.zeros((12, 1000))
    relevance[1, 200:204], relevance[6, 500] = 0.5, -1.0
    found = strengths(relevance, 100.0)
    assert found.shape == (12, round(10 / PART))
    assert found[1, 50] == 1
    assert found[6, 125] < 0
    assert np.count_nonzero(found) == 2


def test_the_page_names_the_leads_with_the_most_relevance(page: AppTest) -> None:
    upload(page, FILES["WFDB"])
    choose(page, "MI")
    assert not page.exception
    assert not page.error
    ecg = open_ecg(FILES["WFDB"])
    relevance = explain_ecg(load_model(DEFAULT_MODEL), ecg, classes=["MI"]).relevance[0]
    lead = LEADS[int(np.abs(relevance).sum(axis=1).argmax())]
    assert f"Most relevance: {lead} (" in " ".join(caption.value for caption in page.caption)
    kept = page.session_state["explained"]["MI"][1]
    np.testing.assert_allclose(kept, relevance, atol=1e-5)
    choose(page, "nothing")
    assert "Most relevance" not in " ".join(caption.value for caption in page.caption)


def test_explanations_of_files_that_are_gone_are_gone(page: AppTest) -> None:
    upload(page, FILES["WFDB"])
    choose(page, "MI")
    upload(page, FILES["EDF"])
    choose(page, "CD")
    assert {answer.record for answer, _, _ in page.session_state["explained"].values()} == {"i.edf"}


def test_without_its_extra_the_page_says_which_one(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    upload(page, FILES["WFDB"])
    choose(page, "MI")
    assert not page.exception
    assert r"ecgkit-notebooks\[explain]" in page.error[0].value  # as Markdown, in which a bracket begins a link
