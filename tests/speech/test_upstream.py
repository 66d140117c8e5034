"""Published checkpoints in every form: made here, served from this machine, loaded strictly."""

import hashlib
import http.server
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sigform_core import download as download_module
from sigform_core.download import DownloadError
from sigform_speech.catalogue import PUBLISHED, published
from sigform_speech.mossformer import MossFormer, MossFormerConfig
from sigform_speech.mossformer2 import MossFormer2, MossFormer2Config
from sigform_speech.networks import Network, load_network, save_network
from sigform_speech.upstream import export, fetch, load_any

State = dict[str, Tensor]
X = torch.randn(1, 601, generator=torch.Generator().manual_seed(7))
LAYER = "mask_net.mdl.att_mdl.mossformerM.layers.0"
MEMORY = "mdl.intra_mdl.mossformerM.fsmn.0"


def perturbed(network: Any) -> Any:
    """In eval mode, its weights all away from where they start."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network.eval()


def mossformer(**changes: Any) -> MossFormer:
    small = {"in_channels": 16, "out_channels": 16, "d_model": 16, "num_blocks": 2}
    return perturbed(MossFormer(MossFormerConfig(**{**small, "query_key_dim": 40, **changes})))


def mossformer2(**changes: Any) -> MossFormer2:
    small = {"encoder_embedding_dim": 16, "mossformer_sequence_dim": 16, "num_mossformer_layer": 2}
    fixed = {"query_key_dim": 8, "inner_channels": 6}
    return perturbed(MossFormer2(MossFormer2Config(**{**small, **fixed, **changes})))


def whole(network: Network) -> State:
    """All tensors as published code saves them, those that follow from its arguments too."""
    prefix = "" if isinstance(network, MossFormer) else "model."
    blocks = "mdl.att_mdl" if isinstance(network, MossFormer) else "mdl.intra_mdl"
    state = network.published_state() | {f"{prefix}mask_net.pos_enc.inv_freq": torch.rand(8)}
    for layer in range(network.shell.num_blocks):
        name = f"{prefix}mask_net.{blocks}.mossformerM.layers.{layer}.rotary_pos_emb.freqs"
        state[name] = torch.rand(4)
    return state


def beginning(state: State, old: str, new: str = "") -> State:
    """The tensors whose names begin so, with another beginning."""
    return {new + k.removeprefix(old): v for k, v in state.items() if k.startswith(old)}


def modelscope(folder: Path, network: Network, **said: Any) -> Path:
    """Three files as ModelScope has them, and the configuration when something is `said`."""
    state = whole(network)
    for file, prefix in (
        ("encoder", "encoder."),
        ("masknet", "mask_net."),
        ("decoder", "decoder."),
    ):
        write(folder, beginning(state, prefix), f"{file}.bin")
    if said:
        content = {"framework": "pytorch", "model": {"type": "mossformer", **said}}
        (folder / "configuration.json").write_text(json.dumps(content))
    return folder


def clearvoice(folder: Path, network: Network, wrap: str = "") -> Path:
    """A pointer and the checkpoint that it names, with an optimiser's state in it."""
    state = {wrap + name: value for name, value in whole(network).items()}
    optimiser = {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 1.5e-4}]}
    write(folder, {"model": state, "optimizer": optimiser, "epoch": 7}, "last.pt")
    (folder / "last_best_checkpoint").write_text("last.pt\n")
    return folder


def standalone_names(network: Network) -> State:
    flash = "masknet.dual_mdl.0.intra_mdl.mdl."
    renamed = {}
    for name, value in whole(network).items():
        name = name.replace("model.mask_net.mdl.intra_mdl.mossformerM.", f"{flash}flashT.")
        name = name.replace("model.mask_net.mdl.intra_mdl.norm.", f"{flash}norm.norm.")
        name = name.replace("model.mask_net.mdl.", "masknet.dual_mdl.0.")
        name = name.replace("model.mask_net.", "masknet.")
        renamed[name.replace("model.enc.", "encoder.").replace("model.dec.", "decoder.")] = value
    return renamed


