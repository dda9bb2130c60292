"""Codes of classes are spelled out where their meaning is known, and nowhere else."""

from __future__ import annotations

import pytest

from ecgkit import load_model
from ecgkit.diagnosis.pages import draw_answer, html
from ecgkit.inference.answers import answer_ecg
from ecgkit.sources.demo import make_ecg
from ecgkit.stats.labels import SUPERCLASSES, format_interval, meaning, spelled_out


def test_all_classes_of_the_shipped_models_are_spelled_out() -> None:
    for name in ("resnet1d", "resnet1d_all"):
        model = load_model(name)
        texts = [meaning(code, model.label_set) for code in model.classes]
        assert all(texts)
        assert max(map(len, texts)) <= 40


@pytest.mark.parametrize(
    ("name", "label_set", "text"),
    [
        ("AMI", "all", "AMI, anterior infarction"),
        ("_AVB", "subclass", "_AVB, AV block"),
        ("AMI", "labels", "AMI"),  # of the user's own table, where it may be any acute infarction
        ("HYP", "superclass", "HYP, hypertrophy"),
        ("HYP", "labels", f"HYP, {SUPERCLASSES['HYP']}"),
    ],
)
def test_a_code_is_spelled_out_in_the_label_sets_of_its_data_set(name: str, label_set: str, text: str) -> None:
    assert spelled_out(name, label_set) == text


def test_the_page_of_many_classes_has_those_that_reach_their_threshold() -> None:
    answer = answer_ecg(make_ecg(classes=["NORM"], seed=1), load_model("resnet1d_all"))
    assert answer.prediction is not None
    reached = [name for name, yes in zip(answer.predictor.classes, answer.prediction.decisions, strict=True) if yes]
    figures = draw_answer(answer)
    page = html(answer, figures)
    assert page.count('class="yes"') == len(reached) > 0
    assert page.count("<th") == len(reached) + 3
    ticks = [tick.get_text() for tick in figures[0].axes[1].get_yticklabels()]
    assert "SR, sinus rhythm" in ticks


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.0412, -0.001, 0.08, "+0.041 (-0.001 to +0.080)"),
        (-0.0001, -0.02, None, "+0.000"),  # an end that is not defined
        (None, None, None, "-"),
    ],
)
def test_differences_are_written_with_their_sign(
    value: float | None, low: float | None, high: float | None, expected: str
) -> None:
    assert format_interval({"value": value, "low": low, "high": high}, signed=True) == expected
