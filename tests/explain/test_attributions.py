from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ecgkit import ECG, EcgkitError, load_model
from ecgkit.cli import main
from ecgkit.explain import pages
from ecgkit.explain.attributions import METHODS, explain_ecg, predicted_classes
from ecgkit.explain.methods import Inputs, relevance_of
from ecgkit.inference.onnx_model import OnnxPredictor
from ecgkit.models import MODELS, create_model
from ecgkit.plots.explanations import AGAINST, FOR, explained_ecg
from ecgkit.readers.saving import save_ecg
from ecgkit.signals.segments import SEGMENTS, wave_segments
from ecgkit.sources.demo import Demo
from ecgkit.sources.demo.source import make_ecg

ADDITIVE = ("integrated_gradients", "gradient_shap")


@pytest.fixture(scope="module")
def ecg() -> ECG:
    return make_ecg(["MI"], sampling_rate=100, seed=3)


@pytest.fixture(scope="module")
def resnet1d():
    return load_model("resnet1d")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, ecg: ECG) -> Path:
    return save_ecg(ecg, tmp_path_factory.mktemp("explain") / "one.npz")


def make_inputs(name: str, n_samples: int = 250, *, n_metadata: int = 0) -> Inputs:
    torch.manual_seed(0)
    model = create_model(
        name, n_leads=12, n_classes=3, n_samples=n_samples, sampling_rate=100, n_metadata=n_metadata
    ).eval()
    signal = make_ecg(sampling_rate=100, seed=1).signal[:, :250]
    metadata = np.ones((1, n_metadata), np.float32) if n_metadata else None
    flat, std = np.zeros(12, np.float32), np.ones(12, np.float32)
    return Inputs(model, signal[None], metadata, np.array([[0, 2]]), flat, std, 100)


