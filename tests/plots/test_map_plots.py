from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ecgkit.errors import EcgkitError
from ecgkit.plots import maps as plots
from ecgkit.plots.style import SEX_COLORS

N = 60


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((N, 2)).astype(np.float32)


@pytest.fixture
def records() -> pd.DataFrame:
    sex = ["female"] * 30 + ["male"] * 25 + [None] * 5
    device = ["A"] * 20 + ["B"] * 10 + list("CDEFGHIJ") * 3 + [None] * 6
    return pd.DataFrame(
        {
            "age": np.where(np.arange(N) < 12, np.nan, np.arange(N)),
            "height": np.nan,
            "heart_rate": np.arange(N) + 40.0,
            "sex": pd.array(sex, dtype="string"),
            "device": pd.array(device, dtype="string"),
        }
    )


def assert_legends_cover_no_data(figure: Figure) -> None:
    FigureCanvasAgg(figure).draw()
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend() is not None] + figure.legends
    for legend in legends:
        for axes in figure.axes:
            assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def title_of(axes) -> str:
    return axes.get_title(loc="left") or axes.get_title()


def colors_of(axes) -> list[str]:
    return [to_hex(color).upper() for drawn in axes.collections for color in drawn.get_facecolors()]


def test_map_grid_colours_each_class_and_counts_it(points) -> None:
    labels = pd.DataFrame({"MI": np.arange(N) < 15, "CD": np.arange(N) % 2 == 0})
    figure = plots.map_grid(points, labels)
    assert [title_of(axes) for axes in figure.axes] == ["MI\n15 of 60 (25%)", "CD\n30 of 60 (50%)"]
    carriers = np.array(colors_of(figure.axes[0])) == plots.COLORS[0].upper()
    assert carriers.sum() == 15
    offsets = figure.axes[0].collections[0].get_offsets()
    assert {tuple(row) for row in offsets[carriers].tolist()} == {tuple(row) for row in points[:15].tolist()}
    assert figure.axes[0].get_xlabel() == "UMAP 1"


def test_map_grid_draws_the_most_frequent_of_many_classes(points) -> None:
    labels = pd.DataFrame({f"C{i}": np.arange(N) <= i for i in range(20)})
    figure = plots.map_grid(points, labels, title="All statements")
    assert len(figure.axes) == 12
    assert figure.get_suptitle() == "All statements (the 12 most frequent of 20 classes)"


def test_points_lie_in_a_random_order_so_that_no_group_covers_another(points) -> None:
    labels = pd.DataFrame({"MI": np.arange(N) < 30})
    assert len(set(colors_of(plots.map_grid(points, labels).axes[0])[-15:])) == 2


def test_very_many_points_are_small_and_half_transparent() -> None:
    random = np.random.default_rng(0)
    labels = pd.DataFrame({"MI": random.random(6000) < 0.2})
    drawn = plots.map_grid(random.standard_normal((6000, 2)), labels).axes[0].collections[0]
    assert drawn.get_alpha() == 0.5
    assert drawn.get_sizes()[0] < 3


def test_map_of_a_number_has_a_unit_and_counts_the_unknown(points, records) -> None:
    figure = plots.map_columns(points, records, ["age"])
    assert figure.axes[1].get_ylabel() == "age (years)"
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "unknown (12 of 60)"
    grey, known = figure.axes[0].collections
    assert len(grey.get_offsets()) == 12
    assert len(known.get_offsets()) == 48
    assert_legends_cover_no_data(figure)
    assert len(plots.map_columns(points, records, ["height"]).axes) == 1  # nothing is known: no colour bar
    assert plots.map_columns(points, records, ["heart_rate"]).axes[1].get_ylabel() == "heart rate (beats/min)"


def test_map_of_words_has_its_legend_beside(points, records) -> None:
    figure = plots.map_columns(points, records, ["sex"])
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["female (30)", "male (25)", "unknown (5)"]
    colors = colors_of(figure.axes[0])
    assert colors.count(SEX_COLORS["female"].upper()) == 30
    assert colors.count(plots.LIGHT_GREY.upper()) == 5
    assert_legends_cover_no_data(figure)


def test_categories_keep_their_order(points) -> None:
    words = pd.Categorical(["young"] * 10 + ["old"] * 50, categories=["young", "old", "very old"])
    figure = plots.map_columns(points, pd.DataFrame({"age band": words}), ["age band"])
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["young (10)", "old (50)"]


def test_rare_words_become_other(points, records) -> None:
    figure = plots.map_columns(points, records, ["device"])
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts[:2] == ["A (20)", "B (10)"]
    assert texts[-2:] == ["other, 4 kinds (12)", "unknown (6)"]
    assert len(texts) == 8


def test_rows_that_do_not_fit_and_unknown_columns_are_refused(points, records) -> None:
    with pytest.raises(EcgkitError, match="coordinates of shape"):
        plots.map_columns(points[1:], records, ["age"])
    with pytest.raises(EcgkitError, match=r"'weight'.*age"):
        plots.map_columns(points, records, ["weight"])
    with pytest.raises(EcgkitError, match="no map to draw"):
        plots.map_panels({}, records["age"])


