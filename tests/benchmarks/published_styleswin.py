"""StyleSwin's generator written plainly, the way its published code works: the measure.

Written here from the description, not copied: tokens lie by row, windows are cut out of rolled
images and joined again, every shifted window has a mask of its own, styles are multiplied in
before each projection. Takes the weights of `sigform_generate.styleswin`; letters are its.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_generate.styleswin import Block, Generator, Stage, ToRGB, sinusoids


def cut(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C) -> (B * n, P, C)."""
    B, H, W, C = x.shape
    x = x.view(B, H // window, window, W // window, window, C)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window * window, C)


def join(windows: Tensor, window: int, side: int) -> Tensor:
    """(B * n, P, C) -> (B, H, W, C)."""
    count = side // window
    x = windows.view(-1, count, count, window, window, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, side, side, windows.shape[-1])


def shift_mask(side: int, window: int) -> Tensor:
    """-100 between pixels of a shifted window that are no neighbours: (n, P, P)."""
    regions = torch.zeros(1, side, side, 1)
    spans = (slice(0, -window), slice(-window, -(window // 2)), slice(-(window // 2), None))
    for number, (rows, columns) in enumerate((a, b) for a in spans for b in spans):
        regions[:, rows, columns] = number
    flat = cut(regions, window).squeeze(-1)  # (n, P)
    apart = flat[:, None] != flat[:, :, None]
    return torch.where(apart, -100.0, 0.0)


class Plain(nn.Module):
    """The published form around a generator of ours."""

    def __init__(self, ours: Generator) -> None:
        super().__init__()
        self.ours = ours
        for number, stage in enumerate(ours.layers):
            grid = stage.grid
            if grid.shifts:
                self.register_buffer(f"mask_{number}", shift_mask(grid.side, grid.window))

    def forward(self, z: Tensor) -> Tensor:
        """z (B, D) -> (B, 3, H, W)."""
        ours = self.ours
        x = z * torch.rsqrt(torch.mean(z**2, dim=1, keepdim=True) + 1e-8)
        for layer in list(ours.style)[1:]:
            x = F.linear(x, layer.weight * layer.gain) + layer.bias * layer.rate
            x = F.leaky_relu(x, 0.2) * math.sqrt(2)
        styles = x.unsqueeze(1).repeat(1, ours.config.n_latent, 1)
        x = ours.input.input.repeat(len(z), 1, 1, 1).flatten(2).transpose(1, 2)  # (B, L, C)
        image = None
        for number, (stage, to_rgb) in enumerate(zip(ours.layers, ours.to_rgbs, strict=True)):
            for half, block in enumerate(stage.blocks):
                mask = getattr(self, f"mask_{number}", None)
                x = self.block(block, x, styles[:, 2 * number + half], stage, mask)
            if stage.upsample is not None:
                x = self.enlarge(stage, x)
            image = self.colours(to_rgb, x, image)
        return image

    def norm(self, norm: nn.Module, x: Tensor, style: Tensor) -> Tensor:
        linear = norm.style
        said = F.linear(style, linear.weight * linear.gain, bias=linear.bias).unsqueeze(-1)
        gamma, beta = said.chunk(2, 1)
        out = F.instance_norm(x.transpose(-1, -2), eps=1e-5)
        return (gamma * out + beta).transpose(-1, -2)

    def block(
        self, block: Block, x: Tensor, style: Tensor, stage: Stage, mask: Tensor | None
    ) -> Tensor:
        side, window = stage.grid.side, stage.grid.window
        shift = window // 2 if stage.grid.shifts else 0
        B, L, C = x.shape
        shortcut = x
        x = self.norm(block.norm1, x, style)
        # Our outputs are (2, 3, C / 2), the published (3, 2, C / 2).
        weight = block.qkv.weight.unflatten(0, (2, 3, -1)).transpose(0, 1).flatten(0, 2)
        bias = block.qkv.bias.unflatten(0, (2, 3, -1)).transpose(0, 1).flatten(0, 2)
        qkv = F.linear(x, weight, bias).reshape(B, L, 3, C).permute(2, 0, 1, 3)
        qkv = qkv.reshape(3 * B, side, side, C)
        moved = qkv[..., C // 2 :]
        if shift:
            moved = torch.roll(moved, shifts=(-shift, -shift), dims=(1, 2))
        still = cut(qkv[..., : C // 2], window).view(3, -1, window * window, C // 2)
        moved = cut(moved, window).view(3, -1, window * window, C // 2)
        first = self.attend(block, still, 0, None)
        second = self.attend(block, moved, 1, mask if shift else None)
        first, second = (join(half, window, side) for half in (first, second))
        if shift:
            second = torch.roll(second, shifts=(shift, shift), dims=(1, 2))
        out = torch.cat([first.reshape(B, L, -1), second.reshape(B, L, -1)], dim=2)
        x = shortcut + F.linear(out, block.proj.weight, block.proj.bias)
        hidden = self.norm(block.norm2, x, style)
        hidden = F.gelu(F.linear(hidden, block.mlp.up.weight, block.mlp.up.bias))
        return x + F.linear(hidden, block.mlp.down.weight, block.mlp.down.bias)

    def attend(self, block: Block, qkv: Tensor, half: int, mask: Tensor | None) -> Tensor:
        query, key, value = qkv  # (B * n, P, C / 2) each
        N, P, C = query.shape
        heads = block.heads
        query, key, value = (
            part.reshape(N, P, heads, C // heads).permute(0, 2, 1, 3)
            for part in (query, key, value)
        )
        scores = (query * block.scale) @ key.transpose(-2, -1)
        table = block.attn[half]
        bias = table.relative_position_bias_table[table.index.view(-1)].view(P, P, -1)
        scores = scores + bias.permute(2, 0, 1).contiguous().unsqueeze(0)
        if mask is not None:
            scores = scores.view(-1, len(mask), heads, P, P) + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, heads, P, P)
        return (F.softmax(scores, dim=-1) @ value).transpose(1, 2).reshape(N, P, C)

    def enlarge(self, stage: Stage, x: Tensor) -> Tensor:
        side, up = stage.grid.side, stage.upsample
        B, _, C = x.shape
        x = x.view(B, side, side, C).permute(0, 3, 1, 2).contiguous()
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = x.permute(0, 2, 3, 1).contiguous().view(B, 4 * side * side, C)
        x = F.linear(up.norm(x), up.reduction.weight)
        C = x.shape[-1]
        places = sinusoids(2 * side, C // 2)  # (2H, C / 2)
        across = places[None].expand(2 * side, -1, -1)
        down = places[:, None].expand(-1, 2 * side, -1)
        table = torch.cat([across, down], dim=-1).permute(2, 0, 1)[None]  # (1, C, 2H, 2W)
        table = table.expand(B, -1, -1, -1).flatten(2).transpose(1, 2)
        return x + up.alpha * table

    def colours(self, to_rgb: ToRGB, x: Tensor, image: Tensor | None) -> Tensor:
        B, L, C = x.shape
        side = math.isqrt(L)
        x = x.transpose(-1, -2).reshape(B, C, side, side)
        out = F.conv2d(x, to_rgb.conv.weight, to_rgb.conv.bias) + to_rgb.bias
        if image is None:
            return out
        return out + (enlarged(image) if image.shape[-1] < side else image)


def enlarged(image: Tensor) -> Tensor:
    """The [1, 3, 3, 1] filter after putting zeros between pixels: (B, 3, H, W), sides doubled."""
    B, C, H, W = image.shape
    taps = image.new_tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(taps, taps) / 16
    spread = image.reshape(-1, 1, H, 1, W, 1)
    spread = F.pad(spread, [0, 1, 0, 0, 0, 1]).view(-1, 1, 2 * H, 2 * W)
    return F.conv2d(F.pad(spread, [2, 1, 2, 1]), kernel[None, None]).view(B, C, 2 * H, 2 * W)