def explained(method: str, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Return relevance and change of the one ECG."""
    (relevance,), (change,) = relevance_of(method, inputs)
    return relevance, change


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_is_explained(name: str) -> None:
    inputs = make_inputs(name, n_metadata=4)
    for method in ("saliency", "grad_cam", "guided_grad_cam", "occlusion_leads"):
        relevance, _ = explained(method, inputs)
        assert relevance.shape == (2, 12, 250), method
        assert np.isfinite(relevance).all(), method
        assert relevance.any() or method == "guided_grad_cam", method
    assert not any(parameter.grad is not None for parameter in inputs.model.parameters())


@pytest.mark.parametrize("name", ["resnet1d", "xlstm", "bilstm"])
def test_a_step_along_the_gradient_changes_the_logit_as_it_says(name: str) -> None:
    inputs = make_inputs(name)
    gradient, _ = explained("saliency", inputs)
    for row in range(inputs.targets.shape[1]):
        step = 0.02 * gradient[row] / np.linalg.norm(gradient[row])
        moved = np.concatenate([inputs.signals + step, inputs.signals - step])
        up, down = inputs.logits(moved, np.zeros(2, np.intp))[:, row]
        assert up - down == pytest.approx(2 * 0.02 * np.linalg.norm(gradient[row]), rel=0.03)


@pytest.mark.parametrize("method", ADDITIVE)
def test_additive_methods_are_complete(method: str, resnet1d, ecg: ECG) -> None:
    ecg = replace(ecg, signal=ecg.signal[:, :250])
    background = [make_ecg(sampling_rate=100, seed=seed) for seed in (0, 1)]
    found = explain_ecg(resnet1d, ecg, method=method, classes=["MI", "CD"], background=background)
    # The logit has kinks, on which 8 steps from one ECG to another are less exact than 64 from a flat line.
    exactness = {"rel": 0.02, "abs": 0.03} if method == "integrated_gradients" else {"rel": 0.05, "abs": 0.3}
    assert found.relevance.sum(axis=(1, 2)) == pytest.approx(found.change, **exactness)
    assert found.relevance.sum(axis=(1, 2)) == pytest.approx(found.by_segment().sum(axis=(1, 2)), rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_many_ecgs_at_once_are_explained_as_each_alone(method: str) -> None:
    torch.manual_seed(0)
    model = create_model(
        "resnet1d", widths=(8, 16), pooling="attention", n_leads=12, n_classes=3, n_samples=100, sampling_rate=100,
        n_metadata=2,
    ).eval()  # fmt: skip
    signals = np.stack([make_ecg(sampling_rate=100, seed=seed).signal[:, :180] for seed in range(5)])
    metadata = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    flat, std = np.full(12, 0.1, np.float32), np.full(12, 0.3, np.float32)
    targets = np.array([[0, 1], [1, 2], [2, 2], [0, 2], [1, 0]])
    inputs = Inputs(model, signals, metadata, targets, flat, std, 100, background=signals[:2] / 2)
    together, change = relevance_of(method, inputs)
    for row in range(5):
        relevance, alone = explained(method, inputs[row : row + 1])
        assert together[row] == pytest.approx(relevance, rel=1e-3, abs=1e-4 * float(np.abs(relevance).max()))
        assert change[row] == pytest.approx(alone, rel=1e-3, abs=1e-4, nan_ok=True)


def test_what_is_constant_has_no_relevance() -> None:
    inputs = make_inputs("cnn")
    with torch.no_grad():
        first = next(module for module in inputs.model.modules() if isinstance(module, torch.nn.Conv1d))
        first.weight[:, 5] = 0
    for method in ("integrated_gradients", "occlusion_leads", "saliency"):
        relevance, _ = explained(method, inputs)
        assert np.abs(relevance[:, 5]).max() < 1e-4 * np.abs(relevance[:, 4]).max()


def test_a_longer_record_is_the_sum_of_its_windows() -> None:
    inputs = make_inputs("resnet1d", n_samples=100)
    relevance, change = explained("integrated_gradients", inputs)
    assert relevance.sum(axis=(1, 2)) == pytest.approx(change, rel=0.05, abs=0.02)
    for method in ("grad_cam", "occlusion_time"):
        relevance, _ = explained(method, inputs)
        assert relevance.shape == (2, 12, 250)
        assert np.ptp(relevance[:, 0], axis=1).all()


def test_attention_is_a_distribution_over_time() -> None:
    for name, options in (("resnet1d", {"pooling": "attention"}), ("residual_bilstm_attention", {})):
        inputs = make_inputs("resnet1d")
        model = create_model(name, n_leads=12, n_classes=3, n_samples=250, sampling_rate=100, **options).eval()
        relevance, _ = explained("attention", replace(inputs, model=model))
        assert relevance.sum(axis=(1, 2)) == pytest.approx([1, 1], abs=1e-3)
        assert (relevance >= 0).all()


def test_an_ensemble_is_the_weighted_sum_of_its_members(ecg: ECG) -> None:
    ensemble = load_model("ensemble")
    whole = explain_ecg(ensemble, ecg, method="grad_cam", classes=["MI"])
    members = [explain_ecg(member, ecg, method="grad_cam", classes=["MI"]) for member in ensemble.members.values()]
    assert whole.relevance == pytest.approx(np.mean([member.relevance for member in members], axis=0), abs=1e-6)
    assert whole.values == pytest.approx(ensemble.predict_proba([ecg])[0, [1]])
    assert whole.model == "ensemble"


def test_the_signal_is_what_the_network_read(resnet1d) -> None:
    ecg = make_ecg(["MI"], sampling_rate=500, seconds=12, seed=3)
    found = explain_ecg(resnet1d, ecg, method="grad_cam", classes=["MI"])
    assert found.signal.shape == (12, 1200)
    assert found.sampling_rate == 100
    assert np.corrcoef(found.signal[1], ecg.signal[1, ::5])[0, 1] > 0.99
    assert found.values[0] == pytest.approx(resnet1d.predict_proba([ecg])[0, 1])


@pytest.mark.parametrize(
    ("options", "named"),
    [({"method": "magic"}, "magic"), ({"classes": ["MIX"]}, "MIX"), ({"method": "attention"}, "at")],
)
def test_what_cannot_be_explained_is_named(options: dict, named: str, resnet1d, ecg: ECG) -> None:
    with pytest.raises(EcgkitError, match=named):
        explain_ecg(resnet1d, ecg, **options)


def test_a_recording_that_does_not_fit_into_memory_is_refused(resnet1d, ecg: ECG) -> None:
    hour = replace(ecg, signal=np.tile(ecg.signal, 13))
    with pytest.raises(EcgkitError, match="130 s"):
        explain_ecg(resnet1d, hour)


def test_the_network_reads_as_many_windows_at_once_whatever_is_explained(monkeypatch) -> None:
    inputs = make_inputs("resnet1d", n_samples=50)  # nine windows
    inputs = inputs[np.zeros(20, np.intp)]
    sizes = []
    handle = inputs.model.trunk[0].register_forward_hook(lambda _, signal, __: sizes.append(len(signal[0])))
    monkeypatch.setattr("ecgkit.explain.methods.STEPS", 16)
    for method in ("integrated_gradients", "occlusion_leads", "saliency", "grad_cam"):
        relevance_of(method, inputs)
    handle.remove()
    assert max(sizes) <= 64


def test_a_graph_cannot_be_explained(ecg: ECG) -> None:
    graph = object.__new__(OnnxPredictor)  # without the graph, which takes long to export
    graph.name, graph.classes = "exported", ("MI",)
    with pytest.raises(EcgkitError, match="exported"):
        explain_ecg(graph, ecg)


def test_segments_are_where_the_demo_has_its_waves() -> None:
    demo = Demo(n_records=20, sampling_rate=500)
    healthy = demo.labels["superclass"].index[demo.labels["superclass"]["NORM"].fillna(value=False).astype(bool)]
    row = healthy[0] if isinstance(healthy[0], str) else demo.records["record_id"].iloc[int(healthy[0])]
    segments = wave_segments(demo.read(row).signal, sampling_rate=500)
    for beat in demo.wave_boundaries(row).to_dict("records"):
        for name, first, last in (("P", "p_onset", "p_end"), ("QRS", "qrs_onset", "qrs_end")):
            inside = segments[round(500 * beat[first]) : round(500 * beat[last])]
            assert np.mean(inside == SEGMENTS.index(name)) > 0.7, name
    assert np.all(wave_segments(np.zeros((12, 1000)), sampling_rate=100) == -1)


def test_planted_signs_are_the_difference_of_disease() -> None:
    demo = Demo(n_records=60)
    for row, plan in demo._plans.items():
        signs = demo.planted_signs(row)
        assert signs.any() == any(code != "NORM" for code in (plan["findings"] | plan["unreported"]))
        assert np.abs(signs[0] + signs[2] - signs[1]).max() < 1e-6  # Einthoven's law holds for differences, too


class TestPictures:
    def test_orange_speaks_for_and_blue_against(self, ecg: ECG) -> None:
        relevance = np.zeros_like(ecg.signal)
        relevance[1, 300:340], relevance[1, 600:640] = 1, -1
        figure = explained_ecg(ecg.signal, relevance, sampling_rate=100)
        strip = next(image for image in figure.axes[0].images if image.get_gid() == "relevance II")
        shown = np.asarray(
            [image.get_array() for image in figure.axes[0].images if image.get_gid() == "relevance II"][-1]
        )
        import matplotlib as mpl

        assert strip is not None
        assert shown[0, 320, :3] == pytest.approx(mpl.colors.to_rgb(FOR))
        assert shown[0, 620, :3] == pytest.approx(mpl.colors.to_rgb(AGAINST))
        assert shown[0, 100, 3] == 0

    def test_shapes_must_agree(self, ecg: ECG) -> None:
        with pytest.raises(EcgkitError, match="999"):
            explained_ecg(ecg.signal, ecg.signal[:, :999], sampling_rate=100)

    def test_every_part_is_drawn_and_kept(self, resnet1d, ecg: ECG) -> None:
        found = explain_ecg(resnet1d, ecg, method="grad_cam", classes=["MI", "NORM"])
        figures = pages.draw(found, "demo")
        assert set(figures) == {"ecg-MI", "ecg-NORM", "leads", "beats"}
        assert len(figures["beats"].axes) == 24
        page = pages.html(found, "<b>")
        assert "&lt;b&gt;" in page
        assert "http" not in page


class TestTheCommand:
    @pytest.mark.parametrize(("style", "names"), [("npz", 1), ("html", 1), ("png", 3)])
    def test_files_are_written(self, style: str, names: int, file: Path, tmp_path: Path, capsys) -> None:
        command = ["explain", "resnet1d", str(file), "--method", "grad_cam", "--format", style, "--to", str(tmp_path)]
        assert main([*command, "--class", "MI"]) == 0
        written = capsys.readouterr().out.splitlines()
        assert len(written) == names
        assert all(Path(path).stat().st_size > 1000 for path in written)
        if style == "npz":
            with np.load(written[0]) as arrays:
                assert arrays["relevance"].shape == (1, 12, 1000)
                assert arrays["classes"].tolist() == ["MI"]

    def test_a_folder_is_explained_with_progress(self, ecg: ECG, tmp_path: Path, capsys) -> None:
        save_ecg(ecg, tmp_path / "ecgs" / "one.npz")
        save_ecg(ecg, tmp_path / "ecgs" / "two.npz")
        options = ["--method", "grad_cam", "--format", "npz", "--class", "MI", "--to", str(tmp_path / "out")]
        assert main(["explain", "resnet1d", str(tmp_path / "ecgs"), *options]) == 0
        said = capsys.readouterr()
        assert len(said.out.splitlines()) == 2
        assert "2/2" in said.err

    @pytest.mark.parametrize(
        "more", [["--to", "x", "--method", "magic"], ["--to", "x", "--class", "MIX"], []], ids=["method", "class", "to"]
    )
    def test_bad_input_is_one_line(self, more: list[str], file: Path, capsys) -> None:
        assert main(["explain", "resnet1d", str(file), *more]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_predicted_classes_are_never_none(resnet1d, ecg: ECG) -> None:
    assert predicted_classes(resnet1d, ecg)
    assert set(METHODS) >= set(ADDITIVE)
