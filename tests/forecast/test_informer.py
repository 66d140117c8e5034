"""Informer against the published implementation, and as a model of its own."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from sigform_core.weights import load_weights, save_weights
from sigform_forecast import informer
from sigform_forecast.informer import (
    Informer,
    InformerConfig,
    InformerStack,
    KeySampler,
    rename_published,
    sample_size,
)

SMALL = InformerConfig(
    enc_in=3, dec_in=3, c_out=2, seq_len=40, label_len=10, out_len=7, factor=2, d_model=16,
    n_heads=4, e_layers=2, d_layers=2, d_ff=32, embed="timeF",
)  # fmt: skip


def golden(name: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    root = os.environ.get("SIGFORM_FIXTURES")
    if root is None:
        pytest.skip("SIGFORM_FIXTURES names no folder with reference tensors")
    with safe_open(Path(root) / "golden" / f"informer_{name}.safetensors", "pt") as file:
        return file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def published(name: str) -> tuple[Informer, list[Tensor], list[Tensor] | None, dict[str, Tensor]]:
    """The model of a reference file, its inputs, its sampled keys and all its tensors."""
    metadata, tensors = golden(name)
    kind = {"Informer": Informer, "InformerStack": InformerStack}[metadata["class"]]
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    model = kind.from_reference(json.loads(metadata["config"]), state)
    inputs = [tensors[f"input.{k}"] for k in ("x_enc", "x_mark_enc", "x_dec", "x_mark_dec")]
    calls = sorted(
        (k for k in tensors if k.startswith("prob.index_sample.")),
        key=lambda k: int(k.split(".")[-1]),
    )
    return model, inputs, [tensors[k] for k in calls] or None, tensors


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def inputs_for(config: InformerConfig, batch: int = 2, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    decoder = config.label_len + config.out_len
    if config.embed == "timeF":
        marks = [torch.rand(batch, n, config.features, generator=draw) - 0.5
                 for n in (config.seq_len, decoder)]  # fmt: skip
    else:
        marks = [
            torch.randint(1, 4, (batch, n, 5), generator=draw) for n in (config.seq_len, decoder)
        ]
    x_enc = torch.randn(batch, config.seq_len, config.enc_in, generator=draw)
    x_dec = torch.randn(batch, decoder, config.dec_in, generator=draw)
    return [x_enc, marks[0], x_dec, marks[1]]


@pytest.mark.parametrize("name", ["a", "full", "b"])
@pytest.mark.parametrize("dense", [0, 128], ids=["sampled product", "dense product"])
def test_reference_output(name: str, dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(informer, "DENSE_KEYS", dense)
    model, inputs, samples, tensors = published(name)
    assert not model.training
    with torch.no_grad():
        output = model(*inputs, samples)
    assert relative(output, tensors["output"]) < 1e-5


@pytest.mark.parametrize("name", ["a", "full"])
def test_reference_output_from_the_published_seed(name: str) -> None:
    model, inputs, _, tensors = published(name)
    with torch.no_grad():
        output = model(*inputs, generator=torch.Generator().manual_seed(1234))
    assert relative(output, tensors["output"]) < 1e-5


def test_reference_parameters_are_all_there() -> None:
    model, _, _, _ = published("a")
    assert sum(p.numel() for p in model.parameters()) == 59_719
    model, _, _, _ = published("b")
    assert sum(p.numel() for p in model.parameters()) == 93_447


def test_reference_refuses_what_does_not_fit() -> None:
    metadata, tensors = golden("a")
    config = json.loads(metadata["config"])
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    gone = {k: v for k, v in state.items() if k != "projection.bias"}
    with pytest.raises(ValueError, match=r"projection\.bias missing"):
        Informer.from_reference(config, gone)
    with pytest.raises(ValueError, match=r"extra\.weight unexpected"):
        Informer.from_reference(config, {**state, "extra.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"projection\.bias has shape"):
        Informer.from_reference(config, {**state, "projection.bias": torch.ones(3)})
    with pytest.raises(ValueError, match=r"horizonn"):
        Informer.from_reference({**config, "horizonn": 3}, state)


def test_parameters_of_the_paper() -> None:
    # Paper, table 5 and scripts/ETTh1.sh: S, 720 rows in, d_model 512; the spec counts 11.31 M.
    config = InformerConfig(
        enc_in=1, dec_in=1, c_out=1, seq_len=720, label_len=168, out_len=24, d_model=512,
        n_heads=8, e_layers=2, d_layers=1, d_ff=2048, embed="timeF",
    )  # fmt: skip
    count = sum(p.numel() for p in Informer(config).parameters())
    assert count / 1e6 == pytest.approx(11.31, abs=0.03)


def test_inference_is_reproducible_and_leaves_torch_alone() -> None:
    model, inputs = Informer(SMALL).eval(), inputs_for(SMALL)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with torch.no_grad():
        first = model(*inputs)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        assert torch.equal(first, model(*inputs))
        other = model(*inputs, generator=torch.Generator().manual_seed(9))
    assert not torch.equal(first, other), "the keys of another seed should matter"


def test_a_pair_is_two_singles() -> None:
    model, inputs = Informer(SMALL).eval(), inputs_for(SMALL, batch=2)
    with torch.no_grad():
        both = model(*inputs)
        singles = [model(*(x[n : n + 1] for x in inputs)) for n in (0, 1)]
    torch.testing.assert_close(both, torch.cat(singles), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("attn", ["prob", "full"])
@pytest.mark.parametrize("embed", ["timeF", "fixed", "learned"])
@pytest.mark.parametrize("stack", [False, True])
def test_a_gradient_reaches_every_parameter(attn: str, embed: str, stack: bool) -> None:
    depth = (3, 2) if stack else 2
    config = replace(SMALL, attn=attn, embed=embed, freq="t", e_layers=depth)
    model = (InformerStack if stack else Informer)(config)
    model(*inputs_for(config)).square().sum().backward()
    silent = [
        name for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)
    ]  # fmt: skip
    # A key's bias shifts all scores of a query alike: softmax cannot see it.
    assert [name for name in silent if not name.endswith("key.bias")] == []


@pytest.mark.parametrize("length", [5, 7, 33, 129, 200])
@pytest.mark.parametrize("mix", [False, True])
def test_awkward_lengths(length: int, mix: bool) -> None:
    config = replace(SMALL, seq_len=length, label_len=3, out_len=5, mix=mix, distil=length != 7)
    model = Informer(config).eval()
    with torch.no_grad():
        output = model(*inputs_for(config))
    assert output.shape == (2, 5, 2)
    assert output.isfinite().all()


def test_only_the_forecast_steps_are_decoded_and_nothing_changes() -> None:
    """The last decoder layer works on the steps that are returned; the others must not matter."""
    model, inputs = Informer(SMALL).eval(), inputs_for(SMALL)
    layer = model.decoder.layers[-1]
    x = torch.randn(2, 17, 16)
    memory = torch.randn(2, 20, 16)
    with torch.no_grad():
        draw = torch.Generator()
        whole = layer(x, memory, KeySampler(generator=draw.manual_seed(3)), 17)
        last = layer(x, memory, KeySampler(generator=draw.manual_seed(3)), 7)
        assert model(*inputs).shape[1] == 7
    torch.testing.assert_close(whole[:, -7:], last)


def test_windows_longer_than_the_published_table() -> None:
    config = replace(SMALL, seq_len=5200, d_model=8, n_heads=2, d_ff=8, e_layers=1, d_layers=1)
    with torch.no_grad():
        assert Informer(config).eval()(*inputs_for(config, batch=1)).isfinite().all()


def test_half_precision_keeps_the_running_sum() -> None:
    config = replace(SMALL, seq_len=200, label_len=100)
    model, inputs = Informer(config).eval(), inputs_for(config)
    with torch.no_grad():
        exact = model(*inputs)
        half = model.bfloat16()(*(x.bfloat16() for x in inputs))
    assert half.isfinite().all()
    assert half.shape == exact.shape


def test_overfits_eight_samples() -> None:
    torch.manual_seed(0)
    config = replace(SMALL, seq_len=24, label_len=8, out_len=4, e_layers=1, d_layers=1)
    model, inputs = Informer(config), inputs_for(config, batch=8)
    target = torch.randn(8, 4, 2, generator=torch.Generator().manual_seed(5))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(150):
        loss = (model(*inputs) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_weight_file_round_trip(tmp_path: Path) -> None:
    model, inputs = Informer(SMALL).eval(), inputs_for(SMALL)
    path = tmp_path / "informer.safetensors"
    save_weights(path, model.state_dict(), model="informer", config={"d_model": 16})
    other = Informer(SMALL).eval()
    other.load_state_dict(load_weights(path, expect_model="informer").tensors)
    with torch.no_grad():
        assert torch.equal(model(*inputs), other(*inputs))


def test_sampled_keys_that_do_not_fit_are_refused() -> None:
    model, inputs = Informer(SMALL).eval(), inputs_for(SMALL)
    with pytest.raises(ValueError, match="key_samples is of shape"):
        model(*inputs, [torch.zeros(2, 2, dtype=torch.long)])
    with pytest.raises(ValueError, match="key_samples is exhausted"):
        model(*inputs, [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attn": "sparse"}, "attn is 'sparse'; needs one of"),
        ({"d_model": 15}, "d_model is 15; needs a multiple of 4"),
        ({"e_layers": (2, 0)}, "e_layers is"),
        ({"out_len": 0}, "out_len is 0; needs at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"freq": "x"}, "freq is 'x'"),
    ],
)
def test_config_says_what_is_wrong(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(SMALL, **change)


def test_informer_takes_one_depth() -> None:
    with pytest.raises(ValueError, match="Informer needs one depth"):
        Informer(replace(SMALL, e_layers=(2, 1)))


def test_sample_sizes_of_the_spec() -> None:
    lengths = (96, 336, 720, 1440, 2880)
    assert [sample_size(5, n) for n in lengths] == [25, 30, 35, 40, 40]
    assert sample_size(100, 24) == 24
    assert sample_size(5, 1) == 1


def test_published_names() -> None:
    assert rename_published("enc_embedding.temporal_embedding.hour_embed.emb.weight") == (
        "enc_embedding.calendar.tables.hour.weight"
    )
    assert rename_published("encoder.attn_layers.0.attention.query_projection.bias") == (
        "encoder.layers.0.attention.query.bias"
    )
