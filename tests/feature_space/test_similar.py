"""The nearest records: exactly those that a comparison with every record finds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import StandardScaler

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.similar import SimilarRecords, describe_record, find_record


def test_the_search_is_exact(world) -> None:
    index = SimilarRecords(world.embeddings, world.records)
    training = world.records["fold"] <= 8
    points = StandardScaler().fit(world.embeddings[training]).transform(world.embeddings)
    for position in (0, 17, len(points) - 1):
        table = index.nearest(position, 6, same_patient=True)
        expected = cosine_similarity(points[position : position + 1], points)[0]
        expected[position] = -2
        np.testing.assert_array_equal(table["position"], np.argsort(-expected)[:6])
        np.testing.assert_allclose(table["similarity"], np.sort(expected)[::-1][:6], rtol=1e-4)
        np.testing.assert_array_equal(table["record_id"], world.records["record_id"].iloc[table["position"]])


def test_a_copy_of_the_record_is_found_first(world) -> None:
    values = world.embeddings.copy()
    values[40] = values[7]
    records = world.records.copy()
    first = SimilarRecords(values, records).nearest(7, 1).iloc[0]
    assert first["position"] == 40
    assert first["similarity"] == pytest.approx(1, abs=1e-6)


def test_a_patient_is_not_similar_to_himself_unless_asked(world) -> None:
    patients = world.records["patient_id"]
    position = int(np.flatnonzero(patients.duplicated(keep=False))[0])
    index = SimilarRecords(world.embeddings, world.records)
    everybody = len(world.records)
    others = index.nearest(position, everybody)
    assert (others["patient_id"] != patients.iloc[position]).all()
    assert len(others) == everybody - (patients == patients.iloc[position]).sum()
    assert len(index.nearest(position, everybody, same_patient=True)) == everybody - 1


def test_what_is_not_there_is_named(world) -> None:
    index = SimilarRecords(world.embeddings, world.records)
    assert find_record(world.records, "103") == 3
    with pytest.raises(EcgkitError, match="no record 99: give one of the dataset's, such as 100, 101"):
        find_record(world.records, "99")
    with pytest.raises(EcgkitError, match="n is 0"):
        index.nearest(0, 0)


def test_a_record_is_described_by_what_is_known() -> None:
    labels = pd.Series({"NORM": False, "MI": True, "CD": True})
    known = pd.Series({"record_id": 12, "sex": "female", "age": 63.0})
    assert describe_record(known, labels) == "record 12, female, 63 years: MI, CD"
    unknown = pd.Series({"record_id": 12, "sex": pd.NA, "age": np.nan})
    assert describe_record(unknown, labels & False) == "record 12: no class"


def test_ties_go_by_position() -> None:
    embeddings = np.ones((60, 4), np.float32)
    embeddings[:10] = np.random.default_rng(0).normal(size=(10, 4))
    records = pd.DataFrame({"record_id": range(60), "patient_id": range(60), "fold": 1})
    found = SimilarRecords(embeddings, records).nearest(59, 20)
    assert found["position"].tolist() == list(range(10, 30))
