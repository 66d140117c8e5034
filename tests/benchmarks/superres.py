"""CRAFT and DLGSANet beside their published forms and their peers: cases, seconds, peak memory.

CRAFT's published form is the authors' code as spandrel distributes it. DLGSANet's is written again
here: what its authors compute, with their CUDA kernel as `F.unfold`. Equal weights give equal
output. Shapes: B batch, C channels (second axis here), H and W pixels, h heads, d channels a head,
K side of a dynamic kernel, G groups of channels that share one, T side of a local window.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import torch
from benchmarks.measure import Step, apart, median_seconds, peak_mebibytes
from spandrel.architectures.CRAFT import CRAFT as PublishedCRAFT  # noqa: N811
from spandrel.architectures.OmniSR import OmniSR
from spandrel.architectures.PLKSR import PLKSR
from spandrel.architectures.SPAN import SPAN
from spandrel.architectures.SwinIR import SwinIR
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_superres.catalogue import find_weights
from sigform_superres.craft import CRAFT
from sigform_superres.dlgsanet import DLGSANet, DLGSANetConfig, local_starts
from sigform_superres.networks import load_network

SIZES = (128, 256)
PATCHES = (4, 64)
"""What a training step takes in: how many, and their side in pixels."""

MEMORY_SIZE = 256
BICUBIC = 28.42
"""PSNR in dB of bicubic enlargement, Set5 x4, as the papers give it."""

CRAFT_FORMS: tuple[str, ...] = ("ours", "ours in bfloat16", "published")
DLGSANET_FORMS: tuple[str, ...] = ("ours", "unfold")
Network = TypeVar("Network", bound=nn.Module)


class PlaneNorm(nn.Module):
    """Layer normalisation of channels that lie in planes, written out as published."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # (B, H * W, C)
        mean = tokens.mean(-1, keepdim=True)
        variance = tokens.var(-1, keepdim=True, unbiased=False)
        normed = (tokens - mean) / torch.sqrt(variance + 1e-5) * self.body.weight + self.body.bias
        return normed.transpose(1, 2).view(x.shape)


