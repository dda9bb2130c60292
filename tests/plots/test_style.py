"""Figures appear in a notebook, once each, and pyplot keeps none of them."""

from __future__ import annotations

import ast
import io
import re
from itertools import pairwise
from pathlib import Path
from typing import Literal

import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from nbclient import NotebookClient

import ecgkit
from ecgkit.plots.style import (
    COLORS,
    LONGEST_NAME,
    count_ticks,
    figure_of_cells,
    heat_map,
    legend_beside,
    line_styles,
    log_scale,
    name_rows,
    new_axes,
    new_figure,
    percentage,
    shortened,
)

PLOTS = Path(ecgkit.__file__).parent / "plots"
CELLS = (
    "from ecgkit.plots import ecg, style\nimport numpy as np\nstyle.use_style()",
    "signal = np.sin(np.arange(1000) / 16) * np.ones((12, 1))\necg.plot_ecg(signal, sampling_rate=100)",
    "figure = ecg.plot_ecg(signal, sampling_rate=100)",
    "figure",
    "import matplotlib.pyplot as plt\nprint(len(plt.get_fignums()))",
    "import pandas as pd\npd.DataFrame({'auc': range(2 * 72)})",
)


def test_a_figure_at_the_end_of_a_cell_is_shown_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel is another process: it must find the package that is tested here.
    monkeypatch.setenv("PYTHONPATH", str(Path(ecgkit.__file__).parents[1]))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    images = [sum("image/png" in output.get("data", {}) for output in cell["outputs"]) for cell in notebook.cells]
    assert images == [0, 1, 0, 1, 0, 0]
    assert notebook.cells[-2]["outputs"][0]["text"].strip() == "0"
    # Two folds of 71 classes and their mean: pandas itself would display ten of the rows.
    assert notebook.cells[-1]["outputs"][0]["data"]["text/html"].count("<td>") == 144


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


NAMES = ("$\\frac{", "$x_1$ \\alpha", "\\$", "\u5fc3\u96fb\u56f3", "a\u202egnp", "\x1b[2J", "x" * 4000 + ".dat")


def labelled(figure: Figure, names: tuple[str, ...]) -> bytes:
    """Use names wherever a figure has texts, and return what is drawn of them."""
    axes = figure.axes[0]
    for name in names:
        axes.plot([0, len(names)], [0, len(names)], label=name)
    axes.set(title=names[0], xlabel=names[-1])
    name_rows(axes, names)
    axes.legend()
    figure.suptitle(names[-1])
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


@pytest.mark.parametrize("style", ["png", "svg", "pdf"])
def test_names_are_drawn_as_texts_and_leave_room_for_the_figure(style: str) -> None:
    figure, axes = new_axes()
    labelled(figure, NAMES)
    figure.savefig(io.BytesIO(), format=style)
    box = axes.get_position()
    assert box.width > 0.3  # a name of 4,000 letters beside the axes would leave nothing
    ticks = [label.get_text() for label in axes.get_yticklabels()]
    assert ticks[:-1] == list(NAMES[:-1])
    assert ticks[-1].endswith("x.dat")
    assert len(ticks[-1]) == LONGEST_NAME


LONG = tuple(f"{number:02d} " + "abnormal repolarisation of the wall " * 2 + "." for number in range(8))


def test_titles_of_neighbours_do_not_overlap() -> None:
    figure, cells = figure_of_cells(5, title="", x_label="", y_label="", cell_height=1.0, gaps=(0.4, 0.6))
    for axes, name in zip(cells, LONG, strict=False):
        axes.set_title(f"{name} (0.25)\nsecond line")
    figure.savefig(io.BytesIO(), format="png")
    boxes = [axes.title.get_window_extent() for axes in cells]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert all(axes.title.get_text().startswith(f"0{number} ") for number, axes in enumerate(cells))
    assert all(axes.title.get_text().endswith("0.25)\nsecond line") for axes in cells)


