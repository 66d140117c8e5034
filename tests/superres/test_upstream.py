"""Checkpoints of others: recognised by their tensors, strictly, and ours loading elsewhere."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import spandrel
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from spandrel.architectures.Compact import Compact
from spandrel.architectures.DITN import DITN
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_superres.craft import CRAFT, CRAFTConfig
from sigform_superres.dlgsanet import DLGSANet, DLGSANetConfig
from sigform_superres.networks import build, save_network
from sigform_superres.upstream import OtherNetwork, export, load_any

# spandrel's CRAFT, when it is loaded without us.
pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")

State = dict[str, Tensor]
AnyModule = TypeVar("AnyModule", bound=nn.Module)
X = torch.rand(1, 3, 9, 11, generator=torch.Generator().manual_seed(7))
FIRST = "layers.0.residual_group.srwa_blocks.0"
GROUP = "deep_feature_extraction.0.body"


def perturbed(network: AnyModule) -> AnyModule:
    """In eval mode, its weights all away from where they start."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def craft(**changes: Any) -> CRAFT:
    """A small network with the published windows."""
    small: dict[str, Any] = {"upscale": 2, "embed_dim": 32, "depths": (1,), "num_heads": (2,)}
    return perturbed(CRAFT(CRAFTConfig(**{**small, **changes})))


def dlgsanet(**changes: Any) -> DLGSANet:
    """A small network with the published local windows."""
    small: dict[str, Any] = {
        "upscale": 4, "dim": 12, "groups": 1, "blocks": 1, "window_size": 3,
        "idynamic_num_heads": 3, "restormer_num_heads": 2,
    }  # fmt: skip
    return perturbed(DLGSANet(DLGSANetConfig(**{**small, **changes})))


def write(folder: Path, content: Any, name: str = "net.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def golden(name: str) -> tuple[dict[str, Any], State, State]:
    """Config, published state and the other tensors of a reference file."""
    root = os.environ.get("SIGFORM_FIXTURES")
    if root is None:
        pytest.skip("SIGFORM_FIXTURES names no folder with reference tensors")
    with safe_open(Path(root) / "golden" / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    return config, state, tensors


# CRAFT and DLGSANet.


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"upscale": 3, "qkv_bias": False},
        {"upscale": 4, "resi_connection": "identity"},
        {"embed_dim": 64, "depths": (1, 2, 1), "num_heads": (2, 4, 8), "mlp_ratio": 1.5},
        {"split_size_0": 2, "split_size_1": 8},
        {"split_size_0": 8, "split_size_1": 4, "upscale": 8},
    ],
)
def test_craft_is_read_from_its_tensors(changes: dict[str, Any], tmp_path: Path) -> None:
    network = craft(**changes)
    found, scale = load_any(write(tmp_path, {"params": network.published_state()}))
    assert isinstance(found, CRAFT)
    assert not found.training
    assert found.config == network.config
    assert scale == network.config.upscale
    with torch.no_grad():
        assert torch.equal(found(X), network(X))


def test_craft_without_its_tables_has_the_published_windows(tmp_path: Path) -> None:
    network = craft()
    bare = {name: value for name, value in network.state_dict().items() if "mlp" not in name}
    bare |= {k: v for k, v in network.published_state().items() if ".mlp." in k}
    assert not any("biases" in name or "index" in name for name in bare)
    found, _ = load_any(write(tmp_path, bare))
    with torch.no_grad():
        assert torch.equal(found(X), network(X))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"upscale": 2, "tlc_kernel": 96, "groups": 2, "blocks": 2},
        {"upscale": 3, "tlc_kernel": 72, "idynamic_ffn_type": "BaseFFN", "body_norm": True,
         "groups": 2},
        {"upscale": 4, "upsampler": "pixelshuffle", "restormer_ffn_type": "BaseFFN",
         "window_size": 5},
        {"upscale": 3, "tlc_kernel": 72, "upsampler": "pixelshuffle",
         "restormer_ffn_expansion_factor": 1.5},
        {"buildblock_type": "idynamic", "restormer_num_heads": 1, "blocks": 2},
        {"buildblock_type": "restormer", "idynamic_num_heads": 1, "blocks": 2, "window_size": 7},
        {"idynamic": False, "idynamic_num_heads": 1, "window_size": 5},
    ],
)  # fmt: skip
def test_dlgsanet_is_read_from_its_tensors(changes: dict[str, Any], tmp_path: Path) -> None:
    network = dlgsanet(**changes)
    found, scale = load_any(write(tmp_path, {"params_ema": network.published_state()}))
    assert isinstance(found, DLGSANet)
    assert not found.training
    # Of what a network does not have, nothing can be read.
    unseen = ("idynamic_num_heads",) if not network.config.idynamic else ()
    wanted, seen = network.config_dict(), found.config_dict()
    assert {k: v for k, v in seen.items() if k not in unseen} == {
        k: v for k, v in wanted.items() if k not in unseen
    }
    assert scale == network.scale
    with torch.no_grad():
        assert torch.equal(found(X), network(X))


