from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from ecgkit.errors import EcgkitError
from ecgkit.explain.directions import (
    along_direction,
    concept_direction,
    concept_moves,
    group_members,
    group_table,
    records_at_ends,
)
from ecgkit.explain.effect import ConceptEffect, concept_effect, own_head
from ecgkit.explain.erasure import erase_least_squares, erase_random
from ecgkit.explain.examples import choose_classes
from ecgkit.feature_space.probes.linear import ALPHAS
from ecgkit.feature_space.probes.targets import TARGETS, Target
from ecgkit.plots.concepts import concept_moves as draw_moves
from ecgkit.plots.concepts import concept_removed
from ecgkit.stats.multiple_testing import holm

AGE, SEX = TARGETS[:2]
AGE_IN_TWO_BINS = replace(AGE, edges=(55,))
N_FEATURES = 12


@dataclass(frozen=True)
class World:
    records: pd.DataFrame
    labels: pd.DataFrame
    embeddings: np.ndarray
    mixing: np.ndarray

    def rows(self, *folds: int) -> np.ndarray:
        return np.flatnonzero(self.records["fold"].isin(folds))

    @property
    def training(self) -> np.ndarray:
        return self.rows(*range(1, 9))

    def of_source(self, number: int) -> np.ndarray:
        """Return how the standardised embeddings read one of the planted sources."""
        reader = np.linalg.inv(self.mixing)[:, number] * self.embeddings[self.training].std(axis=0)
        return reader / np.linalg.norm(reader)


@pytest.fixture(scope="module")
def world() -> World:
    """Twelve independent sources, mixed: age is in the first, sex in the second, a class in the third."""
    random = np.random.default_rng(0)
    patients = np.repeat(np.arange(2500), random.integers(1, 3, 2500))
    n = len(patients)
    age = random.uniform(20, 88, 2500)[patients].round()
    female = random.random(2500)[patients] < 0.5
    sources = random.standard_normal((n, N_FEATURES))
    sources[:, 0] += 2 * (age - age.mean()) / age.std()
    sources[:, 1] += 2 * female
    independent = sources[:, 2] + 0.5 * random.standard_normal(n) > 0.5
    first, second = (np.linalg.qr(random.standard_normal((N_FEATURES, N_FEATURES)))[0] for _ in range(2))
    mixing = first * np.linspace(0.5, 2, N_FEATURES) @ second
    records = pd.DataFrame(
        {
            "record_id": np.arange(n) + 100,
            "patient_id": patients,
            "fold": patients % 10 + 1,
            "age": age,
            "sex": np.where(female, "female", "male"),
        }
    )
    labels = pd.DataFrame({"INDEPENDENT": independent, "OLD": age > 60})
    return World(records, labels, (sources @ mixing + 3).astype(np.float32), mixing)


def head_of(world: World) -> Callable[[np.ndarray], np.ndarray]:
    """Read the classes straight off the sources, as a trained head would."""
    readers = np.linalg.inv(world.mixing)[:, [2, 0]]
    return lambda embeddings: 3 * ((embeddings - 3) @ readers).astype(np.float32)


@pytest.fixture(scope="module")
def effect(world: World) -> ConceptEffect:
    settings = dict(head=head_of(world), n_random=39, resamples=200)
    return concept_effect(world.embeddings, world.records, world.labels, AGE_IN_TWO_BINS, **settings)


def test_the_planted_direction_is_found_and_points_to_the_old_and_to_women(world: World) -> None:
    age = concept_direction(world.embeddings, world.records, AGE)
    assert age.vector @ world.of_source(0) > 0.97
    assert np.linalg.norm(age.vector) == pytest.approx(1)
    sex = concept_direction(world.embeddings, world.records, SEX)
    assert sex.vector @ world.of_source(1) > 0.95
    test = world.rows(10)
    assert np.corrcoef(age.positions(world.embeddings[test]), world.records["age"].to_numpy()[test])[0, 1] > 0.8
    positions = age.positions(world.embeddings[world.training])
    assert (positions.mean(), positions.std()) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-4))


def test_the_direction_is_of_folds_1_to_8_alone(world: World) -> None:
    held_out = world.rows(9, 10)
    embeddings, records = world.embeddings.copy(), world.records.copy()
    embeddings[held_out] *= -50
    records.loc[held_out, "age"] = np.arange(len(held_out)) % 50 + 20
    before, after = (
        concept_direction(*data, AGE) for data in ((world.embeddings, world.records), (embeddings, records))
    )
    np.testing.assert_array_equal(before.vector, after.vector)


