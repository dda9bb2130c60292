"""The style of all figures, and functions that make and arrange them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, LogFormatter, MaxNLocator, StrMethodFormatter
from numpy.typing import ArrayLike, NDArray

WIDTH = 10.0
"""Width of a figure in inches, that of a notebook's page."""

LONGEST_LINE, LONGEST_NAME = 130, 43
"""Letters of a line, such as a title, and of a name next to an axis or in a legend."""

LONGEST_TABLE = 200
"""Rows up to which a notebook displays a table whole: more than 71 classes on two folds have."""

SHORTEST_TITLE = 12
"""Letters to which a title is shortened at most."""

LETTER = 0.085
"""Width of a letter of a name in inches."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that colour-blind readers can distinguish (Okabe and Ito 2008, without yellow, hard to see on white)."""

LINES = ("-", "--", ":")
"""Line styles, which change when all colours have been used."""

GREY = "#8C8C8C"
"""The colour of the background."""

LIGHT_GREY = "#D5D5D5"
"""The colour of unknown values and of references."""

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

SEX_COLORS = {"female": COLORS[1], "male": COLORS[0]}
"""The colours of the sexes."""

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
"""The settings of matplotlib for all figures of the package; see `use_style`."""


def use_style() -> None:
    """Set the style for all figures, and let a notebook display the figure or the long table that a cell returns."""
    import matplotlib.pyplot as plt
    import pandas as pd

    pd.options.display.max_rows = LONGEST_TABLE
    mpl.rcParams.update(STYLE)
    # A kernel can display a Figure once pyplot has loaded its backend, which it does as late as possible.
    plt.switch_backend(mpl.get_backend())


class PlainFigure(Figure):
    """A figure whose texts may be names from files: a ``$`` starts no formula, and what has no room is shortened."""

    def draw(self, renderer: RendererBase) -> None:
        """Draw the figure; characters that the font lacks are boxes, without a warning."""
        with mpl.rc_context({"text.parse_math": False}), warnings.catch_warnings():  # ticks are made while drawing
            warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
            _shorten_names(self)
            for text in self.findobj(Text):
                assert isinstance(text, Text)  # noqa: S101 - findobj returns what it is asked for
                text.set_parse_math(False)
                text.set_text(shortened(text.get_text(), LONGEST_LINE))
            _shorten_titles(self, renderer)
            super().draw(renderer)


def _shorten_names(figure: Figure) -> None:
    """Shorten what ticks and the entries of legends are called."""
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        names = [label.get_text() for label in axis.get_ticklabels()] if _is_named(axis) else []
        if any(len(name) > LONGEST_NAME for name in names):
            axis.set_ticklabels([shortened(name, LONGEST_NAME) for name in names])
    for legend in figure.findobj(Legend):
        assert isinstance(legend, Legend)  # noqa: S101 - as above
        for text in legend.get_texts():
            text.set_text(shortened(text.get_text(), LONGEST_NAME))


def _titles(axes: Axes) -> list[Text]:
    """Return the titles of axes, at the left, in the middle and at the right."""
    written = {axes.get_title(place) for place in ("left", "center", "right")} - {""}
    return [text for text in axes.get_children() if isinstance(text, Text) and text.get_text() in written]


def _shorten_titles(figure: Figure, renderer: RendererBase) -> None:
    """Shorten the titles that would reach into the axes next to theirs, or out of the figure."""
    titles = [(axes, title, title.get_text()) for axes in figure.axes for title in _titles(axes)]
    if not any(title.get_window_extent(renderer).width > 0.6 * axes.bbox.width for axes, title, _ in titles):
        return
    if (engine := figure.get_layout_engine()) is not None:
        for _, title, text in titles:
            title.set_text(shortened(text, SHORTEST_TITLE))  # a long one would take the room of its axes
        engine.execute(figure)
    boxes = [axes.get_window_extent(renderer) for axes in figure.axes]
    for axes, title, text in titles:
        own = axes.get_window_extent(renderer)
        row = [box for box in boxes if box.y0 < own.y1 and box.y1 > own.y0]
        right = min((box.x0 for box in row if box.x0 >= own.x1), default=figure.bbox.x1) - own.x1
        left = own.x0 - max((box.x1 for box in row if box.x1 <= own.x0), default=figure.bbox.x0)
        beyond = {"left": right, "right": left, "center": min(left, right)}
        room = own.width + beyond[title.get_horizontalalignment()]
        title.set_text(text)
        fitting = max(map(len, text.split("\n"))) * 0.96 * room / max(title.get_window_extent(renderer).width, 1.0)
        title.set_text(shortened(text, max(int(fitting), SHORTEST_TITLE)))


