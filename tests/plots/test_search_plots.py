"""The figures of a search show each trial once, the best so far, and importances as shares."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from ecgkit.errors import EcgkitError
from ecgkit.plots.search import importances, slices, trials


def make_trials() -> pd.DataFrame:
    """Give five trials, the best first, as a search's table has them."""
    return pd.DataFrame(
        {
            "trial": [3, 1, 0, 2, 4],
            "state": ["done", "done", "done", "pruned", "failed"],
            "fold_9_macro_auc": [0.93, 0.92, 0.90, 0.85, np.nan],
            "learning_rate": [1e-3, 2e-3, 4e-4, 9e-3, 5e-2],
            "batch_size": [32, 64, 32, 64, 32],
            "metadata": [True, False, True, False, True],
            "schedule": ["cosine", "one_cycle", "cosine", "cosine", "one_cycle"],
        }
    )


def points(axes: Axes, state: str) -> list[list[float]]:
    line = next(line for line in axes.lines if line.get_gid() == state)
    return np.asarray(line.get_xydata()).tolist()


def test_trials_are_in_the_order_in_which_they_began_and_pruned_ones_set_no_record() -> None:
    table = make_trials()
    table.loc[3, "fold_9_macro_auc"] = 0.99
    (axes,) = trials(table).axes
    assert points(axes, "done") == [[0, 0.90], [1, 0.92], [3, 0.93]]
    assert points(axes, "pruned") == [[2, 0.99]]
    assert points(axes, "best") == [[0, 0.90], [1, 0.92], [3, 0.93]]
    assert axes.get_xlabel() == "trial"
    assert axes.get_ylabel() == "macro AUC on fold 9"


def test_a_worse_trial_leaves_the_best_where_it_was() -> None:
    table = make_trials().assign(fold_9_macro_auc=[0.7, 0.95, 0.90, 0.85, np.nan])
    (axes,) = trials(table).axes
    assert [auc for _, auc in points(axes, "best")] == [0.90, 0.95, 0.95]


def test_the_most_important_parameter_is_on_top() -> None:
    (axes,) = importances({"noise": 0.1, "learning_rate": 0.7, "mixup": 0.2}, n_trials=12).axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    widths = [bar.get_width() for bar in axes.patches]  # type: ignore[attr-defined]
    assert dict(zip(names, widths, strict=True)) == {"noise": 0.1, "mixup": 0.2, "learning_rate": 0.7}
    assert names[-1] == "learning_rate"
    assert axes.get_ylim()[1] > axes.get_ylim()[0]
    assert "12 finished trials" in axes.get_title()


def test_a_slice_shows_every_trial_with_an_auc_at_its_value() -> None:
    figure = slices(make_trials(), ["learning_rate", "schedule", "batch_size", "metadata"], log=["learning_rate"])
    rate, schedule, batch, metadata = figure.axes
    assert points(rate, "done") == [[1e-3, 0.93], [2e-3, 0.92], [4e-4, 0.90]]
    assert points(batch, "pruned") == [[64, 0.85]]
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "linear", "linear", "linear"]
    figure.draw_without_rendering()
    assert [text.get_text() for text in schedule.get_xticklabels()] == ["cosine", "one_cycle"]
    assert [text.get_text() for text in metadata.get_xticklabels()] == ["True", "False"]


def test_what_cannot_be_drawn_is_refused() -> None:
    table = make_trials()
    with pytest.raises(EcgkitError, match="no column 'state'"):
        trials(table.drop(columns="state"))
    with pytest.raises(EcgkitError, match="no column 'mixup'"):
        slices(table, ["mixup"])
    with pytest.raises(EcgkitError, match="no trial is done"):
        trials(table[table["state"] == "pruned"])
    with pytest.raises(EcgkitError, match="name at least one"):
        slices(table, [])
    with pytest.raises(EcgkitError, match="at least one"):
        importances({}, n_trials=3)
