"""The page of a session: one file, all of its numbers, nothing from elsewhere."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from made_predictions import make_predictions
from matplotlib.figure import Figure

from ecgkit.errors import EcgkitError
from ecgkit.evaluation import calibration_summary, evaluate_session
from ecgkit.evaluation.figures import REPORT_FIGURES
from ecgkit.evaluation.page import write_page
from ecgkit.sessions import Session
from ecgkit.stats import fold_scores

CLASSES = ("NORM", "MI")


class Collector(HTMLParser):
    """Keeps the texts, the addresses and the tags that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    made = Session(tmp_path / "session_7")
    made.path.mkdir()
    table = make_predictions(classes=CLASSES)
    # Two patients of fold 10 have an infarction: some resamples have none.
    table.loc[table["fold"] == 10, "true_MI"] = table["record_id"].isin([300, 350])
    evaluate_session(made, table, CLASSES)
    made.write_json("config.json", {"model": "resnet1d", "dataset": "a <b>bold</b> name", "seed": 3})
    made.write_json("environment.json", {"python": "3.11", "packages": {"ecgkit": "0.1.0"}})
    return made


@pytest.fixture(autouse=True)
def figures_of_reports() -> None:
    """Draw the figures of reports in these tests."""


def test_it_needs_nothing_else(session: Session) -> None:
    text = write_page(session).read_text()
    page = Collector()
    page.feed(text)
    assert page.open == []
    embedded = [address for address in page.addresses if address.startswith("data:image/png;base64,")]
    pictures = [base64.b64decode(address.split(",")[1]) for address in embedded]
    names = [name for name in REPORT_FIGURES if (session.path / "figures" / f"{name}.png").is_file()]
    assert {"auc_by_class", "roc_curves", "reliability", "predicted_cooccurrence"} <= set(names)
    assert pictures == [(session.path / "figures" / f"{name}.png").read_bytes() for name in names]
    assert "http" not in text
    assert 'name="viewport"' in text


def test_its_links_lead_to_the_files_of_the_session(session: Session) -> None:
    page = Collector()
    page.feed(write_page(session).read_text())
    links = [address for address in page.addresses if not address.startswith("data:")]
    assert {"predictions.parquet", "thresholds.json", "figures/roc_curves.png"} <= set(links)
    assert all((session.path / unquote(link)).is_file() for link in links)


def test_its_figures_do_not_depend_on_those_that_were_drawn_before(session: Session) -> None:
    page = write_page(session).read_text()
    (session.path / "figures" / "roc_curves.png").unlink()
    figure = Figure()
    figure.add_subplot().plot([0, 1])
    session.save_figure(figure, "a_figure_of_my_own")
    assert re.findall("<figcaption>.*</figcaption>", write_page(session).read_text()) == re.findall(
        "<figcaption>.*</figcaption>", page
    )


def test_it_says_what_metrics_json_says(session: Session) -> None:
    text = write_page(session).read_text()
    results = session.read_json("metrics.json")
    for group in ("NORM", "macro"):
        auc = results["fold_10"][group]["auc"]
        assert f"<td>{auc['value']:.3f}<small>{auc['low']:.3f} to {auc['high']:.3f}</small></td>" in text
    auc = results["fold_10"]["MI"]["auc"]
    assert auc["low"] is None
    assert f"<td>MI</td><td>2</td><td>{auc['value']:.3f}</td>" in text
    assert f"macro AUC on fold 10: <b>{results['fold_10']['macro']['auc']['value']:.3f}" in text
    assert "1,000 bootstrap resamples of the 100 patients" in text
    assert results["bootstrap"]["fold_10"]["without_auc"]["MI"] > 0
    assert "here MI, are left out" in text
    summary = calibration_summary(fold_scores(pd.read_parquet(session.path / "predictions.parquet"), CLASSES, 10)).loc[
        "macro"
    ]
    assert f"<td>{summary['ece_after']:.3f}</td>" in text
    assert f"{summary['perfect_low']:.3f} to {summary['perfect_high']:.3f}" in text


def test_what_a_user_named_is_text_and_not_markup(session: Session) -> None:
    text = write_page(session).read_text()
    assert "a &lt;b&gt;bold&lt;/b&gt; name" in text
    assert not re.search("<b>bold", text)


def test_a_session_without_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EcgkitError, match="finish the session first"):
        write_page(Session(tmp_path))
