from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness as reference_trustworthiness
from sklearn.preprocessing import StandardScaler

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.maps import (
    Projection,
    explained_variance,
    map_quality,
    project,
    quality,
    quality_notes,
    write_interactive_map,
)
from ecgkit.feature_space.maps import interactive as page


def project_pca(embeddings: np.ndarray, records: pd.DataFrame, **keywords: object) -> Projection:
    return project("pca", embeddings, records, **keywords)[0]


def project_tsne(embeddings: np.ndarray, records: pd.DataFrame, seed: int = 0, **keywords: object) -> Projection:
    return project("tsne", embeddings, records, (seed,), **keywords)[0]


def project_umap(embeddings: np.ndarray, records: pd.DataFrame, seed: int = 0, **keywords: object) -> Projection:
    return project("umap", embeddings, records, (seed,), **keywords)[0]


@pytest.fixture(scope="module")
def planted(world) -> tuple[np.ndarray, np.ndarray]:
    """Three groups far apart in every feature, and which record is in which."""
    group = np.random.default_rng(0).integers(0, 3, len(world.records))
    centres = 12 * np.random.default_rng(1).standard_normal((3, world.noise.shape[1]))
    return (world.noise + centres[group]).astype(np.float32), group


def separation(projection: Projection, group: np.ndarray) -> float:
    """Return the distance of the two closest groups in units of their spread."""
    shown = group[projection.positions]
    centres = np.stack([projection.coordinates[shown == k].mean(axis=0) for k in range(3)])
    spread = max(projection.coordinates[shown == k].std(axis=0).max() for k in range(3))
    return float(cdist(centres, centres)[np.triu_indices(3, 1)].min() / spread)


def test_pca_is_scikit_learns_on_folds_1_to_8(world) -> None:
    projection = project_pca(world.embeddings, world.records)
    training = (world.records["fold"] <= 8).to_numpy()
    scaler = StandardScaler().fit(world.embeddings[training])
    model = PCA(2, svd_solver="full").fit(scaler.transform(world.embeddings[training]))
    test = (world.records["fold"] == 10).to_numpy()
    np.testing.assert_array_equal(projection.positions, np.flatnonzero(test))
    expected = model.transform(scaler.transform(world.embeddings[test]))
    np.testing.assert_allclose(projection.coordinates, expected, atol=1e-3)
    assert (
        projection.axis_labels[0] == f"principal component 1 ({model.explained_variance_ratio_[0]:.0%} of the variance)"
    )
    shares = explained_variance(world.embeddings, world.records)
    assert len(shares) == world.embeddings.shape[1]
    assert shares.sum() == pytest.approx(1)
    assert (np.diff(shares) <= 0).all()


def test_fold_10_does_not_move_the_axes(world) -> None:
    changed = world.embeddings.copy()
    changed[world.records["fold"] > 8] += 100
    before = project_pca(world.embeddings, world.records, folds=(1, 2))
    after = project_pca(changed, world.records, folds=(1, 2))
    np.testing.assert_array_equal(after.coordinates, before.coordinates)


def test_a_choice_is_seeded_and_in_order(world) -> None:
    chosen = project_pca(world.embeddings, world.records, folds=None, max_records=50).positions
    assert len(np.unique(chosen)) == 50
    assert (np.diff(chosen) > 0).all()
    again = project_pca(world.embeddings, world.records, folds=None, max_records=50)
    np.testing.assert_array_equal(again.positions, chosen)
    assert len(project_pca(world.embeddings, world.records, folds=None).positions) == len(world.records)


def test_what_cannot_be_shown_is_refused(world) -> None:
    with pytest.raises(EcgkitError, match="3 records are too few for UMAP"):
        project_umap(world.embeddings, world.records, max_records=3)
    with pytest.raises(EcgkitError, match="3 records are too few for t-SNE"):
        project_tsne(world.embeddings, world.records, max_records=3)
    with pytest.raises(EcgkitError, match=", 1\\)"):
        project_pca(world.embeddings[:, :1], world.records)
    with pytest.raises(EcgkitError, match="unknown method 'som': choose one of pca, umap, tsne"):
        project("som", world.embeddings, world.records)
    with pytest.raises(EcgkitError, match="unknown start 'spectral'"):
        project_tsne(world.embeddings, world.records, start="spectral")
    with pytest.raises(EcgkitError, match="no seed for UMAP"):
        project("umap", world.embeddings, world.records, seeds=())


