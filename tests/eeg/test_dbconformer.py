"""DBConformer reproduces the published tensors, and holds together at any setting."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from sigform_eeg.dbconformer import DBConformer

FILES = ("dbconformer_a", "dbconformer_c_gate", "dbconformer_d_temporal")

GRADIENTS = {
    "channel_embedding.encoder.0.weight": "channel_filter.weight",
    "classifier.fc.6.weight": "classifier.6.weight",
    "embedding.stem.sconv.conv.weight": "spatial_filter.weight",
}
"""Published names of the gradients in the files, and ours."""


def reference(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    folder = os.environ.get("SIGFORM_FIXTURES")
    if not folder:
        pytest.skip("SIGFORM_FIXTURES is not set: needs the reference tensors")
    with safe_open(Path(folder, "golden", f"{name}.safetensors"), "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()["config"]), tensors


def state_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}


def distance(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def small(**options: Any) -> DBConformer:
    torch.manual_seed(0)
    settings = {"patch_size": 20, "emb_size": 20, "temporal_depth": 1, "spatial_depth": 1}
    return DBConformer(4, 3, 130, **{**settings, **options})


@pytest.mark.parametrize("name", FILES)
def test_outputs_and_gradients_are_the_published_ones(name: str) -> None:
    config, tensors = reference(name)
    network = DBConformer.from_reference(config, state_of(tensors))
    assert not network.training
    logits = network(tensors["input"].squeeze(1))
    assert distance(logits, tensors["output"]) < 1e-5
    F.cross_entropy(logits, tensors["labels"]).backward()
    own = dict(network.named_parameters())
    compared = 0
    for key, expected in tensors.items():
        if key.startswith("grad."):
            grad = own[GRADIENTS[key.removeprefix("grad.")]].grad
            assert grad is not None
            assert distance(grad.reshape(expected.shape), expected) < 1e-4
            compared += 1
    assert compared >= 2


@pytest.mark.parametrize("name", FILES)
def test_branches_are_the_published_ones(name: str) -> None:
    config, tensors = reference(name)
    network = DBConformer.from_reference(config, state_of(tensors))
    x = tensors["input"].squeeze(1)
    assert distance(network.temporal_tokens(x), tensors["tap.temporal_transformer"]) < 1e-5
    assert distance(network.channel_tokens(x), tensors["tap.spatial_transformer"]) < 1e-5
    assert distance(network.features(x), tensors["tap.fused"]) < 1e-5
    if "tap.channel_scores" in tensors:
        expected = tensors["tap.channel_scores"].squeeze(-1)
        if (expected.sum(1) - 1).abs().max() > 1e-3:
            expected = expected.softmax(1)
        assert distance(network.channel_importance(x), expected) < 1e-5


def test_weights_that_do_not_fit_are_named() -> None:
    config, tensors = reference("dbconformer_a")
    state = state_of(tensors)
    missing = {k: v for k, v in state.items() if k != "pos_embedding_spatial"}
    with pytest.raises(ValueError, match="pos_embedding_spatial missing"):
        DBConformer.from_reference(config, missing)
    with pytest.raises(ValueError, match="more unexpected"):
        DBConformer.from_reference(config, {**state, "more": torch.zeros(1)})
    wrong = {**state, "spatial_transformer.0.0.fn.1.keys.weight": torch.zeros(3, 40)}
    with pytest.raises(ValueError, match=r"keys\.weight has shape \(3, 40\), needs \(40, 40\)"):
        DBConformer.from_reference(config, wrong)


def test_published_arguments_are_understood() -> None:
    args = {"chn": 22, "time_sample_num": 1001, "class_num": 2, "data_name": "MI1-7"}
    default = DBConformer(22, 2, 1001, temporal_depth=5, spatial_depth=5)
    again = DBConformer.from_reference({"args": args, "kw": {}}, default.published_state())
    assert sum(p.numel() for p in again.parameters()) == 212_067
    with pytest.raises(ValueError, match="n_classes is 3; needs 2"):
        DBConformer.from_reference({"args": args, "kw": {"n_classes": 3}}, {})
    with pytest.raises(ValueError, match="unknown 'depth'"):
        DBConformer.from_reference({"args": args, "kw": {"depth": 3}}, {})


def test_parameters_of_the_released_configuration() -> None:
    assert sum(p.numel() for p in DBConformer(22, 2, 1001).parameters()) == 93_747


def test_evaluating_folds_what_training_does_in_steps() -> None:
    network = small(drop_prob=0.0)
    x = torch.randn(6, 4, 130)
    for norm in (network.spatial_norm, network.temporal_norm):
        norm.momentum = None  # the mean of what was seen
    trained = network.train()(x)
    for norm in (network.spatial_norm, network.temporal_norm):
        count = 6 * 130
        assert norm.running_var is not None
        norm.running_var *= (count - 1) / count
    torch.testing.assert_close(network.eval()(x), trained, rtol=1e-4, atol=1e-5)


OPTIONS = [
    {},
    {"gate": True},
    {"channel_attention": False},
    {"branch": "temporal"},
    {"branch": "spatial"},
    {"position_embedding": False},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_every_weight_that_is_used_gets_a_gradient(options: dict[str, Any]) -> None:
    network = small(**options)
    F.cross_entropy(network(torch.randn(5, 4, 130)), torch.tensor([0, 1, 2, 0, 1])).backward()
    without = {name for name, p in network.named_parameters() if p.grad is None}
    other = {
        "temporal": "spatial|channel|gate",
        "spatial": "temporal|spatial_filter|spatial_norm|gate",
    }
    unused = other.get(options.get("branch", ""), "none").split("|")
    # Softmax over channels does not feel what moves all scores alike.
    assert all(any(name.startswith(start) for start in unused) for name in without), without
    if options.get("branch") is None:
        assert not without


@pytest.mark.parametrize("options", OPTIONS)
def test_a_batch_is_its_windows(options: dict[str, Any]) -> None:
    network = small(**options).eval()
    x = torch.randn(2, 4, 130)
    both = network(x)
    torch.testing.assert_close(both, torch.cat([network(x[:1]), network(x[1:])]))
    assert both.shape == (2, 3)


@pytest.mark.parametrize("samples", [20, 39, 131, 400])
def test_any_window_of_a_patch_or_more(samples: int) -> None:
    network = DBConformer(3, 2, samples, patch_size=20, emb_size=10).eval()
    assert network(torch.randn(1, 3, samples)).shape == (1, 2)


def test_what_fills_no_patch_does_not_reach_the_temporal_branch_alone() -> None:
    network = small(branch="temporal").eval()
    x = torch.randn(1, 4, 130)
    y = x.clone()
    y[..., -1] += 1  # 11 samples after the last patch's end at 120 see 31 back: it is felt
    assert not torch.equal(network(x), network(y))
    wide = DBConformer(4, 3, 179, patch_size=60, emb_size=10, branch="temporal").eval()
    x = torch.randn(1, 4, 179)
    y = x.clone()
    y[..., 152:] += 1  # beyond 120 + 31
    torch.testing.assert_close(wide(x), wide(y))


def test_weights_survive_saving() -> None:
    network = small().eval()
    again = DBConformer.from_reference(network.config_dict(), network.published_state())
    x = torch.randn(2, 4, 130)
    assert torch.equal(network(x), again(x))


def test_it_learns_eight_windows_by_heart() -> None:
    network = small(drop_prob=0.0)
    x, y = torch.randn(8, 4, 130), torch.arange(8) % 3
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    loss = torch.tensor(9.0)
    for _ in range(80):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_importance_is_a_share_of_each_channel() -> None:
    network = small().eval()
    shares = network.channel_importance(torch.randn(3, 4, 130))
    assert shares.shape == (3, 4)
    torch.testing.assert_close(shares.sum(1), torch.ones(3))
    with pytest.raises(ValueError, match="channel_attention is off"):
        small(gate=True).channel_importance(torch.randn(1, 4, 130))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 131}, "patch_size is 131; needs at most the window's 130"),
        ({"patch_size": 0}, "patch_size is 0; needs 1 or more"),
        ({"emb_size": 24}, "emb_size is 24; needs a multiple of 10"),
        ({"branch": "both"}, "branch is 'both'; needs all, temporal, spatial"),
        ({"drop_prob": 1.0}, "drop_prob is 1.0; needs 0 or more, less than 1"),
    ],
)
def test_settings_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_windows_and_sizes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"x has shape \(1, 5, 130\); needs \(B, 4, 130\)"):
        small()(torch.randn(1, 5, 130))
    with pytest.raises(ValueError, match="n_times is None; needs a value"):
        DBConformer(4, 2)
    with pytest.raises(ValueError, match="n_outputs is 1; needs 2 or more"):
        DBConformer(4, 1, 200)
    with pytest.raises(ValueError, match="n_chans is 4; needs 2 as chs_info has"):
        DBConformer(4, 2, 200, chs_info=[{"ch_name": "C3"}, {"ch_name": "C4"}])


def test_it_trains_in_braindecodes_classifier() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of braindecode's own imports
        from braindecode import EEGClassifier
        from sklearn.base import clone

        rng = np.random.default_rng(0)
        x = rng.standard_normal((24, 3, 100)).astype(np.float32)
        y = (np.arange(24) % 2).astype(np.int64)
        x[y == 1] *= 3
        classifier = EEGClassifier(
            DBConformer,
            module__patch_size=25,
            module__emb_size=10,
            module__drop_prob=0.1,
            criterion=torch.nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            optimizer__lr=5e-3,
            max_epochs=20,
            batch_size=8,
            train_split=None,
            verbose=0,
        )
        classifier = clone(classifier)
        classifier.fit(x, y)
        told = classifier.predict_proba(x)
    assert told.shape == (24, 2)
    assert classifier.module_.config.n_chans == 3
    assert (told.argmax(1) == y).mean() > 0.8