def test_a_panel_for_each_column(points, records) -> None:
    figure = plots.map_columns(points, records, ["age", "sex", "device"], title="UMAP, fold 10")
    titles = [title_of(axes) for axes in figure.axes if title_of(axes)]
    assert titles == ["age, known of 48 of 60", "sex, known of 55 of 60", "device, known of 54 of 60"]
    assert figure.get_suptitle() == "UMAP, fold 10"
    assert_legends_cover_no_data(figure)


def test_probabilities_have_one_scale_from_0_to_1(points) -> None:
    probabilities = pd.DataFrame({"MI": np.linspace(0.2, 0.4, N), "CD": np.linspace(0, 1, N)})
    probabilities.iloc[3, 0] = np.nan
    figure = plots.map_probabilities(points, probabilities)
    assert [title_of(axes) for axes in figure.axes[:2]] == ["MI", "CD"]
    assert all(axes.collections[1].get_clim() == (0, 1) for axes in figure.axes[:2])
    assert figure.axes[2].get_ylabel() == "predicted probability"
    assert figure.legends[0].get_texts()[0].get_text() == "unknown (1 of 60)"
    assert_legends_cover_no_data(figure)
    with pytest.raises(EcgkitError, match="to 2.5: give 0 to 1, not logits"):
        plots.map_probabilities(points, probabilities.replace(1.0, 2.5))


def test_errors_are_counted_and_lie_on_top(points) -> None:
    truth = np.arange(N) < 20
    decided = (np.arange(N) >= 5) & (np.arange(N) < 30)
    labels = pd.DataFrame({"MI": truth, "CD": False})
    probabilities = pd.DataFrame({"MI": np.where(decided, 0.5, 0.49), "CD": 0.1})
    figure = plots.map_errors(points, labels, probabilities, {"MI": 0.5, "CD": 0.5})
    titles = [title_of(axes) for axes in figure.axes[:3]]
    assert titles[0] == "MI\n15 of 20 found\n10 false positives"
    assert titles[2] == "All classes: 15 of 60\nwith one wrong or more"
    colors = colors_of(figure.axes[0])
    assert set(colors[:30]) == {plots.LIGHT_GREY.upper()}
    assert set(colors[30:45]) == {plots.OUTCOME_COLORS["true positive"].upper()}
    assert colors[45:].count(plots.OUTCOME_COLORS["false negative"].upper()) == 5
    assert_legends_cover_no_data(figure)


def test_records_without_a_prediction_are_left_out_of_the_errors(points) -> None:
    labels = pd.DataFrame({"MI": np.arange(N) < 20})
    probabilities = pd.DataFrame({"MI": np.where(np.arange(N) < 10, np.nan, 0.9)})
    figure = plots.map_errors(points, labels, probabilities, {"MI": 0.5})
    assert title_of(figure.axes[0]) == "MI\n10 of 10 found\n40 false positives"
    assert figure.legends[0].get_texts()[-1].get_text() == "10 of 60 left out, without a prediction"
    with pytest.raises(EcgkitError, match="class 'MI' has no probability or no threshold"):
        plots.map_errors(points, labels, probabilities, {})


def test_panels_are_coloured_alike_and_say_what_they_are_worth(points, records) -> None:
    maps = {"UMAP, seed 0": points, "UMAP, seed 1": -points, "t-SNE, seed 0": points[:, ::-1]}
    notes = {"UMAP, seed 0": "trustworthiness 0.95"}
    figure = plots.map_panels(maps, records["sex"], notes=notes, title="Seeds")
    assert [title_of(axes) for axes in figure.axes] == [
        "UMAP, seed 0\ntrustworthiness 0.95",
        "UMAP, seed 1",
        "t-SNE, seed 0",
    ]
    first, second = (axes.collections[0] for axes in figure.axes[:2])
    np.testing.assert_array_equal(first.get_facecolors(), second.get_facecolors())
    np.testing.assert_allclose(first.get_offsets(), -second.get_offsets())
    assert figure.legends[0].get_title().get_text() == "sex"
    assert_legends_cover_no_data(figure)
    numbers = plots.map_panels(maps, records["age"])
    assert numbers.axes[-1].get_xlabel() == "age (years)"
    assert_legends_cover_no_data(numbers)


def test_explained_variance_is_summed() -> None:
    figure = plots.explained_variance(np.array([0.6, 0.32, 0.08]))
    assert [text.get_text() for text in figure.axes[1].texts] == ["50 % with 1", "90 % with 2"]
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), [60, 92, 100])


def test_what_a_map_is_worth_stands_beneath_its_title(points, records) -> None:
    labels = pd.DataFrame({"MI": np.arange(N) < 20, "CD": np.arange(N) < 9})
    probabilities = pd.DataFrame({"MI": np.linspace(0, 1, N), "CD": 0.5})
    text = "Fold 10\ntrustworthiness 0.950, continuity 0.960\n23% of 15 nearest kept"
    figures = [
        plots.map_grid(points, labels, title=text),
        plots.map_probabilities(points, probabilities, title=text),
        plots.map_errors(points, labels, probabilities, {"MI": 0.5, "CD": 0.5}, title=text),
        plots.map_columns(points, records, ["device"], title=text),
        plots.map_columns(points, records, ["age", "sex"], title=text),
    ]
    for figure in figures:
        assert figure.get_suptitle() == text
        FigureCanvasAgg(figure).draw()
        title = figure._suptitle.get_window_extent()
        assert title.x1 <= figure.bbox.width
        assert not any(title.overlaps(axes.get_tightbbox()) for axes in figure.axes)