def standalone(folder: Path, network: Network, *, full_names: bool = False) -> Path:
    state = standalone_names(network)
    for part in ("encoder", "masknet", "decoder"):
        prefix = f"{part}."
        own = beginning(state, prefix, prefix if full_names else "")
        write(folder, own, f"{part}.ckpt")
    return folder


def write(folder: Path, content: Any, name: str = "net.pt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / name)
    return folder / name


def assert_same(found: Network, network: Network) -> None:
    assert type(found) is type(network)
    assert not found.training
    assert found.config == network.config
    with torch.no_grad():
        wanted = network(X)
        assert wanted.norm() > 0
        assert torch.equal(found(X), wanted)


# Every form.


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_spks": 3, "kernel_size": 8, "stride": 4},
        {"norm": "gln", "bias": True},
        {"norm": "bn", "num_blocks": 1, "query_key_dim": 8},
    ],
)
def test_mossformer_of_modelscope(changes: dict[str, Any], tmp_path: Path) -> None:
    network = mossformer(**changes)
    assert_same(load_any(modelscope(tmp_path, network)), network)
    assert_same(load_any(write(tmp_path, whole(network), "merged.pth")), network)


def test_the_configuration_file_tells_what_tensors_cannot(tmp_path: Path) -> None:
    network = mossformer(group_size=16, causal=True, norm="cln", attn_dropout=0.0)
    config = network.config_dict() | {"attn_dropout": 0.0, "expansion_factor": 4}
    assert_same(load_any(modelscope(tmp_path, network, **config)), network)
    (tmp_path / "configuration.json").unlink()
    assert load_any(tmp_path).config.group_size == 256


@pytest.mark.parametrize("wrap", ["", "module."])
def test_mossformer2_of_clearervoice(wrap: str, tmp_path: Path) -> None:
    network = mossformer2()
    folder = clearvoice(tmp_path, network, wrap)
    for path in (folder, folder / "last_best_checkpoint", folder / "last.pt"):
        assert_same(load_any(path), network)


def test_a_pointed_checkpoint_is_of_16_khz_whatever_its_names(tmp_path: Path) -> None:
    network = mossformer2()
    write(tmp_path, {"model": beginning(whole(network), "model.")}, "last.pt")
    (tmp_path / "last_best_checkpoint").write_text("last.pt")
    assert_same(load_any(tmp_path), network)


def test_mossformer2_of_modelscope(tmp_path: Path) -> None:
    network = mossformer2(sample_rate=8000, num_spks=3, encoder_kernel_size=8)
    path = write(tmp_path, beginning(whole(network), "model."), "pytorch_model.bin")
    assert_same(load_any(path), network)
    assert_same(load_any(tmp_path), network)


@pytest.mark.parametrize("full_names", [False, True])
@pytest.mark.parametrize("speakers", [2, 3])
def test_mossformer2_of_its_repository(full_names: bool, speakers: int, tmp_path: Path) -> None:
    network = mossformer2(sample_rate=8000, num_spks=speakers)
    assert_same(load_any(standalone(tmp_path, network, full_names=full_names)), network)
    folder = tmp_path / "hub"
    folder.mkdir()
    save_file(standalone_names(network), folder / "model.safetensors")
    assert_same(load_any(folder), network)


def test_half_precision_is_read(tmp_path: Path) -> None:
    network = mossformer2()
    path = write(tmp_path, {name: value.half() for name, value in whole(network).items()})
    found = load_any(path)
    assert next(found.parameters()).dtype == torch.float32
    with torch.no_grad():
        assert (found(X) - network(X)).norm() < 0.01 * network(X).norm()


def test_our_own_weight_files(tmp_path: Path) -> None:
    for network in (mossformer(group_size=8, sample_rate=44_100), mossformer2(group_size=8)):
        save_network(tmp_path / "net.safetensors", network, {"name": "test"})
        assert_same(load_any(tmp_path / "net.safetensors"), network)


