"""Published checkpoints: recognised by folder and tensors, and forecasting what they always did."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from forecast.series import seasonal, table
from safetensors import safe_open
from torch import Tensor

from sigform_forecast.calendar import time_features, time_tables
from sigform_forecast.informer import Informer, InformerConfig, InformerStack, rename_published
from sigform_forecast.upstream import PublishedForecaster, load_published, read_arguments

State = dict[str, Tensor]
ONE = {"enc_in": 1, "dec_in": 1, "c_out": 1}
THREE = {"enc_in": 3, "dec_in": 3, "c_out": 3}
SIZES = {"seq_len": 24, "label_len": 12, "out_len": 8, "d_model": 16, "n_heads": 2, "d_ff": 20,
         "e_layers": 2, "d_layers": 1, "factor": 3}  # fmt: skip
BACK = (
    (r"^(enc|dec)_embedding\.value\b", r"\1_embedding.value_embedding.tokenConv"),
    (r"\bcalendar\.tables\.(\w+)", r"temporal_embedding.\1_embed"),
    (r"\bcalendar\b", "temporal_embedding.embed"),
    (r"^(encoder\.(?:encoders\.\d+\.)?)layers\b", r"\1attn_layers"),
    (r"\bdistil\b", "conv_layers"),
    (r"(conv_layers\.\d+)\.conv\b", r"\1.downConv"),
    (r"\b(query|key|value|out)\.(weight|bias)$", r"\1_projection.\2"),
    (r"\bmlp\.up\b", "conv1"),
    (r"\bmlp\.down\b", "conv2"),
)


def published(**changes: Any) -> tuple[Informer, State]:
    """A network of ours, and its parameters as the published training saves them."""
    arguments: dict[str, Any] = dict({"embed": "timeF"} | ONE | SIZES | changes)
    config = InformerConfig(**arguments)
    torch.manual_seed(0)
    stacked = isinstance(config.e_layers, tuple)
    network = (InformerStack if stacked else Informer)(config).eval()
    state = {}
    for name, value in network.state_dict().items():
        theirs = name
        for pattern, replacement in BACK:
            theirs = re.sub(pattern, replacement, theirs)
        assert rename_published(theirs) == name
        is_linear = "conv1.weight" in theirs or "conv2.weight" in theirs
        state[theirs] = value.unsqueeze(-1) if is_linear else value
    for part in ("enc", "dec"):
        state[f"{part}_embedding.position_embedding.pe"] = torch.zeros(1, 5000, config.d_model)
    return network, state


def folder_name(config: InformerConfig) -> str:
    """The name that the published training gives its folder."""
    depth = config.e_layers if isinstance(config.e_layers, int) else config.e_layers[0]
    kind = "informer" if isinstance(config.e_layers, int) else "informerstack"
    return (
        f"{kind}_ETTh1_ftM_sl{config.seq_len}_ll{config.label_len}_pl{config.out_len}"
        f"_dm{config.d_model}_nh{config.n_heads}_el{depth}_dl{config.d_layers}_df{config.d_ff}"
        f"_at{config.attn}_fc{config.factor}_eb{config.embed}_dt{config.distil}_mx{config.mix}"
        "_test_0"
    )


def write(folder: Path, network: Informer, state: State, name: str | None = None) -> Path:
    """`checkpoint.pth` in a folder of the right name."""
    path = folder / (folder_name(network.config) if name is None else name) / "checkpoint.pth"
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attn": "full", "distil": False, "mix": False},
        {"e_layers": 1, "d_layers": 2},
        {"e_layers": (3, 2, 1)},
        {"e_layers": (2, 1), "embed": "fixed", **THREE},
        {"embed": "learned", "freq": "t"},
        {"freq": "t"},
        {"freq": "d"},
        {"freq": "w"},
        {"freq": "m"},
        {"freq": "s"},
        {**THREE, "c_out": 1},
    ],
)
def test_the_configuration_is_read_from_tensors_and_name(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    network, state = published(**changes)
    loaded = load_published(write(tmp_path, network, state))
    assert type(loaded) is type(network)
    assert loaded.config == network.config
    assert not loaded.training
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_arguments_in_the_name() -> None:
    name = "informer_custom_ftMS_sl96_ll48_pl24_dm512_nh8_el2_dl1_df2048_atprob_fc5_ebtimeF_dtTrue_mxFalse_x_1"  # noqa: E501
    assert read_arguments(name) == {
        "seq_len": 96, "label_len": 48, "out_len": 24, "n_heads": 8, "attn": "prob", "factor": 5,
        "embed": "timeF", "distil": True, "mix": False,
    }  # fmt: skip


def break_off(state: State) -> State:
    return {k: v for k, v in state.items() if "attn_layers" not in k}


def features(count: int) -> Callable[[State], State]:
    def change(state: State) -> State:
        return {
            k: v.new_zeros(len(v), count) if k.endswith("temporal_embedding.embed.weight") else v
            for k, v in state.items()
        }

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "projection.weight"},
         "no projection.weight; needs one of Informer2020"),
        (lambda s: {k: v for k, v in s.items() if not k.endswith("norm2.bias")},
         "do not fit Informer: .*norm2.bias missing"),
        (lambda s: s | {"extra.weight": torch.ones(1)}, "extra.weight unexpected"),
        (lambda s: s | {"projection.bias": torch.ones(5)}, r"has shape \(5,\), needs \(1,\)"),
        (lambda s: s | {"decoder.layers.0.conv1.weight": np.ones(1)}, "code that is never run"),
        (lambda s: s | {"when": print}, "print, code that is never run"),
        (break_off, "no encoder layers"),
        (features(9), "9 features; needs 1 to 6"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_does_not_fit_gets_one_line(
    change: Callable[[State], Any], says: str, tmp_path: Path
) -> None:
    network, state = published()
    path = write(tmp_path, network, change(state))
    with pytest.raises(ValueError, match=says) as caught:
        load_published(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("weights", "folder is called 'weights', without sl... for seq_len"),
        ("informer_sl24_ll12_pl8_nh2_atprob_fc3_ebtimeF_dtTrue", "without mx... for mix"),
        ("informer_sl24_ll12_pl8_nh2_atprob_fc3_ebfixed_dtTrue_mxTrue", "do not fit Informer"),
        ("informer_sl24_ll12_pl8_nh3_atprob_fc3_ebtimeF_dtTrue_mxTrue", "multiple of 3 heads"),
        ("informer_sl24_ll12_pl8_nh2_atprob_fc3_ebtimeF_dtFalse_mxTrue", "unexpected"),
    ],
)
def test_a_folder_of_another_name_gets_one_line(name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        load_published(write(tmp_path, *published(), name))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_published(tmp_path / "checkpoint.pth")


# Forecasts.


def columns(count: int, rows: int = 60, freq: str = "h") -> pd.DataFrame:
    parts = [
        table(10.0**n * seasonal(rows, seed=n), f"c{n}", freq=freq, start="2024-02-27")
        for n in range(count)
    ]
    return pd.concat(parts, ignore_index=True)


def by_hand(
    network: Informer, values: np.ndarray, dates: pd.DatetimeIndex, code: str
) -> np.ndarray:
    """The published prediction: values (rows, C) and the dates of rows and horizon."""
    config = network.config
    mean, std = values.mean(0), values.std(0)
    window = torch.tensor((values[-config.seq_len :] - mean) / std)[None].float()
    tell = time_features if config.embed == "timeF" else time_tables
    marks = torch.from_numpy(tell(dates, code))[None]
    known, ahead = marks[:, -config.seq_len - config.out_len :], config.seq_len - config.label_len
    zeros = torch.zeros(1, config.out_len, values.shape[1])
    with torch.no_grad():
        out = network(
            window, known[:, : config.seq_len], torch.cat([window[:, ahead:], zeros], 1),
            known[:, ahead:],
        )  # fmt: skip
    scaled = out[0].double().numpy()  # (T, c_out)
    return scaled * std[-scaled.shape[1] :] + mean[-scaled.shape[1] :]


@pytest.mark.parametrize(
    ("changes", "freq"),
    [
        ({}, "h"),
        ({**THREE, "embed": "learned"}, "h"),
        ({"embed": "fixed"}, "D"),
        ({**THREE, "c_out": 1}, "h"),
        ({**THREE, "freq": "t", "embed": "learned", "attn": "full"}, "15min"),
        ({"freq": "d"}, "B"),
        ({"freq": "m"}, "MS"),
    ],
)
def test_predict_is_the_network_run_by_hand(
    changes: dict[str, Any], freq: str, tmp_path: Path
) -> None:
    network, state = published(**changes)
    count = network.config.enc_in
    frame = columns(count, freq=freq)
    forecaster = PublishedForecaster(write(tmp_path, network, state))
    found = forecaster.predict(frame)
    assert list(found) == ["unique_id", "ds", "Informer"]
    dates = pd.date_range(frame["ds"].iloc[0], periods=68, freq=freq)
    values = frame["y"].to_numpy().reshape(count, 60).T
    code = {"h": "h", "D": "d", "15min": "t", "B": "b", "MS": "m"}[freq]
    expected = by_hand(network, values, dates, code)
    names = [f"c{n}" for n in range(count)][-network.config.c_out :]
    assert found["unique_id"].tolist() == [name for name in names for _ in range(8)]
    assert found["ds"].tolist() == list(dates[60:]) * len(names)
    assert np.allclose(found["Informer"], expected.T.ravel(), rtol=1e-5)
    assert any("published checkpoint" in note for note in forecaster.notes_)
    assert forecaster.report_.text()


def test_a_network_of_one_column_takes_series_one_by_one(tmp_path: Path) -> None:
    """Each with the dates and the unit of its own, whenever it ends."""
    forecaster = PublishedForecaster(write(tmp_path, *published()))
    frame = pd.concat([columns(2), table(seasonal(40, seed=5), "late", start="2024-06-01")])
    found = forecaster.predict(frame)
    for name, part in found.groupby("unique_id"):
        alone = forecaster.predict(frame[frame["unique_id"] == name])
        assert part["ds"].tolist() == alone["ds"].tolist()
        assert np.allclose(part["Informer"], alone["Informer"], rtol=1e-5)
    assert found["ds"].iloc[-8] == pd.Timestamp("2024-06-02 16:00")


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (columns(2), "2 series and the checkpoint reads 3 columns"),
        (columns(3, rows=20), "shortest series has 20 rows; needs 24"),
        (columns(3, freq="D"), "daily.*trained on steps of 'h'"),
        (columns(3).iloc[:-1], "series end at .*; needs one end"),
        (columns(3).assign(ds=list(range(60)) * 3), "integer steps.*trained on steps of 'h'"),
        (columns(3).drop(columns="y"), "no column 'y'"),
    ],
)
def test_data_that_does_not_fit_gets_one_line(
    frame: pd.DataFrame, says: str, tmp_path: Path
) -> None:
    forecaster = PublishedForecaster(write(tmp_path, *published(**THREE)))
    with pytest.raises(ValueError, match=says) as caught:
        forecaster.predict(frame)
    assert "\n" not in str(caught.value)


def test_covariates_are_refused(tmp_path: Path) -> None:
    forecaster = PublishedForecaster(write(tmp_path, *published()))
    with pytest.raises(ValueError, match="knows no covariates"):
        forecaster.predict(columns(1), X_df=columns(1))


@pytest.mark.parametrize("name", ["informer_a", "informer_b"])
def test_reference_tensors_load_as_a_checkpoint(name: str, tmp_path: Path) -> None:
    fixtures = os.environ.get("SIGFORM_FIXTURES")
    if not fixtures:
        pytest.skip("SIGFORM_FIXTURES is not set; needs the folder with golden/informer_a")
    with safe_open(Path(fixtures) / "golden" / f"{name}.safetensors", framework="pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    expected = InformerConfig.from_published(config | {"dropout": 0.0})
    path = tmp_path / folder_name(expected) / "checkpoint.pth"
    path.parent.mkdir()
    torch.save(state, path)
    network = load_published(path)
    assert network.config == expected
    inputs = [tensors[f"input.{n}"] for n in ("x_enc", "x_mark_enc", "x_dec", "x_mark_dec")]
    samples = [
        tensors[f"prob.index_sample.{n}"]
        for n in range(sum(key.startswith("prob.index_sample.") for key in tensors))
    ]
    with torch.no_grad():
        found = network(*inputs, samples or None)
    assert torch.allclose(found, tensors["output"], atol=1e-5)
