"""The figures of a data set show the numbers of the tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ecgkit.plots.dataset import class_counts, cooccurrence, fold_sizes, metadata_by_sex

LABELS = pd.DataFrame(
    {
        "NORM": [True, True, False, False, False],
        "MI": [False, False, True, True, False],
        "CD": [False, False, True, False, False],
    }
)


def rectangles_of(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def title_of(axes: Axes) -> str:
    """Return the title, which is on the left or in the middle, depending on the style."""
    return axes.get_title(loc="left") + axes.get_title()


def make_records(n_records: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"patient_id": np.arange(n_records) // 2, "fold": np.arange(n_records) // 2 % 10 + 1})
    table["sex"] = pd.array(np.where(rng.random(n_records) < 0.5, "male", "female"), dtype="string")
    table["age"] = rng.normal(60, 15, n_records).clip(18, 90)
    table["height"] = rng.normal(170, 9, n_records)
    table["weight"] = rng.normal(75, 12, n_records)
    table.loc[:99, "height"] = np.nan
    table.loc[0:9, "sex"] = pd.NA
    return table


def test_counts_and_percentages_of_the_classes() -> None:
    axes = class_counts(LABELS).axes[0]
    assert [patch.get_width() for patch in rectangles_of(axes)] == [2, 2, 1]
    assert [text.get_text() for text in axes.texts] == ["2  (40.0%)", "2  (40.0%)", "1  (20.0%)"]
    assert title_of(axes) == "5 records, 1.00 classes per record"
    assert axes.yaxis_inverted()


def test_a_figure_of_many_classes_grows() -> None:
    many = pd.DataFrame(np.eye(71, dtype=bool), columns=[f"C{i}" for i in range(71)])
    assert class_counts(many).get_figheight() > 2 * class_counts(LABELS).get_figheight()
    figure = cooccurrence(many)
    assert figure.get_figwidth() <= 12
    assert not figure.axes[0].texts


def test_cooccurrence_is_the_share_of_the_row() -> None:
    figure = cooccurrence(LABELS)
    shares = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(shares, [[100, 0, 0], [0, 100, 50], [0, 100, 100]])
    assert "50%\n1" in [text.get_text() for text in figure.axes[0].texts]


def test_a_class_without_records_leaves_its_row_blank() -> None:
    figure = cooccurrence(LABELS.assign(HYP=False))
    shares = figure.axes[0].images[0].get_array()
    assert shares is not None
    assert np.isnan(np.ma.filled(shares, np.nan)[3]).all()
    assert len(figure.axes[0].texts) == 12
    figure.draw_without_rendering()


def test_metadata_has_units_and_counts_what_is_unknown() -> None:
    figure = metadata_by_sex(make_records())
    assert [axes.get_xlabel() for axes in figure.axes] == ["age (years)", "height (cm)", "weight (kg)"]
    notes = [title_of(axes) for axes in figure.axes]
    assert "10 of 400 unknown" in notes[0]
    assert "100 of 400 unknown" in notes[1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["female", "male"]


def test_one_absurd_height_does_not_stretch_the_axis() -> None:
    records = make_records(4000)
    records.loc[200, "height"] = 6.0
    axes = metadata_by_sex(records).axes[1]
    assert axes.get_xlim()[0] > 100


def test_metadata_that_nobody_knows_is_an_empty_panel() -> None:
    figure = metadata_by_sex(make_records().assign(weight=np.nan))
    assert not figure.axes[2].patches
    figure.draw_without_rendering()
    assert [len(axes.get_xticks()) > 0 for axes in figure.axes] == [True, True, False]


def test_fold_sizes_are_records_and_patients() -> None:
    figure = fold_sizes(make_records())
    assert [patch.get_height() for patch in rectangles_of(figure.axes[0])] == [40] * 10
    assert figure.axes[0].texts[0].get_text() == "40\n(20)"
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]  # type: ignore[union-attr]
    assert names == ["training (320)", "validation (40)", "test (40)"]