@pytest.mark.parametrize("name", ["mossformer_a", "mossformer2_a"])
def test_reference_tensors_load_as_checkpoints(name: str, tmp_path: Path) -> None:
    root = os.environ.get("SIGFORM_FIXTURES")
    if root is None:
        pytest.skip("SIGFORM_FIXTURES names no folder with reference tensors")
    with safe_open(Path(root) / "golden" / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    if name == "mossformer_a":
        said = {"group_size": config["kwargs"]["group_size"]}
        for part, prefix in (("encoder",) * 2, ("masknet", "mask_net"), ("decoder",) * 2):
            write(tmp_path, beginning(state, f"{prefix}."), f"{part}.bin")
        (tmp_path / "configuration.json").write_text(json.dumps({"model": said}))
        wanted = tensors["output"].transpose(1, 2)  # (B, T, S)
    else:
        write(tmp_path, {"model": state}, "best.pt")
        (tmp_path / "last_best_checkpoint").write_text("best.pt")
        wanted = tensors["output"].transpose(0, 1)  # (S, B, T)
    with torch.no_grad():
        found = load_any(tmp_path)
        assert (found(tensors["input"]) - wanted).norm() < 1e-5 * wanted.norm()
    # What we write for published code has all that it saves, with the values that it saves.
    if name == "mossformer2_a":
        export(found, tmp_path / "again.pt")
        again = torch.load(tmp_path / "again.pt", weights_only=True)["model"]
        assert again.keys() == state.keys()
        for key, value in state.items():
            assert torch.allclose(again[key], value, rtol=1e-5, atol=0.0), key


@pytest.mark.parametrize(
    ("listed", "source"),
    [("mossformer_L", "mossformer"), ("mossformer2_ss_16k(clearvoice)", "mossformer2"),
     ("mossformer2(standalone hf)", "standalone")],
)  # fmt: skip
def test_published_names_and_shapes(listed: str, source: str) -> None:
    root = os.environ.get("SIGFORM_FIXTURES")
    if root is None:
        pytest.skip("SIGFORM_FIXTURES names no folder with the published names")
    keys = json.loads((Path(root) / "specs" / "speech_checkpoint_keys.json").read_bytes())[listed]
    wanted = {
        name.replace("{i}", str(layer)): tuple(shape)
        for name, shape in keys["keys"].items()
        for layer in (range(24) if "{i}" in name else [0])
    }
    assert len(wanted) in (keys["n_tensors"], keys["n_tensors"] + 24)
    with torch.device("meta"):
        network = MossFormer() if source == "mossformer" else MossFormer2()
        state = standalone_names(network) if source == "standalone" else whole(network)
    derived = ("inv_freq", "rotary_pos_emb.freqs")
    assert {name for name in wanted if name.endswith(derived)} == {
        name for name in state if name.endswith(derived)
    }
    assert {k: v for k, v in wanted.items() if not k.endswith(derived)} == {
        k: tuple(v.shape) for k, v in state.items() if not k.endswith(derived)
    }


# What does not fit.


def without(name: str) -> Callable[[State], State]:
    return lambda state: {k: v for k, v in state.items() if k != name}


def reshaped(name: str, *shape: int) -> Callable[[State], State]:
    return lambda state: {**state, name: torch.ones(shape)}


FLASH = "masknet.dual_mdl.0.intra_mdl.mdl.flashT"


@pytest.mark.parametrize(
    ("make", "change", "says"),
    [
        (mossformer, without("encoder.conv1d.weight"), "encoder.conv1d.weight is missing"),
        (mossformer, without("decoder.weight"), "decoder.weight missing"),
        (mossformer, without("mask_net.conv1d_out.weight"), "mask_net.conv1d_out.weight is missi"),
        (mossformer, without("mask_net.norm.weight"), "mask_net.norm.weight missing"),
        (mossformer, without(f"{LAYER}.qk_offset_scale.gamma"), "gamma is missing"),
        (mossformer, without(f"{LAYER}.to_out.mdl.0.g"), rf"{LAYER}\.to_out\.mdl\.0\.g missing"),
        (mossformer, reshaped("extra.weight", 1), "extra.weight unexpected"),
        (mossformer, reshaped("mask_net.prelu.weight", 2), r"prelu\.weight has shape \(2,\), need"),
        (mossformer, reshaped("encoder.conv1d.weight", 16), r"has shape \(16,\); needs 3 axes"),
        (mossformer, reshaped("encoder.conv1d.weight", 0, 1, 16), "needs 3 axes, none empty"),
        (mossformer, reshaped("encoder.conv1d.weight", 18, 1, 16), r"decoder\.weight has shape"),
        (mossformer, reshaped("encoder.conv1d.weight", 16, 1, 8), r"decoder\.weight has shape"),
        (mossformer, reshaped("encoder.conv1d.weight", 16, 2, 16), r"weight has shape \(16, 2, 1"),
        (mossformer, reshaped("encoder.conv1d.weight", 16, 1, 1), "kernel_size 1; needs half"),
        (mossformer, reshaped("mask_net.conv1d_out.weight", 8, 16, 1), "num_spks is 0; needs 1"),
        (mossformer, reshaped("mask_net.conv1d_out.weight", 40, 16, 1), r"shape \(40, 16, 1\), n"),
        (mossformer, reshaped("decoder.weight", 16, 1, 16, 1), r"shape \(16, 1, 16, 1\), needs"),
        (mossformer, lambda s: s | {"decoder.weight": torch.full((16, 1, 16), torch.nan)},
         "NaN in decoder.weight; needs numbers"),
        (mossformer2, without("model.dec.weight"), "model.dec.weight missing"),
        (mossformer2, without(f"model.mask_net.{MEMORY}.conv1.1.weight"), "conv1.1.weight missing"),
        (mossformer2, without(f"model.mask_net.{MEMORY}.conv1.0.weight"), "conv1.0.weight is miss"),
        (mossformer2, reshaped(f"model.mask_net.{MEMORY}.gated_fsmn.fsmn.conv.conv2.weight", 6, 1),
         r"conv\.conv2\.weight has shape \(6, 1\), needs \(6, 2, 39, 1\)"),
        (mossformer2, reshaped("model.mask_net.mdl.intra_mdl.norm.scale", 1), "scale unexpected"),
        (mossformer2, reshaped("enc.conv1d.weight", 16, 1, 16), "enc.conv1d.weight unexpected"),
    ],
)  # fmt: skip
def test_what_does_not_fit_gets_one_line(
    make: Callable[[], Network], change: Callable[[State], State], says: str, tmp_path: Path
) -> None:
    path = write(tmp_path, change(whole(make())))
    with pytest.raises(ValueError, match=says) as caught:
        load_any(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without(f"{FLASH}.fsmn.1.norm1.bias"), rf"{FLASH}\.fsmn\.1\.norm1\.bias missing"),
        (without("encoder.conv1d.weight"), r": encoder\.conv1d\.weight is missing"),
        (without("masknet.dual_mdl.0.intra_mdl.mdl.norm.norm.bias"), r"l\.norm\.norm\.bias miss"),
        (reshaped("masknet.dual_mdl.0.intra_norm.bias", 3), r"dual_mdl\.0\.intra_norm\.bias h"),
        (reshaped("masknet.conv1d_out.bias", 3), r"masknet\.conv1d_out\.bias has shape \(3,\)"),
        (reshaped("model.dec.weight", 3), "is there twice, also as"),
    ],
)  # fmt: skip
def test_names_are_those_of_the_file(
    change: Callable[[State], State], says: str, tmp_path: Path
) -> None:
    path = write(tmp_path, change(standalone_names(mossformer2())))
    with pytest.raises(ValueError, match=says) as caught:
        load_any(path)
    assert "\n" not in str(caught.value)