@pytest.mark.parametrize("place", ["left", "center"])
def test_titles_next_to_a_colour_bar_do_not_overlap(place: Literal["left", "center"]) -> None:
    figure = new_figure(6, 3)
    panels = figure.subplots(1, 4)
    for axes, name in zip(panels, LONG, strict=False):
        image = axes.imshow(np.eye(3), aspect="auto")
        axes.set_title(f"{name}\n7 of 60", loc=place)
    figure.colorbar(image, ax=panels, label="probability")
    figure.savefig(io.BytesIO(), format="png")
    texts = [
        text for axes in panels for text in axes.get_children() if isinstance(text, Text) and "of 60" in text.get_text()
    ]
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) == 4
    assert all(one.x1 < other.x0 for one, other in pairwise([*boxes, figure.axes[-1].get_window_extent()]))
    assert all(text.get_text().endswith("\n7 of 60") for text in texts)


@pytest.mark.parametrize(("names", "rotation"), [(LONG, 90), (tuple("ABCDEFGH"), 0)])
def test_a_table_of_long_names_has_room_for_its_cells(names: tuple[str, ...], rotation: float) -> None:
    figure, axes = new_axes(6, 5)
    heat_map(axes, np.zeros((8, 8)), names, names)
    figure.savefig(io.BytesIO(), format="png")
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {rotation}
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert axes.get_position().height * figure.get_figheight() > 3
    assert figure.get_figwidth() <= 10


def test_a_legend_of_long_names_is_inside_the_figure() -> None:
    figure, axes = new_axes(8.6, 5.6)
    axes.set(aspect="equal", anchor="W")
    for name in LONG:
        axes.plot([0, 1], [0, 1], label=name)
    legend_beside(axes, title="AUC")
    figure.savefig(io.BytesIO(), format="png")
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_window_extent().x1 <= figure.bbox.x1
    assert axes.get_position().width > 0.4


def test_labels_that_the_package_writes_itself_are_drawn_whole() -> None:
    nodes = [node for path in PLOTS.glob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    labels = [node.value for node in nodes if isinstance(node, ast.keyword) and node.arg == "label"]
    labels += [node.value for node in nodes if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "label"]
    written = [label for label in labels if isinstance(label, ast.Constant | ast.JoinedStr)]
    texts = [re.sub(r"{.*?}", "12", ast.unparse(label).strip("f'\"")) for label in written]
    assert len(texts) > 40
    assert [text for text in texts if len(text) > LONGEST_NAME] == []


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0.0%"), (0.0004, "<0.1%"), (0.5, "50.0%"), (0.9997, ">99.9%"), (1.0, "100.0%")]
)
def test_only_none_is_zero_percent_and_only_all_is_a_hundred(share: float, text: str) -> None:
    assert percentage(share) == text


def test_counts_have_whole_ticks_with_separators() -> None:
    for top in (3, 21_799):
        figure, axes = new_axes()
        axes.set_ylim(0, top)
        count_ticks(axes.yaxis)
        figure.draw_without_rendering()
        shown = [tick.get_text() for tick in axes.get_yticklabels()]
        assert shown == [f"{int(text.replace(',', '')):,}" for text in shown]
        assert len(set(shown)) == len(shown)


def test_a_dollar_sign_starts_no_formula() -> None:
    plain, other = (labelled(new_axes()[0], (name,)) for name in ("$x$", "x"))
    assert plain != other


@pytest.mark.parametrize(
    ("limits", "expected"),
    [((0.5, 20000), ["1", "10", "100", "1000", "10000"]), ((1e-9, 1e-3), ["10⁻⁹", "10⁻⁷", "10⁻⁵", "0.001"])],
)
def test_numbers_of_a_logarithmic_axis_are_plain(limits: tuple[float, float], expected: list[str]) -> None:
    figure, axes = new_axes()
    log_scale(axes)
    axes.set_ylim(*limits)
    figure.draw_without_rendering()
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert set(expected) <= set(shown)
    assert not any("$" in text for text in shown)


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [("abc", 3, "abc"), ("0123456789abcdefghij.dat", 16, "012345 ... j.dat"), ("a\n" + "b" * 9, 8, "a\nb ... bb")],
)
def test_a_long_name_keeps_its_beginning_and_its_end(text: str, most: int, expected: str) -> None:
    assert shortened(text, most) == expected
