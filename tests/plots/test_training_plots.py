"""The figure of a training marks the epoch whose weights were kept."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ecgkit.errors import EcgkitError
from ecgkit.plots.training import history


def make_history(auc: list[float]) -> pd.DataFrame:
    epochs = np.arange(1, len(auc) + 1)
    return pd.DataFrame(
        {
            "epoch": epochs,
            "train_loss": 0.5 / epochs,
            "validation_loss": 0.6 / epochs,
            "validation_macro_auc": auc,
            "learning_rate": 1e-3,
            "seconds": 40.0,
        }
    )


def test_the_first_epoch_with_the_highest_auc_is_marked() -> None:
    figure = history(make_history([0.8, 0.92, 0.91, 0.92]))
    mark = next(line for line in figure.axes[1].lines if line.get_gid() == "best")
    assert np.asarray(mark.get_xydata())[0].tolist() == [2, 0.92]


def test_curves_and_units() -> None:
    figure = history(make_history([0.8, 0.9, 0.95]))
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch"] * 3
    np.testing.assert_allclose(np.asarray(figure.axes[0].lines[1].get_ydata()), np.array([0.6, 0.3, 0.2]))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["training", "validation", "best epoch (3)"]


def test_an_epoch_without_an_auc_is_not_the_best() -> None:
    figure = history(make_history([np.nan, 0.7]))
    figure.draw_without_rendering()
    assert "0.7000" in figure.axes[1].get_title(loc="left") + figure.axes[1].get_title()


def test_what_is_no_history_is_refused() -> None:
    with pytest.raises(EcgkitError, match="no epoch"):
        history(make_history([]))
    with pytest.raises(EcgkitError, match="no column 'train_loss'"):
        history(make_history([0.8]).drop(columns="train_loss"))