@pytest.mark.parametrize("architecture", ["craft", "dlgsanet-tiny", "dlgsanet-light", "dlgsanet"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_published_configurations(architecture: str, scale: int, tmp_path: Path) -> None:
    network = build(architecture, scale)
    found, made_for = load_any(write(tmp_path, network.published_state()))
    assert isinstance(found, CRAFT | DLGSANet)
    assert found.config == network.config
    assert made_for == scale


@pytest.mark.parametrize("hidden", [27, 49, 54])
def test_a_width_that_no_ratio_gives_exactly(hidden: int, tmp_path: Path) -> None:
    # The networks cut off the fraction, and 27 / 49 * 49 comes out below 27.
    assert int(49 * (27 / 49)) == 26
    network = dlgsanet(dim=49, idynamic_num_heads=7, restormer_num_heads=7)
    wide = DLGSANetConfig(
        **{**network.config_dict(), "restormer_ffn_expansion_factor": (hidden + 0.5) / 49}
    )
    found, _ = load_any(write(tmp_path, DLGSANet(wide).published_state()))
    assert found.state_dict()[f"{GROUP}.1.restormer_ffn.project_out.weight"].shape[1] == hidden


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"params": state},
        lambda state: {"params_ema": state, "params": {k: -v for k, v in state.items()}},
        lambda state: {"params": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"state_dict": state, "iter": 500_000},
        lambda state: {name: value.half() for name, value in state.items()},
    ],
)
@pytest.mark.parametrize("name", ["net.pth", "net.pt"])
def test_containers(wrap: Callable[[State], Any], name: str, tmp_path: Path) -> None:
    network = craft()
    found, _ = load_any(write(tmp_path, wrap(network.published_state()), name))
    with torch.no_grad():
        assert relative(found(X), network(X)) < 1e-3
    assert next(found.parameters()).dtype == torch.float32


def test_safetensors_of_others(tmp_path: Path) -> None:
    network = dlgsanet()
    save_file(network.published_state(), tmp_path / "net.safetensors", {"format": "pt"})
    found, _ = load_any(tmp_path / "net.safetensors")
    with torch.no_grad():
        assert torch.equal(found(X), network(X))


