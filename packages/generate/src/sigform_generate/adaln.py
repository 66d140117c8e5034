"""Parts of diffusion transformers with adaLN-Zero (arXiv 2212.09748): of DiT, VDT and AV-DiT.

Timestep and label embeddings, patches, fixed positions, and the block whose shifts, scales and
gates come from the condition. The projections of the condition for all blocks are one matrix.

Letters of shapes: B batch, N tokens, D width, C channels, (P, Q) patch, (h, w) grid of patches,
L layers; "..." any axes between batch and tokens, such as the frames of a clip.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core.attention import attend
from sigform_core.linear import Linear, linear

FREQUENCIES = 128
"""Of the timestep's cosines, and as many sines."""

Additions = Mapping[str, Callable[[Tensor], Tensor]]
"""What to add to the outputs of a block's layers "qkv", "proj", "up", "down", from their inputs."""

NOTHING: Additions = {}


def timestep_features(t: Tensor) -> Tensor:
    """Timesteps (B,) -> (B, 256): cosines, then sines, of frequencies from 1 to near 1e-4."""
    steps = torch.arange(FREQUENCIES, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * torch.exp(steps * (-math.log(10000.0) / FREQUENCIES))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimestepEmbedder(nn.Module):
    """Timesteps (B,), whole or not, in the steps of training -> (B, D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.up = Linear(2 * FREQUENCIES, dim)
        self.down = Linear(dim, dim)
        for layer in (self.up, self.down):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, t: Tensor) -> Tensor:
        return self.down(F.silu(self.up(timestep_features(t).to(self.up.weight.dtype))))


class LabelEmbedder(nn.Module):
    """Labels (B,) -> (B, D). With `dropout`, `classes` itself is the label of "no class".

    In training each label becomes that one with the probability `dropout`.
    """

    def __init__(self, classes: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.classes = classes
        self.dropout = dropout
        self.table = nn.Parameter(torch.empty(classes + (dropout > 0), dim))
        nn.init.normal_(self.table, std=0.02)

    def forward(self, labels: Tensor) -> Tensor:
        if self.training and self.dropout > 0:
            dropped = torch.rand(labels.shape, device=labels.device) < self.dropout
            labels = torch.where(dropped, self.classes, labels)
        return F.embedding(labels, self.table)


def patchify(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """Images (..., C, H, W) -> patches (..., N, C * P * Q), row by row.

    Raises ValueError when the patches do not fill the image.
    """
    *lead, channels, height, width = x.shape
    p, q = patch
    if height % p or width % q:
        raise ValueError(f"image is {height} x {width}; needs multiples of {p} x {q}")
    x = x.reshape(-1, channels, height // p, p, width // q, q).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(*lead, -1, channels * p * q)


def unpatchify(
    tokens: Tensor, grid: tuple[int, int], patch: tuple[int, int], channels: int
) -> Tensor:
    """Tokens (..., N, P * Q * C), channels innermost as published, -> (..., C, H, W)."""
    lead = tokens.shape[:-2]
    (h, w), (p, q) = grid, patch
    x = tokens.reshape(-1, h, w, p, q, channels).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(*lead, channels, h * p, w * q)


def line_positions(length: int, dim: int) -> Tensor:
    """Fixed positions (length, D), float32: all sines first, then all cosines."""
    return _waves(torch.arange(length, dtype=torch.float64), dim).float()


def grid_positions(grid: tuple[int, int], dim: int) -> Tensor:
    """Fixed positions (h * w, D), float32: the first half tells the column, the second the row."""
    rows = torch.arange(grid[0], dtype=torch.float64).repeat_interleave(grid[1])
    columns = torch.arange(grid[1], dtype=torch.float64).repeat(grid[0])
    return torch.cat([_waves(columns, dim // 2), _waves(rows, dim // 2)], dim=1).float()


def _waves(places: Tensor, dim: int) -> Tensor:
    """Places (N,), float64 -> (N, dim)."""
    rates = 10000.0 ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angles = places[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class PatchEmbed(Linear):
    """Images (..., C, H, W) -> tokens (..., N, D); the published convolution as a product."""

    def __init__(self, channels: int, patch: tuple[int, int], dim: int) -> None:
        super().__init__(channels * patch[0] * patch[1], dim)
        self.channels = channels
        self.patch = patch
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(patchify(input, self.patch))

    def published_weight(self) -> Tensor:
        """A view of the weight as the published convolution's, (D, C, P, Q)."""
        return self.weight.view(-1, self.channels, *self.patch)


class Modulations(nn.Module):
    """The adaLN projections of all blocks and of the head, in one product, zero at the start.

    Condition (B, D) -> for each block (B, 6, D): shift, scale, gate of the attention, then of the
    feed-forward; and for the head (B, 2, D): shift, scale.
    """

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.dim = dim
        self.depth = depth
        self.weight = nn.Parameter(torch.zeros((6 * depth + 2) * dim, dim))
        self.bias = nn.Parameter(torch.zeros((6 * depth + 2) * dim))

    def forward(self, condition: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        rows = F.linear(F.silu(condition), self.weight, self.bias).unflatten(-1, (-1, self.dim))
        *blocks, head = rows.split([6] * self.depth + [2], dim=1)
        return blocks, head

    def published_views(self) -> dict[str, Tensor]:
        """The parts of the matrix under the names of the published layers."""
        views = {}
        for name, whole in (("weight", self.weight), ("bias", self.bias)):
            *blocks, head = whole.split([6 * self.dim] * self.depth + [2 * self.dim])
            for number, part in enumerate(blocks):
                views[f"blocks.{number}.adaLN_modulation.1.{name}"] = part
            views[f"final_layer.adaLN_modulation.1.{name}"] = head
        return views


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without weights, then (1 + scale) and shift: x (B, ..., N, D), both (B, D)."""
    shift, scale = shift.to(x.dtype), scale.to(x.dtype)  # autocast makes them smaller
    if len(x) == 1:  # one kernel does it all
        return F.layer_norm(x, x.shape[-1:], 1 + scale[0], shift[0], eps=1e-6)
    normed = F.layer_norm(x, x.shape[-1:], eps=1e-6)
    return torch.addcmul(_spread(shift, x), normed, 1 + _spread(scale, x))


def gated(x: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
    """x + gate * branch: x and branch (B, ..., N, D), gate (B, D)."""
    return torch.addcmul(x, _spread(gate, x), branch)


def _spread(values: Tensor, x: Tensor) -> Tensor:
    """Values (B, D) with as many axes as x (B, ..., N, D)."""
    return values.view(len(values), *[1] * (x.ndim - 2), -1)


class SelfAttention(nn.Module):
    """Attention among the tokens of the last axis but one: (..., N, D) -> (..., N, D).

    Raises ValueError when `heads` does not divide `dim`.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"width is {dim}; needs a multiple of the {heads} heads")
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor, add: Additions = NOTHING) -> Tensor:
        *lead, length, dim = x.shape
        qkv = _with(self.qkv, x, add.get("qkv"))
        query, key, value = (
            qkv.view(-1, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        )  # each (B, H, N, D/H)
        mixed = attend(query, key, value).transpose(1, 2).reshape(*lead, length, dim)
        return _with(self.proj, mixed, add.get("proj"))

    def across(self, x: Tensor, after: nn.Linear) -> Tensor:
        """The same over the axis before, then `after`: (B, T, N, D) -> (B, T, N, D), among the T.

        The tokens stay where they are: only query, key and value are turned. The two last layers
        are one product, of their weights' product.
        """
        b, t, n, dim = x.shape
        qkv = self.qkv(x).view(b, t, n, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(3, 0, 2, 4, 1, 5).flatten(1, 2).unbind(0)  # (B*N, H, T, E)
        mixed = attend(query, key, value)
        mixed = mixed.unflatten(0, (b, n)).permute(0, 3, 1, 2, 4).reshape(b, t, n, dim)
        bias = F.linear(self.proj.bias, after.weight, after.bias)
        return linear(mixed, after.weight @ self.proj.weight, bias)


class FeedForward(nn.Module):
    """Linear, tanh-GELU, linear: (..., D) -> (..., D)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.up = Linear(dim, hidden)
        self.down = Linear(hidden, dim)

    def forward(self, x: Tensor, add: Additions = NOTHING) -> Tensor:
        hidden = tanh_gelu(_with(self.up, x, add.get("up")))
        return _with(self.down, hidden, add.get("down"))


def tanh_gelu(x: Tensor) -> Tensor:
    """x * (1 + tanh(u)) / 2 with u = sqrt(2 / pi) * (x + 0.044715 * x^3), as published.

    Without gradients as x * sigmoid(2u), the same: torch's tanh takes three times as long.
    """
    if torch.is_grad_enabled() or x.dtype != torch.float32 or x.device.type != "cpu":
        return F.gelu(x, approximate="tanh")
    twice = 2 * math.sqrt(2 / math.pi)
    inner = torch.addcmul(x.new_tensor(twice), x, x, value=0.044715 * twice)
    return inner.mul_(x).sigmoid_().mul_(x)


def _with(layer: nn.Module, x: Tensor, addition: Callable[[Tensor], Tensor] | None) -> Tensor:
    return layer(x) if addition is None else layer(x) + addition(x)


class AdaBlock(nn.Module):
    """A transformer block with adaLN-Zero: tokens (B, ..., N, D), modulation (B, 6, D) -> tokens.

    Attention goes over N alone. `add` puts low-rank or other additions beside the block's layers
    without touching their weights.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.attention = SelfAttention(dim, heads)
        self.mlp = FeedForward(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor, modulation: Tensor, add: Additions = NOTHING) -> Tensor:
        gate_attention, gate_mlp = modulation[:, 2], modulation[:, 5]
        x = gated(x, gate_attention, self.attention_branch(x, modulation, add))
        return gated(x, gate_mlp, self.mlp_branch(x, modulation, add))

    def attention_branch(self, x: Tensor, modulation: Tensor, add: Additions = NOTHING) -> Tensor:
        """What attention adds, before its gate."""
        return self.attention(modulate(x, modulation[:, 0], modulation[:, 1]), add)

    def mlp_branch(self, x: Tensor, modulation: Tensor, add: Additions = NOTHING) -> Tensor:
        """What the feed-forward adds, before its gate."""
        return self.mlp(modulate(x, modulation[:, 3], modulation[:, 4]), add)

    def published_views(self, prefix: str) -> dict[str, Tensor]:
        """The block's parameters under their published names."""
        layers = {
            "attn.qkv": self.attention.qkv,
            "attn.proj": self.attention.proj,
            "mlp.fc1": self.mlp.up,
            "mlp.fc2": self.mlp.down,
        }
        return {
            f"{prefix}.{name}.{kind}": value
            for name, layer in layers.items()
            for kind, value in (("weight", layer.weight), ("bias", layer.bias))
        }


class Head(nn.Module):
    """Tokens (B, ..., N, D), modulation (B, 2, D) -> (B, ..., N, outputs); zero at the start."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.linear = Linear(dim, outputs)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        return self.linear(modulate(x, modulation[:, 0], modulation[:, 1]))


def start_blocks(blocks: nn.Module) -> None:
    """Xavier weights and zero biases in every linear layer, as published."""
    for layer in blocks.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


def embedder_views(
    patches: PatchEmbed, time: TimestepEmbedder, label: LabelEmbedder, head: Head
) -> dict[str, Tensor]:
    """The parameters around the blocks under their published names."""
    return {
        "x_embedder.proj.weight": patches.published_weight(),
        "x_embedder.proj.bias": patches.bias,
        "t_embedder.mlp.0.weight": time.up.weight,
        "t_embedder.mlp.0.bias": time.up.bias,
        "t_embedder.mlp.2.weight": time.down.weight,
        "t_embedder.mlp.2.bias": time.down.bias,
        "y_embedder.embedding_table.weight": label.table,
        "final_layer.linear.weight": head.linear.weight,
        "final_layer.linear.bias": head.linear.bias,
    }