def _is_named(axis: Axis) -> bool:
    """Return True if the ticks of an axis have a place each, as names have."""
    return isinstance(axis.get_major_locator(), FixedLocator)


def shortened(text: str, most: int) -> str:
    """Return a text with at most so many letters per line: its beginning and its end, which tells files apart."""
    lines = text.split("\n")
    end = most // 3
    return "\n".join(line if len(line) <= most else f"{line[: most - end - 5]} ... {line[-end:]}" for line in lines)


def one_line(text: str, most: int) -> str:
    """Return a text as one line of at most so many letters."""
    return shortened(" ".join(text.split()), most)


def new_figure(width: float = WIDTH, height: float = 4.0, *, layout: str | None = "constrained") -> Figure:
    """Make an empty figure that pyplot does not manage, so that a notebook displays it once.

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
    size = (width, height)
    return PlainFigure(figsize=size, layout=layout)  # type: ignore[arg-type] # the names are those of matplotlib


def new_axes(width: float = WIDTH, height: float = 4.0) -> tuple[Figure, Axes]:
    """Make a figure with one pair of axes."""
    figure = new_figure(width, height)
    return figure, figure.add_subplot()


def line_styles(number: int) -> Iterator[dict[str, Any]]:
    """Yield a colour and line style for each of ``number`` lines; they repeat after 21."""
    for i in range(number):
        yield {"color": COLORS[i % len(COLORS)], "linestyle": LINES[i // len(COLORS) % len(LINES)]}


def legend_beside(axes: Axes, **keywords: Any) -> None:
    """Put the legend to the right of the axes; with long names in it, a narrow figure becomes wider."""
    figure, names = axes.get_figure(root=True), axes.get_legend_handles_labels()[1]
    if figure is not None and max(map(len, names), default=0) > LONGEST_NAME // 2:
        figure.set_figwidth(max(figure.get_figwidth(), WIDTH))
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, **keywords)


def legend_above(axes: Axes, **keywords: Any) -> None:
    """Put the legend in one line above the axes, at the right."""
    columns = len(axes.get_legend_handles_labels()[1]) or 1
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, ncols=columns, **keywords)


def name_rows(axes: Axes, names: Sequence[str], *, bold: Sequence[int] = ()) -> None:
    """Name the rows 0, 1, ... of horizontal marks, the first at the top, some of them in bold."""
    axes.set_yticks(range(len(names)), names)
    for row in bold:
        axes.get_yticklabels()[row].set_fontweight("bold")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)


def dot(color: str, label: str, *, marker: str = "o", face: str | None = None) -> Line2D:
    """Make an entry of a legend, hollow if ``face`` is white."""
    return Line2D([], [], linestyle="", marker=marker, color=color, markerfacecolor=face or color, label=label)


class _PlainPowers(LogFormatter):
    """Numbers of a logarithmic axis without a formula: 0.1, 1, 10, and 10⁻⁶ where they would be long."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        if not super().__call__(x, pos):
            return ""
        factor, _, power = f"{x:.0e}".partition("e")
        raised = f"10{str(int(power)).translate(SUPERSCRIPTS)}"
        return f"{x:g}" if 1e-4 <= x < 1e6 else raised if factor == "1" else f"{factor}·{raised}"


def count_ticks(axis: Axis) -> None:
    """Give an axis of counts whole numbers with separators of thousands, as counts in texts have."""
    axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def percentage(share: float) -> str:
    """Write a share as a percentage; only none is 0.0%, and only all is 100.0%."""
    if 0 < share < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


