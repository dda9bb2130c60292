"""Figures of filtered beats and spectrograms."""

from __future__ import annotations

import numpy as np
import pytest

from ecgkit import plots
from ecgkit.errors import EcgkitError
from ecgkit.signals.filter_effects import filtered_beats
from ecgkit.signals.filters import Filters
from ecgkit.sources.demo import Demo


def test_each_lead_has_a_line_per_filter_and_the_level_of_st_in_its_legend() -> None:
    record = Demo(n_records=50).example()
    found = filtered_beats(record, {"unfiltered": Filters(), "0.5-40 Hz": Filters(bandpass=(0.5, 40.0))})
    figure = plots.plot_filtered_beats(found, leads=("V1", "V6"))
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == ["V1", "V6"]
    _, labels = figure.axes[1].get_legend_handles_labels()
    assert labels[0] == f"unfiltered: ST {found.st['unfiltered'][11]:+.2f}"
    with pytest.raises(EcgkitError, match="V9"):
        plots.plot_filtered_beats(found, leads=("V9",))


def test_a_spectrogram_shows_frequencies_up_to_half_the_rate() -> None:
    times = np.arange(1000) / 100
    figure = plots.plot_spectrogram(np.tile(np.sin(2 * np.pi * 8 * times), (12, 1)), sampling_rate=100)
    course, power = figure.axes[:2]
    assert course.get_ylabel() == "II (mV)"
    assert power.get_ylim() == (0, 50)
    assert "Hz" in power.get_ylabel()