def test_without_the_concept_its_probe_falls_to_chance(effect: ConceptEffect) -> None:
    assert effect.probe["value"]["nothing"] > 0.7
    row = effect.probe.loc["concept"]
    assert -0.1 < row["value"] < 0.01
    assert row["value"] - 0.01 <= row["chance_high"] <= 0.02
    assert (effect.probe["metric"] == "r2").all()


def test_a_class_that_is_the_concept_goes_and_an_independent_one_stays(effect: ConceptEffect) -> None:
    for _, of_reader in effect.classes.groupby("reader"):
        rows = of_reader.set_index("class")
        assert rows.loc["OLD", "auc_before"] > 0.9
        assert abs(rows.loc["OLD", "auc"] - 0.5) < 0.1
        assert rows.loc["OLD", "high"] < rows.loc["OLD", "random_low"]
        assert rows.loc["INDEPENDENT", "auc_before"] > 0.85
        assert abs(rows.loc["INDEPENDENT", "change"]) < 0.03
        assert rows.loc["INDEPENDENT", "low"] <= rows.loc["INDEPENDENT", "change"] <= rows.loc["INDEPENDENT", "high"]


def test_only_a_class_that_is_the_concept_loses_more_than_random_directions_take(effect: ConceptEffect) -> None:
    assert set(effect.classes["reader"]) == {"own head", "refitted head"}
    for _, of_reader in effect.classes.groupby("reader"):
        rows = of_reader.set_index("class")
        assert rows["p"]["OLD"] == 1 / 40  # none of 39 reaches it
        assert rows["p_holm"]["OLD"] == 2 / 40
        assert rows["p_holm"]["INDEPENDENT"] > 0.05
        np.testing.assert_allclose(of_reader["p_holm"], holm(of_reader["p"]))
        assert of_reader["p"].between(1 / 40, 1).all()


def test_a_class_that_fold_10_does_not_have_has_no_p(world: World) -> None:
    labels = world.labels.assign(NEVER=world.labels["OLD"] & (world.records["fold"] != 10))
    classes = concept_effect(world.embeddings, world.records, labels, SEX, n_random=3, resamples=10).classes
    never = classes["class"] == "NEVER"
    assert classes.loc[never, ["change", "p", "p_holm"]].isna().all(axis=None)
    assert classes.loc[~never, ["change", "p", "p_holm"]].notna().all(axis=None)


def test_a_class_of_four_patients_is_not_judged_and_not_drawn(world: World) -> None:
    labels = world.labels.copy()
    name = str(labels.columns[0])
    test = world.rows(10)
    few = test[labels[name].to_numpy()[test]][:4]
    labels.iloc[test, 0] = False
    labels.iloc[few, 0] = True
    found = concept_effect(world.embeddings, world.records, labels, AGE, n_random=2, resamples=20)
    of_class = found.classes[found.classes["class"] == name]
    assert of_class[["auc_before", "change", "low", "p", "p_holm"]].isna().all().all()
    figure = concept_removed(found.classes, found.probe, name="age")
    drawn = [text.get_text() for text in figure.axes[1].get_yticklabels()]
    assert len(drawn) == labels.shape[1] - 1
    assert not any(text.startswith(f"{name} (") for text in drawn)
    labels.iloc[test] = False
    nothing = concept_effect(world.embeddings, world.records, labels, AGE, n_random=2, resamples=20)
    concept_removed(nothing.classes, nothing.probe, name="age")


def test_the_share_of_the_variance_is_that_of_the_records(world: World) -> None:
    points = world.embeddings[world.training]
    eraser = erase_least_squares(points, world.records["age"].to_numpy()[world.training])
    before, after = (eraser.scaler.transform(rows).astype(np.float64) for rows in (points, eraser(points)))
    share = eraser.variance_removed(np.cov(before.T, bias=True))
    assert share == pytest.approx(1 - after.var(axis=0).sum() / before.var(axis=0).sum(), abs=1e-5)


def test_a_concept_that_is_spread_over_many_features_is_removed(world: World) -> None:
    twice = np.concatenate([world.embeddings, world.embeddings[:, ::-1]], axis=1)
    random = np.random.default_rng(1)
    twice += 0.5 * random.standard_normal(twice.shape).astype(np.float32)
    found = concept_effect(twice, world.records, world.labels, SEX, n_random=1, resamples=20)
    assert found.probe["value"]["nothing"] > 0.85
    assert abs(found.probe["value"]["concept"] - 0.5) < 0.1
    assert set(found.classes["reader"]) == {"refitted head"}