def log_scale(axes: Axes) -> None:
    """Make the vertical axis logarithmic."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_PlainPowers())
    axes.yaxis.set_minor_formatter(_PlainPowers())


def heat_map(
    axes: Axes,
    values: NDArray[np.floating],
    columns: Sequence[str],
    rows: Sequence[str],
    write: Callable[[int, int], str] | None = None,
    *,
    limits: tuple[float, float] = (0.0, 100.0),
    colors: str = "Blues",
    font: float = 9.0,
    aspect: str = "equal",
) -> AxesImage:
    """Draw a table as colours, blank where it is NaN, and in each cell what ``write`` returns for (row, column).

    The figure grows with the names that have no room; those of the columns are upright where they would overlap.
    """
    rotation = _make_room(axes, columns, rows)
    image = axes.imshow(values, cmap=colors, vmin=limits[0], vmax=limits[1], aspect=aspect)  # type: ignore[arg-type]
    for (row, column), value in np.ndenumerate(values):
        if write is not None and not np.isnan(value):
            color = "white" if abs(value) > 0.6 * limits[1] else "black"
            axes.text(column, row, write(row, column), ha="center", va="center", color=color, fontsize=font)
    axes.set_xticks(range(len(columns)), columns, rotation=rotation)
    axes.set_yticks(range(len(rows)), rows)
    axes.spines[:].set_visible(False)
    return image


def _make_room(axes: Axes, columns: Sequence[str], rows: Sequence[str]) -> float:
    """Enlarge a figure for the names of a table, and return the rotation of those of its columns."""
    figure, spec = axes.get_figure(root=True), axes.get_subplotspec()
    assert figure is not None and spec is not None  # noqa: S101, PT018 - axes of `new_figure`
    width, height = figure.get_size_inches()
    column, row = (LETTER * min(max(map(len, map(str, names)), default=0), LONGEST_NAME) for names in (columns, rows))
    is_upright = column * len(columns) > width / spec.get_gridspec().ncols - row
    if axes is figure.axes[0]:
        further = max(0.0, column - 1) if is_upright else 0.0
        figure.set_size_inches(max(width, min(width + row - 1, WIDTH)), height + further)
    return 90.0 if is_upright else 0.0


def histograms(axes: Axes, groups: Mapping[str, tuple[ArrayLike, str]], edges: ArrayLike) -> None:
    """Draw histograms of groups over each other; by the name for the legend: the values, and the colour."""
    for name, (values, color) in groups.items():
        counts = np.histogram(np.asarray(values), bins=np.asarray(edges))[0]
        axes.stairs(counts, edges, fill=True, color=color, alpha=0.25)
        axes.stairs(counts, edges, color=color, linewidth=1.4, label=name)


def row_figure(
    names: Sequence[str], *, label: str, room: float = 1.5, row: float = 0.27, bold: Sequence[int] = ()
) -> tuple[Figure, Axes]:
    """Make a figure with a named row per horizontal mark, ``row`` inches each and ``room`` inches for the rest."""
    figure, axes = new_axes(WIDTH, room + row * len(names))
    name_rows(axes, names, bold=bold)
    axes.set_xlabel(label)
    axes.grid(visible=True, axis="x")
    return figure, axes


def point_size(number: int) -> float:
    """Return the area of a point, in points squared, for a number of points."""
    return min(max(16000 / max(number, 1), 1.5), 24.0)


def grid_of_axes(figure: Figure, number: int, *, columns: int) -> list[Axes]:
    """Add ``number`` axes in rows of ``columns`` to a figure."""
    rows = -(-number // columns)
    return [figure.add_subplot(rows, columns, i + 1) for i in range(number)]


def figure_of_cells(
    number: int, *, title: str, x_label: str, y_label: str, cell_height: float, gaps: tuple[float, float]
) -> tuple[Figure, list[Axes]]:
    """Make a figure with ``number`` equal axes, five per row, and shared axis labels.

    Parameters
    ----------
    number : int
        Number of axes.
    title, x_label, y_label : str
        Text above, below and to the left of all.
    cell_height : float
        Height of each of the axes in inches.
    gaps : tuple of float
        Horizontal and vertical distances between neighbours in inches.

    Returns
    -------
    tuple of Figure and list of Axes
    """
    columns = min(number, 5)
    rows = -(-number // columns)
    left, right, top, bottom = 0.8, 0.15, 0.85, 0.65
    width = min(WIDTH, max(7.5, left + right + 2.0 * columns + gaps[0] * (columns - 1)))
    height = top + bottom + cell_height * rows + gaps[1] * (rows - 1)
    # The layout is computed: a layout engine takes half a minute for seventy axes.
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