def test_tsne_of_very_many_records_is_refused(world) -> None:
    records = pd.concat([world.records] * 4, ignore_index=True)
    with pytest.raises(EcgkitError, match="6,148 records are too many for t-SNE: give max_records=5000"):
        project("tsne", np.tile(world.embeddings, (4, 1)), records, folds=None)


def test_pca_and_tsne_keep_planted_groups_apart(world, planted) -> None:
    embeddings, group = planted
    pca = project("pca", embeddings, world.records)
    assert [projection.name for projection in pca] == ["PCA"]  # there is nothing to seed
    assert separation(pca[0], group) > 3
    assert separation(project_tsne(embeddings, world.records), group) > 3


def test_tsne_is_the_same_for_the_same_seed(world, planted) -> None:
    embeddings, _ = planted
    both = project("tsne", embeddings, world.records, seeds=(4, 5), max_records=60)
    assert [projection.name for projection in both] == ["t-SNE, seed 4", "t-SNE, seed 5"]
    again = project("tsne", embeddings, world.records, seeds=(5,), max_records=60)[0]
    np.testing.assert_array_equal(again.coordinates, both[1].coordinates)
    assert not np.array_equal(both[0].coordinates, both[1].coordinates)
    anywhere = project_tsne(embeddings, world.records, max_records=60, start="random")
    assert np.isfinite(anywhere.coordinates).all()
    assert not np.array_equal(anywhere.coordinates, both[0].coordinates)


@pytest.mark.slow
def test_umap_keeps_groups_apart_and_is_the_same_for_the_same_seed(world, planted) -> None:
    embeddings, group = planted
    first = project_umap(embeddings, world.records, seed=5, n_neighbors=10)
    assert separation(first, group) > 3
    again = project("umap", embeddings, world.records, seeds=(5,), n_neighbors=10)[0]
    np.testing.assert_array_equal(again.coordinates, first.coordinates)
    few = project_umap(embeddings, world.records, max_records=8, seed=5)  # fewer records than neighbours
    assert few.coordinates.shape == (8, 2)
    assert separation(project_umap(embeddings, world.records, start="random"), group) > 3


def brute_force_continuity(high: np.ndarray, low: np.ndarray, k: int) -> float:
    """Follow the definition of Venna and Kaski (2001) word by word."""
    n = len(high)
    total = 0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        by_high = sorted(others, key=lambda j: np.linalg.norm(high[i] - high[j]))
        by_low = sorted(others, key=lambda j: np.linalg.norm(low[i] - low[j]))
        for j in set(by_high[:k]) - set(by_low[:k]):
            total += by_low.index(j) + 1 - k
    return 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * total


def test_trustworthiness_is_scikit_learns_and_continuity_its_mirror_image(world) -> None:
    records = world.records.iloc[:80].reset_index(drop=True).assign(fold=1)
    random = np.random.default_rng(0)
    high = StandardScaler().fit_transform(random.standard_normal((80, 6))).astype(np.float32)
    low = high[:, :2] + 0.3 * random.standard_normal((80, 2)).astype(np.float32)
    for k in (1, 5, 15):
        row = map_quality([flat(records, low)], high, records, n_neighbors=k).iloc[0]
        assert row["trustworthiness"] == pytest.approx(reference_trustworthiness(high, low, n_neighbors=k))
        assert row["continuity"] == pytest.approx(brute_force_continuity(high, low, k))


def test_a_tear_costs_continuity_and_a_fold_costs_trustworthiness(world) -> None:
    records = world.records.iloc[:200].reset_index(drop=True).assign(fold=1)
    line = np.linspace(0, 1, 200)[:, None]
    circle = np.hstack([np.cos(2 * np.pi * line), np.sin(2 * np.pi * line)])
    cut, folded = (
        map_quality([flat(records, low)], high, records, n_neighbors=10).iloc[0]
        for high, low in ((circle, line), (line, np.abs(line - 0.5)))
    )
    assert cut["continuity"] < cut["trustworthiness"]
    assert folded["trustworthiness"] < folded["continuity"]


def flat(records: pd.DataFrame, coordinates: np.ndarray, seed: int | None = None, method: str = "pca") -> Projection:
    shown = np.arange(len(records))
    return Projection(coordinates.astype(np.float32), shown, ("1", "2"), method=method, seed=seed)


@pytest.fixture(scope="module")
def plane(world) -> tuple[pd.DataFrame, np.ndarray]:
    """Records on a plane, standardised."""
    records = world.records.iloc[:400].reset_index(drop=True).assign(fold=1)
    points = np.random.default_rng(3).standard_normal((400, 2))
    return records, ((points - points.mean(axis=0)) / points.std(axis=0)).astype(np.float32)


