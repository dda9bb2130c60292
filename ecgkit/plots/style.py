"""The look of all figures, and how a figure is made so that a notebook shows it once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 10.0
"""Width of a figure in inches, that of a notebook's page."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that colour-blind readers can tell apart (Okabe and Ito 2008, without the yellow that white swallows)."""

LINES = ("-", "--", ":")
"""Line styles, which take over where the colours have run out."""

GREY = "#8C8C8C"
"""The colour of what stands in the background."""

LIGHT_GREY = "#D5D5D5"
"""The colour of what is not known, does not hold, or is only there to compare with."""

SEX_COLORS = {"female": COLORS[1], "male": COLORS[0]}
"""The colours of the words that a record's sex is."""

STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "figure.facecolor": "white",
    "font.size": 10,
    "figure.labelsize": 10,
    "figure.titlesize": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLORS),
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
}
"""The settings of matplotlib that `use_style` makes and that every figure of the package is drawn with."""


def use_style() -> None:
    """Set the style for all figures, and prepare the notebook to show those that a cell ends with."""
    import matplotlib.pyplot as plt

    mpl.rcParams.update(STYLE)
    # A kernel learns how to show a Figure when pyplot loads its backend, and pyplot loads it as late as it can.
    plt.switch_backend(mpl.get_backend())


def new_figure(width: float = WIDTH, height: float = 4.0, *, layout: str | None = "constrained") -> Figure:
    """Make an empty figure that pyplot does not keep: it is shown where a cell returns it, once, and then forgotten.

    Parameters
    ----------
    width, height : float
        Size in inches.
    layout : str or None, default "constrained"
        The layout engine; None where the axes are placed to the millimetre.

    Returns
    -------
    Figure
    """
    return Figure(figsize=(width, height), layout=layout)  # type: ignore[arg-type] # the names are those of matplotlib


def line_styles(number: int) -> Iterator[dict[str, Any]]:
    """Give each of ``number`` lines its own colour and line style; after 21 they come again."""
    for i in range(number):
        yield {"color": COLORS[i % len(COLORS)], "linestyle": LINES[i // len(COLORS) % len(LINES)]}


def legend_beside(axes: Axes, **keywords: Any) -> None:
    """Put the legend to the right of the axes, where it covers no data."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, **keywords)


def legend_above(axes: Axes, **keywords: Any) -> None:
    """Put the legend into one line above the axes, at the right, where it covers no data and no title."""
    columns = len(axes.get_legend_handles_labels()[1]) or 1
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, ncols=columns, **keywords)


def point_size(number: int) -> float:
    """Give the area of a point, in points squared, that suits so many of them."""
    return min(max(16000 / max(number, 1), 1.5), 24.0)


def grid_of_axes(figure: Figure, number: int, *, columns: int) -> list[Axes]:
    """Fill a figure with ``number`` axes in rows of ``columns``, and leave the rest of the last row empty."""
    rows = -(-number // columns)
    return [figure.add_subplot(rows, columns, i + 1) for i in range(number)]


def figure_of_cells(
    number: int, *, title: str, x_label: str, y_label: str, cell_height: float, gaps: tuple[float, float]
) -> tuple[Figure, list[Axes]]:
    """Make a figure with ``number`` equal axes, five in a row, and one label for all of their x and y axes.

    Parameters
    ----------
    number : int
        Number of axes; the rest of the last row stays empty.
    title, x_label, y_label : str
        What stands above, below and to the left of all.
    cell_height : float
        Height of each of the axes in inches.
    gaps : tuple of float
        Inches between neighbours, side by side and one above the other.

    Returns
    -------
    tuple of Figure and list of Axes
    """
    columns = min(number, 5)
    rows = -(-number // columns)
    left, right, top, bottom = 0.8, 0.15, 0.85, 0.65
    width = min(WIDTH, max(7.5, left + right + 2.0 * columns + gaps[0] * (columns - 1)))
    height = top + bottom + cell_height * rows + gaps[1] * (rows - 1)
    # The room is known, so it is not measured: a layout engine takes half a minute for seventy axes.
    figure = new_figure(width, height, layout=None)
    grid = figure.add_gridspec(
        rows,
        columns,
        left=left / width,
        right=1 - right / width,
        top=1 - top / height,
        bottom=bottom / height,
        wspace=gaps[0] * columns / (width - left - right - gaps[0] * (columns - 1)),
        hspace=gaps[1] / cell_height,
    )
    figure.text(0.1 / width, 1 - 0.12 / height, title, fontsize=11, va="top")
    figure.supxlabel(x_label, y=0.1 / height, va="bottom")
    figure.supylabel(y_label, x=0.1 / width, ha="left")
    return figure, [figure.add_subplot(grid[i // columns, i % columns]) for i in range(number)]