def test_least_squares_erasure_is_its_closed_form(world: World) -> None:
    points = world.embeddings[world.training].astype(np.float64)
    concept = np.stack([world.records["age"], world.records["sex"] == "female"], axis=1).astype(float)[world.training]
    eraser = erase_least_squares(points, concept)
    # Oblique projection along the cross-covariance, from covariances of the raw embeddings (Belrose et al., eq. 1).
    centred, known = points - points.mean(axis=0), concept - concept.mean(axis=0)
    cross, covariance = centred.T @ known, centred.T @ centred
    readers = np.linalg.solve(covariance, cross)
    projection = cross @ np.linalg.solve(cross.T @ readers, readers.T)
    np.testing.assert_allclose(eraser(points), points - centred @ projection.T, atol=2e-4)
    assert eraser.rank == 2
    np.testing.assert_allclose(eraser(points).mean(axis=0), points.mean(axis=0), atol=1e-4)


def test_after_it_nothing_correlates_and_no_other_linear_erasure_changes_less(world: World) -> None:
    points, age = world.embeddings[world.training], world.records["age"].to_numpy()[world.training]
    mixed = points @ np.random.default_rng(2).standard_normal((N_FEATURES, N_FEATURES)).astype(np.float32)
    eraser = erase_least_squares(mixed, age)
    erased = eraser(mixed)
    centred = age - age.mean()
    before, after = (
        np.abs(rows.T @ centred / np.linalg.norm(centred)).max()
        for rows in (mixed - mixed.mean(0), erased - erased.mean(0))
    )
    assert after < 1e-3 * before
    # To project out the correlations orthogonally removes them, too, at a higher price.
    standard = (mixed - mixed.mean(axis=0)) / mixed.std(axis=0)
    correlation = standard.T @ centred
    correlation /= np.linalg.norm(correlation)
    orthogonal = np.outer(standard @ correlation, correlation)
    oblique = (mixed - erased) / mixed.std(axis=0)
    assert (oblique**2).sum() < (orthogonal**2).sum()
    np.testing.assert_allclose(eraser(erased), erased, atol=1e-3)


def test_dead_and_doubled_features_do_no_harm(world: World) -> None:
    dead = np.concatenate([world.embeddings, world.embeddings[:, :2], np.full((len(world.embeddings), 2), 7)], axis=1)
    rows, age = world.training, world.records["age"].to_numpy()
    eraser = erase_least_squares(dead[rows], age[rows])
    erased = eraser(dead)
    np.testing.assert_array_equal(erased[:, -2:], 7)
    np.testing.assert_allclose(erased[:, :2], erased[:, N_FEATURES : N_FEATURES + 2], atol=1e-4)
    plain = erase_least_squares(world.embeddings[rows], age[rows])
    np.testing.assert_allclose(erased[:, :N_FEATURES], plain(world.embeddings), atol=1e-2)


def test_random_directions_take_as_much_variance_and_are_others(world: World) -> None:
    points = world.embeddings[world.training]
    eraser = erase_least_squares(points, world.records["age"].to_numpy()[world.training])
    standardized = eraser.scaler.transform(points).astype(np.float64)
    covariance = np.cov(standardized.T, bias=True)
    _, axes = np.linalg.eigh(covariance)
    one, other = (erase_random(eraser, axes, seed=seed) for seed in (0, 1))
    for made in (one, other):
        np.testing.assert_allclose(made.basis.T @ made.basis, np.eye(eraser.rank), atol=1e-8)
        np.testing.assert_allclose(made(made(points)), made(points), atol=1e-3)
        assert made.variance_removed(covariance) == pytest.approx(eraser.variance_removed(covariance), rel=1e-3)
    assert abs((one.basis.T @ other.basis).item()) < 0.99
    np.testing.assert_array_equal(erase_random(eraser, axes, seed=0).basis, one.basis)


def test_the_refitted_head_is_scikit_learns_ridge_on_what_is_left(world: World, effect: ConceptEffect) -> None:
    training, test = world.training, world.rows(10)
    scaler = StandardScaler().fit(world.embeddings[training])
    erased = scaler.transform(effect.eraser(world.embeddings))
    row = effect.classes[effect.classes["reader"] == "refitted head"]
    truth = world.labels["INDEPENDENT"].to_numpy()
    found = [
        roc_auc_score(
            truth[test], Ridge(alpha=alpha).fit(erased[training], truth[training].astype(float)).predict(erased[test])
        )
        for alpha in ALPHAS
    ]
    assert np.abs(np.array(found) - row.set_index("class").loc["INDEPENDENT", "auc"]).min() < 1e-4


