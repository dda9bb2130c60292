"""Figures appear in a notebook, once each, and pyplot keeps none of them."""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import ecgkit
from ecgkit.plots.style import COLORS, figure_of_cells, line_styles

CELLS = (
    "from ecgkit.plots import ecg, style\nimport numpy as np\nstyle.use_style()",
    "signal = np.sin(np.arange(1000) / 16) * np.ones((12, 1))\necg.plot_ecg(signal, sampling_rate=100)",
    "figure = ecg.plot_ecg(signal, sampling_rate=100)",
    "figure",
    "import matplotlib.pyplot as plt\nprint(len(plt.get_fignums()))",
)


def test_a_figure_at_the_end_of_a_cell_is_shown_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel is another process: it must find the package that is tested here.
    monkeypatch.setenv("PYTHONPATH", str(Path(ecgkit.__file__).parents[1]))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    images = [sum("image/png" in output.get("data", {}) for output in cell["outputs"]) for cell in notebook.cells]
    assert images == [0, 1, 0, 1, 0]
    assert notebook.cells[-1]["outputs"][0]["text"].strip() == "0"


def test_lines_differ_as_long_as_they_can() -> None:
    styles = [(style["color"], style["linestyle"]) for style in line_styles(21)]
    assert len(set(styles)) == 21
    assert len(set(COLORS)) == len(COLORS)


@pytest.mark.parametrize("number", [1, 3, 5, 6, 71])
def test_cells_have_the_height_asked_for_and_stay_in_the_figure(number: int) -> None:
    keywords = dict(title="", x_label="x", y_label="y")
    figure, cells = figure_of_cells(number, cell_height=1.4, gaps=(0.4, 0.6), **keywords)
    assert len(cells) == number
    boxes = np.array([[box.x0, box.x1, box.y0, box.y1] for box in (axes.get_position() for axes in cells)])
    np.testing.assert_allclose((boxes[:, 3] - boxes[:, 2]) * figure.get_figheight(), 1.4)
    assert boxes.min() > 0
    assert boxes.max() < 1
    assert figure.get_figwidth() <= 10