class PlaneGate(nn.Module):
    """The gated feed-forward (GDFN)."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class UnfoldConvolution(nn.Module):
    """Kernels of each pixel times its neighbourhood, which `F.unfold` lays out K * K times."""

    def __init__(self, channels: int, kernel: int, group: int) -> None:
        super().__init__()
        self.kernel, self.groups = kernel, channels // group
        code = channels // 4
        self.conv1 = nn.Sequential(
            nn.Conv2d(channels, code, 1),
            nn.Conv2d(code, code, kernel, padding=kernel // 2, groups=code),
        )
        self.conv2 = nn.Sequential(nn.Conv2d(code, kernel * kernel * self.groups, 1))

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        G, K = self.groups, self.kernel
        kernels = self.conv2(self.conv1(x)).view(B, G, 1, K * K, H, W)
        around = F.unfold(x, K, padding=K // 2).view(B, G, C // G, K * K, H, W)
        return (kernels * around).sum(3).view(B, C, H, W)


class PlaneMixing(nn.Module):
    def __init__(self, config: DLGSANetConfig) -> None:
        super().__init__()
        C = config.dim
        self.conv0 = nn.Conv2d(C, C, 1, bias=False)
        self.conv = UnfoldConvolution(C, config.window_size, config.idynamic_num_heads)
        self.conv1 = nn.Conv2d(C, C, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1(self.conv(self.conv0(x)))


class PlaneAttention(nn.Module):
    """Sparse attention over channels; in eval mode in overlapping windows, stacked as a batch."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(
            3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False
        )
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv_dwconv(self.qkv(x))
        return self.project_out(self._attend(qkv) if self.training else self._local(qkv))

    def _attend(self, qkv: Tensor) -> Tensor:
        B, _, H, W = qkv.shape
        planes = qkv.view(B, 3, self.heads, -1, H * W)  # (B, 3, h, d, H * W)
        query, key = F.normalize(planes[:, 0], dim=-1), F.normalize(planes[:, 1], dim=-1)
        weights = F.relu(query @ key.transpose(-2, -1) * self.temperature)  # (B, h, d, d)
        return (weights @ planes[:, 2]).view(B, -1, H, W)

    def _local(self, qkv: Tensor) -> Tensor:
        B, channels, H, W = qkv.shape
        spans = [
            [slice(start, start + self.window) for start in local_starts(side, self.window)]
            for side in (H, W)
        ]
        places = [(..., rows, columns) for rows in spans[0] for columns in spans[1]]
        attended = self._attend(torch.cat([qkv[place] for place in places]))
        out = qkv.new_zeros(B, channels // 3, H, W)
        times = qkv.new_zeros(H, W)
        for place, part in zip(places, attended.split(B), strict=True):
            out[place] += part
            times[place] += 1
        return out / times


class PlaneLocalLayer(nn.Module):
    def __init__(self, config: DLGSANetConfig) -> None:
        super().__init__()
        self.norm1 = PlaneNorm(config.dim)
        self.IDynamicDWConv = PlaneMixing(config)
        self.norm2 = PlaneNorm(config.dim)
        self.IDynamic_ffn = PlaneGate(config.dim, config.idynamic_ffn_expansion_factor)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.IDynamicDWConv(self.norm1(x))
        return x + self.IDynamic_ffn(self.norm2(x))


class PlaneGlobalLayer(nn.Module):
    def __init__(self, config: DLGSANetConfig) -> None:
        super().__init__()
        self.norm3 = PlaneNorm(config.dim)
        self.restormer_attn = PlaneAttention(
            config.dim, config.restormer_num_heads, config.local_window
        )
        self.norm4 = PlaneNorm(config.dim)
        self.restormer_ffn = PlaneGate(config.dim, config.restormer_ffn_expansion_factor)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.restormer_attn(self.norm3(x))
        return x + self.restormer_ffn(self.norm4(x))


class PlaneGroup(nn.Module):
    def __init__(self, config: DLGSANetConfig) -> None:
        super().__init__()
        layers = [PlaneLocalLayer, PlaneGlobalLayer] * config.blocks
        last = nn.Conv2d(config.dim, config.dim, 3, padding=1)
        self.body = nn.Sequential(*(layer(config) for layer in layers), last)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class UnfoldDLGSANet(nn.Module):
    """The tiny, light and full networks; takes the weights of ours."""

    def __init__(self, config: DLGSANetConfig) -> None:
        super().__init__()
        C, s = config.dim, config.upscale
        first = nn.Sequential()
        first.add_module("proj", nn.Conv2d(3, C, 3, padding=1, bias=False))
        self.overlap_embed = nn.Sequential(first)
        groups = (PlaneGroup(config) for _ in range(config.groups))
        self.deep_feature_extraction = nn.Sequential(*groups, nn.Conv2d(C, C, 3, padding=1))
        self.upsample = nn.Sequential(nn.Conv2d(C, 3 * s * s, 3, padding=1), nn.PixelShuffle(s))
        mean = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)
        self.mean: Tensor
        self.register_buffer("mean", mean, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        first = self.overlap_embed(x - self.mean)
        return self.upsample(first + self.deep_feature_extraction(first)) + self.mean


class Flipped(nn.Module):
    """Our CRAFT with the padding of the published inference: up to 16 more pixels a side."""

    def __init__(self, network: CRAFT) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x, padding="flip")


def craft(form: str) -> nn.Module:
    """CRAFT at 4 times in one of CRAFT_FORMS, the same weights in each."""
    ours = perturbed(CRAFT)
    if form != "published":
        return Flipped(ours.body_to(torch.bfloat16) if form == "ours in bfloat16" else ours)
    published = PublishedCRAFT()
    published.load_state_dict(ours.published_state())
    return published


def dlgsanet(form: str) -> nn.Module:
    """DLGSANet-light at 4 times in one of DLGSANET_FORMS, the same weights in each."""
    config = DLGSANetConfig.published("light", 4)
    ours = perturbed(lambda: DLGSANet(config))
    if form == "ours":
        return ours
    published = UnfoldDLGSANet(config)
    published.load_state_dict(ours.published_state())
    return published


def perturbed(build: Callable[[], Network]) -> Network:
    """A network with all weights away from where they start, so that each counts; always those."""
    torch.manual_seed(0)
    network = build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return network


class Peer(NamedTuple):
    """A network at 4 times, and the PSNR in dB on Set5 that its authors report for it."""

    build: Callable[[], nn.Module]
    psnr: float