class Trap:
    def __reduce__(self) -> Any:
        return os.system, ("touch trapped",)


def sepformer(folder: Path) -> Path:
    """The three files of SpeechBrain's SepFormer, called as the standalone MossFormer2's."""
    layer = "dual_mdl.0.intra_mdl.mdl.layers.0.self_att.att.in_proj_weight"
    write(folder, {"conv1d.weight": torch.ones(8, 1, 16)}, "encoder.ckpt")
    write(folder, {"norm.weight": torch.ones(8), layer: torch.ones(24, 8)}, "masknet.ckpt")
    write(folder, {"weight": torch.ones(8, 1, 16)}, "decoder.ckpt")
    return folder


def page(folder: Path, name: str) -> Path:
    (folder / name).write_text("<!DOCTYPE html>\n<html><body>404</body></html>\n")
    return folder / name


def lacking(folder: Path, name: str) -> Path:
    (modelscope(folder, mossformer()) / name).unlink()
    return folder


def said(folder: Path, text: str) -> Path:
    (modelscope(folder, mossformer()) / "configuration.json").write_text(text)
    return folder


def pointing(folder: Path, text: str) -> Path:
    (clearvoice(folder, mossformer2()) / "last_best_checkpoint").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (sepformer, r"has encoder\.conv1d\.weight, masknet\.norm.* \(4 tensors\); needs a Moss"),
        (lambda f: write(f, {"params": {"conv_first.weight": torch.ones(48, 3, 3, 3)}}),
         r"has conv_first\.weight, \.\.\. \(1 tensors\); needs a MossFormer or MossFormer2"),
        (lambda f: write(f, {"model": Trap()}), "code that is never run"),
        (lambda f: write(f, [1, 2]), "holds a list; needs a state dict"),
        (lambda f: page(f, "net.pt"), "is no readable PyTorch checkpoint"),
        (lambda f: page(f, "net.safetensors"), "is not a safetensors file|is cut short"),
        (lambda f: page(f, "last_best_checkpoint"), "names '<!DOCTYPE html>'; needs the name of a"),
        (lambda f: pointing(f, ""), "names ''; needs the name of a file beside it"),
        (lambda f: pointing(f, "../last.pt"), r"names '\.\./last\.pt'; needs"),
        (lambda f: pointing(f, "/last.pt"), "names '/last.pt'; needs"),
        (lambda f: pointing(f, "other.pt"), r"checkpoint .*other\.pt does not exist"),
        (lambda f: f, "holds no network; needs encoder, masknet and decoder as"),
        (lambda f: lacking(f, "masknet.bin"), r"has no masknet\.bin; needs all three"),
        (lambda f: modelscope(f, mossformer()) / "masknet.bin", "one part of a network; needs the"),
        (lambda f: said(f, "{"), r"configuration\.json is no JSON"),
        (lambda f: said(f, "[]"), "has no object `model`"),
        (lambda f: said(f, '{"model": {"group_size": "256"}}'), "group_size is '256'; needs int"),
        (lambda f: said(f, '{"model": {"num_spks": true}}'), "num_spks is True; needs int"),
        (lambda f: said(f, '{"model": {"num_spks": 3}}'), r"conv1d_out\.weight has shape"),
        (lambda f: f / "nothing.pt", "does not exist"),
    ],
)  # fmt: skip
def test_what_is_no_network_gets_one_line(
    make: Callable[[Path], Path], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=says) as caught:
        load_any(make(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("trapped").exists()


# Writing.


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".safetensors"])
@pytest.mark.parametrize(
    "network",
    [mossformer(num_spks=3), mossformer(norm="gln", bias=True), mossformer2(),
     mossformer2(sample_rate=8000)],
)  # fmt: skip
def test_exports_come_back(network: Network, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    export(network, path)
    assert_same(load_any(path), network)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (mossformer(group_size=64), "cannot tell that group_size is 64; needs .safetensors"),
        (mossformer(sample_rate=16_000), "cannot tell that sample_rate is 16000"),
        (mossformer(norm="cln"), "cannot tell that norm is cln"),
        (mossformer(causal=True), "cannot tell that causal is True"),
        (mossformer2(group_size=64), "cannot tell that group_size is 64"),
        (mossformer2(sample_rate=44_100), "cannot tell that sample_rate is 44100"),
    ],
)
def test_exports_lose_nothing(network: Network, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        export(network, tmp_path / "net.pt")
    export(network, tmp_path / "net.safetensors")
    assert_same(load_any(tmp_path / "net.safetensors"), network)


def test_export_writes_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.pt"
    export(mossformer(), path)
    before = path.read_bytes()

    def full(_: object, part: Path) -> None:
        part.write_bytes(before[:50])
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space left"):
        export(mossformer2(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match=r"ends in '\.onnx'; needs \.bin, \.pt or \.safetensors"):
        export(mossformer(), tmp_path / "net.onnx")


# Fetching by name.


class Server:
    """Serves a folder; the first answer for a file in `cut` ends after so many bytes."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.cut: dict[str, int] = {}
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name, span = self.path.removeprefix("/"), self.headers["Range"]
                server.asked.append((name, span))
                if not (folder / name).is_file():
                    self.send_error(404)
                    return
                content = (folder / name).read_bytes()
                start = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
                self.send_response(206 if span else 200)
                if span:
                    end = len(content)
                    self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start : server.cut.pop(name, None)])

            def log_message(self, format: str, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIGFORM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download_module, "_PAUSES", (0.0, 0.0, 0.0))
    return tmp_path / "cache" / "speech"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "served").mkdir()
    server = Server(tmp_path / "served")
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


FORMS: dict[str, tuple[Callable[[Path, Network], Path], Network]] = {
    "mossformer-wsj0-2mix": (
        partial(modelscope, group_size=32), mossformer(group_size=32)
    ),
    "mossformer2-16k": (clearvoice, mossformer2()),
    "mossformer2-librimix-2spk": (standalone, mossformer2(sample_rate=8000)),
    "mossformer2-wsj0mix-3spk": (standalone, mossformer2(sample_rate=8000, num_spks=3)),
    "mossformer2-whamr-2spk": (standalone, mossformer2(sample_rate=8000)),
}  # fmt: skip


def test_every_published_name_is_tested() -> None:
    assert set(FORMS) == {entry.name for entry in PUBLISHED}


@pytest.mark.parametrize("name", FORMS)
def test_fetched_once_and_converted(name: str, cache: Path, server: Server, tmp_path: Path) -> None:
    form, network = FORMS[name]
    form(tmp_path / "served", network)
    counted: list[tuple[int, int | None]] = []
    path = fetch(name, server.url, progress=lambda *now: counted.append(now))
    assert path.parent == cache / name
    assert_same(load_any(path), network)
    asked = [file for file, _ in server.asked]
    assert asked == [*published(name).files, *(["last.pt"] if name == "mossformer2-16k" else [])]
    assert [done for done, total in counted if done == total] == [
        (tmp_path / "served" / file).stat().st_size for file in asked
    ]
    _, file = load_network(path)
    assert file.card["licence"] == published(name).licence
    assert file.card["sha256"] == {
        one: hashlib.sha256((tmp_path / "served" / one).read_bytes()).hexdigest() for one in asked
    }
    # Neither the network nor a pickle is needed again.
    shutil.rmtree(tmp_path / "served")
    for one in asked:
        (path.parent / one).unlink()
    assert fetch(name, server.url) == path
    assert len(server.asked) == len(asked)


def test_a_cut_off_download_is_resumed(cache: Path, server: Server, tmp_path: Path) -> None:
    name = "mossformer2-librimix-2spk"
    form, network = FORMS[name]
    form(tmp_path / "served", network)
    server.cut = {"masknet.ckpt": 5000}
    assert_same(load_any(fetch(name, server.url)), network)
    assert ("masknet.ckpt", "bytes=5000-") in server.asked
    assert not list(cache.rglob("*.part"))


def test_a_killed_download_is_resumed(cache: Path, server: Server, tmp_path: Path) -> None:
    name = "mossformer2-librimix-2spk"
    form, network = FORMS[name]
    content = (form(tmp_path / "served", network) / "masknet.ckpt").read_bytes()
    (cache / name).mkdir(parents=True)
    (cache / name / "masknet.ckpt.part").write_bytes(content[:7000])
    assert_same(load_any(fetch(name, server.url)), network)
    assert ("masknet.ckpt", "bytes=7000-") in server.asked


def test_files_are_held_to_what_first_came(cache: Path, server: Server, tmp_path: Path) -> None:
    name = "mossformer2-librimix-2spk"
    form, network = FORMS[name]
    form(tmp_path / "served", network)
    path = fetch(name, server.url)
    masks = cache / name / "masknet.ckpt"
    assert (cache / name / "masknet.ckpt.sha256").read_text() == (
        hashlib.sha256(masks.read_bytes()).hexdigest() + "\n"
    )
    path.unlink()
    asked = len(server.asked)
    assert_same(load_any(fetch(name, server.url)), network)
    assert len(server.asked) == asked
    # A file that changed, here or there, is not what was there before.
    path.unlink()
    masks.write_bytes(masks.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"masknet\.ckpt has SHA-256 .*: delete it first"):
        fetch(name, server.url)
    masks.unlink()
    form(tmp_path / "served", perturbed(network))
    with pytest.raises(ValueError, match=r"masknet\.ckpt has SHA-256 .*: nothing was kept"):
        fetch(name, server.url)
    assert not path.exists()


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: page(f, "masknet.ckpt"), "is no readable PyTorch checkpoint"),
        (lambda f: (f / "masknet.ckpt").write_bytes((f / "masknet.ckpt").read_bytes()[:9000]),
         "is no readable PyTorch checkpoint"),
        (sepformer, "needs a MossFormer or MossFormer2"),
        (lambda f: standalone(f, mossformer2(num_spks=3)), "num_spks is 3; .* needs 2"),
        (lambda f: write(f, {"conv1d.weight": torch.ones(16, 1, 16), "x": X}, "encoder.ckpt"),
         r"encoder\.x unexpected"),
    ],
)  # fmt: skip
def test_what_comes_is_checked(
    spoil: Callable[[Path], Any], says: str, server: Server, tmp_path: Path
) -> None:
    name = "mossformer2-librimix-2spk"
    form, network = FORMS[name]
    spoil(form(tmp_path / "served", network))
    with pytest.raises(ValueError, match=says) as caught:
        fetch(name, server.url)
    assert str(caught.value).endswith(f"to fetch {name} again)")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_offline_says_what_to_do(cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    name = "mossformer2-librimix-2spk"
    with pytest.raises(DownloadError) as caught:
        fetch(name, url)
    message = str(caught.value)
    assert message.startswith(f"could not reach the network for {url}/encoder.ckpt (")
    assert message.endswith(
        f"; without it, put encoder.ckpt, masknet.ckpt, decoder.ckpt into {cache / name}"
    )
    assert "\n" not in message
    # Which a person then does.
    _, network = FORMS[name]
    standalone(cache / name, network)
    assert_same(load_any(fetch(name, url)), network)


@pytest.mark.usefixtures("cache")
def test_not_found_and_unknown(server: Server) -> None:
    with pytest.raises(DownloadError, match=r"encoder\.ckpt answered 404"):
        fetch("mossformer2-librimix-2spk", server.url)
    with pytest.raises(
        ValueError, match="name is 'sepformer'; needs one of mossformer-wsj0-2mix, "
    ):
        fetch("sepformer", server.url)
    with pytest.raises(ValueError, match="needs https"):
        fetch("mossformer2-librimix-2spk", "http://example.org")
