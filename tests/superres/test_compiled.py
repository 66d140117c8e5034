"""CRAFT by OpenVINO: equal to PyTorch, compiled once a size, and left out where it cannot serve."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from superres.commands import command, picture, pixels, tiny
from torch import nn

from sigform_superres.compiled import MOST_SHAPES, CompiledNetwork
from sigform_superres.dlgsanet import DLGSANet, DLGSANetConfig
from sigform_superres.networks import save_network
from sigform_superres.picture import Picture
from sigform_superres.reading import read_picture
from sigform_superres.upscaler import Upscaler


@pytest.fixture(scope="module")
def compiled() -> CompiledNetwork:
    return CompiledNetwork(tiny(2).eval())


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reports to OpenVINO's makers fails."""

    def reported(*_: object, **__: object) -> None:
        raise AssertionError("OpenVINO reports that it was used")

    monkeypatch.setattr("openvino_telemetry.main.Telemetry.init", reported)
    monkeypatch.setattr("openvino_telemetry.main.Telemetry.send_event", reported)


@pytest.fixture(scope="module")
def by_openvino() -> Upscaler:
    return Upscaler(tiny(2), 2, device="cpu", dtype="float32", backend="openvino")


def distance(network: nn.Module, other: nn.Module, *shape: int) -> float:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return (network(x) - other(x)).abs().max().item()


def test_equals_pytorch_and_compiles_a_shape_once(compiled: CompiledNetwork) -> None:
    """At a size that meets the linear layer of oneDNN; the other test's needs padding."""
    assert distance(compiled, compiled.network, 2, 3, 32, 48) < 1e-4
    dark, light = torch.zeros(2, 3, 32, 48), torch.ones(2, 3, 32, 48)
    first = compiled(dark)
    kept = first.clone()
    assert not torch.equal(compiled(light), kept)
    assert torch.equal(first, kept)
    assert compiled.compilations == 1


def test_the_last_shapes_are_kept(monkeypatch) -> None:
    network = CompiledNetwork(tiny(2).eval())
    seen: list[tuple[int, ...]] = []

    def compile(shape: tuple[int, ...]):
        seen.append(shape)
        return lambda x: x

    monkeypatch.setattr(network, "_compile", compile)
    for side in (*range(1, MOST_SHAPES + 1), 1, MOST_SHAPES + 1, 1, 2):
        network(torch.zeros(1, 3, side, side))
    assert [shape[-1] for shape in seen] == [*range(1, MOST_SHAPES + 2), 2]


def test_bfloat16_is_what_it_calculates_in() -> None:
    assert CompiledNetwork(tiny(2).bfloat16()).precision == "bf16"


def test_a_whole_picture_with_alpha_goes_through_it(by_openvino: Upscaler) -> None:
    alpha = np.full((9, 14), 255, np.uint8)
    alpha[:4] = 0
    source = Picture(pixels(9, 14), alpha)
    made = by_openvino(source)
    assert by_openvino.compiled is not None
    assert by_openvino.compiled.compilations == 1
    assert not by_openvino.fell_back
    assert distance(by_openvino.compiled, by_openvino.network, 1, 3, 9, 14) < 1e-4
    wanted = Upscaler(tiny(2), 2, device="cpu", dtype="float32")(source)
    assert np.abs(made.colour.astype(int) - wanted.colour).max() <= 1


def test_tiles_go_through_pytorch() -> None:
    network = tiny(2)
    upscaler = Upscaler(network, 2, device="cpu", dtype="float32", tile=96, backend="openvino")
    source = pixels(10, 120)
    made = upscaler(source)
    assert upscaler.fell_back
    assert upscaler.compiled is not None
    assert upscaler.compiled.compilations == 0
    wanted = Upscaler(network, 2, device="cpu", dtype="float32", tile=96)(source)
    np.testing.assert_array_equal(made, wanted)


def test_the_command_takes_it_and_says_when_it_did_not(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[tuple[int, ...]] = []

    def compile(self: CompiledNetwork, shape: tuple[int, ...]):
        seen.append(shape)
        return self.network

    # Compiling takes seconds.
    monkeypatch.setattr(CompiledNetwork, "_compile", compile)
    save_network(Path("net.safetensors"), tiny(2), {})
    picture("a.png", height=12, width=16)
    picture("long.png", height=8, width=120)
    words = ("-w", "net.safetensors", "--device", "cpu", "--json", "--backend")
    assert command("a.png", *words, "torch", "-o", "plain.png").records[0]["notes"] == []
    assert seen == []
    assert command("a.png", *words, "openvino").records[0]["notes"] == []
    assert seen == [(1, 3, 12, 16)]
    plain, made = (read_picture(Path(name)).colour for name in ("plain.png", "a_x2.png"))
    np.testing.assert_array_equal(made, plain)
    tiled = command("long.png", *words, "openvino", "--tile", "96").records
    assert tiled[0]["notes"] == ["too large to go through whole; its tiles by PyTorch"]
    assert len(seen) == 1


def test_without_openvino_one_line_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "openvino", None)
    save_network(Path("net.safetensors"), tiny(2), {})
    told = command(picture(), "-w", "net.safetensors", "--device", "cpu", "--backend", "openvino")
    assert told.code == 1
    assert told.error == "the backend openvino needs OpenVINO: " + (
        "pip install 'sigform-superres[openvino]'"
    )


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (DLGSANet(DLGSANetConfig.published("tiny", 4)), "network is DLGSANet; needs CRAFT"),
        (tiny(2).half(), "dtype is torch.float16; needs float32 or bfloat16"),
        (tiny(2).to("meta"), "device is meta; needs cpu"),
    ],
)
def test_what_it_cannot_run_is_refused(network: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CompiledNetwork(network)


def test_another_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="backend is 'onnx'; needs torch or openvino"):
        Upscaler(tiny(2), 2, device="cpu", backend="onnx")  # pyright: ignore[reportArgumentType]
