"""The demo shows textbook signs, follows the laws of the limb leads, and is reproducible from its seed."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.signal import butter, find_peaks, resample_poly, sosfiltfilt
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ecgkit.errors import EcgkitError
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.measurements import measure_ecg
from ecgkit.signals.rhythm import r_peaks
from ecgkit.sources.base import CORE_COLUMNS
from ecgkit.sources.demo import Demo, make_ecg
from ecgkit.sources.demo.anatomy import LEAD_WEIGHTS, Body, direction, lead_field
from ecgkit.sources.demo.beats import Rhythm, beat_electrodes, draw_beats
from ecgkit.sources.demo.dipole import TERRITORIES, Physiology, diseased_heart, healthy_heart

AVERAGE = Physiology(
    axis=45, qrs=90, pr=155, qt=400, voltage=1, p_voltage=1, t_voltage=1, early_repolarisation=0.03, t_front=30
)
CHEST = Body(girth=1.0, breast=1.0, placement=np.zeros((9, 3)))
TIMES = np.arange(-300.0, 600.0)  # ms after the onset of the QRS complex


def beat(findings: dict[str, float] | None = None, stage: float = 0.0) -> dict[str, np.ndarray]:
    """Return one beat of an average heart with some findings, for each lead, at 1,000 Hz."""
    heart = diseased_heart(healthy_heart(AVERAGE), findings or {}, stage)
    one = np.ones(1)
    electrodes = beat_electrodes(heart, CHEST, TIMES[None], scale=one, interval=one, mean_interval=1.0)[0]
    return dict(zip(LEADS, LEAD_WEIGHTS @ electrodes, strict=True))


def at(lead: np.ndarray, ms: float) -> float:
    return float(lead[int(ms + 300)])


def within(lead: np.ndarray, start: float, stop: float) -> np.ndarray:
    return lead[int(start + 300) : int(stop + 300)]


def qrs_duration(leads: np.ndarray, *, sampling_rate: int) -> float:
    """Return the median duration in ms of what is faster than a twentieth of the fastest deflection."""
    speed = np.linalg.norm(np.gradient(leads, axis=-1), axis=0)
    peaks, _ = find_peaks(speed, height=0.5 * speed.max(), distance=int(0.3 * sampling_rate))
    fast, gap, lengths = speed > 0.05 * speed.max(), int(0.02 * sampling_rate), []
    for peak in peaks:
        start = stop = peak
        while start > gap and fast[start - gap : start].any():
            start -= 1
        while stop < len(fast) - gap and fast[stop : stop + gap].any():
            stop += 1
        if start > gap and stop < len(fast) - gap:
            lengths.append(1000 * (stop - start) / sampling_rate)
    return float(np.median(lengths))


@pytest.fixture(scope="module")
def demo() -> Demo:
    return Demo(n_records=600, seed=5)


@pytest.fixture(scope="module")
def signals(demo: Demo) -> np.ndarray:
    return np.stack([demo.read(i).signal for i in demo.records["record_id"]])


@pytest.fixture(scope="module")
def mean_beats(signals: np.ndarray) -> np.ndarray:
    """Average the beats of each record: 0.3 s before to 0.5 s after the fastest deflection."""
    filtered = sosfiltfilt(butter(2, (0.5, 35), "bandpass", fs=100, output="sos"), signals, axis=-1)
    beats = []
    for record in filtered:
        speed = np.linalg.norm(np.gradient(record, axis=-1), axis=0)
        peaks, _ = find_peaks(speed, height=0.4 * np.quantile(speed, 0.99), distance=35)
        peaks = peaks[(peaks > 30) & (peaks < 950)]
        beats.append(np.median([record[:, p - 30 : p + 50] for p in peaks], axis=0))
    return np.stack(beats)


@pytest.fixture(scope="module")
def measures(mean_beats: np.ndarray) -> np.ndarray:
    return PCA(60, random_state=0).fit_transform(mean_beats.reshape(len(mean_beats), -1))


# The laws of the leads


def test_limb_leads_follow_einthoven_and_goldberger_within_rounding(demo: Demo) -> None:
    for record_id in ("1", "2", "3", "50", "300"):
        i, ii, iii, avr, avl, avf = demo.read_microvolts(record_id)[:6].astype(int)
        assert np.abs(i + iii - ii).max() <= 1
        assert np.abs(avr + avl + avf).max() <= 1
        assert np.abs(2 * avr + i + ii).max() <= 2
        assert np.abs(2 * avl - i + iii).max() <= 2
        assert np.abs(2 * avf - ii - iii).max() <= 2


def test_lead_vectors_point_where_dower_measured_them() -> None:
    # Dower et al. 1980: left, feet, back, for I, II, V1-V6.
    dower = np.array(
        [
            (0.632, -0.235, 0.059),
            (0.235, 1.066, -0.132),
            (-0.515, 0.157, -0.917),
            (0.044, 0.164, -1.387),
            (0.882, 0.098, -1.277),
            (1.213, 0.127, -0.601),
            (1.125, 0.127, -0.086),
            (0.831, 0.076, 0.230),
        ]
    ) * (1, 1, -1)
    ours = (LEAD_WEIGHTS @ lead_field(CHEST, np.zeros((1, 3)))[:, 0])[[0, 1, 6, 7, 8, 9, 10, 11]]
    lengths = np.linalg.norm(ours, axis=1) / np.linalg.norm(dower, axis=1)
    cosine = (ours * dower).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(dower, axis=1)
    assert cosine.min() > 0.9
    assert lengths.min() > 0.7
    assert lengths.max() < 1.4


def test_a_dipole_nearer_to_an_electrode_counts_for_more() -> None:
    near, far = lead_field(CHEST, np.array([(0.0, 0.0, 3.0), (0.0, 0.0, -3.0)])).transpose(1, 0, 2)
    assert np.linalg.norm(near[4]) > 1.2 * np.linalg.norm(far[4])  # V2
    assert np.linalg.norm(direction(37, -12)) == pytest.approx(1)


# The healthy heart


def test_normal_beat_looks_as_in_a_textbook() -> None:
    leads = beat()
    height = {name: within(lead, 0, 100).max() for name, lead in leads.items()}
    depth = {name: -within(lead, 0, 100).min() for name, lead in leads.items()}
    assert 0.5 < height["II"] < 1.6
    assert height["V1"] < height["V2"] < height["V3"] < height["V4"]
    assert depth["V1"] > 2 * height["V1"]
    assert height["V5"] > 3 * depth["V5"]
    for name in ("I", "II", "V3", "V4", "V5", "V6"):
        assert at(leads[name], 315) > 0.1, name
    for start, stop in ((-140, -50), (20, 60), (250, 360)):
        assert within(leads["aVR"], start, stop).mean() < 0
    assert within(leads["II"], -155, -40).max() == pytest.approx(0.12, abs=0.06)


def test_respiration_and_fibrillation_shape_the_rr_intervals() -> None:
    rng = np.random.default_rng(0)
    steady = draw_beats(Rhythm(60, 0.0, 0.25, False, 0), 100, rng).intervals
    breathing = draw_beats(Rhythm(60, 0.08, 0.25, False, 0), 100, rng).intervals
    fibrillating = draw_beats(Rhythm(60, 0.0, 0.25, True, 0), 100, rng).intervals
    assert steady.mean() == pytest.approx(1, abs=0.02)
    assert steady.std() < 0.02 < breathing.std() < 0.1 < fibrillating.std()
    ectopic = draw_beats(Rhythm(60, 0.0, 0.25, False, 1), 20, rng)
    early = int(np.flatnonzero(ectopic.ectopic)[0])
    assert ectopic.intervals[early] < 0.75
    assert ectopic.intervals[early] + ectopic.intervals[early + 1] == pytest.approx(2, abs=0.1)


# The diseases, one textbook sign per test


def test_bundle_branch_blocks_are_wide_and_normal_is_narrow() -> None:
    for severity in (0.0, 0.5, 1.0):
        for code in ("CRBBB", "CLBBB"):
            leads = np.stack(list(beat({code: severity}).values()))
            assert qrs_duration(leads, sampling_rate=1000) > 120, (code, severity)
    assert qrs_duration(np.stack(list(beat().values())), sampling_rate=1000) < 110


def test_qrs_durations_of_the_noise_free_population() -> None:
    demo = Demo(n_records=400, sampling_rate=500, seed=2)
    clean = (demo.labels["rhythm"]["SR"] & demo.records["extra_beats"].isna()).to_numpy()

    def durations(code: str, count: int) -> np.ndarray:
        chosen = np.flatnonzero(clean & demo.labels["diagnostic"][code].to_numpy())[:count]
        made = (demo.make(str(i + 1), noise_free=True) for i in chosen)
        return np.array([qrs_duration(leads, sampling_rate=500) for leads in made])

    assert durations("NORM", 30).max() < 110
    assert np.median(durations("NORM", 25)) < 100
    assert min(durations("CRBBB", 8).min(), durations("CLBBB", 8).min()) > 120


def test_right_bundle_branch_block_has_rsr_in_v1_and_a_broad_s_in_v6() -> None:
    leads = beat({"CRBBB": 0.6})
    v1, late = leads["V1"], within(leads["V1"], 80, 140)
    assert within(v1, 0, 30).max() > 0.05
    assert within(v1, 30, 75).min() < -0.2
    assert late.max() > 0.4
    for name in ("I", "V6"):
        assert (within(leads[name], 80, 140) < -0.1).sum() > 30, name


def test_left_bundle_branch_block_is_broad_and_notched_to_the_left() -> None:
    leads = beat({"CLBBB": 0.6})
    for name in ("I", "V6"):
        peaks, _ = find_peaks(within(leads[name], 0, 150), height=0.3)
        assert len(peaks) == 2, name
        assert within(leads[name], 0, 150).min() > -0.1, f"no q and no s in {name}"
        assert at(leads[name], 320) < -0.05, f"T against the QRS complex in {name}"
    assert within(leads["V1"], 0, 150).min() < -1.0
    assert within(leads["V1"], 0, 150).max() < 0.15


def test_left_anterior_block_turns_the_axis_beyond_minus_30_degrees() -> None:
    leads = beat({"LAFB": 0.5})
    area = {name: within(leads[name], 0, 110).sum() for name in ("I", "II", "III", "aVF")}
    axis = np.degrees(np.arctan2(2 * area["aVF"] / np.sqrt(3), area["I"]))
    assert -80 < axis < -30
    assert area["II"] < 0
    assert within(leads["aVL"], 0, 30).min() < 0 < within(leads["aVL"], 30, 70).max()


def test_first_degree_block_has_a_pr_interval_over_200_ms() -> None:
    lead = beat({"1AVB": 0.1})["II"]
    onset = -300 + int(np.flatnonzero(lead[:290] > 0.2 * lead[:290].max())[0])
    assert onset < -190


@pytest.mark.parametrize(
    ("code", "facing", "opposite"),
    [
        ("ASMI", ("V1", "V2", "V3", "V4"), ("III", "aVF")),
        ("IMI", ("II", "III", "aVF"), ("I", "aVL")),
        ("LMI", ("I", "aVL", "V5", "V6"), ("III", "V1")),
    ],
)
def test_infarction_lifts_st_and_makes_q_waves_in_its_territory(
    code: str, facing: tuple[str, ...], opposite: tuple[str, ...]
) -> None:
    normal, fresh, old = beat(), beat({code: 0.9}), beat({code: 0.9}, stage=0.6)
    for name in facing:
        assert at(fresh[name], 140) - at(normal[name], 140) > 0.1, f"ST elevation in {name}"
        assert within(old[name], 10, 40).min() < -0.1, f"Q wave in {name}"
        assert at(old[name], 315) < at(normal[name], 315), f"T falls in {name}"
    for name in opposite:
        assert at(fresh[name], 140) - at(normal[name], 140) < 0.05, f"no ST elevation in {name}"


def test_infarctions_grow_with_severity_and_heal_with_time() -> None:
    for code in TERRITORIES:
        slight, plain, healed = beat({code: 0.1}), beat({code: 1.0}), beat({code: 1.0}, stage=1.0)
        lift = [
            max(at(leads[name], 140) - at(beat()[name], 140) for name in LEADS) for leads in (slight, plain, healed)
        ]
        assert lift[0] < lift[1] / 2, code
        assert lift[2] < lift[1] / 2, code


def test_ischaemia_depresses_st_and_inverts_t() -> None:
    normal, st, t = beat(), beat({"NST_": 0.8}), beat({"ISCAL": 0.8})
    for name in ("V4", "V5"):
        assert at(st[name], 150) < at(normal[name], 150) - 0.05
        assert at(t[name], 315) < -0.1
    assert at(beat({"ISCIN": 0.8})["aVF"], 315) < -0.05
    assert 0 < at(beat({"NDT": 0.8})["V5"], 315) < 0.5 * at(normal["V5"], 315)


def test_hypertrophy_meets_sokolow_and_lyon_and_shows_strain() -> None:
    def index(leads: dict[str, np.ndarray]) -> float:
        return float(-within(leads["V1"], 0, 120).min() + within(leads["V5"], 0, 120).max())

    assert index(beat()) < 3.5
    assert index(beat({"LVH": 0.5})) > 3.5
    strain = beat({"LVH": 1.0})
    for name in ("V5", "V6"):
        assert at(strain[name], 160) < -0.05
        assert at(strain[name], 310) < -0.1


def test_sokolow_lyon_separates_hypertrophy_in_the_population(demo: Demo, mean_beats: np.ndarray) -> None:
    index = -mean_beats[:, 6, 15:45].min(axis=1) + mean_beats[:, 10, 15:45].max(axis=1)
    hypertrophy, normal = (demo.labels["superclass"][name].to_numpy() for name in ("HYP", "NORM"))
    assert np.median(index[hypertrophy]) > 3.2
    assert np.quantile(index[normal], 0.9) < 3.5


# The table


def test_records_have_the_columns_and_units_of_every_source(demo: Demo) -> None:
    records = demo.records
    assert {name: str(dtype) for name, dtype in records.dtypes.items()} == {
        name: column.dtype for name, column in (CORE_COLUMNS | Demo.columns).items()
    }
    assert records["record_id"].tolist() == [str(i) for i in range(1, 601)]
    assert set(records["sex"]) == {"male", "female"}
    assert records["age"].between(18, 90).all()
    assert (records.loc[records["age_over_89"], "age"] == 90).all()
    assert 0.1 < records["height"].isna().mean() < 0.3
    assert records.groupby("sex")["height"].mean().diff().abs().iloc[-1] == pytest.approx(12.5, abs=2.5)
    assert records["weight"].median() == pytest.approx(75, abs=8)
    assert records["device"].nunique() == records["site"].nunique() == 3
    assert records["report"].notna().all()
    assert Demo(n_records=2000, seed=0).records["age_over_89"].any()


def test_label_sets_follow_from_the_scp_codes(demo: Demo) -> None:
    superclass = demo.labels["superclass"]
    assert tuple(superclass) == ("NORM", "MI", "STTC", "CD", "HYP")
    assert set(demo.labels) == {"superclass", "subclass", "diagnostic", "rhythm"}
    codes = [json.loads(text) for text in demo.records["scp_codes"]]
    for name in ("diagnostic", "rhythm"):
        for code in demo.labels[name]:
            assert demo.labels[name][code].tolist() == [code in record for record in codes]
    share = superclass.mean()
    assert share.to_dict() == pytest.approx({"NORM": 0.44, "MI": 0.25, "STTC": 0.25, "CD": 0.2, "HYP": 0.12}, abs=0.05)
    assert not superclass.loc[superclass["NORM"], ["MI", "STTC", "CD", "HYP"]].any(axis=None)
    assert (superclass.sum(axis=1) >= 2).mean() > 0.1
    assert 0.005 < (~superclass.any(axis=1)).mean() < 0.05
    assert demo.labels["rhythm"].any(axis=1).all()


@pytest.mark.parametrize("n_records", [200, 300, 1000])
def test_every_fold_has_every_class_and_no_patient_is_in_two(n_records: int) -> None:
    demo = Demo(n_records=n_records, seed=1)
    records = demo.records
    assert records.groupby("patient_id")["fold"].nunique().max() == 1
    assert records.groupby("patient_id").size().max() > 1
    sizes = records.groupby("fold").size()
    assert sizes.index.tolist() == list(range(1, 11))
    assert sizes.max() - sizes.min() <= 0.04 * n_records
    assert demo.labels["superclass"].groupby(records["fold"]).any().all(axis=None)


def test_disease_comes_with_age(demo: Demo) -> None:
    ill = ~demo.labels["superclass"]["NORM"]
    old = demo.records["age"] > 65
    assert ill[old].mean() > ill[~old].mean() + 0.2


# Information in the signal


def test_classes_can_be_learned_from_simple_measures(demo: Demo, measures: np.ndarray) -> None:
    train = (demo.records["fold"] <= 7).to_numpy()
    aucs = []
    for name in demo.labels["superclass"]:
        y = demo.labels["superclass"][name].to_numpy()
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=1000)).fit(
            measures[train], y[train]
        )
        aucs.append(roc_auc_score(y[~train], model.decision_function(measures[~train])))
    assert min(aucs) > 0.65
    assert 0.75 < np.mean(aucs) < 0.99


def test_sex_and_age_can_be_predicted_from_the_signal(demo: Demo, measures: np.ndarray) -> None:
    train = (demo.records["fold"] <= 7).to_numpy()
    male = (demo.records["sex"] == "male").to_numpy(dtype=bool)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=1000)).fit(measures[train], male[train])
    assert 0.75 < roc_auc_score(male[~train], model.decision_function(measures[~train])) < 0.98
    age = demo.records["age"].to_numpy()
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 4, 9))).fit(measures[train], age[train])
    assert 0.3 < r2_score(age[~train], ridge.predict(measures[~train])) < 0.9


def test_weight_lowers_the_voltage_and_age_turns_the_axis_left(demo: Demo, mean_beats: np.ndarray) -> None:
    normal = demo.labels["superclass"]["NORM"].to_numpy()
    records = demo.records[normal]
    index = records["weight"] / (records["height"] / 100) ** 2
    voltage = np.ptp(mean_beats[normal][:, 6:], axis=-1).mean(axis=-1)
    known = index.notna().to_numpy()
    assert np.corrcoef(index[known], voltage[known])[0, 1] < -0.2
    area = mean_beats[normal][:, :, 25:36].sum(axis=-1)
    axis = np.degrees(np.arctan2(2 * area[:, 5] / np.sqrt(3), area[:, 0]))
    assert np.corrcoef(records["age"], axis)[0, 1] < -0.4


# Making the records


def test_records_depend_only_on_the_seed(demo: Demo) -> None:
    again, other, smaller = Demo(n_records=600, seed=5), Demo(n_records=600, seed=6), Demo(n_records=50, seed=5)
    pd.testing.assert_frame_equal(again.records, demo.records)
    for record_id in ("40", "7"):
        np.testing.assert_array_equal(again.read_microvolts(record_id), demo.read_microvolts(record_id))
        np.testing.assert_array_equal(smaller.read_microvolts(record_id), demo.read_microvolts(record_id))
        assert not np.array_equal(other.read_microvolts(record_id), demo.read_microvolts(record_id))
    assert not other.records["age"].equals(demo.records["age"])
    columns = [name for name in demo.records if name != "fold"]
    pd.testing.assert_frame_equal(smaller.records[columns], demo.records[columns][:50])


def test_a_pickled_source_makes_the_same_records(demo: Demo) -> None:
    copy = pickle.loads(pickle.dumps(demo))  # noqa: S301
    np.testing.assert_array_equal(copy.read_microvolts("9"), demo.read_microvolts("9"))
    assert copy.identity() == demo.identity()
    assert demo.identity() == {"source": "demo", "version": "1", "n_records": 600, "sampling_rate": 100, "seed": 5}


def test_float_and_integer_readings_agree(demo: Demo) -> None:
    ecg = demo.read("12")
    assert ecg.signal.shape == (12, 1000)
    assert ecg.signal.dtype == np.float32
    np.testing.assert_array_equal(np.rint(1000 * ecg.signal).astype(np.int16), demo.read_microvolts("12"))


def test_100_hz_is_the_500_hz_record_resampled(demo: Demo) -> None:
    fast = Demo(n_records=600, sampling_rate=500, seed=5)
    assert fast.n_samples == 5000
    resampled = resample_poly(fast.make("3"), 1, 5, axis=-1)
    np.testing.assert_allclose(demo.make("3")[:, 20:-20], resampled[:, 20:-20], atol=1e-9)
    pd.testing.assert_frame_equal(fast.records, demo.records)


def test_noise_is_on_the_electrodes_and_as_strong_as_drawn() -> None:
    fast = Demo(n_records=600, sampling_rate=500, seed=5)
    spectra = []
    for record_id in map(str, range(1, 41)):
        noise = fast.make(record_id) - fast.make(record_id, noise_free=True)
        spectra.append(np.abs(np.fft.rfft(noise[1] * np.hanning(5000))) ** 2)
    power = np.mean(spectra, axis=0)  # bins of 0.1 Hz
    assert power[2:5].max() > 100 * power[100:200].mean(), "baseline wander"
    assert power[500] > 20 * power[[480, 520]].mean(), "mains hum"
    assert power[300:900].mean() > 3 * power[2200:].mean(), "muscle noise"


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"n_records": 5}, "n_records is 5"),
        ({"sampling_rate": 250}, "sampling_rate is 250"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments_are_named(keywords: dict[str, int], message: str) -> None:
    with pytest.raises(EcgkitError, match=message):
        Demo(**keywords)


def test_unknown_record_is_named(demo: Demo) -> None:
    for record_id in ("0", "601", "09"):
        with pytest.raises(EcgkitError, match=f"no record '{record_id}'"):
            demo.read(record_id)


def test_the_boundaries_of_the_waves_are_those_of_the_beats_without_noise() -> None:
    demo = Demo(n_records=40, sampling_rate=500, seed=1)
    for record_id in ("1", "2", "3"):
        waves, signal = demo.wave_boundaries(record_id), demo.make(record_id, noise_free=True)
        size = np.sqrt(np.mean((signal - np.median(signal, axis=1, keepdims=True)) ** 2, axis=0))
        assert len(waves) >= 5
        times = np.arange(signal.shape[1]) / 500
        qrs = np.zeros(len(times), bool)
        for beat in waves.itertuples():
            assert beat.p_onset < beat.p_end < beat.qrs_onset < beat.qrs_end < beat.t_end
            inside = (times >= beat.qrs_onset) & (times <= beat.qrs_end)
            around = (times >= beat.p_onset) & (times <= beat.t_end)
            assert size[inside].max() == size[around].max()
            qrs |= inside
            # From the end of T to the onset of the next P wave nothing happens.
            assert size[(times > beat.t_end + 0.03) & (times < beat.t_end + 0.05)].max() < 0.15 * size[inside].max()
        assert qrs.mean() < 0.25


@pytest.mark.parametrize(("seconds", "heart_rate", "sampling_rate"), [(5, 45, 500), (10, 75, 100), (60, 150, 500)])
def test_one_ecg_has_the_length_and_the_rate_that_were_asked_for(
    seconds: int, heart_rate: int, sampling_rate: int
) -> None:
    ecg = make_ecg(["MI"], seconds=seconds, heart_rate=heart_rate, sampling_rate=sampling_rate, seed=4)
    assert ecg.signal.shape == (12, seconds * sampling_rate)
    found = r_peaks(ecg.signal, sampling_rate=sampling_rate)
    assert 60 / np.diff(found).mean() * sampling_rate == pytest.approx(heart_rate, rel=0.03)


def test_one_ecg_is_of_the_patient_that_was_asked_for_and_of_its_seed() -> None:
    ecg = make_ecg(["CD"], age=33, sex="male", seed=7)
    assert (ecg.age, ecg.sex) == (33, "male")
    again, other = make_ecg(["CD"], age=33, sex="male", seed=7), make_ecg(["CD"], age=33, sex="male", seed=8)
    np.testing.assert_array_equal(again.signal, ecg.signal)
    assert not np.array_equal(other.signal, ecg.signal)


def test_one_ecg_shows_its_disease_and_its_noise() -> None:
    def sokolow(classes: list[str], seed: int) -> float:
        return measure_ecg(make_ecg(classes, noise=0.2, seed=seed))["sokolow_lyon"]

    higher = [sokolow(["HYP"], seed) - sokolow(["NORM"], seed) for seed in range(5)]
    assert np.median(higher) > 0.5
    calm, loud = (np.abs(np.diff(make_ecg(noise=noise, seed=1).signal)).mean() for noise in (0, 8))
    assert loud > 2 * calm


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"classes": ["NORM", "MI"]}, "NORM"),
        ({"classes": ["FLU"]}, "FLU"),
        ({"seconds": 61}, "61"),
        ({"heart_rate": 10}, "10"),
        ({"age": 7}, "7"),
        ({"sex": "f"}, "'f'"),
        ({"sampling_rate": 250}, "250"),
        ({"seed": -1}, "-1"),
    ],
)
def test_bad_arguments_of_one_ecg_are_named(keywords: dict[str, object], named: str) -> None:
    with pytest.raises(EcgkitError, match=named):
        make_ecg(**keywords)  # type: ignore[arg-type]