def test_groups_along_a_direction_are_of_equal_size_and_in_order(world: World) -> None:
    direction = concept_direction(world.embeddings, world.records, AGE)
    along = along_direction(direction, world.embeddings, world.records, n_groups=4)
    assert (world.records["fold"].to_numpy()[along["row"]] == 10).all()
    assert np.ptp(along["group"].value_counts()) <= 1
    assert along["position"].is_monotonic_increasing
    assert along["group"].is_monotonic_increasing
    np.testing.assert_array_equal(along["record_id"], world.records["record_id"].to_numpy()[along["row"]])
    table = group_table(along, world.labels)
    assert table["true"].is_monotonic_increasing
    assert table.index.tolist() == [1, 2, 3, 4]
    assert list(group_members(along)) == [f"fifth {group}" for group in table.index]
    first = along[along["group"] == 1]["row"]
    assert table.loc[1, "OLD"] == world.labels["OLD"].to_numpy()[first].mean()
    np.testing.assert_array_equal(group_members(along)["fifth 1"], first)
    assert table["records"].sum() == table["known"].sum() == len(world.rows(10))


def test_the_ends_are_of_different_patients(world: World) -> None:
    direction = concept_direction(world.embeddings, world.records, SEX)
    along = along_direction(direction, world.embeddings, world.records)
    ends = records_at_ends(along, 4)
    assert ends["end"].tolist() == ["low"] * 4 + ["high"] * 4
    assert ends["patient_id"].is_unique
    assert (ends["row"].iloc[0], ends["row"].iloc[4]) == (along["row"].iloc[0], along["row"].iloc[-1])
    assert ends["true"].iloc[4:].mean() > ends["true"].iloc[:4].mean()
    few = records_at_ends(along.head(30), 1000)
    assert few["patient_id"].is_unique


def test_unknown_values_are_left_out(world: World) -> None:
    records = world.records.copy()
    unknown = np.arange(len(records)) % 3 == 0
    records.loc[unknown, "age"] = np.nan
    embeddings = world.embeddings.copy()
    direction = concept_direction(embeddings, records, AGE)
    embeddings[unknown] = 50
    np.testing.assert_array_equal(concept_direction(embeddings, records, AGE).vector, direction.vector)
    along = along_direction(direction, world.embeddings, records, n_groups=2)
    assert along["true"].isna().any()
    assert group_table(along, world.labels)["known"].sum() == along["true"].notna().sum()


def test_a_patient_in_two_splits_is_refused(world: World) -> None:
    records = world.records.copy()
    rows = np.flatnonzero(records["patient_id"].duplicated(keep=False))[:2]
    records.loc[rows, "fold"] = [1, 10]
    with pytest.raises(EcgkitError, match="1 patients"):
        concept_direction(world.embeddings, records, AGE)


def test_what_has_no_direction_is_refused(world: World) -> None:
    with pytest.raises(EcgkitError, match="sex"):
        concept_direction(world.embeddings, world.records.assign(sex="male"), SEX)
    with pytest.raises(EcgkitError, match="sex has 3 classes"):
        concept_direction(world.embeddings, world.records, replace(SEX, categories=("male", "female", "other")))
    with pytest.raises(EcgkitError, match="age is known for 0 records"):
        concept_direction(world.embeddings, world.records.assign(age=np.nan), AGE)
    with pytest.raises(EcgkitError, match="height"):
        concept_direction(world.embeddings, world.records, Target("height", unit="cm"))
    with pytest.raises(EcgkitError, match="correlates"):
        erase_least_squares(world.embeddings, np.ones(len(world.embeddings)))
    with pytest.raises(EcgkitError, match="unknown"):
        erase_least_squares(world.embeddings, np.full(len(world.embeddings), np.nan))
    with pytest.raises(EcgkitError, match="3 records"):
        erase_least_squares(world.embeddings, np.arange(3.0))


