"""The Informers of the whole-model benchmark, at equal sizes, on random windows.

neuralforecast and transformers are optional: `uv sync --group peers` brings them.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple
from unittest.mock import patch

import torch
from benchmarks.published import PublishedInformer
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core import linear
from sigform_forecast.informer import Informer, InformerConfig

HORIZON = 24
PEERS = ("neuralforecast", "transformers")


class Contestant(NamedTuple):
    """A network with its loss and its forecast of one batch held inside."""

    network: nn.Module
    loss: Callable[[], Tensor]
    forecast: Callable[[], Tensor]


def published_setting(length: int) -> InformerConfig:
    """The published command for a univariate series: 24 steps ahead of a window of `length`."""
    return InformerConfig(
        enc_in=1,
        dec_in=1,
        c_out=1,
        seq_len=length,
        label_len=length // 2,
        out_len=HORIZON,
        factor=5,
        d_model=512,
        n_heads=8,
        e_layers=2,
        d_layers=1,
        d_ff=2048,
        dropout=0.05,
        embed="timeF",
        freq="h",
    )


def draw_window(config: InformerConfig, batch: int) -> list[Tensor]:
    """Random x_enc, x_mark_enc, x_dec, x_mark_dec as `Informer.forward` takes them."""
    known, ahead = config.seq_len, config.label_len + config.out_len
    x = torch.randn(batch, known, config.enc_in)
    x_dec = torch.cat([x[:, -config.label_len :], torch.zeros(batch, config.out_len, 1)], dim=1)
    marks = [torch.rand(batch, length, config.features) - 0.5 for length in (known, ahead)]
    return [x, marks[0], x_dec, marks[1]]


def ours(config: InformerConfig, batch: int) -> Contestant:
    return _informer(Informer(config), config, batch)


def ours_by_mkl(config: InformerConfig, batch: int) -> Contestant:
    """Ours as it runs where oneDNN is not the faster library, so on other processors than AMD's."""
    network, loss, forecast = ours(config, batch)
    by_mkl = patch.object(linear, "is_onednn_faster", lambda: False)
    return Contestant(network, by_mkl(loss), by_mkl(forecast))


def published(config: InformerConfig, batch: int) -> Contestant:
    return _informer(PublishedInformer(config), config, batch)


def _informer(network: nn.Module, config: InformerConfig, batch: int) -> Contestant:
    inputs, target = draw_window(config, batch), torch.randn(batch, config.out_len, 1)
    return Contestant(
        network,
        lambda: F.mse_loss(network(*inputs), target),
        lambda: network(*inputs),
    )


def neuralforecast(config: InformerConfig, batch: int) -> Contestant:
    from neuralforecast.losses.pytorch import MSE  # pyright: ignore[reportMissingImports]
    from neuralforecast.models import Informer as Network  # pyright: ignore[reportMissingImports]

    length, horizon = config.seq_len, config.out_len
    calendar = [f"calendar{n}" for n in range(config.features)]
    network = Network(
        h=horizon,
        input_size=length,
        futr_exog_list=calendar,
        decoder_input_size_multiplier=config.label_len / length,
        hidden_size=config.d_model,
        dropout=config.dropout,
        factor=config.factor,
        n_head=config.n_heads,
        conv_hidden_size=config.d_ff,
        encoder_layers=config.depths[0],
        decoder_layers=config.d_layers,
        distil=config.distil,
        loss=MSE(),
    )
    window = {
        "insample_y": torch.randn(batch, length, 1),
        "futr_exog": torch.rand(batch, length + horizon, config.features) - 0.5,
    }
    target = torch.randn(batch, horizon, 1)
    return Contestant(
        network,
        lambda: F.mse_loss(network(window), target),
        lambda: network(window),
    )


def transformers(config: InformerConfig, batch: int) -> Contestant:
    from transformers import InformerConfig as Settings  # pyright: ignore[reportMissingImports]
    from transformers import InformerForPrediction as Network  # pyright: ignore[reportMissingImports]

    length, horizon = config.seq_len, config.out_len
    settings = Settings(
        prediction_length=horizon,
        context_length=length,
        lags_sequence=[1],
        num_time_features=config.features,
        d_model=config.d_model,
        encoder_layers=config.depths[0],
        decoder_layers=config.d_layers,
        encoder_attention_heads=config.n_heads,
        decoder_attention_heads=config.n_heads,
        encoder_ffn_dim=config.d_ff,
        decoder_ffn_dim=config.d_ff,
        dropout=config.dropout,
        attention_dropout=config.dropout,
        activation_dropout=config.dropout,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        sampling_factor=config.factor,
        distil=config.distil,
        num_parallel_samples=1,
    )
    network = Network(settings)
    past = length + max(settings.lags_sequence)
    window = {
        "past_values": torch.randn(batch, past),
        "past_time_features": torch.rand(batch, past, config.features) - 0.5,
        "past_observed_mask": torch.ones(batch, past),
        "future_time_features": torch.rand(batch, horizon, config.features) - 0.5,
    }
    target = torch.randn(batch, horizon)
    return Contestant(
        network,
        lambda: network(**window, future_values=target).loss,
        lambda: network.generate(**window).sequences,
    )


CONTESTANTS: dict[str, Callable[[InformerConfig, int], Contestant]] = {
    "ours": ours,
    "ours by MKL": ours_by_mkl,
    "published": published,
    "neuralforecast": neuralforecast,
    "transformers": transformers,
}


def installed() -> list[str]:
    """The names of the contestants that can run here."""
    return [name for name in CONTESTANTS if name not in PEERS or find_spec(name) is not None]
