"""Marks are at the values, intervals have the right ends, and a figure shows what is not a difference."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from ecgkit.errors import EcgkitError
from ecgkit.evaluation.leaderboard import published
from ecgkit.plots.comparison import leaderboard, paired_differences
from ecgkit.plots.style import LONGEST_NAME


def make_table(n_rows: int = 5) -> pd.DataFrame:
    """Return the columns of a leaderboard that are drawn; the first row is the best, without a comparison."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(index=pd.Index([f"session_{i + 1}" for i in range(n_rows)], name="session"))
    table["configuration"] = [f"resnet1d, epochs {3 * i}" for i in range(n_rows)]
    table["seed"] = 0
    table["fold_9_auc"] = np.linspace(0.94, 0.90, n_rows)
    table["fold_10_auc"] = table["fold_9_auc"] - rng.uniform(0, 0.01, n_rows)
    table["fold_10_low"], table["fold_10_high"] = table["fold_10_auc"] - 0.007, table["fold_10_auc"] + 0.006
    table["difference"] = np.r_[np.nan, np.linspace(0.02, -0.02, n_rows - 1)]
    table["difference_low"], table["difference_high"] = table["difference"] - 0.008, table["difference"] + 0.009
    table["p_holm"] = np.r_[np.nan, np.full(n_rows - 1, 0.01)]
    return table


def points(figure: Figure, gid: str) -> np.ndarray:
    return np.asarray(next(line.get_xydata() for line in figure.axes[0].lines if line.get_gid() == gid))


def gids(figure: Figure) -> set[str]:
    return {str(line.get_gid()) for line in figure.axes[0].lines if line.get_gid()}


def intervals(figure: Figure) -> dict[int, tuple[float, float]]:
    """Return the ends of the interval in each row."""
    found = {}
    for lines in (one for one in figure.axes[0].collections if isinstance(one, LineCollection)):
        for segment in filter(len, lines.get_segments()):  # without an interval there is no line
            found[int(segment[0, 1])] = (float(segment[0, 0]), float(segment[1, 0]))
    return found


def row_names(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_leaderboard_has_both_folds_and_the_interval_of_fold_10() -> None:
    table = make_table()
    figure = leaderboard(table)
    np.testing.assert_allclose(points(figure, "fold 10")[:, 0], table["fold_10_auc"])
    np.testing.assert_allclose(points(figure, "fold 9")[:, 0], table["fold_9_auc"])
    drawn = intervals(figure)
    assert sorted(drawn) == list(range(5))
    np.testing.assert_allclose([drawn[row] for row in range(5)], table[["fold_10_low", "fold_10_high"]])
    assert row_names(figure)[0] == "resnet1d, epochs 0, seed 0: session_1"
    assert figure.axes[0].get_xlabel() == "macro AUC"
    # The first row is at the top.
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1]


def test_published_results_stand_below_with_their_year_and_their_own_intervals() -> None:
    table, references = make_table(), published("superclass")
    figure = leaderboard(table, references)
    names, drawn = row_names(figure), intervals(figure)
    assert len(names) == 5 + len(references)
    assert "resnet1d_wang, 2021" in names[5:]
    for row, reference in enumerate(references.itertuples(), start=5):
        assert names[row] == f"{reference.model}, {reference.year}"
        assert [reference.macro_auc, row] in points(figure, f"published {reference.regime}").tolist()
        assert (row in drawn) == (not np.isnan(reference.low))
        if row in drawn:
            assert drawn[row] == (reference.low, reference.high)
    assert legend_of(figure)[2:] == [
        "published, from scratch",
        "published, pretrained, fine-tuned",
        "published, pretrained, linear probe",
    ]


def test_configurations_are_named_with_their_seeds() -> None:
    table = make_table(2).set_index("configuration").assign(seeds=[3, 1])
    assert row_names(leaderboard(table)) == ["resnet1d, epochs 0 (3 seeds)", "resnet1d, epochs 3 (1 seed)"]


def test_a_row_without_an_interval_has_none() -> None:
    table = make_table()
    table.loc["session_2", ["fold_10_low", "fold_10_high"]] = np.nan
    assert sorted(intervals(leaderboard(table))) == [0, 2, 3, 4]


def test_differences_are_sorted_into_higher_lower_and_none_shown() -> None:
    table = make_table()
    figure = paired_differences(table, label="macro AUC on fold 10, less that of session_1")
    assert row_names(figure) == [f"resnet1d, epochs {3 * i}, seed 0: session_{i + 1}" for i in range(1, 5)]
    assert gids(figure) == {"higher", "lower", "no difference shown"}
    assert points(figure, "higher").tolist() == [[0.02, 0.0]]
    assert points(figure, "lower").tolist() == [[-0.02, 3.0]]
    np.testing.assert_allclose(points(figure, "no difference shown"), [[0.02 / 3, 1], [-0.02 / 3, 2]])
    assert intervals(figure)[0] == pytest.approx((0.012, 0.029))
    assert figure.axes[0].get_xlabel() == "macro AUC on fold 10, less that of session_1, 95 % over patients"
    assert 0.0 in [line.get_xdata()[0] for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.010"] * 4 + ["p (Holm)"]


def test_what_a_correction_takes_back_is_hollow() -> None:
    table = make_table().assign(p_holm=[np.nan, 0.2, 1.0, 1.0, 0.0001])
    figure = paired_differences(table)
    assert gids(figure) == {"higher by itself, not after Holm", "lower", "no difference shown"}
    hollow = next(line for line in figure.axes[0].lines if line.get_gid() == "higher by itself, not after Holm")
    assert hollow.get_markerfacecolor() == "white"
    assert "< 0.001" in [text.get_text() for text in figure.axes[0].texts]


def test_plain_p_values_and_none_at_all() -> None:
    table = make_table().rename(columns={"p_holm": "p"})
    assert "p" in [text.get_text() for text in paired_differences(table).axes[0].texts]
    assert not paired_differences(table.drop(columns="p")).axes[0].texts


@pytest.mark.parametrize("n_rows", [2, 40])
def test_few_and_many_rows_and_long_names_fit(n_rows: int) -> None:
    table = make_table(n_rows)
    table["configuration"] = "ensemble (stacking), members " + ", ".join(f"session_{i}" for i in range(30))
    for figure in (leaderboard(table, published("all")), paired_differences(table)):
        figure.draw_without_rendering()
        width = figure.bbox.width
        frame = figure.axes[0].get_window_extent()
        assert frame.width > 0.45 * width
        for label in figure.axes[0].get_yticklabels():
            assert label.get_window_extent().x0 >= 0
        # No mark is under the legend.
        assert figure.legends[0].get_window_extent().y0 >= frame.y1


def test_a_long_configuration_is_shortened_between_its_model_and_its_session() -> None:
    table = make_table(2)
    table["configuration"] = "resnet1d, auxiliary {'subclass': 0.5, 'all': 0.5}, epochs 14, test False"
    figure = leaderboard(table, pd.DataFrame())
    figure.draw_without_rendering()
    for text, name, seed in zip(figure.axes[0].get_yticklabels(), table.index, table["seed"], strict=True):
        assert text.get_text().startswith("resnet1d, ")
        assert text.get_text().endswith(f", seed {seed}: {name}")
        assert len(text.get_text()) <= LONGEST_NAME


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(EcgkitError, match="no session to draw"):
        leaderboard(make_table().iloc[:0])
    with pytest.raises(EcgkitError, match="no difference to draw"):
        paired_differences(make_table(1))