def test_what_does_not_fit_is_refused(world: World) -> None:
    data = (world.embeddings, world.records, world.labels, AGE)
    with pytest.raises(EcgkitError, match="head"):
        concept_effect(*data, head=lambda embeddings: embeddings, n_random=1, resamples=5)
    with pytest.raises(EcgkitError, match="n_random is 0"):
        concept_effect(*data, n_random=0)
    with pytest.raises(EcgkitError, match="3 rows of labels"):
        concept_effect(world.embeddings, world.records, world.labels[:3], AGE)
    direction = concept_direction(world.embeddings, world.records, AGE)
    with pytest.raises(EcgkitError, match="n_groups is 0"):
        along_direction(direction, world.embeddings, world.records, n_groups=0)
    along = along_direction(direction, world.embeddings, world.records)
    with pytest.raises(EcgkitError, match="1 patients"):
        records_at_ends(along.head(1))


class TestMoves:
    def test_a_concept_moves_the_class_that_is_read_from_it_and_random_directions_do_not(self, world: World) -> None:
        table = concept_moves(
            world.embeddings,
            world.records,
            [AGE, SEX],
            classes=list(world.labels),
            head=head_of(world),
            resamples=50,
        ).set_index(["concept", "class"])
        own = table.loc["age", "OLD"]
        assert own["change"] > own["random_high"]
        assert own["p_holm"] < 0.05
        for concept, name in (("age", "INDEPENDENT"), ("sex", "OLD"), ("sex", "INDEPENDENT")):
            assert abs(table.loc[(concept, name), "change"]) < 0.2 * own["change"]
        assert table.loc["age", "metric"].eq("r2").all()
        assert 0.6 < own["low"] < own["value"] < own["high"] < 0.9

    def test_for_a_linear_head_it_is_the_slope_of_the_logit_over_the_position(self, world: World) -> None:
        matrix = np.random.default_rng(0).standard_normal((N_FEATURES, 2))
        table = concept_moves(
            world.embeddings,
            world.records,
            [replace(AGE, edges=())],  # as ECG measurements, which have no bins
            classes=["a", "b"],
            head=lambda values: values @ matrix,
            n_random=20,
            resamples=20,
        )
        training = world.embeddings[world.training]
        positions = concept_direction(world.embeddings, world.records, AGE).positions(training)
        slopes = np.polyfit(positions, training @ matrix, 1)[0]
        assert table["change"].to_numpy() == pytest.approx(slopes, rel=1e-3)

    def test_without_a_head_only_the_encoding_is_known(self, world: World) -> None:
        table = concept_moves(
            world.embeddings, world.records, [AGE], classes=["a"], head=None, n_random=5, resamples=20
        )
        assert table["change"].isna().all()
        assert table["value"].notna().all()
        assert not [text for text in draw_moves(table).axes[0].texts if text.get_text()]

    def test_the_figure_marks_what_is_beyond_random(self) -> None:
        row = {"unit": "ms", "metric": "r2", "value": 0.7, "low": 0.6, "high": 0.8}
        table = pd.DataFrame(
            [
                row | {"concept": "qrs_duration", "class": "CD", "change": 1.5, "p_holm": 0.01},
                row | {"concept": "qrs_duration", "class": "MI", "change": -0.1, "p_holm": 0.6},
            ]
        )
        axes = draw_moves(table).axes[0]
        assert [text.get_text() for text in axes.texts] == ["+1.50 *", "-0.10"]
        assert axes.get_yticklabels()[0].get_text() == "QRS: R² 0.70"


def test_the_most_frequent_of_many_classes_are_explained() -> None:
    random = np.random.default_rng(0)
    few = pd.DataFrame({name: random.random(100) < 0.5 for name in "ABCDE"})
    assert choose_classes(few) == list("ABCDE")
    assert choose_classes(few, "D, B") == ["B", "D"]
    many = pd.DataFrame({f"C{i}": np.arange(100) < i for i in range(40)}).astype("boolean")
    many.iloc[:, 3] = pd.NA
    assert choose_classes(many) == ["C35", "C36", "C37", "C38", "C39"]
    assert choose_classes(many, "C7") == ["C7"]
    assert choose_classes(many, "all") == list(many)


def test_the_head_of_some_classes_is_a_part_of_the_whole_head(demo_model) -> None:
    trained = demo_model(steps=0).trained
    embeddings = np.random.default_rng(0).standard_normal((4, trained.model.n_features)).astype(np.float32)
    whole, some = own_head(trained), own_head(trained, ["CD", "MI"])
    np.testing.assert_array_equal(some(embeddings), whole(embeddings)[:, [1, 3]])
