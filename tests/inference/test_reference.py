"""The distance of an ECG from the training records is Mahalanobis's, and what is not an ECG is beyond its limit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.decomposition import PCA

from ecgkit import EcgkitError, load_model
from ecgkit.inference.answers import answer_ecg
from ecgkit.inference.model_folder import SHIPPED, read_model, shipped
from ecgkit.inference.reference import N_COMPONENTS, REFERENCE, fit_reference, read_reference
from ecgkit.signals.ecg import ECG
from ecgkit.sources.demo import Demo


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).normal([1, 2, 0, 3, 1], [0.1, 0.5, 1, 0.2, 0.3], (400, 5))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED / "resnet1d", tmp_path / "copy"))


def names(ecg: ECG, model: object) -> list[str]:
    return [finding.name for finding in answer_ecg(ecg, model, anyway=True).findings]  # type: ignore[arg-type]


def test_the_distance_is_that_of_mahalanobis_between_directions(features: np.ndarray) -> None:
    reference = fit_reference(features, features, "")
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    inverse = np.linalg.inv(np.cov(unit.T))
    expected = [mahalanobis(row, unit.mean(axis=0), inverse) for row in unit]
    np.testing.assert_allclose(reference.distance(features) * reference.limit, expected)


def test_the_length_of_the_features_does_not_matter(features: np.ndarray) -> None:
    reference = fit_reference(features, features, "")
    np.testing.assert_allclose(reference.distance(3 * features), reference.distance(features))


def test_one_in_two_hundred_records_of_the_validation_fold_is_beyond_the_limit() -> None:
    random = np.random.default_rng(0)
    training, validation = random.normal(1, 1, (500, 40)), random.normal(1, 1, (2000, 40))
    reference = fit_reference(training, validation, "")
    assert np.sum(reference.distance(validation) > 1) == 10


def test_many_features_have_the_distribution_of_probabilistic_pca() -> None:
    features = np.random.default_rng(0).normal(1, np.linspace(0.1, 1, 300), (400, 300))
    reference = fit_reference(features, features, "")
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    precision = PCA(N_COMPONENTS).fit(unit).get_precision()
    expected = [mahalanobis(row, unit.mean(axis=0), precision) for row in unit[:20]]
    np.testing.assert_allclose(reference.distance(features[:20]) * reference.limit, expected, rtol=1e-6)


def test_features_that_never_vary_leave_a_finite_distance() -> None:
    reference = fit_reference(np.ones((5, 6)), np.ones((3, 6)), "")
    assert np.isfinite(reference.distance([[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [5, -1, 0, 0, 0, 0]])).all()


def test_the_file_gives_the_same_distances(features: np.ndarray, tmp_path: Path) -> None:
    reference = fit_reference(features, features, "400 records")
    (tmp_path / REFERENCE).write_text(json.dumps(reference.contents()))
    read = read_reference(tmp_path / REFERENCE, 5, way_out="")
    assert read is not None
    np.testing.assert_allclose(read.distance(features), reference.distance(features), rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"limit": 0.0}, "positive"),
        ({"mean": [0.0], "deviations": [1.0], "components": "AACAPw=="}, "1 features"),
        ({"components": "AAAA"}, "components"),
        ({"components": "?"}, "components"),
        ({"deviations": ["a"]}, "deviations"),
        ({"rest": None}, "rest"),
    ],
)
def test_a_damaged_reference_is_refused_when_the_folder_is_opened(
    changes: dict[str, object], named: str, folder: Path
) -> None:
    contents = json.loads((folder / REFERENCE).read_text())
    (folder / REFERENCE).write_text(json.dumps(contents | changes))
    with pytest.raises(EcgkitError, match=rf"(?s){REFERENCE}.*{named}"):
        load_model(folder)


# What the features of these networks do not tell from ECGs; the checks of the signal do.
UNNOTICED = {"cnn": {"sine"}, "cnn_bilstm": {"walk"}, "hybrid": {"walk"}}


@pytest.mark.parametrize("name", sorted(shipped()))
def test_noise_a_sine_and_a_random_walk_are_unlike_ecgs_and_an_ecg_is_not(name: str) -> None:
    model, random = load_model(name), np.random.default_rng(0)
    ecg = Demo(n_records=20, sampling_rate=100).read("1")
    times = np.arange(1000) / 100
    walk = np.cumsum(random.normal(0, 0.03, (12, 1000)), axis=1)
    others = {
        "noise": random.normal(0, 0.3, (12, 1000)),
        "sine": np.outer(np.linspace(0.5, 1, 12), np.sin(2 * np.pi * times)),
        "walk": walk - walk.mean(axis=1, keepdims=True),
    }
    assert "unlike_training" not in names(ecg, model)
    for kind, signal in others.items():
        answer = answer_ecg(replace(ecg, signal=signal), model, anyway=True)
        found = {finding.name: finding for finding in answer.findings}
        assert ("unlike_training" in found) == (kind not in UNNOTICED.get(name, ()))
        if "unlike_training" not in found:
            assert any(finding.level == "refused" for finding in answer.findings)
            continue
        finding = found["unlike_training"]
        assert finding.level == "warning"
        assert finding.evidence["distance"] > finding.evidence["limit"] == 1


def test_a_folder_without_a_reference_says_that_nothing_was_checked(folder: Path) -> None:
    (folder / REFERENCE).unlink()
    assert read_model(folder).reference is None
    assert names(Demo(n_records=20, sampling_rate=100).read("1"), load_model(folder)) == ["unchecked"]