def test_a_map_that_is_the_embeddings_keeps_everything(plane) -> None:
    records, points = plane
    row = map_quality([flat(records, points)], points, records).loc["PCA"]
    assert row["trustworthiness"] == row["continuity"] == row["preservation"] == 1
    assert np.isnan(row["shared_neighbours"])
    assert row["measured"] == 400


def test_a_random_map_keeps_what_chance_keeps(plane) -> None:
    records, points = plane
    n, k = 400, 15
    unrelated = flat(records, np.random.default_rng(4).standard_normal((n, 2)))
    row = map_quality([unrelated], points, records).loc["PCA"]
    # The rank of a neighbour at random is uniform over 1..n-1, which makes the expected penalty.
    expected = 1 - (n - 1 - k) * (n - k) / ((n - 1) * (2 * n - 3 * k - 1))
    assert expected == pytest.approx(0.5, abs=0.03)
    assert row["trustworthiness"] == pytest.approx(expected, abs=0.02)
    assert row["continuity"] == pytest.approx(expected, abs=0.02)
    assert row["preservation"] == pytest.approx(k / (n - 1), abs=0.01)


def test_large_maps_are_sampled(plane, monkeypatch) -> None:
    records, points = plane
    projection = flat(records, points + 0.05 * np.random.default_rng(5).standard_normal(points.shape))
    whole = map_quality([projection], points, records).loc["PCA"]
    monkeypatch.setattr(quality, "MAX_RECORDS", 200)
    sampled = map_quality([projection], points, records).loc["PCA"]
    assert sampled["measured"] == 200
    assert sampled["trustworthiness"] == pytest.approx(whole["trustworthiness"], abs=0.02)


def test_seeds_agree_where_maps_differ_only_in_how_they_lie(plane) -> None:
    records, points = plane
    turn = np.array([[0.6, -0.8], [-0.8, -0.6]])  # a mirrored turn
    maps = [
        flat(records, points, 0, "umap"),
        flat(records, 3 * points @ turn + 7, 1, "umap"),
        flat(records, np.random.default_rng(6).standard_normal(points.shape), 2, "umap"),
        flat(records, points, 0, "tsne"),
    ]
    table = map_quality(maps, points, records)
    shared = table["shared_neighbours"]
    chance = 15 / 399
    assert shared["UMAP, seed 0"] == pytest.approx((1 + chance) / 2, abs=0.02)  # of one like it and one unrelated
    assert shared["UMAP, seed 2"] == pytest.approx(chance, abs=0.02)
    assert np.isnan(shared["t-SNE, seed 0"])
    notes = quality_notes(table)
    assert notes["t-SNE, seed 0"] == "trustworthiness 1.000, continuity 1.000\n100% of 15 nearest kept"
    assert "shared by seeds" in notes["UMAP, seed 2"]


def test_quality_that_cannot_be_measured_is_refused(plane) -> None:
    records, points = plane
    projection = flat(records, points, 0, "umap")
    with pytest.raises(EcgkitError, match="0 neighbours of 400 records"):
        map_quality([projection], points, records, n_neighbors=0)
    with pytest.raises(EcgkitError, match="15 neighbours of 2 records"):
        map_quality([flat(records[:2], points[:2])], points, records)
    with pytest.raises(EcgkitError, match="UMAP, seed 0, UMAP, seed 0"):
        map_quality([projection, projection], points, records)
    part = Projection(projection.coordinates[1:], projection.positions[1:], ("1", "2"), method="umap", seed=1)
    with pytest.raises(EcgkitError, match="UMAP, seed 0 and UMAP, seed 1 show different records"):
        map_quality([projection, part], points, records)