def test_our_weight_files_keep_what_tensors_cannot_tell(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    for network in (craft(img_range=255.0), dlgsanet(activation="gelu", tlc_kernel=8)):
        save_network(path, network, {})
        found, scale = load_any(path)
        assert isinstance(found, type(network))
        assert found.config == network.config
        assert scale == network.scale


def test_reference_tensors_load_as_checkpoints(tmp_path: Path) -> None:
    _, state, tensors = golden("craft_a")
    craft_network, scale = load_any(write(tmp_path, {"params": state}))
    assert scale == 2
    with torch.no_grad():
        found = craft_network(tensors["input"], padding="flip")
        assert relative(craft_network(tensors["input"]), tensors["output"]) < 1e-5
        theirs = spandrel.ModelLoader().load_from_file(tmp_path / "net.pth").model
        assert relative(theirs(tensors["input"]), tensors["output_flip_pad"]) < 1e-5
        assert relative(found, theirs(tensors["input"])) < 1e-5
    config, state, tensors = golden("dlgsanet_a")
    network, scale = load_any(write(tmp_path, {"params_ema": state}))
    assert isinstance(network, DLGSANet)
    assert scale == 4
    # The windows of the test are the one thing that the tensors do not show.
    assert network.config_dict() == {**config, "tlc_kernel": 48}
    with torch.no_grad():
        found = network(tensors["input"], local=False)
    assert relative(found, tensors["output_no_tlc"]) < 1e-5


# What does not fit.


def without(name: str) -> Callable[[State], State]:
    return lambda state: {k: v for k, v in state.items() if k != name}


def reshaped(name: str, *shape: int) -> Callable[[State], State]:
    return lambda state: {**state, name: torch.ones(shape)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("conv_first.weight"), "conv_first.weight is missing"),
        (without("conv_first.bias"), "conv_first.bias missing"),
        (without("upsample.0.weight"), "upsample.0.weight is missing"),
        (without(f"{FIRST}.mlp.fc1.weight"), r"\.mlp\.fc1\.weight is missing"),
        (without(f"{FIRST}.mlp.fc2.bias"), rf"{FIRST}\.mlp\.fc2\.bias missing"),
        (without(f"{FIRST}.qkv.bias"), r"srwa_blocks\.1\.qkv\.bias unexpected"),
        (without(f"{FIRST}.attns.1.pos.pos2.0.weight"), r"pos2\.0\.weight missing"),
        (without("layers.0.residual_group.hf_blocks.0.attn.temperature"), "temperature is missing"),
        (without("layers.0.residual_group.hf_blocks.0.norm1.body.bias"), "body.bias missing"),
        (without("conv_after_body.weight"), "conv_after_body.bias unexpected"),
        (reshaped("extra.weight", 1), "extra.weight unexpected"),
        (reshaped("layers.2.conv.bias", 32), "layers.1.residual_group.hf_blocks.0.attn.temp"),
        (reshaped("conv_first.weight", 32), r"has shape \(32,\); needs 4 axes"),
        (reshaped("conv_first.weight", 0, 3, 3, 3), r"has shape \(0, 3, 3, 3\)"),
        (reshaped("conv_first.weight", 40, 3, 3, 3), r"has shape \(.*\), needs \(.*40"),
        (reshaped("conv_first.weight", 33, 3, 3, 3), "needs an even divisor of embed_dim 33"),
        (reshaped(f"{FIRST}.proj.bias", 1), r"proj\.bias has shape \(1,\), needs \(32,\)"),
        (reshaped("upsample.0.bias", 1, 1, 1, 1), r"upsample\.0\.bias has shape"),
        (reshaped("upsample.0.weight", 13, 32, 3, 3), r"upsample\.0\.weight has shape"),
        (reshaped("biases_h", 9, 3), "biases_h is no table of the offsets"),
        (reshaped("biases_h", 0, 2), "biases_h has shape|biases_h is no table"),
        (lambda s: s | {"biases_h": s["biases_h"] * 1e30}, "biases_h is no table"),
        (lambda s: s | {"biases_h": s["biases_h"][:-1]}, "biases_h is no table"),
        (lambda s: s | {"biases_v": s["biases_h"]}, r"biases_v is not that of windows of 4 x 16"),
        (without("biases_h"), None),
        (lambda s: s | {"relative_position_index_h": s["relative_position_index_v"]},
         "relative_position_index_h is not that of windows"),
        (lambda s: s | {"norm.body.bias": torch.full((32,), torch.nan)}, "NaN in norm.body.bias"),
    ],
)  # fmt: skip
def test_a_craft_that_does_not_fit_gets_one_line(
    change: Callable[[State], State], says: str | None, tmp_path: Path
) -> None:
    path = write(tmp_path, {"params": change(craft().published_state())})
    if says is None:
        assert isinstance(load_any(path)[0], CRAFT)
        return
    with pytest.raises(ValueError, match=says) as caught:
        load_any(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("overlap_embed.0.proj.weight"), "overlap_embed.0.proj.weight is missing"),
        (without("upsample.0.weight"), "upsample.0.weight is missing"),
        (without("upsample.0.bias"), "upsample.0.bias missing"),
        (without(f"{GROUP}.0.norm1.body.weight"), r"norm1\.body\.weight missing"),
        (without(f"{GROUP}.0.IDynamicDWConv.conv.conv2.0.weight"), "conv2.0.weight is missing"),
        (without(f"{GROUP}.1.restormer_attn.temperature"), "temperature is missing"),
        (without(f"{GROUP}.2.bias"), rf"{GROUP}\.2\.bias missing"),
        (reshaped(f"{GROUP}.0.extra", 1), "extra unexpected"),
        (reshaped("deep_feature_extraction.5.weight", 1), r"tion\.5\.weight unexpected"),
        (reshaped(f"{GROUP}.0.IDynamicDWConv.conv.conv1.1.weight", 3, 1, 4, 4), "window_size is 4"),
        (reshaped(f"{GROUP}.0.IDynamicDWConv.conv.conv2.0.weight", 1, 3, 1, 1), "has shape"),
        (reshaped(f"{GROUP}.1.restormer_ffn.project_out.weight", 5), r"has shape \(5,\); needs 4"),
        (reshaped("upsample.0.bias", 3), r"upsample\.0\.bias has shape \(3,\), needs \(48,\)"),
        (reshaped("upsample.0.weight", 1, 12, 3, 3), "upscale is 0"),
        (lambda s: {k: v for k, v in s.items() if not k.startswith((f"{GROUP}.0", f"{GROUP}.1"))},
         "has neither IDynamicDWConv nor restormer_attn"),
    ],
)  # fmt: skip
def test_a_dlgsanet_that_does_not_fit_gets_one_line(
    change: Callable[[State], State], says: str, tmp_path: Path
) -> None:
    path = write(tmp_path, {"params": change(dlgsanet().published_state())})
    with pytest.raises(ValueError, match=says) as caught:
        load_any(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (craft(in_chans=1), "is for 1 channels; needs 3"),
        (dlgsanet(in_chans=1), "is for 1 channels; needs 3"),
        (dlgsanet(upsampler=""), "does not upscale; needs a scale of 2 or more"),
        (craft(upscale=1), "does not upscale"),
    ],
)
def test_networks_for_something_else(network: CRAFT | DLGSANet, says: str, tmp_path: Path) -> None:
    for name in ("net.pth", "net.safetensors"):
        export(network, tmp_path / name)
        with pytest.raises(ValueError, match=says):
            load_any(tmp_path / name)


