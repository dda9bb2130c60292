"""Embeddings of any layer: what is kept of it, which rows they are, and that they are computed once."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from ecgkit import training
from ecgkit.errors import EcgkitError
from ecgkit.feature_space.embeddings import (
    ALL_LAYERS,
    encoder_of,
    session_embeddings,
)
from ecgkit.feature_space.layers import EMBEDDING, embed_layers, layer_names
from ecgkit.inference.weights import TrainedModel
from ecgkit.models import MODELS, create_model
from ecgkit.models.base import cut_windows
from ecgkit.signals.prepare import Preparation
from ecgkit.training import TrainedSession


def small_model(name: str) -> TrainedModel:
    options = {"frames_per_token": 4} if name in {"parallel_xlstm", "hierarchical_xlstm"} else {}
    keywords = {"n_leads": 12, "n_classes": 5, "n_samples": 250, "sampling_rate": 100, **options}
    model = create_model(name, **keywords).eval()
    ones = np.ones(12, np.float32)
    return TrainedModel(model, name, keywords, tuple("ABCDE"), "", Preparation(100, 250, 0 * ones, ones))


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_has_layers_that_can_be_read(name: str, trained_session: TrainedSession) -> None:
    trained = small_model(name)
    names = layer_names(trained.model)
    assert names[-1] == EMBEDDING
    assert len(names) >= 2
    assert len(set(names)) == len(names)
    dataset = trained_session.dataset
    same = replace(trained, classes=dataset.classes, preparation=Preparation(100, 250, dataset.mean, dataset.std))
    layers = embed_layers(same, dataset, np.arange(3), names)
    assert list(layers) == list(names)
    for values in layers.values():
        assert values.shape[0] == 3
        assert np.isfinite(values).all()
        assert (values[0] != values[1]).any()
    np.testing.assert_allclose(layers[EMBEDDING], training.embed(same, dataset, np.arange(3)), rtol=1e-6)


def test_a_layer_is_summarised_over_time_and_windows(trained_session: TrainedSession) -> None:
    trained, dataset = trained_session.trained, trained_session.dataset
    values = embed_layers(trained, dataset, np.arange(2), ["trunk.3"])["trunk.3"]
    signal = training.data.Batches(dataset)[np.arange(2)][0]
    with torch.inference_mode():
        windows = cut_windows(signal, trained.model.n_samples)
        behind = windows.flatten(0, 1)
        for layer in list(trained.model.get_submodule("trunk"))[:4]:
            behind = layer(behind)
    output = behind.unflatten(0, windows.shape[:2]).numpy()
    summary = np.concatenate([output.mean(-1), output.std(-1), output.max(-1)], axis=2).mean(axis=1)
    np.testing.assert_allclose(values, summary, rtol=1e-4, atol=1e-5)


def test_embeddings_are_computed_once_and_again_for_other_weights(trained_session: TrainedSession) -> None:
    shutil.rmtree(trained_session.session.path / "cache" / "embeddings", ignore_errors=True)
    first = session_embeddings(trained_session, folds=(9, 10))[EMBEDDING]
    assert set(first.records["fold"]) == {9, 10}
    stamp = first.path.stat().st_mtime_ns
    some = session_embeddings(trained_session, folds=(10,))[EMBEDDING]
    assert (some.records["fold"] == 10).all()
    assert some.path.stat().st_mtime_ns == stamp
    everything = session_embeddings(trained_session)[EMBEDDING]
    assert everything.path.stat().st_mtime_ns != stamp
    dataset = trained_session.dataset
    pd.testing.assert_series_equal(everything.records["record_id"], dataset.records["record_id"])
    rows = everything.records["fold"].isin([9, 10]).to_numpy()
    np.testing.assert_allclose(everything.vectors[rows], first.vectors, rtol=1e-5, atol=1e-6)
    weights = trained_session.session.path / "weights" / "best.safetensors"
    content = weights.read_bytes()
    stamp = everything.path.stat().st_mtime_ns
    trained_session.trained.untrained(9).save(weights)
    assert session_embeddings(trained_session)[EMBEDDING].path.stat().st_mtime_ns != stamp
    weights.write_bytes(content)
    session_embeddings(trained_session)


def test_the_head_on_the_embedding_gives_the_probabilities(trained_session: TrainedSession) -> None:
    signal_only = trained_session.trained.untrained(0)
    dataset = trained_session.dataset
    keywords = signal_only.keywords | {"n_metadata": 0}
    model = create_model(signal_only.name, **keywords).eval()
    trained = replace(signal_only, model=model, keywords=keywords, scaler=None)
    values = embed_layers(trained, dataset, np.arange(4))[EMBEDDING]
    with torch.inference_mode():
        logits = model.head(torch.from_numpy(values))
    np.testing.assert_allclose(logits.sigmoid(), training.predict(trained, dataset, np.arange(4)), rtol=1e-5)


def test_encoders_are_the_weights_that_their_names_say(trained_session: TrainedSession) -> None:
    def weights(encoder: str) -> torch.Tensor:
        return next(encoder_of(trained_session, encoder).model.parameters())

    assert not torch.equal(weights("untrained_0"), weights("untrained_1"))
    assert torch.equal(weights("untrained_1"), weights("untrained_1"))
    assert not torch.equal(weights("epoch_1"), weights("epoch_2"))
    history = training.read_history(trained_session.session)
    best = int(history.loc[history["validation_macro_auc"].idxmax(), "epoch"])
    assert torch.equal(weights("trained"), weights(f"epoch_{best}"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "best"}, "encoder is 'best': give"),
        ({"encoder": "untrained_4294967296"}, "4294967296"),
        ({"encoder": "trained_1"}, "encoder is 'trained_1': give"),
        ({"encoder": "untrained"}, "encoder is 'untrained': give"),
        ({"encoder": "epoch_7"}, "kept no weights of epoch 7: train it with save_every_epoch"),
        ({"layers": ["trunk.99"]}, "no layer 'trunk.99': choose from trunk.2, trunk.3, trunk.4, embedding"),
        ({"layers": ["head"]}, "the layer 'head' takes no part in the embedding"),
        ({"folds": (0,)}, "fold 0"),
        ({"folds": ()}, "no fold to embed"),
    ],
)
def test_what_does_not_exist_is_named(
    trained_session: TrainedSession, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(EcgkitError, match=message):
        session_embeddings(trained_session, **settings)  # type: ignore[arg-type]


def test_all_layers_in_their_order(trained_session: TrainedSession) -> None:
    found = session_embeddings(trained_session, [ALL_LAYERS], folds=(10,))
    assert list(found) == ["trunk.2", "trunk.3", "trunk.4", EMBEDDING]
    assert [len(one.vectors) for one in found.values()] == [len(trained_session.dataset.folds(10))] * 4