@pytest.mark.parametrize("n", [3, 8, 29])
def test_of_few_records_fewer_neighbours_are_looked_at(plane, n) -> None:
    records, points = plane
    maps = [flat(records[:n], points[:n], seed, "umap") for seed in (0, 1)]
    table = map_quality(maps, points, records)
    assert table["n_neighbors"].tolist() == [(n - 1) // 2] * 2
    assert (table[["trustworthiness", "continuity", "preservation", "shared_neighbours"]] == 1).all(axis=None)


@pytest.mark.parametrize("n", [4, 7, 29])
def test_tsne_of_few_records_has_a_perplexity_that_they_allow(plane, n) -> None:
    records, points = plane
    projection = project_tsne(points, records, folds=(1,), max_records=n)
    assert np.isfinite(projection.coordinates).all()
    assert projection.coordinates.shape == (n, 2)


def test_a_note_says_how_many_records_were_measured(plane) -> None:
    records, points = plane
    many, repeated = np.tile(points, (8, 1)), pd.concat([records] * 8, ignore_index=True)
    assert quality_notes(map_quality([flat(repeated, many)], many, repeated))["PCA"].endswith(
        "(3,000 of 3,200 records measured)"
    )


@pytest.fixture(scope="module")
def tables(world) -> dict[str, object]:
    """Return the data of a page: 40 records with missing values, and names that could break a page."""
    records = world.records.iloc[:40].reset_index(drop=True).assign(device=pd.NA, age_over_89=False)
    records["device"] = pd.array(["</script><script>alert(1)</script>", "A & B", None, "CS-12"] * 10, dtype="string")
    records.loc[[0, 3], "age"] = np.nan
    labels = pd.DataFrame({"NORM": np.arange(40) % 2 == 0, "<b>MI": np.arange(40) < 7})
    random = np.random.default_rng(0)
    probabilities = pd.DataFrame(random.random((40, 2)), columns=labels.columns)
    probabilities.iloc[5] = np.nan
    return {
        "records": records,
        "labels": labels,
        "probabilities": probabilities,
        "signals": random.normal(0, 0.5, (30, 1000)).astype(np.float32),
        "positions": np.arange(10, 40),
        "coordinates": random.standard_normal((30, 2)).astype(np.float32),
    }


def make_page(tables, **changes) -> str:
    shown = Projection(tables["coordinates"], tables["positions"], ("UMAP 1", "UMAP 2"), method="umap", seed=0)
    arguments = {
        "projections": [shown],
        "records": tables["records"],
        "labels": tables["labels"],
        "signals": tables["signals"],
        "sampling_rate": 100,
        "probabilities": tables["probabilities"],
        "thresholds": {"NORM": 0.5, "<b>MI": 0.25},
        "notes": {"UMAP, seed 0": "trustworthiness 0.9\nmore"},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = write_interactive_map(Path(folder) / "map.html", **(arguments | changes))
        return path.read_text(encoding="utf-8")


def page_data(html: str) -> dict:
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, flags=re.DOTALL)
    assert len(found) == 1
    return json.loads(found[0])


def decoded(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


def test_the_page_contains_its_data(tables) -> None:
    data = page_data(make_page(tables))
    positions = tables["positions"]
    assert data["ids"] == tables["records"]["record_id"].iloc[positions].astype(str).tolist()
    np.testing.assert_array_equal(decoded(data["maps"][0]["xy"], "<f4").reshape(-1, 2), tables["coordinates"])
    truth = decoded(data["labels"], "u1").reshape(-1, 2)
    np.testing.assert_array_equal(truth, tables["labels"].iloc[positions].to_numpy())
    probabilities = decoded(data["probabilities"], "<f4").reshape(-1, 2)
    np.testing.assert_allclose(probabilities, tables["probabilities"].iloc[positions], rtol=1e-6)
    signals = decoded(data["signal"]["values"], "<i2").reshape(30, 1000)
    np.testing.assert_allclose(signals / 1000, tables["signals"], atol=0.0005001)
    age = next(column for column in data["columns"] if column["name"] == "age")
    np.testing.assert_array_equal(decoded(age["values"], "<f4"), tables["records"]["age"].iloc[positions])
    assert data["thresholds"] == [0.5, 0.25]
    assert data["maps"][0]["note"] == "trustworthiness 0.9; more"


def test_missing_values_are_neither_numbers_nor_categories(tables) -> None:
    shown = Projection(np.zeros((4, 2), np.float32), np.arange(4), ("1", "2"))
    data = page_data(make_page(tables, projections=[shown], signals=tables["signals"][:4], notes=None))
    columns = {column["name"]: column for column in data["columns"]}
    assert np.isnan(decoded(columns["age"]["values"], "<f4")).tolist() == [True, False, False, True]
    codes = decoded(columns["device"]["values"], "<i2")
    assert codes[2] == -1
    assert [columns["device"]["categories"][code] for code in codes[[0, 1, 3]]] == [
        "</script><script>alert(1)</script>",
        "A & B",
        "CS-12",
    ]


def test_a_page_needs_nothing_else_and_text_cannot_break_it(tables) -> None:
    html = make_page(tables, title="<i>Map</i>")
    assert html.count("<script") == 2
    assert html.count("</script>") == 2
    assert "alert(1)</script>" not in html
    assert "<b>MI" not in html
    assert "<title>&lt;i&gt;Map&lt;/i&gt;</title>" in html
    assert not re.search(r"https?:|(src|href)\s*=|@import|url\(|fetch\(|XMLHttpRequest|import\(|innerHTML", html)
    assert "default-src 'none'" in html


def test_other_sampling_rates_become_100_hz(tables) -> None:
    time = np.arange(5000) / 500
    sine = np.tile(np.sin(2 * np.pi * 2 * time), (30, 1)).astype(np.float32)
    signal = page_data(make_page(tables, signals=sine, sampling_rate=500))["signal"]
    assert (signal["rate"], signal["samples"]) == (100, 1000)
    values = decoded(signal["values"], "<i2").reshape(30, 1000)[0] / 1000
    np.testing.assert_allclose(values[50:-50], np.sin(2 * np.pi * 2 * np.arange(1000) / 100)[50:-50], atol=0.01)


def test_fold_10_of_ptbxl_would_stay_below_20_mb_and_more_is_refused(tables, monkeypatch, tmp_path) -> None:
    n = 2158
    records = pd.DataFrame({"record_id": np.arange(n) + 20000, "age": 60.0, "sex": "male", "device": "CS-12"})
    labels = pd.DataFrame(np.zeros((n, 5), bool), columns=list("abcde"))
    shown = Projection(np.zeros((n, 2), np.float32), np.arange(n), ("1", "2"))
    signals = np.zeros((n, 1000), np.float32)
    predicted = {"probabilities": labels.astype(float), "thresholds": dict.fromkeys("abcde", 0.5)}
    path = write_interactive_map(
        tmp_path / "map.html", [shown], records, labels, signals, sampling_rate=100, **predicted
    )
    assert path.stat().st_size < 20e6
    assert set(page_data(path.read_text())["ids"]) == {str(i) for i in records["record_id"]}
    monkeypatch.setattr(page, "MAX_BYTES", 50_000)
    with pytest.raises(EcgkitError, match=r"30 records .*max_records=\d+"):
        make_page(tables)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser to open the page in")
def test_the_record_of_an_address_is_selected(tables, tmp_path) -> None:
    path = tmp_path / "map.html"
    path.write_text(make_page(tables), encoding="utf-8")
    shown = str(tables["records"]["record_id"].iloc[tables["positions"][0]])
    for record, heading in (("99999", "Record 99999 is not on this map"), (shown, f"Selected: record {shown}")):
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
        command = ["chromium", *options, f"--user-data-dir={tmp_path / 'profile'}", f"{path.as_uri()}#record={record}"]
        opened = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert re.search(rf'<section id="selected"[^>]*><h2[^>]*>{re.escape(heading)}</h2>', opened.stdout)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser to open the page in")
@pytest.mark.parametrize("size", ["390,844", "1280,800"])
def test_the_ecg_of_a_selected_record_is_on_the_screen(tables, tmp_path, size) -> None:
    path = tmp_path / "map.html"
    measure = "const r = document.querySelector('#selected .ecg').getBoundingClientRect();"
    write = "document.title = [r.top, r.bottom, r.left, r.right, innerHeight, innerWidth].map(Math.round).join(' ');"
    page = make_page(tables).replace("</body>", f"<script>onload = () => {{ {measure} {write} }};</script></body>")
    path.write_text(page, encoding="utf-8")
    record = tables["records"]["record_id"].iloc[tables["positions"][0]]
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    options += [f"--window-size={size}", f"--user-data-dir={tmp_path / 'profile'}"]
    command = ["chromium", *options, f"{path.as_uri()}#record={record}"]
    opened = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    top, bottom, left, right, height, width = map(int, re.search(r"<title>([^<]*)</title>", opened.stdout)[1].split())
    assert 0 <= top < bottom <= height
    assert 0 <= left < right <= width


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (lambda _: {"projections": []}, "projections"),
        (lambda t: {"signals": t["signals"][1:]}, r"\(29, 1000\)"),
        (lambda t: {"labels": t["labels"].iloc[1:]}, "39"),
        (lambda _: {"thresholds": {"NORM": 0.5}}, "<b>MI.*threshold"),
        (lambda t: {"probabilities": t["probabilities"].drop(columns="NORM")}, "NORM.*probability"),
        (
            lambda t: {
                "records": t["records"][:30],
                "labels": t["labels"][:30],
                "probabilities": t["probabilities"][:30],
            },
            "30",
        ),
    ],
)
def test_data_of_different_records_are_refused(tables, changes, named) -> None:
    with pytest.raises(EcgkitError, match=named):
        make_page(tables, **changes(tables))