class Trap:
    """Unpickling this creates a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    state = craft().published_state()
    for content in ({"params": state, "optimizer": Trap(proof)}, Trap(proof)):
        with pytest.raises(ValueError, match="code that is never run"):
            load_any(write(tmp_path, content))
    assert not proof.exists()


@pytest.mark.parametrize("name", ["net.pth", "net.pt", "net.safetensors", "net"])
@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n" * 9])
def test_files_that_are_no_checkpoints(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is no readable|is not a safetensors file") as caught:
        load_any(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_files_that_are_cut_short(name: str, tmp_path: Path) -> None:
    export(craft(), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"is no readable|is cut short"):
        load_any(tmp_path / name)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"net\.pth does not exist"):
        load_any(tmp_path / "net.pth")
    with pytest.raises(ValueError, match="is a folder; needs a weight file"):
        load_any(tmp_path)


# Other architectures.


def compact(**changes: Any) -> nn.Module:
    return perturbed(Compact(**{"num_feat": 4, "num_conv": 1, "upscale": 2, **changes}))


def test_another_architecture_through_spandrel(tmp_path: Path) -> None:
    theirs = compact()
    network, scale = load_any(write(tmp_path, {"params": theirs.state_dict()}))
    assert isinstance(network, OtherNetwork)
    assert not network.training
    assert network.name == "RealESRGAN Compact"
    assert scale == 2
    x = torch.rand(2, 3, 5, 7)
    with torch.no_grad():
        singles = torch.cat([theirs(image[None]) for image in x])
        assert torch.equal(network(x), singles.clamp(0, 1))
        assert 0 < network(x).eq(0).sum() < network(x).numel()
    assert {name for name, _ in network.named_parameters()} == {
        f"network.{name}" for name, _ in theirs.named_parameters()
    }
    assert network.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (1, 20), (9, 8), (8, 16)])
def test_sizes_that_a_network_does_not_take(size: tuple[int, int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = DITN(dim=8, ITL_blocks=1, SAL_blocks=1, upscale=3).eval()
    network, scale = load_any(write(tmp_path, theirs.state_dict()))
    (H, W), x = size, torch.rand(1, 3, *size)
    with torch.no_grad():
        out = network(x)
        assert out.shape == (1, 3, 3 * H, 3 * W)
        if min(size) < 5:
            return  # too small to be reflected once
        grown = F.pad(x, (0, -W % 8, 0, -H % 8), "reflect")
        assert torch.equal(out, theirs(grown)[..., : 3 * H, : 3 * W].clamp(0, 1))
    assert scale == 3


def test_a_dtype_that_a_network_does_not_compute_in(tmp_path: Path) -> None:
    network, _ = load_any(write(tmp_path, compact().state_dict()))
    assert isinstance(network, OtherNetwork)
    network.descriptor.supports_half = False
    with pytest.raises(ValueError, match=r"dtype is torch\.float16; RealESRGAN Compact needs"):
        network.half()(torch.rand(1, 3, 4, 4).half())


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (compact(upscale=1), "is RealESRGAN Compact for Restoration; needs a network that upscal"),
        (compact(num_in_ch=1, num_out_ch=1), "Compact from 1 to 1 channels; needs 3 and 3"),
        (nn.Linear(3, 2), r"has weight, bias, \.\.\. \(2 tensors\); needs CRAFT, DLGSANet or a"),
    ],
)
def test_other_networks_that_do_not_do(network: nn.Module, says: str, tmp_path: Path) -> None:
    path = write(tmp_path, network.state_dict())
    with pytest.raises(ValueError, match=says) as caught:
        load_any(path)
    assert str(path) in str(caught.value)


def test_a_network_that_fills_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = spandrel.ModelLoader().load_from_state_dict(compact().state_dict())
    masked = spandrel.MaskedImageModelDescriptor(
        real.model, real.model.state_dict(), real.architecture, "Inpainting", [], True, True, 3, 3
    )
    monkeypatch.setattr(spandrel.ModelLoader, "load_from_state_dict", lambda *_: masked)
    with pytest.raises(ValueError, match="for Inpainting; needs a network that upscales"):
        load_any(write(tmp_path, compact().state_dict()))


def test_what_only_looks_like_a_known_network(tmp_path: Path) -> None:
    state = compact().state_dict()
    del state["body.0.bias"]
    with pytest.raises(ValueError, match="spandrel cannot load it") as caught:
        load_any(write(tmp_path, state))
    assert "\n" not in str(caught.value)
    state = {"body.0.weight": torch.ones(1), "body.1.weight": torch.ones(1)}
    with pytest.raises(ValueError, match="spandrel cannot load it"):
        load_any(write(tmp_path, state))


def test_without_spandrel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    path = write(tmp_path, compact().state_dict())
    with pytest.raises(ValueError, match=r"body\.0\.weight, body\.0\.bias, .*\(8 tens") as caught:
        load_any(path)
    assert str(caught.value).startswith(f"{path} is neither CRAFT nor DLGSANet")
    assert "pip install 'sigform-superres[any-model]'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(load_any(write(tmp_path, craft().published_state()))[0], CRAFT)


# Ours elsewhere.


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize(
    "changes",
    [
        {"upscale": 2},
        {"upscale": 3, "embed_dim": 64, "depths": (1, 2), "num_heads": (2, 4), "mlp_ratio": 1.5},
        {"upscale": 4, "split_size_0": 2, "qkv_bias": False, "resi_connection": "identity"},
    ],
)
def test_spandrel_loads_what_we_export(changes: dict[str, Any], name: str, tmp_path: Path) -> None:
    network = craft(**changes)
    export(network, tmp_path / name)
    found = spandrel.ModelLoader().load_from_file(tmp_path / name)
    assert found.architecture.id == "CRAFT"
    assert found.scale == network.scale
    with torch.no_grad():
        wanted = network(X, padding="flip")
        assert relative(found.model.eval()(X), wanted) < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_spandrel_loads_the_published_size(scale: int, tmp_path: Path) -> None:
    network = perturbed(CRAFT(CRAFTConfig(upscale=scale)))
    export(network, tmp_path / "net.pth")
    found = spandrel.ModelLoader().load_from_file(tmp_path / "net.pth").model.eval()
    with torch.no_grad():
        assert relative(found(X), network(X, padding="flip")) < 1e-5


def test_exports_come_back(tmp_path: Path) -> None:
    for network in (craft(), dlgsanet()):
        for name in ("net.pth", "net.safetensors"):
            path = tmp_path / name
            export(network, path)
            found, _ = load_any(path)
            assert isinstance(found, type(network))
            assert found.config == network.config
            with torch.no_grad():
                assert torch.equal(found(X), network(X))
    written = torch.load(tmp_path / "net.pth", weights_only=True)
    assert list(written) == ["params"]
    assert written["params"].keys() == load_file(tmp_path / "net.safetensors").keys()
    assert not any(value.requires_grad for value in written["params"].values())


def test_export_writes_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.pth"
    export(craft(), path)
    before = path.read_bytes()

    def full(_: object, part: Path) -> None:
        part.write_bytes(before[:50])
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space left"):
        export(craft(upscale=3), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match=r"ends in '\.onnx'; needs \.pth or \.safetensors"):
        export(craft(), tmp_path / "net.onnx")