PEERS = {
    "CRAFT, ours": Peer(CRAFT, 32.52),
    "CRAFT, published": Peer(PublishedCRAFT, 32.52),
    "DLGSANet-light, ours": Peer(lambda: DLGSANet(DLGSANetConfig.published("light", 4)), 32.54),
    "SwinIR-light": Peer(
        lambda: SwinIR(
            img_size=64,
            embed_dim=60,
            depths=[6] * 4,
            num_heads=[6] * 4,
            window_size=8,
            mlp_ratio=2,
            upscale=4,
            upsampler="pixelshuffledirect",
        ),
        32.44,
    ),
    "OmniSR": Peer(lambda: OmniSR(num_feat=64, res_num=5, window_size=8, up_scale=4), 32.49),
    "PLKSR": Peer(lambda: PLKSR(ccm_type="DCCM", upscaling_factor=4), 32.54),
    "SPAN": Peer(lambda: SPAN(num_in_ch=3, num_out_ch=3, feature_channels=48, upscale=4), 32.20),
}
"""Beside each other as each is used; so ours pads by reflection, where it needs to."""


def picture(count: int, side: int) -> Tensor:
    """Colours (B, 3, H, W) from 0 to 1 whose spectrum falls as a photograph's does."""
    generator = torch.Generator().manual_seed(side)
    spectrum = torch.fft.rfft2(torch.randn(count, 3, side, side, generator=generator))
    rows, columns = torch.fft.fftfreq(side), torch.fft.rfftfreq(side)
    image = torch.fft.irfft2(spectrum / torch.hypot(rows[:, None], columns).clamp_min(1 / side))
    low, high = image.aminmax()
    return (image - low) / (high - low)


def inference(network: nn.Module, size: int) -> Callable[[], Tensor]:
    """The enlargement of one picture."""
    network.eval()
    x = picture(1, size).to(next(network.parameters()).dtype)
    return torch.no_grad()(lambda: network(x))


def craft_inference(form: str, size: int) -> Step:
    return inference(craft(form), size)


def dlgsanet_inference(form: str, size: int) -> Step:
    return inference(dlgsanet(form), size)


def training(network: nn.Module) -> Step:
    """Forward and backward of a batch of patches."""
    network.train()
    x = picture(*PATCHES)

    def step() -> None:
        network.zero_grad()
        network(x).square().mean().backward()

    return step


def craft_seconds(size: int) -> dict[str, float]:
    """Median seconds of an enlargement by each form of CRAFT."""
    return _seconds({form: craft_inference(form, size) for form in CRAFT_FORMS})


def dlgsanet_seconds(size: int) -> dict[str, float]:
    """Median seconds of an enlargement by each form of DLGSANet-light."""
    return _seconds({form: dlgsanet_inference(form, size) for form in DLGSANET_FORMS})


def peer_seconds(size: int) -> dict[str, float]:
    """Median seconds of an enlargement by each of PEERS."""
    return _seconds({name: inference(peer.build(), size) for name, peer in PEERS.items()})


def craft_training_seconds() -> dict[str, float]:
    """Median seconds of forward and backward of CRAFT in float32."""
    return _seconds({form: training(craft(form)) for form in ("ours", "published")})


def dlgsanet_training_seconds() -> dict[str, float]:
    """Median seconds of forward and backward of DLGSANet-light."""
    return _seconds({form: training(dlgsanet(form)) for form in DLGSANET_FORMS})


def _seconds(steps: dict[str, Step]) -> dict[str, float]:
    return median_seconds(steps, turns=5)


def memory(build: Callable[[str, int], Step], forms: tuple[str, ...]) -> dict[str, float]:
    """Peak MiB of an enlargement in each form, for a megapixel of input."""
    megapixels = MEMORY_SIZE**2 / 1e6
    return {
        form: apart(peak_mebibytes, build, (form, 48), (form, MEMORY_SIZE)) / megapixels
        for form in forms
    }


def craft_error(size: int) -> float:
    """The largest distance of our output from the published form's."""
    return _distance(inference(craft(form), size)() for form in ("ours", "published"))


def dlgsanet_error(size: int) -> float:
    """The largest distance of our output from the published form's."""
    return _distance(inference(dlgsanet(form), size)() for form in DLGSANET_FORMS)


def _distance(outputs: Iterable[Tensor]) -> float:
    ours, theirs = outputs
    return (ours - theirs).abs().max().item()


def bfloat16_psnr(size: int) -> float:
    """PSNR in dB between what our shipped CRAFT makes in bfloat16 and in float32."""
    network, _ = load_network(find_weights("default", 4))
    exact = inference(network, size)().clamp(0, 1)
    rounded = inference(network.body_to(torch.bfloat16), size)().float().clamp(0, 1)
    return -10 * (rounded - exact).square().mean().log10().item()
